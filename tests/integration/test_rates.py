"""Clients that send too much in a second: they are read more slowly, and those that go on are closed."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import pytest

from tests.integration.applications import Connection, Recorder
from tests.integration.conftest import Start, over_http2_too
from tests.integration.raw import BINARY, CLOSE, TEXT, frame


async def echo(connection: Connection, tell: Any) -> None:
    await connection.accept()
    while (event := await connection.receive())["type"] == "websocket.receive":
        await connection.send({"type": "websocket.send", "text": event.get("text") or "bytes"})
    tell(event)


@pytest.mark.slow
@over_http2_too
async def test_messages_are_read_at_their_rate_and_none_is_lost(start: Start) -> None:
    served = await start(Recorder(echo), max_messages_per_second=50, rate_burst=0.2)
    flooding, neighbour = await served.connect(), await served.connect()
    await flooding.open()
    await neighbour.open()
    began = time.monotonic()
    await flooding.send(b"".join(frame(TEXT, b"%d" % number) for number in range(110)))
    await neighbour.send(frame(TEXT, b"quick"))
    assert await neighbour.frame() == (TEXT, b"quick")
    for number in range(110):
        assert await flooding.frame() == (TEXT, b"%d" % number)
    # 10 at once and 50 a second; the last ones may come with those that overdraw.
    assert time.monotonic() - began > 1.0
    assert served.context.counters.rate_excesses >= 1
    assert served.log[0].endswith("/chat: client sends more than 50 messages a second: it is read more slowly")


@pytest.mark.slow
@over_http2_too
async def test_who_goes_on_is_closed_with_1008(start: Start) -> None:
    app = Recorder(echo)
    served = await start(app, max_bytes_per_second=200_000, rate_burst=0.5, rate_patience=1.0)
    client = await served.connect()
    await client.open()

    async def flood() -> None:
        with contextlib.suppress(OSError):
            while True:
                await client.send(frame(BINARY, bytes(10_000)))

    flooding = asyncio.ensure_future(flood())
    try:
        code = 0
        while not code:
            opcode, payload = await client.frame()
            code = int.from_bytes(payload[:2], "big") if opcode == CLOSE else 0
    finally:
        flooding.cancel()
    assert code == 1008
    assert (await app.seen())["code"] == 1008
    assert served.log[-1].endswith("/chat: client sent too much for 1 s; closed with 1008")


@pytest.mark.slow
async def test_who_keeps_to_it_and_bursts_now_and_then_is_left_alone(start: Start) -> None:
    served = await start(Recorder(echo), max_messages_per_second=50, rate_burst=2.0, rate_patience=0.1)
    client = await served.connect()
    await client.open()
    for _ in range(3):
        await client.send(frame(TEXT, b"x") * 30)
        for _ in range(30):
            assert await client.frame() == (TEXT, b"x")
        await asyncio.sleep(0.6)
    assert served.context.counters.rate_excesses == 0
    assert served.log == []


@pytest.mark.slow
@pytest.mark.parametrize("is_reset", [False, True])
async def test_who_leaves_while_it_is_held_is_noticed(start: Start, is_reset: bool) -> None:
    app = Recorder(echo)
    served = await start(app, max_messages_per_second=1, rate_burst=1.0, close_timeout=0.3)
    client = await served.connect()
    await client.open()
    await client.send(frame(TEXT, b"x") * 50)
    assert await client.frame() == (TEXT, b"x")
    if is_reset:
        client.reset()
    else:
        await client.close()
    await served.idle()
    assert (await app.seen())["code"] == 1006
