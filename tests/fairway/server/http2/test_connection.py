"""One connection: in which order it speaks, when it stops reading, and how it ends."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

from tests.fairway.server.http2.conftest import Connect
from tests.fairway.server.http2.line import (
    DATA,
    END_STREAM,
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

from fairway.protocols.http2.patience import FRAMES_AT_ONCE
from fairway.server.backlog import READERS_PER_PASS

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


class Taking:
    """Takes the whole body once it may, in the pieces in which it comes."""

    def __init__(self) -> None:
        self.may_take = asyncio.Event()
        self.pieces: list[bytes] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.may_take.wait()
        more = True
        while more:
            event = await receive()
            self.pieces.append(event["body"])
            more = event["more_body"]
        await hello(scope, receive, send)


TINY = frame(DATA, 0, 1, b"x")


async def test_tiny_frames_are_taken_over_several_passes(connect: Connect) -> None:
    app = Taking()
    app.may_take.set()
    line = connect(app)
    line.send(ask(1, b"POST", ended=False))
    await passes()
    line.send(TINY * 5 * FRAMES_AT_ONCE + frame(PING, 0, 0, bytes(8)))
    assert not line.connection.outbox.reading
    line.send(frame(DATA, END_STREAM, 1, b"last"))
    seen: list[int] = []
    while not line.connection.outbox.reading:
        seen.append(len(b"".join(app.pieces)))
        await passes(1)
    await passes()
    assert max(after - before for before, after in pairwise(seen)) == FRAMES_AT_ONCE
    assert b"".join(app.pieces) == b"x" * 5 * FRAMES_AT_ONCE + b"last"
    assert kinds(line) == [PING, HEADERS, DATA]


async def test_connections_with_tiny_frames_share_the_passes(connect: Connect) -> None:
    first = connect(Taking())
    lines = [first, *(connect(None, context=first.context) for _ in range(4))]
    for line in lines:
        line.send(ask(1, b"POST", ended=False) + TINY * 5 * FRAMES_AT_ONCE)
    protocols = [line.connection.protocol for line in lines]
    seen = [sum(one.unread for one in protocols)]
    while seen[-1] < 5 * 5 * FRAMES_AT_ONCE:
        await passes(1)
        seen.append(sum(one.unread for one in protocols))
    grown = {after - before for before, after in pairwise(seen)}
    assert 0 < max(grown) <= READERS_PER_PASS * FRAMES_AT_ONCE
    await passes(1)
    assert all(line.connection.outbox.reading for line in lines)


async def test_who_takes_no_answers_has_no_more_of_its_frames_taken(connect: Connect) -> None:
    app = Taking()
    line = connect(app, outbox_high_water=100, http2_patience=10_000)
    line.transport.room = 0
    ping = frame(PING, 0, 0, bytes(8))
    line.send(ping)
    await passes()
    assert line.connection.outbox.blocked
    line.send(ping * 10 + ask(1, b"POST", ended=False) + TINY * 5 * FRAMES_AT_ONCE + frame(PING, 0, 0, b"12345678"))
    await passes()
    assert line.connection.protocol.unread == FRAMES_AT_ONCE - 11
    assert line.connection.protocol.is_parted
    assert not line.connection.outbox.reading
    line.transport.room = 1 << 40
    line.take()
    await passes(20)
    assert line.connection.protocol.unread == 5 * FRAMES_AT_ONCE
    assert line.connection.outbox.reading
    assert line.take()[-1] == (PING, 1, 0, b"12345678")


async def test_who_took_no_answers_and_broke_a_rule_is_read_to_its_end(connect: Connect) -> None:
    line = connect(hello, outbox_high_water=100)
    line.transport.room = 0
    ping = frame(PING, 0, 0, bytes(8))
    line.send(ping)
    await passes()
    line.send(ping * 10 + frame(DATA, 0, 0))
    assert not line.connection.outbox.reading
    line.transport.room = 1 << 40
    line.take()
    await passes()
    assert kinds(line)[-1] == GOAWAY
    assert line.connection.outbox.reading
    line.transport.end()
    await passes()
    assert line.transport.gone


async def test_a_connection_may_be_lost_while_frames_wait(connect: Connect) -> None:
    line = connect(Taking())
    line.send(ask(1, b"POST", ended=False) + TINY * 5 * FRAMES_AT_ONCE)
    assert line.connection.protocol.is_parted
    line.connection.connection_lost(None)
    await passes()
    assert line.connection.protocol.held is None


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
