"""Several server processes over one local broker, with clients on real sockets: who starts it, what survives what."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import django
import pytest
from django.conf import settings

from channels.consumer import AsyncConsumer
from channels.worker import Worker
from fairway.layers.local import LocalChannelLayer
from fairway.layers.local.place import Place, given_place
from fairway.testing import ServerProcess
from tests.integration.rooms import (
    DEADLINE,
    Client,
    lose_one,
    meet,
    received,
    two_clients_at_each,
    two_servers,
    until,
)
from tests.services.local import broker_id, end_broker

pytestmark = pytest.mark.slow


def set_up(path: str) -> None:
    """What a server process begins with."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    django.setup()
    config = {"socket": path, "outage_wait": 0.2, "answer_timeout": 5}
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "fairway.layers.local.LocalChannelLayer", "CONFIG": config}}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = given_place(str(tmp_path / "broker.sock"))
    yield place
    end_broker(place)


@pytest.fixture
def servers(place: Place) -> Iterator[list[ServerProcess]]:
    """Nobody has started a broker for them."""
    with two_servers(partial(set_up, place.path)) as started:
        yield started


@pytest.fixture
async def clients(servers: list[ServerProcess]) -> AsyncIterator[list[tuple[Client, str]]]:
    async with two_clients_at_each(servers) as those:
        yield those


async def test_clients_of_two_processes_meet(clients: list[tuple[Client, str]], place: Place) -> None:
    await meet(clients)
    shell = LocalChannelLayer(socket=place.path)
    await shell.group_send("room", {"type": "room.event", "text": "from a shell"})
    await shell.close()
    for client, _ in clients:
        assert await received(client) == {"text": "from a shell"}


async def test_a_process_that_is_killed_is_missed_by_nobody(
    clients: list[tuple[Client, str]], servers: list[ServerProcess], place: Place
) -> None:
    broker = await asyncio.to_thread(broker_id, place)
    await lose_one(clients, servers)
    assert await asyncio.to_thread(broker_id, place) == broker, "whichever of them has started it"


async def test_a_broker_killed_ten_times_under_load_closes_no_socket(
    clients: list[tuple[Client, str]], servers: list[ServerProcess], place: Place
) -> None:
    heard = {client: 0 for client, _ in clients}
    changed = asyncio.Event()

    async def talk(client: Client) -> None:
        for number in range(1_000_000):
            await client.send(json.dumps({"text": number}))
            await asyncio.sleep(0.005)

    async def listen(client: Client) -> None:
        async for message in client:
            if "text" in json.loads(message):
                heard[client] += 1
                changed.set()

    async def everybody_hears_more() -> None:
        before = dict(heard)
        async with asyncio.timeout(DEADLINE):
            while any(heard[client] < count + 20 for client, count in before.items()):
                changed.clear()
                await changed.wait()

    talking = asyncio.ensure_future(talk(clients[0][0]))
    listening = [asyncio.ensure_future(listen(client)) for client, _ in clients]
    await everybody_hears_more()
    sizes = []
    for _ in range(10):
        await asyncio.to_thread(end_broker, place, signal.SIGKILL)
        await everybody_hears_more()
        sizes.append([_memory(server.pid) for server in servers])
    for task in (talking, *listening):
        assert not task.done(), "no socket was closed"
        task.cancel()
    await asyncio.wait([talking, *listening])
    for early, late in zip(sizes[2], sizes[-1], strict=True):
        assert late < early + 4 * 2**20, f"memory is flat: {sizes}"

    await clients[0][0].send(json.dumps({"text": "last"}))
    for client, _ in clients:
        await until(client, lambda message: message == {"text": "last"})


def _memory(number: int | None) -> int:
    """Bytes that a process has in memory."""
    return int(Path(f"/proc/{number}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def test_workers_share_a_queue_and_start_another_broker(place: Place) -> None:
    handled: dict[str, list[int]] = {"one": [], "two": []}
    changed, both = asyncio.Event(), asyncio.Event()
    begun: set[str] = set()

    def application_of(worker: str) -> Any:
        class Thumbnails(AsyncConsumer):
            async def thumbnail_make(self, event: Any) -> None:
                begun.add(worker)
                if len(begun) == 2:
                    both.set()
                await both.wait()
                handled[worker].append(event["number"])
                changed.set()

        return Thumbnails.as_asgi()

    async def until_handled(count: int) -> None:
        async with asyncio.timeout(DEADLINE):
            while sum(map(len, handled.values())) < count:
                changed.clear()
                await changed.wait()

    layers = {name: LocalChannelLayer(socket=place.path) for name in ("sender", *handled)}
    workers = [Worker(application_of(name), ["thumbnails"], layers[name]) for name in handled]
    running = [asyncio.ensure_future(worker.arun()) for worker in workers]
    sender = layers["sender"]
    for number in range(40):
        await sender.send("thumbnails", {"type": "thumbnail.make", "number": number})
    await until_handled(40)
    await asyncio.to_thread(end_broker, place, signal.SIGKILL)
    for number in range(40, 60):
        async with asyncio.timeout(DEADLINE):
            while True:
                with contextlib.suppress(ConnectionError):
                    await sender.send("thumbnails", {"type": "thumbnail.make", "number": number})
                    break
                await asyncio.sleep(0.01)
    await until_handled(60)
    for worker in workers:
        worker.stop()
    await asyncio.gather(*running)
    for layer in layers.values():
        await layer.close()

    assert sorted(set(handled["one"] + handled["two"])) == list(range(60))
    assert all(handled.values()), "each has waited for the other"
