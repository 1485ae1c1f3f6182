"""Bodies in chunks of one byte, and HTTP/2 in frames of one byte: they are taken over many passes of the loop, with the
requests of others between them, and nothing of them is lost.

Clients and server share a loop, so that what a neighbour is answered meanwhile is a count of passes, not of seconds.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from fairway.protocols.http1.body import CHUNKS_AT_ONCE
from fairway.protocols.http2.patience import FRAMES_AT_ONCE
from fairway.server.http1.connection import Http1Connection
from tests.fairway.server.http2.line import DATA, END_STREAM, PING, PREFACE, SETTINGS, ask, frame, frames_of
from tests.integration.applications import Connection, Recorder
from tests.integration.conftest import Start, in_clear_and_over_tls
from tests.integration.raw import DEADLINE, Client, Served, next_pass

CONTENT = random.Random(1).randbytes(40_000)
POST = b"POST /upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
LAST = b"0\r\n\r\n"
EXTENDED = 4000

MOST_PASSES = 10
"""In which a request is sent and answered, and its answer is read."""


def chunks(content: bytes) -> bytes:
    """One for each byte. Those at the end have extensions, and take longer."""
    tiny = [b"1\r\n%c\r\n" % byte for byte in content[:-EXTENDED]]
    return b"".join(tiny + [b"1;a\r\n%c\r\n" % byte for byte in content[-EXTENDED:]])


class Application:
    """Takes bodies to `/upload`, each piece after `pace` is set, and tells them; to others it says hello."""

    def __init__(self) -> None:
        self.pace = asyncio.Event()
        self.pace.set()

    async def __call__(self, connection: Connection, tell: Any) -> None:
        body = b""
        if connection.scope["path"] == "/upload":
            more = True
            while more:
                await self.pace.wait()
                event = await connection.receive()
                if event["type"] == "http.disconnect":
                    tell("disconnect")
                    return
                body += event["body"]
                more = event["more_body"]
            tell(body)
        await connection.respond(200, b"%d" % len(body))


@pytest.fixture
async def app() -> Application:
    return Application()


async def connect_neighbour(served: Served) -> Client:
    """One that has been accepted: that takes passes of its own."""
    neighbour = await served.connect()
    await neighbour.send(GET)
    assert (await neighbour.response()).status == 200
    return neighbour


async def answered_meanwhile(neighbour: Client, taken: asyncio.Task[Any]) -> int:
    """How many requests, one after the other, are answered until something is there."""
    count = 0
    async with asyncio.timeout(DEADLINE):
        while not taken.done():
            await neighbour.send(GET)
            assert (await neighbour.response()).status == 200
            count += 1
    return count


@in_clear_and_over_tls
async def test_neighbours_of_tiny_chunks_are_answered_between_them(start: Start, app: Application) -> None:
    recorder = Recorder(app)
    served = await start(recorder)
    client, neighbour = await served.connect(), await connect_neighbour(served)
    taken = asyncio.create_task(recorder.seen())
    sending = asyncio.create_task(client.send(POST + chunks(CONTENT) + LAST + GET))
    count = await answered_meanwhile(neighbour, taken)
    assert await taken == CONTENT
    await sending
    assert count > len(CONTENT) / CHUNKS_AT_ONCE / MOST_PASSES
    assert [(await client.response()).body for _ in range(2)] == [b"%d" % len(CONTENT), b"0"]
    await client.send(POST + b"2\r\nbc\r\n" + LAST)
    assert await recorder.seen() == b"bc"


async def test_a_client_that_ends_its_side_behind_tiny_chunks_is_answered(start: Start, app: Application) -> None:
    recorder = Recorder(app)
    served = await start(recorder)
    client = await served.connect()
    client.writer.write(POST + chunks(CONTENT) + LAST)
    client.writer.write_eof()
    assert await recorder.seen() == CONTENT
    assert (await client.response()).body == b"%d" % len(CONTENT)
    assert await client.at_end()


@pytest.mark.parametrize("end", [b"", b"1\r\nx", b"0\r\n"])
async def test_a_client_that_ends_its_side_inside_tiny_chunks_is_refused(
    start: Start, app: Application, end: bytes
) -> None:
    recorder = Recorder(app)
    served = await start(recorder)
    client = await served.connect()
    client.writer.write(POST + chunks(CONTENT) + end)
    client.writer.write_eof()
    assert await recorder.seen() == "disconnect"
    assert (await client.response()).status == 400
    (line,) = served.log
    assert line.endswith("connection ended inside the request content: RFC 9112 section 8; answered with 400")


async def test_a_client_that_vanishes_behind_tiny_chunks_leaves_nothing(start: Start, app: Application) -> None:
    app.pace.clear()
    recorder = Recorder(app)
    served = await start(recorder, body_buffer_bytes=1000)
    client = await served.connect()
    await client.send(POST + chunks(CONTENT[:30_000]))
    await paused(served)
    client.reset()
    app.pace.set()
    assert await recorder.seen() == "disconnect"
    await served.idle()


async def paused(served: Served) -> Http1Connection:
    """The only connection that is not read."""
    async with asyncio.timeout(DEADLINE):
        while True:
            for one in served.context.connections:
                if isinstance(one, Http1Connection) and not one.outbox.reading:
                    return one
            await next_pass()


@in_clear_and_over_tls
async def test_a_slow_application_bounds_what_is_taken_of_tiny_chunks(start: Start, app: Application) -> None:
    app.pace.clear()
    recorder = Recorder(app)
    served = await start(recorder, body_buffer_bytes=1000)
    client = await served.connect()
    sending = asyncio.create_task(client.send(POST + chunks(CONTENT) + LAST))
    neighbour = await connect_neighbour(served)
    connection = await paused(served)
    for _ in range(20):
        await next_pass()
    held = connection.held_bytes
    for _ in range(20):
        await neighbour.send(GET)
        assert (await neighbour.response()).status == 200
    assert not connection.outbox.reading
    assert connection.held_bytes == held < len(chunks(CONTENT))
    app.pace.set()
    assert await recorder.seen() == CONTENT
    await sending
    assert (await client.response()).status == 200


# HTTP/2

HELLO = PREFACE + frame(SETTINGS) + frame(SETTINGS, 1)


async def until(client: Client, kind: int, flags: int) -> tuple[int, bytes]:
    """Stream and payload of the next such frame."""
    async with asyncio.timeout(DEADLINE):
        while True:
            head = await client.reader.readexactly(9)
            payload = await client.reader.readexactly(int.from_bytes(head[:3], "big"))
            if head[3] == kind and head[4] & flags == flags:
                return int.from_bytes(head[5:], "big"), payload


async def connect_http2(served: Served) -> Client:
    if served.trust is None:
        return await served.connect()
    served.trust.set_alpn_protocols(["h2"])
    client = await served.connect()
    served.trust.set_alpn_protocols(["http/1.1"])
    return client


@in_clear_and_over_tls
async def test_neighbours_of_tiny_frames_are_answered_between_them(start: Start, app: Application) -> None:
    recorder = Recorder(app)
    served = await start(recorder)
    client, neighbour = await connect_http2(served), await connect_neighbour(served)
    content = CONTENT[:20_000]
    tiny = b"".join(frame(DATA, 0, 1, b"%c" % byte) for byte in content)
    taken = asyncio.create_task(recorder.seen())
    await client.send(HELLO + ask(1, b"POST", b"/upload", False))
    sending = asyncio.create_task(client.send(tiny + frame(DATA, END_STREAM, 1) + frame(PING, 0, 0, b"12345678")))
    count = await answered_meanwhile(neighbour, taken)
    assert await taken == content
    await sending
    assert count > len(content) / FRAMES_AT_ONCE / MOST_PASSES
    assert await until(client, PING, 1) == (0, b"12345678")
    assert await until(client, DATA, END_STREAM) == (1, b"%d" % len(content))
    await client.send(ask(3))
    assert await until(client, DATA, END_STREAM) == (3, b"0")


async def test_a_client_that_ends_its_side_behind_tiny_frames_is_answered(start: Start, app: Application) -> None:
    recorder = Recorder(app)
    served = await start(recorder)
    client = await served.connect()
    tiny = b"".join(frame(DATA, 0, 1, b"%c" % byte) for byte in CONTENT)
    client.writer.write(HELLO + ask(1, b"POST", b"/upload", False) + tiny + frame(DATA, END_STREAM, 1) + ask(3))
    client.writer.write_eof()
    assert await recorder.seen() == CONTENT
    async with asyncio.timeout(DEADLINE):
        data = await client.reader.read()
    assert {stream: payload for kind, _, stream, payload in frames_of(data) if kind == DATA and payload} == {
        1: b"%d" % len(CONTENT),
        3: b"0",
    }


async def test_a_client_that_vanishes_behind_tiny_frames_leaves_nothing(start: Start, app: Application) -> None:
    app.pace.clear()
    recorder = Recorder(app)
    served = await start(recorder)
    client = await served.connect()
    await client.send(HELLO + ask(1, b"POST", b"/upload", False) + frame(DATA, 0, 1, b"a") * 6000)
    async with asyncio.timeout(DEADLINE):
        while served.context.counters.requests == 0:
            await next_pass()
    client.reset()
    app.pace.set()
    assert await recorder.seen() == "disconnect"
    await served.idle()
