"""Several server processes over one Redis, with clients on real sockets: groups, broadcasts, and what survives what."""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import django
import pytest
from django.conf import settings
from websockets.asyncio.client import ClientConnection, connect

from channels.consumer import AsyncConsumer
from channels.worker import Worker
from fairway.layers.redis import RedisChannelLayer
from fairway.testing import ServerProcess
from tests.services.redis import RedisServer, redis_server

pytestmark = pytest.mark.slow

DEADLINE = 30.0


def set_up(url: str) -> None:
    """What a server process begins with."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    django.setup()
    config = {"hosts": [url], "outage_wait": 0.2, "answer_timeout": 2}
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "fairway.layers.redis.RedisChannelLayer", "CONFIG": config}}


def application() -> Any:
    from channels.generic.websocket import AsyncJsonWebsocketConsumer

    class Room(AsyncJsonWebsocketConsumer):
        """Does with the layer what its client says, and tells it what comes."""

        groups = ["room"]

        async def connect(self) -> None:
            await self.accept()
            await self.send_json({"channel": self.channel_name})

        async def receive_json(self, content: Any, **kwargs: Any) -> None:
            event = {"type": "room.event", "text": content.get("text")}
            try:
                if "direct" in content:
                    await self.channel_layer.send(content["direct"], event)
                elif "broadcast" in content:
                    await self.channel_layer.group_broadcast_json("room", {"broadcast": content["broadcast"]})
                else:
                    await self.channel_layer.group_send("room", event)
            except ConnectionError as error:
                await self.send_json({"error": str(error)})

        async def room_event(self, event: Any) -> None:
            await self.send_json({"text": event["text"]})

    return Room.as_asgi()


@pytest.fixture
def redis_of_its_own() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture
def servers(redis_of_its_own: RedisServer) -> Iterator[list[ServerProcess]]:
    url = redis_of_its_own.url
    before = multiprocessing.get_start_method()
    multiprocessing.set_start_method("spawn", force=True)
    try:
        started = [ServerProcess("127.0.0.1", application, setup=partial(set_up, url)) for _ in range(2)]
        for server in started:
            server.start()
    finally:
        multiprocessing.set_start_method(before, force=True)
    for server in started:
        assert server.ready.wait(DEADLINE), "a server did not start"
    yield started
    for server in started:
        server.terminate()
        server.join(DEADLINE)


Client = ClientConnection


@pytest.fixture
async def clients(servers: list[ServerProcess]) -> AsyncIterator[list[tuple[Client, str]]]:
    """Two at each server, with the names of their channels."""
    async with AsyncExitStack() as stack:
        those = []
        for server in servers:
            for _ in range(2):
                client = await stack.enter_async_context(connect(f"ws://127.0.0.1:{server.port.value}/"))
                those.append((client, (await received(client))["channel"]))
        yield those


async def received(client: Client) -> Any:
    async with asyncio.timeout(DEADLINE):
        return json.loads(await client.recv())


async def until(client: Client, condition: Callable[[Any], bool]) -> list[Any]:
    """What is received up to a message of which something holds, without it."""
    before = []
    while not condition(message := await received(client)):
        before.append(message)
    return before


async def test_clients_of_two_processes_meet(clients: list[tuple[Client, str]]) -> None:
    (one, _), (_, _), (three, channel), (_, _) = clients
    await one.send(json.dumps({"text": "to all"}))
    for client, _ in clients:
        assert await received(client) == {"text": "to all"}
    await three.send(json.dumps({"broadcast": "to all sockets"}))
    for client, _ in clients:
        assert await received(client) == {"broadcast": "to all sockets"}
    await one.send(json.dumps({"direct": channel, "text": "to one"}))
    assert await received(three) == {"text": "to one"}


async def test_a_process_that_is_killed_is_missed_by_nobody(
    clients: list[tuple[Client, str]], servers: list[ServerProcess]
) -> None:
    servers[1].kill()
    servers[1].join(DEADLINE)
    for number in range(3):
        await clients[0][0].send(json.dumps({"text": number}))
        for client, _ in clients[:2]:
            assert await received(client) == {"text": number}


async def test_redis_killed_ten_times_under_load_closes_no_socket(
    clients: list[tuple[Client, str]], redis_of_its_own: RedisServer
) -> None:
    async def talk(client: Client) -> None:
        for number in range(1_000_000):
            await client.send(json.dumps({"text": number}))
            await asyncio.sleep(0.005)

    async def listen(client: Client) -> None:
        async for message in client:
            kinds.add(next(iter(json.loads(message))))

    kinds: set[str] = set()
    talking = asyncio.ensure_future(talk(clients[0][0]))
    listening = [asyncio.ensure_future(listen(client)) for client, _ in clients]
    for _ in range(10):
        await asyncio.to_thread(redis_of_its_own.kill)
        await asyncio.sleep(0.3)
        await asyncio.to_thread(redis_of_its_own.restart)
        await asyncio.sleep(0.2)
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
