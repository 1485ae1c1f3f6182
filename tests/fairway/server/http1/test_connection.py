"""One connection on a transport that a test can look into: whole responses and general ones, and lazy deadlines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from itertools import pairwise
from typing import Any

import pytest

from fairway.protocols.http1.body import CHUNKS_AT_ONCE
from fairway.server import defaults
from fairway.server.backlog import READERS_BESIDE_REQUESTS, READERS_PER_PASS
from fairway.server.config import Config
from fairway.server.context import ServerContext
from fairway.server.http1.connection import Http1Connection
from fairway.server.limits import Limits
from fairway.server.output.batch import ENDINGS_PER_PASS

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
REQUESTS = {
    "get": GET,
    "twice": GET + GET,
    "1.0": b"GET / HTTP/1.0\r\n\r\n",
    "close": b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "head": b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
    "post": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi",
    "unfinished": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nh",
}


class Transport(asyncio.Transport):
    """Keeps what is written; reports as many bytes left over as it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.left = 0
        self.closed = False
        self.ended = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default if name == "socket" else ("127.0.0.1", 8000)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def get_write_buffer_size(self) -> int:
        return self.left

    def write(self, data: bytes) -> None:  # type: ignore[override]
        self.written.append(data)

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Log:
    enabled = True

    def __init__(self) -> None:
        self.lines: list[tuple[str, int | None, int]] = []

    def http_finished(self, scope: Any, status: int | None, size: int, seconds: float) -> None:
        assert 0 <= seconds < 60
        self.lines.append((scope["method"], status, size))


def answering(headers: list[tuple[bytes, bytes]], *pieces: bytes, status: int = 200, **more: Any) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": status, "headers": headers, **more})
        for piece in pieces[:-1]:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": pieces[-1]})

    return app


APPS = {
    "plain": answering([(b"content-type", b"text/plain")], b"hello"),
    "with a length": answering([(b"Content-Length", b"5")], b"hello"),
    "wrong length": answering([(b"content-length", b"6")], b"hello"),
    "empty": answering([], b""),
    "204": answering([], b"", status=204),
    "404": answering([], b"hello", status=404),
    "closing": answering([(b"connection", b"close")], b"hello"),
    "own date": answering([(b"date", b"today")], b"hello"),
    "forbidden value": answering([(b"x", b"a\r\nb")], b"hello"),
    "trailers": answering([], b"hello", trailers=True),
    "in pieces": answering([], b"hel", b"lo"),
    "events": answering([(b"content-type", b"text/event-stream")], b"data: x\n\n"),
    "large": answering([], b"x" * 100_000),
}


class Make:
    """Makes connections, each of a server of its own."""

    def __init__(self) -> None:
        self.contexts: list[ServerContext] = []

    @property
    def context(self) -> ServerContext:
        """That of the connection made last."""
        return self.contexts[-1]

    def __call__(self, app: Any, log: Any = None, **limits: Any) -> tuple[Http1Connection, Transport]:
        config = Config(limits=Limits(**limits))
        context = ServerContext(app, config, asyncio.get_running_loop(), log or Log())
        self.contexts.append(context)
        transport = Transport()
        connection = Http1Connection(context)
        connection.connection_made(transport)
        return connection, transport


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    make = Make()
    yield make
    for context in make.contexts:
        for task in context.tasks:
            task.cancel()
        context.close()


async def passes(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def conversation(make: Make, app: Any, request: bytes, drain: bool) -> tuple[Any, ...]:
    log = Log()
    connection, transport = make(app, log)
    make.context.draining = drain
    connection.data_received(request)
    await passes()
    connection.data_received(GET)
    await passes()
    return b"".join(transport.written), transport.closed, transport.ended, log.lines


def without_dates(written: bytes) -> list[bytes]:
    return [line for line in written.split(b"\r\n") if not line.startswith(b"date: ")]


@pytest.mark.parametrize("drain", [False, True], ids=["", "draining"])
@pytest.mark.parametrize("request_name", REQUESTS)
@pytest.mark.parametrize("app_name", APPS)
async def test_a_whole_response_is_what_the_general_path_sends(
    make: Make, app_name: str, request_name: str, drain: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, request = APPS[app_name], REQUESTS[request_name]
    written, *rest = await conversation(make, app, request, drain)
    monkeypatch.setattr(Http1Connection, "send_whole", lambda *arguments: False)
    expected, *expected_rest = await conversation(make, app, request, drain)
    assert without_dates(written) == without_dates(expected)
    assert rest == expected_rest
    assert b"HTTP/1.1" in written


async def test_a_whole_response_is_one_write(make: Make) -> None:
    connection, transport = make(APPS["plain"])
    connection.data_received(GET)
    await passes()
    (written,) = transport.written
    assert written.startswith(b"HTTP/1.1 200 OK\r\n")
    assert written.endswith(b"content-type: text/plain\r\ncontent-length: 5\r\n\r\nhello")


async def test_heads_are_kept_until_their_date_has_passed(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    connection, transport = make(APPS["plain"])
    for date in ("Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:50:37 GMT"):
        make.context.now += 60
        monkeypatch.setattr(defaults, "formatdate", lambda usegmt, date=date: date)
        for _ in range(2):
            connection.data_received(GET)
            await passes()
            assert transport.written[-1].splitlines()[2] == b"date: " + date.encode()


async def test_a_whole_response_waits_for_a_socket_that_takes_nothing(make: Make) -> None:
    ended = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await APPS["plain"](scope, receive, send)
        ended.append(scope)

    connection, transport = make(app, outbox_high_water=10)
    connection.pause_writing()
    connection.data_received(GET)
    await passes()
    assert (transport.written, ended) == ([], [])
    connection.resume_writing()
    await passes()
    assert len(transport.written) == len(ended) == 1


async def test_no_clock_is_read_for_a_log_that_nobody_wants(make: Make) -> None:
    class Disabled(Log):
        enabled = False

    log = Disabled()
    connection, transport = make(APPS["plain"], log)
    connection.data_received(GET)
    await passes()
    assert len(transport.written) == 1
    assert log.lines == []


# Deadlines ---------------------------------------------------------------------------------------------------------


def let_pass(context: ServerContext, seconds: float) -> None:
    """Let the wheel come to that time; a stall puts entries off once, so it is told of every tick."""
    time = context.loop.time()
    for tick in range(int(seconds * 4) + 2):
        context.wheel.advance(time + tick / 4)


async def test_requests_move_the_deadline_without_telling_the_wheel(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection, transport = make(APPS["plain"], keep_alive_timeout=20, request_head_timeout=10)
    told: list[float] = []
    schedule = make.context.schedule
    monkeypatch.setattr(
        make.context, "schedule", lambda entry, deadline: (told.append(deadline), schedule(entry, deadline))
    )
    for _ in range(5):
        connection.data_received(GET)
        await passes()
    assert told == []
    let_pass(make.context, 19)
    assert not transport.closed
    let_pass(make.context, 21)
    assert transport.closed


async def test_a_deadline_before_the_one_of_the_wheel_is_kept(make: Make) -> None:
    go_on = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await go_on.wait()
        await APPS["plain"](scope, receive, send)

    connection, transport = make(app, keep_alive_timeout=5, request_head_timeout=5, write_stall_timeout=60)
    connection.data_received(GET)
    await passes()  # it is served, which leaves only the deadline of the socket
    connection.pause_writing()
    let_pass(make.context, 6)
    stalled_at = connection.outbox.pending.stalled_at
    assert stalled_at is not None
    assert (connection.handle_deadline(stalled_at), transport.closed) == (stalled_at + 60, False)
    connection.resume_writing()
    go_on.set()
    await passes()
    let_pass(make.context, 7)
    assert transport.closed


async def test_a_head_that_begins_has_its_own_deadline(make: Make) -> None:
    connection, transport = make(APPS["plain"], keep_alive_timeout=60, request_head_timeout=60)
    connection.data_received(GET)
    await passes()
    transport.written.clear()
    make.context.limits = Limits(request_head_timeout=2, keep_alive_timeout=60)
    connection.data_received(GET[:5])
    let_pass(make.context, 3)
    assert transport.written[0].startswith(b"HTTP/1.1 408 ")


async def test_clients_that_end_together_have_their_turns_over_several_passes(make: Make) -> None:
    first, transport = make(APPS["plain"])
    connections, transports = [first], [transport]
    while len(connections) <= 2 * ENDINGS_PER_PASS:
        transports.append(Transport())
        connections.append(Http1Connection(make.context))
        connections[-1].connection_made(transports[-1])
    for connection in connections:
        connection.eof_received()
    lost = len(connections) - 1
    connections[lost].connection_lost(None)  # before its turn
    seen = [sum(one.closed for one in transports)]
    while seen[-1] < lost:
        await passes(1)
        seen.append(sum(one.closed for one in transports))
    await passes()
    assert [count for number, count in enumerate(seen) if count not in seen[:number]] == [
        ENDINGS_PER_PASS,
        2 * ENDINGS_PER_PASS,
    ]
    assert not transports[lost].closed
    assert make.context.connections == set(connections[:lost])


# A body in tiny chunks is taken over several passes

POST = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
TINY = b"1\r\na\r\n"
TURNS = 6
MANY = TURNS * CHUNKS_AT_ONCE
LAST_CHUNK = b"0\r\n\r\n"


class Taking:
    """Takes the whole body once it may, and answers with its length."""

    def __init__(self) -> None:
        self.may_take = asyncio.Event()
        self.may_take.set()
        self.events: list[dict[str, Any]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.may_take.wait()
        while (event := await receive())["type"] == "http.request":
            self.events.append(event)
            if not event["more_body"]:
                await answering([], b"%d" % self.size)(scope, receive, send)
                return
        self.events.append(event)

    @property
    def size(self) -> int:
        return sum(len(event.get("body", b"")) for event in self.events)


async def steps(count: Callable[[], int], until: int) -> list[int]:
    """By how much it grows in each pass in which it does."""
    seen = [count()]
    async with asyncio.timeout(20):
        while seen[-1] < until:
            await passes(1)
            if count() != seen[-1]:
                seen.append(count())
    return [after - before for before, after in pairwise(seen)]


async def test_tiny_chunks_are_taken_over_several_passes(make: Make) -> None:
    app = Taking()
    connection, transport = make(app)
    connection.data_received(POST + TINY * MANY + LAST_CHUNK)
    assert not connection.outbox.reading
    exchange = connection._exchange
    assert exchange is not None
    assert exchange.received_bytes == CHUNKS_AT_ONCE
    assert await steps(lambda: exchange.received_bytes, MANY) == [CHUNKS_AT_ONCE] * (TURNS - 1)
    await passes()
    assert b"".join(transport.written).endswith(b"\r\n\r\n%d" % MANY)
    assert connection.outbox.reading
    connection.data_received(POST + b"2\r\nbc\r\n" + LAST_CHUNK)
    await passes()
    assert app.events[-1]["body"] == b"bc"


async def test_bodies_of_tiny_chunks_share_the_passes(make: Make) -> None:
    first, _ = make(Taking())
    connections = [first, *(Http1Connection(make.context) for _ in range(5))]
    for connection in connections[1:]:
        connection.connection_made(Transport())
    for connection in connections:
        connection.data_received(POST + TINY * MANY + b"1\r\n")
    exchanges = [connection._exchange for connection in connections]

    def received() -> int:
        return sum(exchange.received_bytes for exchange in exchanges if exchange is not None)

    grown = await steps(received, len(connections) * MANY)
    assert grown[0] == READERS_BESIDE_REQUESTS * CHUNKS_AT_ONCE
    assert set(grown) <= {READERS_BESIDE_REQUESTS * CHUNKS_AT_ONCE, READERS_PER_PASS * CHUNKS_AT_ONCE}
    await passes()
    assert all(connection.outbox.reading for connection in connections)


async def test_a_full_body_buffer_stops_them_until_the_application_takes(make: Make) -> None:
    app = Taking()
    app.may_take.clear()
    connection, transport = make(app, body_buffer_bytes=2 * CHUNKS_AT_ONCE)
    connection.data_received(POST + TINY * MANY + LAST_CHUNK)
    await passes()
    exchange = connection._exchange
    assert exchange is not None
    assert exchange.buffered == 2 * CHUNKS_AT_ONCE
    assert connection.held_bytes == 2 * CHUNKS_AT_ONCE + len(TINY) * (MANY - 2 * CHUNKS_AT_ONCE) + len(LAST_CHUNK)
    assert not connection.outbox.reading
    assert not connection.go_on_reading(), "nobody calls it now, but a call would be harmless"
    assert exchange.buffered <= 3 * CHUNKS_AT_ONCE
    app.may_take.set()
    await passes(50)
    assert app.size == MANY
    assert b"".join(transport.written).endswith(b"\r\n\r\n%d" % MANY)
    assert connection.outbox.reading


async def test_what_the_client_left_behind_is_taken_to_its_end(make: Make) -> None:
    app = Taking()
    connection, transport = make(app)
    connection.data_received(POST + TINY * MANY + LAST_CHUNK)
    connection.eof_received()
    await passes(50)
    assert app.size == MANY
    assert b"".join(transport.written).endswith(b"\r\n\r\n%d" % MANY)
    assert transport.closed


async def test_a_body_that_ends_too_early_is_refused_in_its_turn(make: Make) -> None:
    app = Taking()
    connection, transport = make(app)
    connection.data_received(POST + TINY * MANY)
    connection.eof_received()
    await passes(3)
    assert transport.written == []
    await passes(50)
    assert app.events[-1] == {"type": "http.disconnect"}
    assert b"".join(transport.written).startswith(b"HTTP/1.1 400 ")


async def test_a_client_that_was_seen_to_leave_has_its_body_taken(make: Make) -> None:
    app = Taking()
    app.may_take.clear()
    connection, transport = make(app, body_buffer_bytes=CHUNKS_AT_ONCE)
    connection.data_received(POST + TINY * MANY + LAST_CHUNK)
    connection.peer_has_left(False)
    app.may_take.set()
    await passes(50)
    assert app.size == MANY
    assert b"".join(transport.written).endswith(b"\r\n\r\n%d" % MANY)


async def test_an_application_that_takes_nothing_from_a_client_that_has_left_is_told(make: Make) -> None:
    app = Taking()
    app.may_take.clear()
    connection, transport = make(app, body_buffer_bytes=CHUNKS_AT_ONCE, disconnect_timeout=2)
    connection.data_received(POST + TINY * MANY + LAST_CHUNK)
    connection.peer_has_left(False)
    let_pass(make.context, 3)
    assert transport.closed


async def test_a_connection_may_be_lost_while_chunks_wait(make: Make) -> None:
    app = Taking()
    connection, _ = make(app)
    connection.data_received(POST + TINY * MANY + LAST_CHUNK)
    connection.connection_lost(None)
    await passes(50)
    assert app.events[-1] == {"type": "http.disconnect"}
    assert app.size < MANY


async def test_an_answer_while_chunks_wait_closes(make: Make) -> None:
    connection, transport = make(APPS["plain"])
    connection.data_received(POST + TINY * MANY + LAST_CHUNK + GET)
    await passes(50)
    written = b"".join(transport.written)
    assert written.count(b"HTTP/1.1 ") == 1
    assert b"\r\nconnection: close\r\n" in written
    assert transport.ended
    connection.data_received(TINY)
    assert len(transport.written) == 1


async def test_a_request_behind_tiny_chunks_is_answered_behind_them(make: Make) -> None:
    connection, transport = make(Taking())
    connection.data_received(POST + TINY * MANY + LAST_CHUNK + GET)
    await passes(50)
    bodies = [answer.rpartition(b"\r\n\r\n")[2] for answer in b"".join(transport.written).split(b"HTTP/1.1 ")[1:]]
    assert bodies == [b"%d" % MANY, b"%d" % MANY]
    assert connection.outbox.reading


@pytest.mark.parametrize("request_name", ["get", "options"])
async def test_nothing_is_read_while_requests_wait(make: Make, request_name: str) -> None:
    one = {"get": GET, "options": b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"}[request_name]
    connection, transport = make(APPS["plain"])
    connection.data_received(one * 20)
    seen = []
    while connection.held_bytes:
        seen.append(connection.outbox.reading)
        await passes(1)
    assert not any(seen)
    await passes()
    assert b"".join(transport.written).count(b"HTTP/1.1 ") == 20
    assert connection.outbox.reading
