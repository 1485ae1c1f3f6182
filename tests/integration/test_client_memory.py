"""Clients that hold much together, and each no more than it may: who is dropped, who is refused, who lives."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fairway.protocols.http2.frames import CONTINUATION, HEADERS, PREFACE, pack_head, settings_frame
from tests.integration import http2
from tests.integration.applications import Connection, Recorder
from tests.integration.conftest import Start
from tests.integration.raw import BINARY, DEADLINE, HANDSHAKE, TEXT, Served, frame, next_pass

MEMORY: dict[str, Any] = {"max_client_memory": 2_000_000, "inbox_bytes": 600_000, "max_message_bytes": 500_000}

# HEADERS without END_HEADERS, and as many frames behind it as may follow.
_UNFINISHED = b"".join(pack_head(5500 << 8 | kind, 0, 1) + bytes(5500) for kind in (HEADERS, *[CONTINUATION] * 8))


class _Waiting:
    """Answers nothing."""

    async def __call__(self, connection: Connection, tell: Any) -> None:
        await asyncio.Event().wait()


class Application:
    """Takes nothing of whom it is told to leave alone; the others it echoes."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()

    async def __call__(self, connection: Connection, tell: Any) -> None:
        if connection.scope["type"] == "http":
            await self.go_on.wait()
            await connection.respond(200, b"fine")
            return
        await connection.accept()
        while (event := await connection.receive())["type"] == "websocket.receive":
            if "bytes" in event:
                await self.go_on.wait()
            else:
                await connection.send({"type": "websocket.send", "text": event["text"]})
        tell(event["code"])


async def over(served: Served) -> None:
    async with asyncio.timeout(DEADLINE):
        while not served.context.counters.memory_drops:
            await next_pass()


@pytest.mark.slow
@pytest.mark.parametrize("what", ["messages", "unfinished"])
async def test_those_that_hold_most_are_dropped_and_others_live(start: Start, what: str) -> None:
    app = Application()
    recorder = Recorder(app)
    served = await start(recorder, **MEMORY)
    neighbour = await served.connect()
    await neighbour.open()
    attackers = [await served.connect() for _ in range(8)]
    message = frame(BINARY, bytes(450_000))
    for client in attackers:
        await client.open()
        await client.send(message + message if what == "messages" else message[:400_000])
    await over(served)
    await neighbour.send(frame(TEXT, b"alive"))
    assert await neighbour.frame() == (TEXT, b"alive")
    drops = served.context.counters.memory_drops
    assert 4 <= drops < 8
    assert "that hold most are dropped" in served.log[0]
    app.go_on.set()
    assert [await recorder.seen() for _ in range(drops)] == [1013] * drops


@pytest.mark.slow
async def test_bodies_over_http2_count_and_meanwhile_new_connections_are_503(start: Start) -> None:
    app = Application()
    served = await start(Recorder(app), max_client_memory=200_000)
    clients = [await http2.connect(served) for _ in range(4)]
    for client in clients:
        number = await client.ask(b"POST", ended=False)
        await client.content(number, bytes(65_535), ended=False)
    await over(served)
    other = await served.connect()
    response = await other.response()
    assert (response.status, response.body) == (503, b"server is short of memory\n")
    assert served.context.counters.refused == 1

    # Then what is left is below the bound, and others may come again.
    async with asyncio.timeout(DEADLINE):
        while served.context.admission.short_of_memory:
            await next_pass()
    again = await served.connect(at_once=b"GET / HTTP/1.1\r\n\r\n")
    assert (await again.response()).status == 400
    app.go_on.set()


_REQUEST = b"GET / HTTP/1.1\r\nHost: example.com\r\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    "sent",
    [
        pytest.param([_REQUEST + b"x: " + b"y" * 50_000], id="half a head in one line"),
        pytest.param([_REQUEST + (b"x: " + b"y" * 500 + b"\r\n") * 90], id="half a head in many lines"),
        pytest.param([_REQUEST + b"\r\n" + b"y" * 50_000], id="behind a request"),
        pytest.param([HANDSHAKE + b"y" * 50_000], id="behind a handshake"),
        pytest.param([HANDSHAKE, b"y" * 50_000], id="behind a handshake, later"),
        pytest.param([PREFACE + settings_frame([]), _UNFINISHED], id="half a field block"),
    ],
)
async def test_what_is_not_understood_yet_counts(start: Start, sent: list[bytes]) -> None:
    served = await start(Recorder(_Waiting()), max_client_memory=200_000)
    for _ in range(8):
        client = await served.connect()
        for number, data in enumerate(sent):
            if number:
                async with asyncio.timeout(DEADLINE):
                    while not served.context.tasks and not data.startswith(_UNFINISHED):
                        await next_pass()
            await client.send(data)
    await over(served)
