"""Several server processes over one Redis, with clients on real sockets: groups, broadcasts, and what survives what."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any

import django
import pytest
from django.conf import settings

from channels.consumer import AsyncConsumer
from channels.worker import Worker
from fairway.layers.redis import RedisChannelLayer
from fairway.testing import ServerProcess
from tests.integration.rooms import (
    DEADLINE,
    Client,
    lose_one,
    meet,
    two_clients_at_each,
    two_servers,
    until,
)
from tests.services.redis import RedisServer, redis_server

pytestmark = pytest.mark.slow


def set_up(url: str) -> None:
    """What a server process begins with."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    django.setup()
    config = {"hosts": [url], "outage_wait": 0.2, "answer_timeout": 2}
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "fairway.layers.redis.RedisChannelLayer", "CONFIG": config}}


@pytest.fixture
def redis_of_its_own() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture
def servers(redis_of_its_own: RedisServer) -> Iterator[list[ServerProcess]]:
    with two_servers(partial(set_up, redis_of_its_own.url)) as started:
        yield started


@pytest.fixture
async def clients(servers: list[ServerProcess]) -> AsyncIterator[list[tuple[Client, str]]]:
    async with two_clients_at_each(servers) as those:
        yield those


async def test_clients_of_two_processes_meet(clients: list[tuple[Client, str]]) -> None:
    await meet(clients)


async def test_a_process_that_is_killed_is_missed_by_nobody(
    clients: list[tuple[Client, str]], servers: list[ServerProcess]
) -> None:
    await lose_one(clients, servers)


def resident_bytes(servers: list[ServerProcess]) -> int:
    """Of all servers together; 0 where the system does not say it in this way."""
    if not os.path.exists("/proc/self/statm"):
        return 0
    pages = 0
    for server in servers:
        with open(f"/proc/{server.pid}/statm", encoding="ascii") as figures:
            pages += int(figures.read().split()[1])
    return pages * resource.getpagesize()


async def test_redis_killed_ten_times_under_load_closes_no_socket(
    clients: list[tuple[Client, str]], servers: list[ServerProcess], redis_of_its_own: RedisServer
) -> None:
    async def talk(client: Client) -> None:
        for number in range(1_000_000):
            await client.send(json.dumps({"text": number}))
            await asyncio.sleep(0.005)

    async def listen(client: Client) -> None:
        async for message in client:
            kinds.add(kind := next(iter(json.loads(message))))
            if kind == "text":
                heard.set()

    kinds: set[str] = set()
    heard = asyncio.Event()
    talking = asyncio.ensure_future(talk(clients[0][0]))
    listening = [asyncio.ensure_future(listen(client)) for client, _ in clients]
    for number in range(10):
        await asyncio.to_thread(redis_of_its_own.kill)
        await asyncio.sleep(0.3)
        await asyncio.to_thread(redis_of_its_own.restart)
        await asyncio.sleep(0.2)
        if number == 1:  # what an outage takes for the first time is there
            before = resident_bytes(servers)
    # On a busy machine no process may have been back between two outages. After the last one all hear again.
    async with asyncio.timeout(DEADLINE):
        await heard.wait()
    assert resident_bytes(servers) < before + 16 * 1024 * 1024, "eight outages leave nothing behind"
    for task in (talking, *listening):
        assert not task.done(), "no socket was closed"
        task.cancel()
    await asyncio.wait([talking, *listening])
    assert kinds == {"text", "error"}

    # What was sent last arrives at everybody, once, as soon as all processes are connected again.
    async with asyncio.timeout(DEADLINE):
        while True:
            await clients[0][0].send(json.dumps({"text": "are you there?"}))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    await until(clients[-1][0], lambda message: message == {"text": "are you there?"})
                break
    await clients[0][0].send(json.dumps({"text": "last"}))
    for client, _ in clients:
        await until(client, lambda message: message == {"text": "last"})


# Workers ------------------------------------------------------------------------------------------------------


async def test_workers_share_a_queue_and_outlive_an_outage(redis_of_its_own: RedisServer) -> None:
    handled: dict[str, list[int]] = {"one": [], "two": []}
    changed = asyncio.Event()

    def application_of(worker: str) -> Any:
        class Thumbnails(AsyncConsumer):
            async def thumbnail_make(self, event: Any) -> None:
                await asyncio.sleep(0.001)
                handled[worker].append(event["number"])
                changed.set()

        return Thumbnails.as_asgi()

    async def until_handled(count: int) -> None:
        async with asyncio.timeout(DEADLINE):
            while sum(map(len, handled.values())) < count:
                changed.clear()
                await changed.wait()

    layers = {name: RedisChannelLayer(hosts=[redis_of_its_own.url]) for name in ("sender", *handled)}
    workers = [Worker(application_of(name), ["thumbnails"], layers[name]) for name in handled]
    running = [asyncio.ensure_future(worker.arun()) for worker in workers]
    sender = layers["sender"]
    for number in range(40):
        await sender.send("thumbnails", {"type": "thumbnail.make", "number": number})
    await until_handled(40)
    await asyncio.to_thread(redis_of_its_own.kill)
    await asyncio.to_thread(redis_of_its_own.restart)
    for number in range(40, 60):
        await sender.send("thumbnails", {"type": "thumbnail.make", "number": number})
    await until_handled(60)
    for worker in workers:
        worker.stop()
    await asyncio.gather(*running)
    for layer in layers.values():
        await layer.close()

    assert sorted(handled["one"] + handled["two"]) == list(range(60))
    assert all(handled.values()), "both have had some"
