"""Clients that send just enough not to be silent: bodies, frames and messages that trickle."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.integration import http2
from tests.integration.applications import Connection, Recorder
from tests.integration.conftest import Start, over_http2_too
from tests.integration.raw import BINARY, CLOSE, DEADLINE, TEXT, Client, frame

PATIENCE: dict[str, Any] = {"keep_alive_timeout": 0.5, "min_body_rate": 2000}
LINE = "request body stopped arriving, or arrives too slowly: RFC 9110 section 15.5.9; answered with 408"


async def taking(connection: Connection, tell: Any) -> None:
    if connection.scope["type"] == "websocket":
        await connection.accept()
        while (event := await connection.receive())["type"] == "websocket.receive":
            await connection.send({"type": "websocket.send", "text": str(len(event["text"]))})
        tell(event)
    else:
        size, event = 0, await connection.receive()
        while event["type"] == "http.request" and event["more_body"]:
            size, event = size + len(event["body"]), await connection.receive()
        if event["type"] == "http.request":
            await connection.respond(200, b"%d" % (size + len(event["body"])))


async def trickle(client: Client, data: bytes) -> None:
    """Send this again and again, often enough not to be silent."""
    with contextlib.suppress(OSError):
        while True:
            await client.send(data)
            await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def trickling(client: Client, data: bytes) -> AsyncIterator[None]:
    task = asyncio.ensure_future(trickle(client, data))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.mark.slow
@pytest.mark.parametrize(
    ("head", "piece"), [(b"Content-Length: 100000", b"x"), (b"Transfer-Encoding: chunked", b"1\r\nx\r\n")]
)
async def test_a_body_that_trickles_is_408(start: Start, head: bytes, piece: bytes) -> None:
    served = await start(Recorder(taking), **PATIENCE)
    client = await served.connect()
    await client.send(b"POST /up HTTP/1.1\r\nHost: a\r\n" + head + b"\r\n\r\n")
    async with trickling(client, piece):
        assert (await client.response()).status == 408
    assert served.context.counters.slow_senders == 1
    assert [line.partition("/up: ")[2] for line in served.log] == [LINE]
    await client.close()
    await served.idle()


@pytest.mark.slow
async def test_over_http2_the_stream_alone_is_answered(start: Start) -> None:
    served = await start(Recorder(taking), ping_interval=0.2, ping_timeout=DEADLINE, **PATIENCE)
    client = await http2.connect(served)
    number = await client.ask(b"POST", ended=False)

    async def trickle_on() -> None:
        while not client.answers[number].status:
            await client.content(number, b"x", ended=False)
            await asyncio.sleep(0.05)

    trickling_on = asyncio.ensure_future(trickle_on())
    await client.until(lambda: client.answers[number].status)
    assert client.answers[number].status == 408
    await trickling_on
    assert served.context.counters.slow_senders == 1
    assert (await client.request(b"GET")).status == 200


@pytest.mark.slow
async def test_a_body_at_a_fair_pace_is_taken_however_long_it_lasts(start: Start) -> None:
    served = await start(Recorder(taking), keep_alive_timeout=1.0, min_body_rate=500)
    client = await served.connect()
    await client.send(b"POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 20000\r\n\r\n")
    for _ in range(20):
        await client.send(bytes(1000))
        await asyncio.sleep(0.1)
    assert (await client.response()).body == b"20000"
    assert served.log == []


@pytest.mark.slow
async def test_an_application_that_takes_nothing_is_not_held_against_the_client(start: Start) -> None:
    go_on = asyncio.Event()

    async def late(connection: Connection, tell: Any) -> None:
        await go_on.wait()
        await taking(connection, tell)

    served = await start(Recorder(late), keep_alive_timeout=0.5, min_body_rate=1000, body_buffer_bytes=1000)
    client = await served.connect()
    await client.send(b"POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 2000\r\n\r\n" + bytes(1000))
    await asyncio.sleep(1.5)
    go_on.set()
    await client.send(bytes(1000))
    assert (await client.response()).body == b"2000"
    assert served.log == []


@pytest.mark.slow
@over_http2_too
@pytest.mark.parametrize("is_fragmented", [False, True])
async def test_a_message_that_trickles_is_closed_with_1008(start: Start, is_fragmented: bool) -> None:
    app = Recorder(taking)
    served = await start(app, ping_interval=0.25, ping_timeout=DEADLINE, max_fragments=10_000, **PATIENCE)
    client = await served.connect()
    await client.open()
    piece = frame(0, b"x", fin=False) if is_fragmented else b"x"
    await client.send(frame(BINARY, b"x", fin=False) if is_fragmented else frame(BINARY, bytes(100_000))[:14])
    async with trickling(client, piece):
        code = 0
        while not code:
            opcode, payload = await client.frame()
            code = int.from_bytes(payload[:2], "big") if opcode == CLOSE else 0
    assert code == 1008
    assert (await app.seen())["code"] == 1008
    assert served.context.counters.slow_senders == 1
    (line,) = served.log
    assert line.endswith("/chat: message stopped arriving, or arrives too slowly; closed with 1008")


@pytest.mark.slow
async def test_one_that_goes_on_or_talks_in_short_messages_is_left_alone(start: Start) -> None:
    served = await start(
        Recorder(taking), ping_interval=0.25, ping_timeout=DEADLINE, keep_alive_timeout=0.5, min_body_rate=50
    )
    talker, sender = await served.connect(), await served.connect()
    await talker.open()
    await sender.open()
    long = frame(TEXT, b"x" * 1000)
    for number in range(20):
        await talker.send(frame(TEXT, b"x"))
        await sender.send(long[number * 50 : number * 50 + 50])
        await asyncio.sleep(0.1)
    await sender.send(long[1000:])
    while (await sender.frame()) != (TEXT, b"1000"):
        pass
    assert served.log == []
    assert len(served.websockets) == 2
