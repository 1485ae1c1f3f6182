"""Who pauses the reading of a socket names who resumes it: no input leaves a connection deaf, and none outlives its
client.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import tracemalloc
import zlib
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairway.server.listener import KEEPALIVE
from fairway.server.websocket.connection import WebSocketConnection
from tests.integration.conftest import Start, over_http2_too
from tests.integration.raw import (
    BINARY,
    CLOSE,
    DEADLINE,
    HANDSHAKE,
    PING,
    PONG,
    TEXT,
    Client,
    Served,
    frame,
    next_pass,
    serve,
)

MIB = 1 << 20


def the_connection(served: Served) -> WebSocketConnection:
    (connection,) = served.websockets
    return connection


class Application:
    """Echoes over WebSocket, and writes down how each conversation ended. While `pace` is not set it takes nothing."""

    def __init__(self) -> None:
        self.pace = asyncio.Event()
        self.pace.set()
        self.received: list[Any] = []
        self.ends: list[Any] = []

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            raise NotImplementedError
        try:
            await (self.http if scope["type"] == "http" else self.websocket)(receive, send)
        except asyncio.CancelledError:
            self.ends.append("cancelled")
            raise

    async def http(self, receive: Any, send: Any) -> None:
        while (event := await receive())["type"] == "http.request":
            await self.pace.wait()
        self.ends.append(event["type"])

    async def websocket(self, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while True:
            await self.pace.wait()
            event = await receive()
            if event["type"] == "websocket.disconnect":
                self.ends.append(event["code"])
                return
            data = event.get("text", event.get("bytes"))
            self.received.append(data)
            await send({"type": "websocket.send", "text": str(len(data))})


async def until(reached: Callable[[], object]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not reached():
            await next_pass()


@pytest.fixture
async def app() -> Application:
    return Application()


async def opened(served: Served, handshake: bytes = HANDSHAKE) -> Client:
    client = await served.connect()
    await client.open(handshake)
    return client


CONTROLS = {
    "64 pings": frame(PING) * 64,
    "65 pings": frame(PING) * 65,
    "65 pongs": frame(PONG) * 65,
    "a message and 64 pings": frame(TEXT, b"first") + frame(PING) * 64,
    "a message and 5,000 pings": frame(TEXT, b"first") + frame(PING) * 5000,
    "5,000 pings with content": frame(PING, b"x" * 100) * 5000,
    "pings and pongs in turn": (frame(PING) + frame(PONG)) * 400,
    "fragments with pings between": frame(TEXT, b"fir", fin=False) + frame(PING) * 300 + frame(0, b"st"),
}


@over_http2_too
@pytest.mark.parametrize("flood", CONTROLS.values(), ids=CONTROLS)
async def test_a_message_behind_many_control_frames_is_answered(start: Start, app: Application, flood: bytes) -> None:
    served = await start(app)
    client = await opened(served)
    await client.send(flood + frame(TEXT, b"behind"))
    while (answer := await client.frame()) != (TEXT, b"6"):
        assert answer[0] == PONG or answer == (TEXT, b"5")
    await client.send(frame(TEXT, b"still there"))
    assert await client.frame() == (TEXT, b"11")


@pytest.mark.slow
@over_http2_too
async def test_a_client_that_takes_no_pongs_is_not_read_and_loses_nothing(start: Start, app: Application) -> None:
    served = await start(app)
    client = await served.connect(receive_buffer=4096)
    await client.open()
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    flood = asyncio.ensure_future(client.send(frame(PING, b"x" * 100) * 60_000 + frame(TEXT, b"behind")))
    outbox = the_connection(served).outbox
    await until(lambda: not outbox.reading and outbox.blocked and outbox.size >= outbox.high_water)
    assert outbox.size < 2 * outbox.high_water
    client.writer.transport.resume_reading()  # type: ignore[attr-defined]
    for _ in range(60_000):
        assert await client.frame() == (PONG, b"x" * 100)
    assert await client.frame() == (TEXT, b"6")
    await flood


@over_http2_too
@pytest.mark.parametrize("way", ["FIN", "RST"])
@pytest.mark.parametrize("flood", CONTROLS.values(), ids=CONTROLS)
async def test_a_client_that_leaves_behind_many_control_frames_is_noticed(
    start: Start, app: Application, flood: bytes, way: str
) -> None:
    served = await start(app)
    client = await opened(served)
    await client.send(flood)
    client.reset() if way == "RST" else client.writer.close()
    await served.idle()
    assert app.ends == [1006]


@pytest.mark.slow
# Over HTTP/2 the end of what a client says comes behind what it says, for which there is no window. A reset does not.
@pytest.mark.parametrize(
    ("start", "way"),
    [("clear", "FIN"), ("clear", "RST"), ("http2", "RST"), ("http2-shared", "RST")],
    indirect=["start"],
)
async def test_the_end_is_seen_although_the_application_takes_nothing_and_the_socket_is_not_read(
    start: Start, app: Application, way: str
) -> None:
    """The kernel holds more than the server has read; behind it is the end."""
    served = await start(app, inbox_messages=8, close_timeout=0.3, disconnect_timeout=0.5)
    client = await opened(served)
    app.pace.clear()
    await client.send(frame(TEXT, bytes(1000)) * 2000)
    connection = the_connection(served)
    await until(lambda: not connection.outbox.reading)
    client.reset() if way == "RST" else client.writer.close()
    await served.idle()
    assert app.ends == ["cancelled"]
    assert "application did not end within 0.5 s after the disconnect: cancelled" in served.log[-1]


@over_http2_too
@pytest.mark.slow
async def test_an_application_that_catches_up_in_time_gets_everything_and_the_true_code(
    start: Start, app: Application
) -> None:
    served = await start(app, inbox_messages=8)
    client = await opened(served)
    app.pace.clear()
    await client.send(frame(TEXT, b"x" * 100) * 100)
    connection = the_connection(served)
    await until(lambda: not connection.outbox.reading)
    await client.send(frame(TEXT, b"x" * 100) * 200 + frame(CLOSE, (4001).to_bytes(2, "big")))
    client.writer.write_eof()
    await until(lambda: connection.closing.last is not None)
    app.pace.set()
    await served.idle()
    assert len(app.received) == 300
    assert app.ends == [4001]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere, accepted sockets do not inherit it")
async def test_the_system_of_a_silent_client_is_asked_whether_it_is_there(start: Start, app: Application) -> None:
    # The end of a client that had sent more than is read never arrives. Its system says within minutes that it is gone.
    served = await start(app)
    client = await served.connect()
    await client.open()
    (websocket,) = served.websockets
    assert websocket.outbox.transport is not None
    accepted = websocket.outbox.transport.get_extra_info("socket")
    assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    for name, value in KEEPALIVE.items():
        assert accepted.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) == value


@pytest.mark.parametrize("way", ["FIN", "RST"])
@pytest.mark.slow
async def test_the_end_of_a_client_with_a_pipelined_request_is_seen(start: Start, app: Application, way: str) -> None:
    """While one request is answered nothing more is read: a long poll would wait for ever for one that has left."""
    served = await start(app, close_timeout=0.3, disconnect_timeout=0.5)
    client = await served.connect()
    await client.send(b"GET /poll HTTP/1.1\r\nHost: a\r\n\r\n" + b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n" * 2)
    await until(lambda: served.context.tasks)
    client.reset() if way == "RST" else client.writer.close()
    await served.idle()
    assert app.ends[0] == "http.disconnect"


@pytest.mark.slow
@pytest.mark.parametrize("way", ["FIN", "RST"])
async def test_the_end_of_a_client_whose_body_is_not_taken_is_seen(start: Start, app: Application, way: str) -> None:
    served = await start(app, close_timeout=0.3, disconnect_timeout=0.5)
    app.pace.clear()
    client = await served.connect()
    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 900000\r\n\r\n" + bytes(900_000))
    await until(lambda: served.context.connections)  # the kernel may have taken all of it
    (connection,) = served.context.connections
    await until(lambda: not connection.outbox.reading)  # type: ignore[attr-defined]
    client.reset() if way == "RST" else client.writer.close()
    await served.idle()
    assert app.ends == ["cancelled"]


DEFLATE = HANDSHAKE.replace(b"\r\n\r\n", b"\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n")


def bomb(opcode: int, message: bytes) -> bytes:
    deflating = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = deflating.compress(message) + deflating.flush(zlib.Z_SYNC_FLUSH)
    return frame(opcode, data[:-4], rsv=4)


BOMBS = {
    "binary": bomb(BINARY, bytes(MIB)),
    "text": bomb(TEXT, b"a" * MIB),
    "text with four bytes a character": bomb(TEXT, b"a" * (MIB - 4) + "🛥".encode()),
}


@pytest.mark.slow
@over_http2_too
@pytest.mark.parametrize("data", BOMBS.values(), ids=BOMBS)
async def test_what_waits_is_bounded_after_inflation(start: Start, app: Application, data: bytes) -> None:
    """60 frames of 1 KiB fit into one read and hold 60 MiB, or 240."""
    served = await start(app)
    client = await opened(served, DEFLATE)
    app.pace.clear()
    tracemalloc.start()
    try:
        await client.send(data * 60)
        connection = the_connection(served)
        await until(lambda: not connection.outbox.reading and connection.inbox.full)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # One message that the consumer has been given, one with which the inbox is full, and the bytes one is made of.
    assert peak < 12 * MIB
    app.pace.set()
    for _ in range(60):
        opcode, answer = await client.frame()
        assert (opcode, int(answer) > MIB - 5) == (TEXT, True)


@over_http2_too
async def test_a_text_with_wide_characters_is_counted_as_what_it_takes(start: Start, app: Application) -> None:
    """Without compression, too: a character may take four times what it took on the wire, at least in its piece."""
    served = await start(app)
    client = await opened(served)
    app.pace.clear()
    sending = asyncio.ensure_future(client.send(frame(TEXT, b"a" * 400_000 + "🛥".encode()) * 20))
    connection = the_connection(served)
    await until(lambda: not connection.outbox.reading and connection.inbox.full)
    assert connection.inbox.client is not None
    assert len(connection.inbox.client) <= 3
    assert connection.inbox.client_size == sum(map(sys.getsizeof, connection.inbox.client)) > MIB
    app.pace.set()
    for _ in range(20):
        assert await client.frame() == (TEXT, b"400001")
    await sending


@pytest.mark.slow
@over_http2_too
async def test_bombs_of_many_clients_do_not_hold_up_a_neighbour(start: Start, app: Application) -> None:
    """However many clients send them together, few of them are inflated in one pass."""
    served = await start(app)
    attackers = [await opened(served, DEFLATE) for _ in range(20)]
    neighbour = await opened(served)
    for client in attackers:
        client.writer.write(BOMBS["binary"] * 6)
    await neighbour.send(frame(TEXT, b"hello"))
    assert await neighbour.frame() == (TEXT, b"5")
    assert sum(type(one) is bytes for one in app.received) <= 60
    for client in attackers:
        for _ in range(6):
            assert await client.frame() == (TEXT, b"%d" % MIB)


kinds = st.sampled_from(["text", "binary", "deflated", "wide", "ping", "pong", "fragments"])
MAKE: dict[str, Callable[[int], bytes]] = {
    "text": lambda number: frame(TEXT, b"%d" % number),
    "binary": lambda number: frame(BINARY, bytes(number % 3000)),
    "deflated": lambda number: bomb(BINARY, bytes(40_000)),
    "wide": lambda number: frame(TEXT, "🛥".encode() * 5000),
    "ping": lambda number: frame(PING, b"%d" % number),
    "pong": lambda number: frame(PONG),
    "fragments": lambda number: frame(TEXT, b"a", fin=False) + frame(PING) + frame(0, b"b"),
}


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    runs=st.lists(st.tuples(kinds, st.integers(1, 150)), max_size=6),
    cuts=st.lists(st.integers(0, 1 << 16), max_size=4),
    messages=st.sampled_from([1, 3, 64]),
)
def test_for_any_input_and_any_split_everything_is_decoded(
    runs: list[tuple[str, int]], cuts: list[int], messages: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Or the consumer has something to take: here it takes all it gets, so all must come."""
    data = b"".join(MAKE[kind](number) for kind, count in runs for number in range(count))

    async def conversation() -> None:
        app = Application()
        served = await serve(app, caplog, inbox_messages=messages, inbox_bytes=50_000)
        client = await opened(served, DEFLATE)

        async def send() -> None:
            places = sorted({0, *(cut % (len(data) + 1) for cut in cuts), len(data)})
            for begin, end in pairwise(places):
                await client.send(data[begin:end])
                await next_pass()
            await client.send(frame(TEXT, b"the end") + frame(PING, b"the end"))

        sending = asyncio.ensure_future(send())
        pongs = answers = 0
        while (received := await client.frame()) != (PONG, b"the end"):
            pongs += received[0] == PONG
            answers += received[0] == TEXT
        await sending
        await until(lambda: app.received and app.received[-1] == "the end")
        controls = sum(count for kind, count in runs if kind in ("ping", "fragments"))
        assert (pongs, len(app.received)) == (controls, 1 + sum(n for kind, n in runs if kind not in ("ping", "pong")))
        assert answers <= len(app.received)
        await served.stop()

    asyncio.run(conversation())
