"""What only HTTP/1.1 has of the ASGI conversation of a request: framing, pipelining, the end of the connection."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fairway.asgi.http import HttpExchange
from fairway.server.http1.connection import Http1Connection
from tests.integration.applications import Connection, Recorder
from tests.integration.conftest import Start
from tests.integration.raw import DEADLINE, Client, Served, next_pass

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
MANY = 200


async def answer(connection: Connection, tell: Any) -> None:
    await connection.respond(200, connection.scope["raw_path"] + b":" + await connection.body())


async def asked(start: Start, app: Recorder, request: bytes = GET, **limits: Any) -> tuple[Served, Client]:
    served = await start(app, **limits)
    return served, await served.connect(at_once=request)


async def everything(client: Client) -> bytes:
    async with asyncio.timeout(DEADLINE):
        return await client.reader.read()


def the_connection(served: Served) -> Http1Connection:
    (connection,) = served.context.connections
    assert isinstance(connection, Http1Connection)
    return connection


def exchange_of(connection: Connection) -> HttpExchange:
    """What stands behind the `receive` of an application."""
    exchange = connection.receive.__self__
    assert isinstance(exchange, HttpExchange)
    return exchange


def next_deadline(served: Served, connection: Http1Connection) -> float | None:
    """When the connection judges next: what it answers when nothing is due."""
    return connection.handle_deadline(served.context.touch())


async def a_deadline(served: Served, connection: Http1Connection) -> float:
    """The same, as soon as there is one."""
    while (deadline := next_deadline(served, connection)) is None:
        await next_pass()
    return deadline


# Requests --------------------------------------------------------------------------------------------------------


async def test_pipelined_requests_are_answered_in_order(start: Start) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        if connection.scope["path"] == "/0":
            await next_pass()  # the first one takes longest
        await answer(connection, tell)

    requests = [
        b"POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n%02d" % (number, number % 100)
        for number in range(MANY)
    ]
    _, client = await asked(start, Recorder(handler), b"".join(requests))
    for number in range(MANY):
        assert (await client.response()).body == b"/%d:%02d" % (number, number % 100)


async def test_a_request_in_single_bytes_is_the_same_request(start: Start) -> None:
    served = await start(Recorder(answer))
    client = await served.connect()
    for byte in b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n":
        await client.send(bytes((byte,)))
        await next_pass()
    assert (await client.response()).body == b"/x:abc"


async def test_chunks_of_a_request_are_put_together(start: Start) -> None:
    request = (
        b"POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"4;name=value\r\nWiki\r\n5\r\npedia\r\n0\r\nTrailer: x\r\n\r\n"
    )
    _, client = await asked(start, Recorder(answer), request + GET)
    assert (await client.response()).body == b"/c:Wikipedia"
    assert (await client.response()).body == b"/:"


async def test_a_body_is_streamed_and_reading_stops_while_nobody_takes_it(start: Start) -> None:
    size = 20_000_000
    go_on = asyncio.Event()

    async def handler(connection: Connection, tell: Any) -> None:
        tell(exchange_of(connection))
        await go_on.wait()
        received = 0
        while True:
            event = await connection.receive()
            received += len(event["body"])
            if not event["more_body"]:
                break
        await connection.respond(200, b"%d" % received)

    app = Recorder(handler)
    served, client = await asked(start, app, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
    sending = asyncio.ensure_future(client.send(bytes(size)))
    exchange = await app.seen()
    connection = the_connection(served)
    while connection.outbox.reading:
        await next_pass()
    assert exchange.buffered < 65536 + (1 << 18)
    assert not sending.done()
    # A deadline for the body is not held against a client that is not being read.
    connection.handle_deadline(await a_deadline(served, connection))
    assert served.log == []
    go_on.set()
    assert (await client.response()).body == b"%d" % size
    await sending


async def test_a_client_that_has_ended_its_side_is_answered(start: Start) -> None:
    served = await start(Recorder(answer))
    client = await served.connect()
    client.writer.write(GET + GET)
    client.writer.write_eof()
    for _ in range(2):
        assert (await client.response()).status == 200
    assert await client.at_end()
    assert served.log == []


@pytest.mark.parametrize("rest", [b"", b"4\r\nmore\r\n"])
async def test_a_client_that_was_answered_early_and_leaves_inside_its_body(start: Start, rest: bytes) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        await connection.respond(413, b"too long")

    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n"
    served, client = await asked(start, Recorder(handler), head)
    assert (await client.response()).status == 413
    client.writer.write(rest)
    client.writer.write_eof()
    assert await client.at_end()
    await served.idle()
    assert served.log == []
    assert served.tracebacks == 0


async def test_an_upgrade_to_something_else_is_ignored(start: Start) -> None:
    request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n"
    _, client = await asked(start, Recorder(answer), request + GET)
    assert (await client.response()).status == 200
    assert (await client.response()).status == 200


async def test_http_1_0_closes_unless_asked_not_to(start: Start) -> None:
    served, client = await asked(start, Recorder(answer), b"GET / HTTP/1.0\r\n\r\n")
    assert (await client.response()).body == b"/:"
    assert await client.at_end()

    client = await served.connect()
    await client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    assert (await client.response()).headers["connection"] == "keep-alive"
    await client.send(b"GET /last HTTP/1.0\r\n\r\n")
    assert (await client.response()).body == b"/last:"
    assert await client.at_end()


@pytest.mark.parametrize("who", ["client", "application"])
async def test_connection_close_is_heeded(start: Start, who: str) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        await connection.respond(200, b"bye", [(b"connection", b"close")] if who == "application" else [])

    request = GET if who == "application" else b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    served, client = await asked(start, Recorder(handler), request)
    response = await client.response()
    assert (response.headers["connection"], response.body) == ("close", b"bye")
    assert await client.at_end()
    await client.close()
    # Both sides have ended: nothing is left to wait for.
    await served.idle()
    assert served.log == []


# Responses -------------------------------------------------------------------------------------------------------


async def test_a_response_of_unknown_length_is_chunked(start: Start) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        await connection.send({"type": "http.response.start", "status": 200, "headers": [(b"transfer-encoding", b"x")]})
        for piece in (b"one", b"", b"two"):
            await connection.send({"type": "http.response.body", "body": piece, "more_body": True})
        await connection.send({"type": "http.response.body"})

    _, client = await asked(start, Recorder(handler), GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    head, _, body = (await everything(client)).partition(b"\r\n\r\n")
    assert head.lower().count(b"transfer-encoding: chunked") == 1
    assert body == b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"


async def test_a_response_of_unknown_length_ends_with_the_connection_in_http_1_0(start: Start) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        await connection.send({"type": "http.response.start", "status": 200})
        await connection.send({"type": "http.response.body", "body": b"one", "more_body": True})
        await connection.send({"type": "http.response.body", "body": b"two"})

    _, client = await asked(start, Recorder(handler), b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    head, _, body = (await everything(client)).partition(b"\r\n\r\n")
    assert b"connection: close" in head
    assert body == b"onetwo"


async def test_send_waits_for_a_slow_reader_and_delivers_everything(start: Start) -> None:
    pieces = 200
    sent = 0

    async def handler(connection: Connection, tell: Any) -> None:
        nonlocal sent
        await connection.send({"type": "http.response.start", "status": 200})
        for _ in range(pieces):
            await connection.send({"type": "http.response.body", "body": bytes(100_000), "more_body": True})
            sent += 1
        await connection.send({"type": "http.response.body"})
        tell("done")

    app = Recorder(handler)
    served = await start(app)
    client = await served.connect(receive_buffer=4096)
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    await client.send(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    while not the_connection_is_blocked(served):
        await next_pass()
    assert sent < pieces
    client.writer.transport.resume_reading()  # type: ignore[attr-defined]
    assert (await everything(client)).count(b"\0") == pieces * 100_000
    assert await app.seen() == "done"
    assert served.log == []


def the_connection_is_blocked(served: Served) -> bool:
    outboxes = [found.outbox for found in served.context.connections if isinstance(found, Http1Connection)]
    return any(outbox.blocked and outbox.size >= outbox.high_water for outbox in outboxes)


async def test_a_response_that_ends_the_connection_is_not_cut_while_the_client_takes_it(start: Start) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        tell("asked")
        await connection.respond(200, bytes(20_000_000))

    app = Recorder(handler)
    served = await start(app, close_timeout=0.001)
    client = await served.connect(receive_buffer=4096)
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    await client.send(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    await app.seen()
    connection = the_connection(served)
    while not connection.outbox.pending.is_finishing:
        await next_pass()
    assert connection.outbox.blocked
    connection.handle_deadline(served.context.touch() + 1.0)
    client.writer.transport.resume_reading()  # type: ignore[attr-defined]
    response = await client.response()
    assert len(response.body) == 20_000_000


# The client leaves -----------------------------------------------------------------------------------------------


STREAM = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]}
PIECE = {"type": "http.response.body", "body": b":\n\n", "more_body": True}


@pytest.mark.slow
@pytest.mark.parametrize(("events", "seconds"), [([], 1.5), ([STREAM, PIECE], 0.5)])
async def test_asgi_disconnect_a_client_that_closes_is_noticed(
    start: Start, events: list[dict[str, Any]], seconds: float
) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        await connection.receive()
        for event in events:
            await connection.send(event)
        tell("waiting")
        tell((await connection.receive())["type"])

    app = Recorder(handler)
    served, client = await asked(start, app)
    await app.seen()
    await client.close()
    async with asyncio.timeout(seconds):
        assert await app.seen() == "http.disconnect"
    await served.idle()
    assert served.log == []


# Time and limits -------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("sent", [b"GET / HT", b"GET / HTTP/1.1\r\nHost: a\r\n"])
async def test_a_head_that_does_not_end_is_408(start: Start, sent: bytes) -> None:
    served, client = await asked(start, Recorder(answer), sent, request_head_timeout=0.05)
    response = await client.response()
    assert (response.status, response.headers["connection"]) == (408, "close")
    assert len(served.log) == 1
    assert "request head not complete in time" in served.log[0]


async def test_a_connection_that_says_nothing_is_closed_silently(start: Start) -> None:
    served = await start(Recorder(answer), request_head_timeout=0.05)
    client = await served.connect()
    assert await client.at_end()
    assert served.log == []


async def test_an_idle_connection_is_closed_after_its_time_and_not_before(start: Start) -> None:
    served, client = await asked(start, Recorder(answer), keep_alive_timeout=500.0)
    await client.response()
    connection = the_connection(served)
    deadline = await a_deadline(served, connection)
    assert 450.0 < deadline - served.context.loop.time() < 500.5
    connection.handle_deadline(deadline - 0.01)
    await client.send(GET)
    await client.response()
    connection.handle_deadline(await a_deadline(served, connection))
    assert await client.at_end()
    assert served.log == []


async def test_the_keep_alive_time_counts_from_the_end_of_a_long_request(start: Start) -> None:
    go_on = asyncio.Event()

    async def handler(connection: Connection, tell: Any) -> None:
        tell("running")
        await go_on.wait()
        await connection.respond(200)

    app = Recorder(handler)
    served, client = await asked(start, app, keep_alive_timeout=500.0)
    await app.seen()
    # Nothing is scheduled any more, so the coarse clock stands still: as if this had lasted.
    served.context.now -= 1000.0
    go_on.set()
    await client.response()
    deadline = await a_deadline(served, the_connection(served))
    assert deadline - served.context.loop.time() > 450.0


@pytest.mark.slow
async def test_a_client_that_takes_no_byte_is_left(start: Start) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        try:
            await connection.respond(200, bytes(20_000_000))
        finally:
            tell("ended")

    app = Recorder(handler)
    served = await start(app, write_stall_timeout=0.05)
    client = await served.connect(receive_buffer=4096)
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    await client.send(GET)
    assert await app.seen() == "ended"
    await served.idle()
    assert len(served.log) == 1
    assert "client took no data for 0.05 s" in served.log[0]
