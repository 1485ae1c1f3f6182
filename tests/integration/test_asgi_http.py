"""The ASGI conversation of an HTTP request, case by case: what the wire shows and what the application sees."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from typing import Any

import pytest

from fairway.asgi.errors import ConnectionClosed, ProtocolMisuse
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


async def test_the_scope_of_a_request(start: Start) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        tell(connection.scope)
        await connection.respond(204)

    app = Recorder(handler)
    request = b"GET /%C3%A4/%ff?q=%20 HTTP/1.1\r\nHost: a\r\nCookie: one\r\nCOOKIE: two\r\n\r\n"
    served, client = await asked(start, app, request)
    scope = await app.seen()
    assert scope["type"] == "http"
    assert scope["asgi"] == {"version": "3.0", "spec_version": "2.5"}
    assert (scope["http_version"], scope["method"], scope["scheme"]) == ("1.1", "GET", "http")
    assert (scope["path"], scope["raw_path"]) == ("/ä/\N{REPLACEMENT CHARACTER}", b"/%C3%A4/%ff")
    assert scope["query_string"] == b"q=%20"
    assert scope["headers"] == [(b"host", b"a"), (b"cookie", b"one"), (b"cookie", b"two")]
    assert scope["client"] == client.writer.get_extra_info("sockname")
    assert scope["server"] == ("127.0.0.1", served.port)
    assert set(scope["extensions"]) == {"http.response.early_hint", "http.response.trailers"}


async def test_a_connection_is_kept_between_requests(start: Start) -> None:
    served, client = await asked(start, Recorder(answer))
    for _ in range(3):
        response = await client.response()
        assert (response.status, response.body) == (200, b"/:")
        assert "connection" not in response.headers
        assert {"date", "server", "content-length"} <= set(response.headers)
        await client.send(GET)
    assert served.context.counters.connections == 1
    assert served.log == []


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


@pytest.mark.parametrize("wants", [True, False])
async def test_continue_is_sent_only_when_the_body_is_asked_for(start: Start, wants: bool) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        body = await connection.body() if wants else b"no, thanks"
        await connection.respond(200, body)

    head = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n"
    _, client = await asked(start, Recorder(handler), head)
    if wants:
        assert (await client.response()).status == 100
        await client.send(b"body")
        assert (await client.response()).body == b"body"
    else:
        response = await client.response()
        assert (response.status, response.body) == (200, b"no, thanks")
        assert response.headers["connection"] == "close"
        assert await client.at_end()


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


@pytest.mark.parametrize(
    ("method", "status", "body", "headers", "length"),
    [
        (b"HEAD", 200, b"12345", [], "5"),
        (b"HEAD", 200, b"", [], None),
        (b"HEAD", 200, b"", [(b"content-length", b"77")], "77"),
        (b"GET", 204, b"dropped", [], None),
        (b"GET", 304, b"", [], None),
        (b"GET", 304, b"", [(b"content-length", b"77")], "77"),
        (b"GET", 200, b"", [], "0"),
    ],
)
async def test_responses_without_content(
    start: Start, method: bytes, status: int, body: bytes, headers: Any, length: str | None
) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        await connection.respond(status, body, headers)

    request = method + b" / HTTP/1.1\r\nHost: a\r\n\r\n"
    _, client = await asked(
        start, Recorder(handler), request + request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    )
    data = await everything(client)
    first, second, rest = data.split(b"\r\n\r\n")
    assert rest == b""
    for head in (first, second):
        fields = dict(line.split(": ") for line in head.decode().split("\r\n")[1:])
        assert head.startswith(b"HTTP/1.1 %d " % status)
        assert fields.get("content-length") == length
        assert "transfer-encoding" not in fields


async def test_early_hints_and_trailers(start: Start) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        await connection.send({"type": "http.response.early_hint", "links": [b"</a.css>; rel=preload"]})
        await connection.send(
            {"type": "http.response.start", "status": 200, "headers": [(b"trailer", b"x-sum")], "trailers": True}
        )
        await connection.send({"type": "http.response.body", "body": b"abc"})
        await connection.send({"type": "http.response.trailers", "headers": [(b"x-sum", b"9")], "more_trailers": True})
        await connection.send({"type": "http.response.trailers", "headers": [(b"x-more", b"1")]})

    request = b"GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: close, TE\r\n\r\n"
    _, client = await asked(start, Recorder(handler), request)
    hints = await client.response()
    assert (hints.status, hints.headers) == (103, {"link": "</a.css>; rel=preload"})
    assert (await everything(client)).endswith(b"\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 9\r\nx-more: 1\r\n\r\n")


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


async def test_a_fast_reader_does_not_keep_the_application_from_letting_others_run(start: Start) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        if connection.scope["path"] == "/quick":
            await connection.respond(200, b"quick")
            return
        await connection.send({"type": "http.response.start", "status": 200})
        while True:
            await connection.send({"type": "http.response.body", "body": bytes(65536), "more_body": True})

    served, endless = await asked(start, Recorder(handler))
    client = await served.connect()

    async def take() -> None:
        while await endless.reader.read(1 << 20):
            pass

    taking = asyncio.ensure_future(take())
    for _ in range(5):
        await client.send(GET.replace(b" / ", b" /quick "))
        assert (await client.response()).body == b"quick"
    taking.cancel()
    endless.reset()


# Mistakes of the application -------------------------------------------------------------------------------------


async def test_raising_before_the_body_is_500_and_one_traceback(start: Start) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        await connection.send({"type": "http.response.start", "status": 200})
        raise ArithmeticError("on purpose")

    served, client = await asked(start, Recorder(handler))
    assert (await client.response()).status == 500
    assert await client.at_end()
    assert len(served.log) == served.tracebacks == 1
    assert served.log[0].startswith("exception in application for HTTP / from 127.0.0.1:")


async def test_raising_in_the_middle_of_the_body_cuts_the_response(start: Start) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        await connection.send({"type": "http.response.start", "status": 200})
        await connection.send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise ArithmeticError("on purpose")

    served, client = await asked(start, Recorder(handler))
    assert (await everything(client)).endswith(b"\r\n\r\n4\r\nhalf\r\n")
    assert len(served.log) == served.tracebacks == 1


async def test_returning_without_a_response_is_500_and_one_line(start: Start) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        pass

    served, client = await asked(start, Recorder(handler))
    assert (await client.response()).status == 500
    assert [line.rpartition(": ")[2] for line in served.log] == ["application returned without completing its response"]
    assert served.tracebacks == 0


async def test_an_error_with_a_status_is_answered_with_it(start: Start) -> None:
    class Missing(Exception):
        asgi_status = 404

    async def handler(connection: Connection, tell: Any) -> None:
        raise Missing("no route for /")

    served, client = await asked(start, Recorder(handler))
    assert (await client.response()).status == 404
    assert [line.partition(" ")[2] for line in served.log] == ["/: no route for /; answered with 404"]
    assert served.tracebacks == 0


@pytest.mark.parametrize(("declared", "more"), [(b"3", False), (b"5", False), (b"10", False), (b"3", True)])
@pytest.mark.parametrize("headers", [[], [(b"x-long", b"x" * 3000)]])
async def test_9110_8_6_a_body_that_does_not_fit_its_length_is_500_and_closes(
    start: Start, declared: bytes, more: bool, headers: list[tuple[bytes, bytes]]
) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        headers_of_all = [*headers, (b"Content-Length", declared)]
        await connection.send({"type": "http.response.start", "status": 200, "headers": headers_of_all})
        await connection.send({"type": "http.response.body", "body": b"four", "more_body": more})

    served, client = await asked(start, Recorder(handler), GET + GET)
    response = await client.response()
    assert (response.status, response.headers["connection"]) == (500, "close")
    assert await client.at_end()
    assert len(served.log) == served.tracebacks == 1


async def test_9110_8_6_a_body_that_stops_short_later_is_cut(start: Start) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        await connection.send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]})
        await connection.send({"type": "http.response.body", "body": b"four", "more_body": True})
        await connection.send({"type": "http.response.body", "body": b"five"})

    served, client = await asked(start, Recorder(handler))
    assert (await everything(client)).endswith(b"\r\n\r\nfour")
    assert len(served.log) == served.tracebacks == 1


@pytest.mark.parametrize("body", [b"", b"hello"])
async def test_9110_9_3_7_options_for_the_server_is_answered_by_it(start: Start, body: bytes) -> None:
    head = b"OPTIONS * HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body)
    served, client = await asked(start, Recorder(answer), head + body + head + body + GET)
    for _ in range(2):
        response = await client.response()
        assert (response.status, response.body) == (204, b"")
        assert response.headers["allow"] == "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
    assert (await client.response()).body == b"/:"
    assert served.log == []


@pytest.mark.parametrize(
    ("events", "message"),
    [
        ([{"type": "http.response.body"}], "http.response.body before http.response.start"),
        ([{"type": "http.response.start", "status": "200"}], "the status of http.response.start is 200 to 999"),
        ([{"type": "http.response.start", "status": 101}], "the status of http.response.start is 200 to 999"),
        ([{"type": "http.response.start", "status": 200, "headers": [("a", b"b")]}], "expected to be `bytes`"),
        ([{"type": "http.response.start", "status": 200}] * 2, "http.response.start was sent already"),
        ([{"type": "http.response.nonsense"}], "unknown event 'http.response.nonsense'"),
        ([{"type": "http.response.trailers"}], "http.response.trailers without trailers=True"),
        ([{"type": "http.response.early_hint", "links": ["a"]}], "the links of http.response.early_hint are bytes"),
        (
            [
                {"type": "http.response.start", "status": 200, "headers": [(b"a", b"b\r\nc: d")]},
                {"type": "http.response.body"},
            ],
            "http.response.start: ",
        ),
        (
            [{"type": "http.response.start", "status": 200}, {"type": "http.response.body", "body": "text"}],
            "is bytes, not str",
        ),
    ],
)
async def test_an_event_that_is_not_allowed_raises(start: Start, events: Any, message: str) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        *before, last = events
        for event in before:
            await connection.send(event)
        with pytest.raises(ProtocolMisuse) as raised:
            await connection.send(last)
        # Servers raise the one or the other, and applications catch what theirs does.
        assert isinstance(raised.value, RuntimeError)
        assert isinstance(raised.value, ValueError)
        tell(str(raised.value))

    app = Recorder(handler)
    _, client = await asked(start, app)
    assert message in await app.seen()
    assert (await client.response()).status == 500


async def test_what_follows_a_complete_response_is_ignored(start: Start) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        await connection.respond(200, b"complete")
        await connection.send({"type": "http.response.body", "body": b"more"})
        tell(await connection.receive())
        tell(await connection.receive())

    app = Recorder(handler)
    served, client = await asked(start, app)
    assert (await client.response()).body == b"complete"
    assert [await app.seen(), await app.seen()] == [{"type": "http.disconnect"}] * 2
    await client.send(GET)
    assert (await client.response()).body == b"complete"
    assert served.log == []


# The client leaves -----------------------------------------------------------------------------------------------


async def test_a_client_that_resets_is_a_disconnect_and_sending_raises(start: Start) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        tell((await connection.receive())["type"])
        tell((await connection.receive())["type"])
        with pytest.raises(ConnectionClosed, match="the client has closed the connection") as raised:
            await connection.respond(200)
        assert isinstance(raised.value, OSError)
        assert isinstance(raised.value, RuntimeError)
        raise raised.value

    app = Recorder(handler)
    served, client = await asked(start, app)
    assert await app.seen() == "http.request"
    client.reset()
    assert await app.seen() == "http.disconnect"
    await served.idle()
    assert served.log == []
    assert served.tracebacks == 0


STREAM = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]}
PIECE = {"type": "http.response.body", "body": b":\n\n", "more_body": True}


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


async def test_9112_9_6_a_client_that_has_ended_its_side_gets_a_late_answer(start: Start) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        await connection.receive()
        tell((await connection.receive())["type"])
        assert (await connection.receive())["type"] == "http.disconnect"
        await connection.respond(200, b"late")

    app = Recorder(handler)
    served, client = await asked(start, app)
    client.writer.write_eof()
    assert await app.seen() == "http.disconnect"
    assert (await client.response()).body == b"late"
    assert await client.at_end()
    assert served.log == []


async def test_a_client_that_has_ended_its_side_and_gets_no_byte_is_given_up(start: Start) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            tell("cancelled")

    app = Recorder(handler)
    served, client = await asked(start, app, disconnect_timeout=0.05)
    client.writer.write_eof()
    assert await client.at_end()
    assert await app.seen() == "cancelled"
    await served.idle()
    assert len(served.log) == 1
    assert "application did not end within 0.05 s after the disconnect: cancelled" in served.log[0]


async def test_a_stream_goes_on_for_a_client_that_has_ended_its_side_and_takes_it(start: Start) -> None:
    go_on = asyncio.Event()

    async def handler(connection: Connection, tell: Any) -> None:
        await connection.send({"type": "http.response.start", "status": 200})
        for piece in (b"one", b"two"):
            await connection.send({"type": "http.response.body", "body": piece, "more_body": True})
            tell(piece)
            await go_on.wait()
            go_on.clear()
        await connection.send({"type": "http.response.body", "body": b"three"})

    app = Recorder(handler)
    served, client = await asked(start, app)
    await app.seen()
    client.writer.write_eof()
    connection = the_connection(served)
    while not connection.outbox.eof:
        await next_pass()
    go_on.set()
    await app.seen()
    # It has been sent a piece since: that it is still there is not doubted before another such time.
    assert connection.handle_deadline(await a_deadline(served, connection)) is not None
    go_on.set()
    assert (await everything(client)).endswith(b"3\r\none\r\n3\r\ntwo\r\n5\r\nthree\r\n0\r\n\r\n")


async def test_an_application_that_does_not_notice_is_cancelled_with_a_warning(start: Start) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        tell("running")
        try:
            await asyncio.Event().wait()
        finally:
            tell("cancelled")

    app = Recorder(handler)
    served, client = await asked(start, app, disconnect_timeout=0.05)
    await app.seen()
    client.reset()
    assert await app.seen() == "cancelled"
    await served.idle()
    assert len(served.log) == 1
    assert "application did not end within 0.05 s after the disconnect: cancelled" in served.log[0]


async def test_what_an_application_does_after_its_response_is_not_cancelled(start: Start) -> None:
    go_on = asyncio.Event()

    async def handler(connection: Connection, tell: Any) -> None:
        await connection.respond(200, b"done")
        await go_on.wait()
        tell("finished")

    app = Recorder(handler)
    served, client = await asked(start, app, disconnect_timeout=0.001)
    await client.response()
    client.reset()
    await served.context.wait_no_connections()
    served.context.wheel.advance(served.context.touch() + 1000.0)
    go_on.set()
    assert await app.seen() == "finished"
    assert served.log == []


# Time and limits -------------------------------------------------------------------------------------------------


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


async def test_a_body_that_stops_is_408_and_the_application_sees_a_disconnect(start: Start) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        tell((await connection.receive())["body"])
        tell((await connection.receive())["type"])

    app = Recorder(handler)
    request = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc"
    served, client = await asked(start, app, request, keep_alive_timeout=0.05)
    assert (await client.response()).status == 408
    assert [await app.seen(), await app.seen()] == [b"abc", "http.disconnect"]
    assert len(served.log) == 1


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


# One connection and another --------------------------------------------------------------------------------------

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")


async def test_applications_share_no_context_variables(start: Start) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        before = variable.get("unset")
        variable.set(connection.scope["path"])
        await connection.respond(200, before.encode())

    token = variable.set("of the one who started the server")
    _, client = await asked(start, Recorder(handler), GET + GET)
    variable.reset(token)
    assert [(await client.response()).body, (await client.response()).body] == [b"unset", b"unset"]


async def test_the_access_log_has_one_line_for_each_request(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="fairway.access")
    _, client = await asked(start, Recorder(answer), GET + GET.replace(b" / ", b" /x?token=secret "))
    await client.response()
    await client.response()
    lines = [record.getMessage() for record in caplog.records if record.name == "fairway.access"]
    assert [line.partition(" ")[2].rpartition(" ")[0] for line in lines] == [
        '"GET / HTTP/1.1" 200 2',
        '"GET /x?token=*** HTTP/1.1" 200 3',
    ]
