"""One connection: in which order it speaks, when it stops reading, and how it ends."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.fairway.server.http2.conftest import Connect
from tests.fairway.server.http2.line import (
    DATA,
    GOAWAY,
    HEADERS,
    PING,
    SETTINGS,
    WINDOW_UPDATE,
    Line,
    ask,
    frame,
    passes,
    window,
)

HIGHEST = 2**31 - 1


async def hello(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": bytes(1000)})


def kinds(line: Line) -> list[int]:
    return [kind for kind, _, _, _ in line.take()]


async def test_settings_are_acknowledged_before_what_they_set_free(connect: Connect) -> None:
    line = connect(hello, 0)
    line.send(ask(1))
    await passes()
    assert kinds(line) == [HEADERS]
    line.send(frame(SETTINGS, 0, 0, b"\0\4" + (1000).to_bytes(4, "big")))
    await passes()
    assert kinds(line) == [SETTINGS, DATA]


async def test_a_client_that_takes_no_answers_is_not_asked_for_more(connect: Connect) -> None:
    line = connect(hello, 1 << 20, outbox_high_water=5000)
    line.transport.room = 0
    line.send(window(0, 1 << 20) + ask(1))
    await passes()
    line.send(b"".join(ask(stream) for stream in range(3, 21, 2)))
    await passes()
    line.send(frame(PING, 0, 0, bytes(8)))
    assert not line.connection.outbox.reading
    line.send(b"".join(ask(stream) for stream in range(21, 41, 2)))
    line.transport.room = 1 << 40
    taken = line.take()
    await passes()
    taken += line.take()
    assert line.connection.outbox.reading
    assert sum(kind == DATA for kind, _, _, _ in taken) == 20


async def test_an_idle_connection_is_warned_and_told_the_last_stream(connect: Connect) -> None:
    line = connect(hello)
    line.send(ask(1))
    await passes()
    line.take()
    line.context.draining = True
    line.connection.drain()
    line.connection.drain()
    await passes()
    (warning, _, _, last), (ping, _, _, payload) = line.take()
    assert (warning, int.from_bytes(last[:4], "big"), ping) == (GOAWAY, HIGHEST, PING)
    line.send(ask(3) + frame(PING, 1, 0, payload))  # it was on its way
    await passes()
    frames = [one for one in line.take() if one[0] != WINDOW_UPDATE]
    assert [kind for kind, _, _, _ in frames] == [GOAWAY, HEADERS, DATA]
    assert int.from_bytes(frames[0][3][:4], "big") == 3
    assert line.transport.ended
    assert not line.transport.gone
    line.transport.end()
    await passes()
    assert line.transport.gone


async def test_one_connection_too_many_is_told_to_go(connect: Connect) -> None:
    line = connect(hello, max_connections=1)
    other = Line(hello, context=line.context)
    assert (line.context.counters.refused, line.context.admission.refusing) == (1, 1)
    assert [kind for kind, _, _, _ in other.greeting][-1] == GOAWAY
    assert other.transport.ended
    other.transport.end()
    async with asyncio.timeout(5.0):
        while line.context.admission.refusing:  # noqa: ASYNC110  # what comes too late is read slowly
            await asyncio.sleep(0)
    assert (other.transport.gone, len(line.context.connections)) == (True, 1)
