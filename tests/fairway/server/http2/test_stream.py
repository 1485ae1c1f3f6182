"""One request over one stream: what is written when, and what is left when it ends."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.fairway.server.http2.conftest import Connect
from tests.fairway.server.http2.line import (
    DATA,
    END_STREAM,
    HEADERS,
    PING,
    RST_STREAM,
    WINDOW_UPDATE,
    ask,
    frame,
    passes,
    window,
)

from fairway.asgi.errors import ConnectionClosed


class App:
    """Sends these bodies, and notes what it has been told."""

    def __init__(self, *bodies: bytes) -> None:
        self.bodies = bodies
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.seen: list[Any] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.go_on.wait()
        try:
            await send({"type": "http.response.start", "status": 200})
            for index, body in enumerate(self.bodies, 1):
                await send({"type": "http.response.body", "body": body, "more_body": index < len(self.bodies)})
                self.seen.append(index)
        except ConnectionClosed:
            self.seen.append("closed")
            raise


async def test_a_whole_answer_is_one_write(connect: Connect) -> None:
    line = connect(App(b"hello"))
    line.send(ask(1))
    await passes()
    assert line.writes == 1
    (head, _, _, _), (data, flags, stream, payload) = line.take()
    assert (head, data, flags, stream, payload) == (HEADERS, DATA, END_STREAM, 1, b"hello")
    assert line.connection.protocol.streams == {}


async def test_the_answers_of_many_streams_are_one_write(connect: Connect) -> None:
    line = connect(App(b"hello"))
    line.send(b"".join(ask(stream) for stream in range(1, 100, 2)))
    await passes()
    assert line.writes == 1
    assert [payload for kind, _, _, payload in line.take() if kind == DATA] == [b"hello"] * 50


async def test_what_a_window_does_not_take_waits_and_goes_on(connect: Connect) -> None:
    app = App(b"a" * 30_000, b"b" * 30_000)
    line = connect(app, 10_000, outbox_high_water=20_001)
    line.send(ask(1))
    await passes()
    assert [len(payload) for kind, _, _, payload in line.take() if kind == DATA] == [10_000]
    assert app.seen == [1]  # 20,000 bytes wait, which is less than the mark
    line.send(window_of_stream(5_000))
    await passes()
    assert [len(payload) for kind, _, _, payload in line.take() if kind == DATA] == [5_000]
    line.send(window_of_stream(100_000))
    await passes()
    data = [(flags, payload) for kind, flags, _, payload in line.take() if kind == DATA]
    assert b"".join(payload for _, payload in data) == b"a" * 15_000 + b"b" * 30_000
    assert [flags for flags, _ in data][-1] == END_STREAM
    assert app.seen == [1, 2]
    assert line.connection.protocol.streams == {}
    assert line.connection.writer.waiting == {}


def window_of_stream(increment: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, 1, increment.to_bytes(4, "big"))


async def test_a_socket_that_takes_nothing_makes_streams_wait(connect: Connect) -> None:
    app = App(b"a" * 200_000, b"b" * 200_000)
    line = connect(app, 1 << 20, room=1000)
    line.send(frame(WINDOW_UPDATE, 0, 0, (1 << 20).to_bytes(4, "big")) + ask(1) + ask(3))
    await passes()
    assert app.seen.count(2) == 0
    held = line.connection.outbox.size + line.transport.get_write_buffer_size()
    assert held < 3 * 65536
    line.transport.room = 1 << 40
    taken = line.take()
    await passes()
    taken += line.take()
    for stream in (1, 3):
        whole = b"".join(payload for kind, _, number, payload in taken if (kind, number) == (DATA, stream))
        assert whole == b"a" * 200_000 + b"b" * 200_000


async def test_a_reset_wakes_who_waits_and_leaves_nothing(connect: Connect) -> None:
    app = App(b"a" * 200_000, b"b")
    line = connect(app, 10_000)
    line.send(ask(1))
    await passes()
    assert app.seen == []
    line.send(frame(RST_STREAM, 0, 1, (8).to_bytes(4, "big")))
    await passes(20)
    assert app.seen == [1, "closed"]
    assert line.connection.writer.waiting == {}
    assert (line.context.tasks, line.connection.protocol.lingering) == ({}, 0)


@pytest.mark.parametrize("taken", [False, True])
async def test_content_is_credited_when_the_application_takes_it(connect: Connect, taken: bool) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        while taken and (await receive())["type"] == "http.request":
            pass
        await asyncio.Event().wait()

    line = connect(app)
    line.send(ask(1, b"POST", ended=False) + frame(DATA, 0, 1, bytes(16384)) * 3)
    await passes()
    credited = [stream for kind, _, stream, _ in line.take() if kind == WINDOW_UPDATE]
    assert (1 in credited) is taken


async def test_the_content_of_a_request_whose_answer_is_complete_is_dropped_for_a_while(connect: Connect) -> None:
    line = connect(App(b"enough"), close_timeout=5)
    line.send(ask(1, b"POST", ended=False) + ask(3, b"POST", ended=False))
    await passes()
    assert [payload for kind, flags, _, payload in line.take() if flags == END_STREAM and kind == DATA] == [
        b"enough"
    ] * 2
    line.send(frame(DATA, 0, 1, b"late") + frame(DATA, END_STREAM, 1))
    assert list(line.connection.protocol.streams) == [3]
    line.connection.handle_deadline(line.context.touch() + 5)
    await passes()
    assert line.take() == [(RST_STREAM, 0, 3, bytes(4))]
    assert line.connection.protocol.streams == {}


async def test_a_client_that_has_ended_its_side_sends_no_content_any_more(connect: Connect) -> None:
    line = connect(App(b"enough"))
    line.send(ask(1, b"POST", ended=False))
    await passes()
    line.take()
    line.connection.eof_received()
    assert line.connection.protocol.streams == {}


async def test_an_application_that_outlives_its_stream_counts_until_it_ends(connect: Connect) -> None:
    go_on = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})
        await go_on.wait()

    line = connect(app)
    line.send(ask(1) + ask(3))
    await passes()
    assert (line.connection.protocol.streams, line.connection.protocol.lingering) == ({}, 2)
    go_on.set()
    await passes()
    assert line.connection.protocol.lingering == 0


async def test_streams_that_wait_for_the_connection_are_judged_by_what_it_takes(connect: Connect) -> None:
    """A slow client gives each its turn, and that may take longer than one that is alone may take for a byte."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": bytes(200_000)})
        await receive()

    line = connect(app, first_window=1 << 20, write_stall_timeout=30.0)
    line.send(ask(1) + ask(3) + ask(5))
    await passes()
    line.context.batch.flush_dirty()
    line.take()
    connection, begun = line.connection, line.context.touch()
    assert len(connection.writer.waiting) == 3

    connection.protocol.window = 1000
    connection.writer.go_on(begun + 25.0)
    line.context.batch.flush_dirty()
    assert [(kind, stream) for kind, _, stream, _ in line.take()] == [(DATA, 1)]
    connection.handle_deadline(begun + 50.0)
    line.context.batch.flush_dirty()
    assert [(kind, stream) for kind, _, stream, _ in line.take() if kind != PING] == []

    connection.handle_deadline(begun + 56.0)
    line.context.batch.flush_dirty()
    assert [(kind, stream) for kind, _, stream, _ in line.take() if kind != PING] == [
        (RST_STREAM, 1),
        (RST_STREAM, 3),
        (RST_STREAM, 5),
    ]


async def test_a_stream_whose_own_window_is_closed_is_judged_by_itself(connect: Connect) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": bytes(200_000)})
        await receive()

    line = connect(app, first_window=1000, write_stall_timeout=30.0)
    line.send(ask(1) + ask(3))
    await passes()
    begun = line.context.touch()
    line.send(window(3, 1000))
    line.connection.writer.moved_at = begun + 25.0
    line.context.batch.flush_dirty()
    line.take()
    line.connection.handle_deadline(begun + 31.0)
    line.context.batch.flush_dirty()
    assert (RST_STREAM, 1) in [(kind, stream) for kind, _, stream, _ in line.take()]


async def test_content_behind_the_response_has_its_time_from_the_end_of_the_response(connect: Connect) -> None:
    app = App(b"enough")
    app.go_on.clear()
    line = connect(app)
    line.send(ask(1, b"POST", ended=False))
    await passes()
    line.connection.protocol.budget.now -= 60  # as if it had come a minute ago
    app.go_on.set()
    await passes()
    assert [kind for kind, _, _, _ in line.take()] == [HEADERS, DATA, WINDOW_UPDATE]
    line.send(frame(DATA, 0, 1, b"late"))
    await passes()
    assert line.take() == []
    assert list(line.connection.protocol.streams) == [1]
    line.connection.handle_deadline(line.context.touch() + line.context.limits.close_timeout)
    await passes()
    assert line.take() == [(RST_STREAM, 0, 1, bytes(4))]
