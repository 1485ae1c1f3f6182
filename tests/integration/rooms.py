"""Two server processes with a room, for tests of what is between them."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from fairway.testing import ServerProcess

DEADLINE = 30.0

Client = ClientConnection


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


def two_servers(
    setup: Callable[[], object], application: Callable[[], Any] = application
) -> AbstractContextManager[list[ServerProcess]]:
    """Fresh interpreters that serve the application, which begin with `setup`."""
    return servers_of(application, [setup, setup])


@contextmanager
def servers_of(
    get_application: Callable[[], object], setups: Sequence[Callable[[], object]]
) -> Iterator[list[ServerProcess]]:
    """Fresh interpreters that serve an application, one for each setup, which it begins with."""
    before = multiprocessing.get_start_method()
    multiprocessing.set_start_method("spawn", force=True)
    try:
        started = [ServerProcess("127.0.0.1", get_application, setup=setup) for setup in setups]
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


@asynccontextmanager
async def two_clients_at_each(servers: list[ServerProcess]) -> AsyncIterator[list[tuple[Client, str]]]:
    """With the names of their channels."""
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


async def meet(clients: list[tuple[Client, str]]) -> None:
    """Everybody hears what is said to all, by way of consumers and past them, and one what is said to him."""
    (one, _), (_, _), (three, channel), (_, _) = clients
    await one.send(json.dumps({"text": "to all"}))
    for client, _ in clients:
        assert await received(client) == {"text": "to all"}
    await three.send(json.dumps({"broadcast": "to all sockets"}))
    for client, _ in clients:
        assert await received(client) == {"broadcast": "to all sockets"}
    await one.send(json.dumps({"direct": channel, "text": "to one"}))
    assert await received(three) == {"text": "to one"}


async def lose_one(clients: list[tuple[Client, str]], servers: list[ServerProcess]) -> None:
    """One process is killed, and the clients of the other go on."""
    servers[1].kill()
    servers[1].join(DEADLINE)
    for number in range(3):
        await clients[0][0].send(json.dumps({"text": number}))
        for client, _ in clients[:2]:
            assert await received(client) == {"text": number}
