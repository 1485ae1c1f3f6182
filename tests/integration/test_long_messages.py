"""Messages that are compressed in several passes of the loop: whole and in order, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest

from channels.generic.websocket import AsyncJsonWebsocketConsumer, AsyncWebsocketConsumer, WebsocketConsumer
from channels.layers import InMemoryChannelLayer
from fairway.server.output import fanout
from fairway.server.output.workshop import is_making
from fairway.server.websocket.connection import WebSocketConnection
from tests.integration.conftest import Start, over_everything
from tests.integration.layers import default_layer
from tests.integration.raw import CLOSE, DEADLINE, HANDSHAKE, PING, PONG, TEXT, Client, Served, frame, next_pass

DEFLATE = HANDSHAKE.replace(b"\r\n\r\n", b"\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n")
LONG = json.dumps([{"id": number, "name": f"row {number}", "price": number * 1.25} for number in range(18_000)])
assert 900_000 < len(LONG) < 1 << 20

# So little when it is compressed that it leaves in one piece, whatever the client's window is.
DULL = "again and again " * 60_000


class Obedient(AsyncWebsocketConsumer):
    """Each message is an order."""

    groups = ("all",)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if text_data == "long":
            await self.send(LONG)
        elif text_data == "dull":
            await self.send(DULL)
        elif text_data == "both":
            await asyncio.gather(self.send(LONG), self.send("short"), self.send(LONG), self.send("end"))
        elif text_data == "close":
            await self.send(LONG)
            await self.close(4001)
        else:
            await self.send(text_data)


class Hasty(WebsocketConsumer):
    """Sends as many long messages as it is asked for without waiting, as synchronous code does."""

    groups = ("all",)

    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        for _ in range(int(text_data or 0)):
            self.send(LONG)
        self.send("end")


@pytest.fixture(autouse=True)
def layer() -> Iterator[InMemoryChannelLayer]:
    with default_layer() as layer:
        yield layer


async def opened(served: Served) -> Client:
    client = await served.connect()
    await client.open(DEFLATE)
    return client


async def message(client: Client) -> str:
    opcode, data = await client.frame(deflated=True)
    assert opcode == TEXT
    return data.decode()


def making(served: Served) -> list[WebSocketConnection]:
    return [one for one in served.websockets if is_making(one.outbox)]


async def until(reached: Callable[[], object]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not reached():
            await next_pass()


async def begun(served: Served, client: Client, order: bytes) -> None:
    """Give the order, and wait until a long message is being made."""
    await client.send(frame(TEXT, order))
    await until(lambda: making(served))


@over_everything
async def test_a_neighbour_is_answered_while_a_long_message_is_made(start: Start) -> None:
    served = await start(Obedient.as_asgi())
    client, neighbour = await opened(served), await opened(served)
    await begun(served, client, b"long")
    await neighbour.send(frame(TEXT, b"hello"))
    assert await message(neighbour) == "hello"
    assert making(served)
    assert await message(client) == LONG


@over_everything
async def test_what_several_tasks_send_keeps_its_order(start: Start) -> None:
    served = await start(Obedient.as_asgi())
    client = await opened(served)
    await client.send(frame(TEXT, b"both"))
    assert [await message(client) for _ in range(4)] == [LONG, "short", LONG, "end"]


@over_everything
async def test_the_application_closes_behind_a_long_message(start: Start) -> None:
    served = await start(Obedient.as_asgi())
    client = await opened(served)
    await client.send(frame(TEXT, b"close"))
    assert await message(client) == LONG
    assert (await client.close_frame())[0] == 4001
    await client.send(frame(CLOSE, (4001).to_bytes(2, "big")))
    assert await client.at_end()


@over_everything
async def test_the_client_closes_while_a_long_message_is_made(start: Start) -> None:
    """It gets the message, and the answer to its Close behind it."""
    served = await start(Obedient.as_asgi())
    client = await opened(served)
    await begun(served, client, b"dull")
    await client.send(frame(CLOSE, (4002).to_bytes(2, "big")))
    assert await message(client) == DULL
    assert (await client.close_frame())[0] == 4002
    assert await client.at_end()
    await client.close()
    await served.idle()


@over_everything
@pytest.mark.parametrize("way", ["FIN", "RST"])
async def test_the_client_leaves_while_a_long_message_is_made(start: Start, way: str) -> None:
    served = await start(Obedient.as_asgi())
    client = await opened(served)
    await begun(served, client, b"long")
    client.reset() if way == "RST" else client.writer.close()
    await served.idle()


@over_everything
async def test_the_server_stops_while_a_long_message_is_made(start: Start) -> None:
    served = await start(Obedient.as_asgi())
    client = await opened(served)
    await begun(served, client, b"long")
    for connection in served.websockets:
        connection.drain()
    assert await message(client) == LONG
    assert (await client.close_frame())[0] == 1001


@over_everything
async def test_a_client_that_reads_is_not_slow_because_its_messages_are_long(start: Start) -> None:
    served = await start(Hasty.as_asgi())
    client = await opened(served)
    await client.send(frame(TEXT, b"8"))
    for _ in range(8):
        assert await message(client) == LONG
    assert await message(client) == "end"
    assert served.context.counters.slow_consumers == 0


@over_everything
@pytest.mark.parametrize("few", [1, 32], ids=["by sweeps", "by outboxes"])
async def test_a_broadcast_does_not_overtake_a_long_message(
    start: Start, layer: InMemoryChannelLayer, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its consumer has not waited for it, and waits for its next message."""
    monkeypatch.setattr(fanout, "FEW", few)
    served = await start(Hasty.as_asgi())
    client, other = await opened(served), await opened(served)
    await begun(served, client, b"1")
    (connection,) = making(served)
    async with asyncio.timeout(DEADLINE):
        while is_making(connection.outbox):
            await layer.group_broadcast("all", "to all")
            await next_pass()
    await layer.group_broadcast("all", "last")
    heard = [await message(client)]
    while heard[-1] != "last":
        heard.append(await message(client))
    assert heard[0] == LONG
    # What came before the consumer waited is delivered by it, in its turn; everything else by the group.
    assert set(heard[1:-1]) == {"to all", "end"}
    while await message(other) != "last":
        pass


@over_everything
async def test_pings_behind_a_long_message_are_answered(start: Start) -> None:
    """More of them than may wait: the client is not read meanwhile, and then again."""
    served = await start(Obedient.as_asgi())
    client = await opened(served)
    await client.send(frame(TEXT, b"long") + frame(PING, b"x" * 100) * 3000 + frame(TEXT, b"behind"))
    frames = [await client.frame(deflated=True) for _ in range(3002)]
    assert [data.decode() for opcode, data in frames if opcode == TEXT] == [LONG, "behind"]
    assert sum(one == (PONG, b"x" * 100) for one in frames) == 3000


async def test_a_long_message_is_not_made_in_one_pass(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is much of it made in any pass, however many clients are sent one."""
    served = await start(Obedient.as_asgi())
    clients = [await opened(served) for _ in range(5)]
    given: list[int] = []
    compressobj = zlib.compressobj

    class Counting:
        def __init__(self, *args: Any) -> None:
            self._inner = compressobj(*args)

        def compress(self, data: bytes) -> bytes:
            given.append(len(data))
            return self._inner.compress(data)

        def flush(self, mode: int) -> bytes:
            return self._inner.flush(mode)

    monkeypatch.setattr(zlib, "compressobj", Counting)
    for client in clients:
        await client.send(frame(TEXT, b"long"))
    reading = asyncio.gather(*map(message, clients))
    most = before = 0
    async with asyncio.timeout(DEADLINE):
        while not reading.done():
            await next_pass()
            most, before = max(most, sum(given) - before), sum(given)
    assert await reading == [LONG] * 5
    assert sum(given) == 5 * len(LONG)
    assert most <= 1 << 16


class Reader(AsyncJsonWebsocketConsumer):
    """Notes in which pass of the loop each message was decoded, and in which it was handled."""

    passes = 0
    seen: ClassVar[list[int]]

    @classmethod
    async def decode_json(cls, text_data: str) -> Any:
        content = await super().decode_json(text_data)
        cls.seen.append(cls.passes)
        return content

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        self.seen.append(self.passes)
        await self.send(str(len(content)))


@pytest.mark.parametrize("text", [LONG, "[1]"], ids=["long", "short"])
async def test_others_have_their_turn_between_decoding_and_handling(start: Start, text: str) -> None:
    reader: Any = type("TheReader", (Reader,), {"seen": []})

    async def count() -> None:
        while True:
            await next_pass()
            reader.passes += 1

    served = await start(reader.as_asgi())
    client = await opened(served)
    counting = asyncio.ensure_future(count())
    await client.send(frame(TEXT, text.encode()))
    assert await message(client) == str(len(json.loads(text)))
    counting.cancel()
    decoded, handled = reader.seen
    assert handled - decoded == (3 if text == LONG else 0)


WIDE = "[" + ", ".join(f'"row {number}"' for number in range(60_000)) + ', "🛥"]'
assert 700_000 < len(WIDE) < 1 << 20


class Listener(AsyncWebsocketConsumer):
    """Handles a message for as long as it has to, and says what it was."""

    goes_on: ClassVar[asyncio.Event]

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await self.goes_on.wait()
        await self.send(str(hash(text_data if text_data is not None else bytes_data)))


class Decoding(AsyncJsonWebsocketConsumer):
    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        await self.send(str(hash(json.dumps(content, ensure_ascii=False))))


def own_asgi(goes_on: asyncio.Event) -> Any:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await goes_on.wait()
        while (event := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": str(hash(event.get("text", event.get("bytes"))))})

    return application


@pytest.mark.slow
@over_everything
@pytest.mark.parametrize("kind", ["consumer", "JSON", "ASGI"])
@pytest.mark.parametrize("is_deflated", [False, True])
async def test_long_texts_that_wait_in_pieces_are_whole_and_in_order(
    start: Start, kind: str, is_deflated: bool
) -> None:
    goes_on = asyncio.Event()
    listener = type("TheListener", (Listener,), {"goes_on": goes_on}).as_asgi()
    served = await start({"consumer": listener, "JSON": Decoding.as_asgi(), "ASGI": own_asgi(goes_on)}[kind])
    client = await opened(served)
    texts = [json.dumps(WIDE[:index]) for index in (3, 300_000)] + [WIDE, '"雾"', WIDE]
    for one in texts:
        if is_deflated:
            deflating = zlib.compressobj(wbits=-zlib.MAX_WBITS)
            data = deflating.compress(one.encode()) + deflating.flush(zlib.Z_SYNC_FLUSH)
            await client.send(frame(TEXT, data[:-4], rsv=4))
        else:
            await client.send(frame(TEXT, one.encode()))
    goes_on.set()
    expected = [json.dumps(json.loads(one), ensure_ascii=False) if kind == "JSON" else one for one in texts]
    for one in expected:
        assert await message(client) == str(hash(one))


async def test_a_long_text_takes_no_more_memory_while_it_waits_than_in_its_pieces(start: Start) -> None:
    """Joined, each would take three megabytes: one character of four bytes makes all of them so wide."""
    listener = type("TheListener", (Listener,), {"goes_on": asyncio.Event()})
    served = await start(listener.as_asgi())
    client = await opened(served)
    await client.send(frame(TEXT, b"the handler is busy with this"))
    await client.send(frame(TEXT, ("a" * 800_000 + "🛥").encode()))
    (connection,) = served.websockets
    await until(lambda: connection.inbox.client_waiting)
    assert 800_000 < connection.inbox.client_size < 2_500_000
    listener.goes_on.set()
    assert await message(client)
    assert await message(client) == str(hash("a" * 800_000 + "🛥"))
    await until(lambda: connection.inbox.parked)
    assert connection.inbox.client_size == 0
