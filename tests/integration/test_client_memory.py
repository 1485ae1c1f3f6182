"""Clients that hold much together, and each no more than it may: who is dropped, who is refused, who lives."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.integration import http2
from tests.integration.applications import Connection, Recorder
from tests.integration.conftest import Start
from tests.integration.raw import BINARY, DEADLINE, TEXT, Served, frame, next_pass

MEMORY: dict[str, Any] = {"max_client_memory": 2_000_000, "inbox_bytes": 600_000, "max_message_bytes": 500_000}


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
