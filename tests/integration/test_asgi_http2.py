"""The ASGI conversation of an HTTP request over HTTP/2: the cases of `test_asgi_http.py`, as far as both have them, and
what many requests on one connection mean for each other.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from typing import Any

import h2.errors
import h2.settings
import pytest

from fairway.asgi.errors import ConnectionClosed, ProtocolMisuse
from fairway.server.http2.connection import Http2Connection
from tests.integration.applications import Connection, Recorder
from tests.integration.conftest import Start
from tests.integration.http2 import Answer, Http2Client, connect
from tests.integration.raw import DEADLINE, Served, next_pass

WINDOW = h2.settings.SettingCodes.INITIAL_WINDOW_SIZE


async def answer(connection: Connection, tell: Any) -> None:
    await connection.respond(200, connection.scope["raw_path"] + b":" + await connection.body())


async def served_to(start: Start, handler: Any, **limits: Any) -> tuple[Served, Http2Client, Recorder]:
    app = Recorder(handler)
    served = await start(app, **limits)
    return served, await connect(served), app


def the_connection(served: Served) -> Http2Connection:
    (connection,) = served.context.connections
    assert isinstance(connection, Http2Connection)
    return connection


async def until(condition: Any) -> None:
    async with asyncio.timeout(DEADLINE):
        while not condition():
            await next_pass()


# Requests --------------------------------------------------------------------------------------------------------


async def test_the_scope_of_a_request(start: Start) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        tell(connection.scope)
        await connection.respond(204)

    served, client, app = await served_to(start, handler)
    await client.request(path=b"/%C3%A4/%ff?q=%20", headers=[(b"cookie", b"one"), (b"x", b"y"), (b"cookie", b"two")])
    scope = await app.seen()
    assert scope["type"] == "http"
    assert scope["asgi"] == {"version": "3.0", "spec_version": "2.5"}
    assert (scope["http_version"], scope["method"], scope["scheme"]) == ("2", "GET", "http")
    assert (scope["path"], scope["raw_path"]) == ("/ä/\N{REPLACEMENT CHARACTER}", b"/%C3%A4/%ff")
    assert scope["query_string"] == b"q=%20"
    # RFC 9113 sections 8.2.3 and 8.3.1: the authority is the host, and the crumbs are one cookie.
    assert scope["headers"] == [(b"host", b"a"), (b"x", b"y"), (b"cookie", b"one; two")]
    assert scope["server"] == ("127.0.0.1", served.port)
    assert scope["client"][0] == "127.0.0.1"
    assert set(scope["extensions"]) == {"http.response.early_hint", "http.response.trailers"}


async def test_many_requests_at_once_are_answered_as_they_are_ready(start: Start) -> None:
    first = asyncio.Event()

    async def handler(connection: Connection, tell: Any) -> None:
        if connection.scope["path"] == "/first":
            await first.wait()
        await answer(connection, tell)

    served, client, _ = await served_to(start, handler)
    slow = await client.ask(path=b"/first")
    numbers = [await client.ask(path=b"/%d" % number) for number in range(50)]
    for number, stream in enumerate(numbers):
        assert (await client.answer(stream)).body == b"/%d:" % number
    assert not client.answers[slow].over
    first.set()
    assert (await client.answer(slow)).body == b"/first:"
    assert served.context.counters.connections == 1
    assert served.context.counters.requests == 51
    assert served.log == []


async def test_a_preface_and_a_request_in_single_bytes(start: Start) -> None:
    served = await start(Recorder(answer))
    client = Http2Client(await served.connect())
    client.h2.initiate_connection()
    client.answers[1] = Answer()
    client.h2.send_headers(
        1, [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"a"), (b":path", b"/x")], end_stream=True
    )
    for byte in client.h2.data_to_send():
        await client.send(bytes((byte,)))
        await next_pass()
    assert (await client.answer(1)).body == b"/x:"


async def test_a_body_comes_in_pieces_and_whole(start: Start) -> None:
    _, client, _ = await served_to(start, answer)
    body = bytes(range(256)) * 2000
    assert (await client.request(b"POST", b"/", body=body)).body == b"/:" + body


async def test_request_trailers_end_the_body(start: Start) -> None:
    _, client, _ = await served_to(start, answer)
    number = await client.ask(b"POST", b"/", ended=False)
    await client.content(number, b"abc", ended=False)
    client.h2.send_headers(number, [(b"x-sum", b"1")], end_stream=True)
    await client.flush()
    assert (await client.answer(number)).body == b"/:abc"


async def test_a_body_is_streamed_and_one_that_nobody_takes_stops_no_other(start: Start) -> None:
    size = 5_000_000
    go_on = asyncio.Event()

    async def handler(connection: Connection, tell: Any) -> None:
        if connection.scope["path"] == "/quick":
            await answer(connection, tell)
            return
        tell("started")
        await go_on.wait()
        received = 0
        while True:
            event = await connection.receive()
            received += len(event["body"])
            if not event["more_body"]:
                break
        await connection.respond(200, b"%d" % received)

    served, client, app = await served_to(start, handler)
    stalled = await client.ask(b"POST", b"/slow", ended=False)
    await app.seen()
    sent = 0
    while room := min(client.h2.local_flow_control_window(stalled), 16384):
        client.h2.send_data(stalled, bytes(room))
        sent += room
    await client.flush()
    assert sent == 65535
    for _ in range(5):
        assert len((await client.request(b"POST", b"/quick", body=bytes(100_000))).body) == 100_007
    assert client.h2.local_flow_control_window(stalled) == 0
    # Nor does time pass for a body that the application does not take.
    connection = the_connection(served)
    connection.handle_deadline(served.context.touch() + 20.0)
    go_on.set()
    await client.content(stalled, bytes(size - sent))
    assert (await client.answer(stalled)).body == b"%d" % size
    assert served.log == []


@pytest.mark.parametrize("wants", [True, False])
async def test_continue_is_sent_only_when_the_body_is_asked_for(start: Start, wants: bool) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        body = await connection.body() if wants else b"no, thanks"
        await connection.respond(200, body)

    _, client, _ = await served_to(start, handler)
    headers = [(b"expect", b"100-continue"), (b"content-length", b"4")]
    number = await client.ask(b"POST", b"/", headers, ended=False)
    if wants:
        await client.until(lambda: client.answers[number].informational)
        assert client.answers[number].informational == [(100, [])]
        await client.content(number, b"body")
        assert (await client.answer(number)).body == b"body"
    else:
        found = await client.answer(number)
        assert (found.status, found.body, found.informational) == (200, b"no, thanks", [])
    assert (await client.request()).status == 200


async def test_9113_8_1_a_complete_answer_ends_a_request_that_is_not(start: Start) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        await connection.respond(413, b"too long")

    served, client, _ = await served_to(start, handler)
    number = await client.ask(b"POST", b"/", ended=False)
    client.h2.send_data(number, b"a part")
    found = await client.answer(number)
    assert (found.status, found.body, found.ended) == (413, b"too long", True)
    # What was on its way is ignored, and the connection goes on.
    assert (await client.request()).status == 413
    assert served.log == []


async def test_upgrade_to_h2c_is_ignored(start: Start) -> None:
    served = await start(Recorder(answer))
    client = await served.connect()
    await client.send(
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: \r\n\r\n"
    )
    assert (await client.response()).body == b"/:"


async def test_without_http2_a_preface_is_505(start: Start) -> None:
    served = await start(Recorder(answer), http2=False)
    client = await served.connect()
    await client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    assert (await client.response()).status == 505
    assert await client.at_end()


async def test_a_first_line_of_another_protocol_is_not_answered(start: Start) -> None:
    served = await start(Recorder(answer))
    client = await served.connect()
    await client.send(b"INVALID CONNECTION PREFACE\r\n\r\n")
    assert await client.at_end()
    (line,) = served.log
    assert line.endswith("the first line names no version of HTTP: RFC 9112 section 2.2; closed without an answer")


async def test_without_http2_a_first_line_of_another_protocol_is_400(start: Start) -> None:
    served = await start(Recorder(answer), http2=False)
    client = await served.connect()
    await client.send(b"INVALID CONNECTION PREFACE\r\n\r\n")
    assert (await client.response()).status == 400
    assert await client.at_end()


# Responses -------------------------------------------------------------------------------------------------------


async def test_a_plain_answer_has_date_server_and_length(start: Start) -> None:
    served, client, _ = await served_to(start, answer)
    for _ in range(3):
        found = await client.request()
        assert (found.status, found.body) == (200, b"/:")
        assert found.fields.keys() == {"server", "date", "content-length"}
    assert served.log == []


async def test_a_response_in_pieces(start: Start) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        headers = [(b"transfer-encoding", b"x"), (b"Connection", b"close"), (b"X-Mixed", b"Case")]
        await connection.send({"type": "http.response.start", "status": 200, "headers": headers})
        for piece in (b"one", b"", b"two"):
            await connection.send({"type": "http.response.body", "body": piece, "more_body": True})
        await connection.send({"type": "http.response.body"})

    _, client, _ = await served_to(start, handler)
    found = await client.request()
    assert found.body == b"onetwo"
    # RFC 9113 section 8.2: lower case, and nothing about the connection.
    assert found.fields.keys() == {"server", "date", "x-mixed"}
    assert (await client.request()).body == b"onetwo"


@pytest.mark.parametrize(
    ("method", "status", "body", "headers", "length"),
    [
        (b"HEAD", 200, b"12345", [], "5"),
        (b"HEAD", 200, b"", [], None),
        (b"HEAD", 200, b"", [(b"content-length", b"77")], "77"),
        (b"GET", 204, b"dropped", [], None),
        (b"GET", 304, b"", [], None),
        (b"GET", 200, b"", [], "0"),
    ],
)
async def test_responses_without_content(
    start: Start, method: bytes, status: int, body: bytes, headers: Any, length: str | None
) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        await connection.respond(status, body, headers)

    _, client, _ = await served_to(start, handler)
    for _ in range(2):
        found = await client.request(method)
        assert (found.status, found.body, found.ended) == (status, b"", True)
        assert found.fields.get("content-length") == length


@pytest.mark.parametrize("takes", [True, False])
async def test_early_hints_and_trailers(start: Start, takes: bool) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        await connection.send({"type": "http.response.early_hint", "links": [b"</a.css>; rel=preload"]})
        await connection.send(
            {"type": "http.response.start", "status": 200, "headers": [(b"trailer", b"x-sum")], "trailers": True}
        )
        await connection.send({"type": "http.response.body", "body": b"abc"})
        await connection.send({"type": "http.response.trailers", "headers": [(b"x-sum", b"9")], "more_trailers": True})
        await connection.send({"type": "http.response.trailers", "headers": [(b"x-more", b"1")]})

    _, client, _ = await served_to(start, handler)
    found = await client.request(headers=[(b"te", b"trailers")] if takes else [])
    assert found.informational == [(103, [(b"link", b"</a.css>; rel=preload")])]
    assert found.body == b"abc"
    assert found.trailers == ([(b"x-sum", b"9"), (b"x-more", b"1")] if takes else [])


async def test_trailers_come_behind_content_that_had_to_wait(start: Start) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        await connection.send({"type": "http.response.start", "status": 200, "trailers": True})
        await connection.send({"type": "http.response.body", "body": bytes(40_000)})
        await connection.send({"type": "http.response.trailers", "headers": [(b"x-sum", b"9")]})

    served = await start(Recorder(handler))
    client = await connect(served, settings={WINDOW: 1000})
    found = await client.request(headers=[(b"te", b"trailers")])
    assert (len(found.body), found.trailers) == (40_000, [(b"x-sum", b"9")])


async def test_one_byte_windows(start: Start) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        await connection.respond(200, b"0123456789" * 10)

    served = await start(Recorder(handler))
    client = await connect(served, settings={WINDOW: 1})
    numbers = [await client.ask() for _ in range(3)]
    for number in numbers:
        assert (await client.answer(number)).body == b"0123456789" * 10
    assert served.log == []


async def test_send_waits_for_the_window_of_its_stream_and_delivers_everything(start: Start) -> None:
    sent = 0

    async def handler(connection: Connection, tell: Any) -> None:
        nonlocal sent
        if connection.scope["path"] == "/quick":
            await connection.respond(200, b"quick")
            return
        await connection.send({"type": "http.response.start", "status": 200})
        for _ in range(50):
            await connection.send({"type": "http.response.body", "body": bytes(100_000), "more_body": True})
            sent += 1
        await connection.send({"type": "http.response.body"})
        tell("done")

    app = Recorder(handler)
    served = await start(app)
    client = await connect(served, takes=False, settings={WINDOW: 30_000})
    slow = await client.ask()
    await client.until(lambda: len(client.answers[slow].body) == 30_000)
    assert sent == 0
    # A stream that is not taken stops no other.
    for _ in range(5):
        assert (await client.request(path=b"/quick")).body == b"quick"
    assert sent == 0
    client.takes = True
    client.h2.acknowledge_received_data(30_000, slow)
    await client.flush()
    assert len((await client.answer(slow)).body) == 5_000_000
    assert await app.seen() == "done"
    assert served.log == []


async def test_streams_that_wait_for_the_connection_go_on_in_turn(start: Start) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        await connection.respond(200, bytes(200_000))

    served = await start(Recorder(handler))
    client = await connect(served, takes=False, settings={WINDOW: 1 << 20})
    numbers = [await client.ask() for _ in range(4)]
    await client.until(lambda: sum(len(client.answers[number].body) for number in numbers) == 65535)
    client.h2.increment_flow_control_window(4 * 16384)
    await client.flush()
    await client.until(lambda: sum(len(client.answers[number].body) for number in numbers) == 65535 + 4 * 16384)
    assert min(len(client.answers[number].body) for number in numbers[1:]) >= 16384
    client.h2.increment_flow_control_window(1 << 24)
    await client.flush()
    for number in numbers:
        assert len((await client.answer(number)).body) == 200_000


async def test_a_fast_reader_does_not_keep_the_application_from_letting_others_run(start: Start) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        if connection.scope["path"] == "/quick":
            await connection.respond(200, b"quick")
            return
        await connection.send({"type": "http.response.start", "status": 200})
        while True:
            await connection.send({"type": "http.response.body", "body": bytes(65536), "more_body": True})

    _, client, _ = await served_to(start, handler)
    endless = await client.ask()
    for _ in range(5):
        assert (await client.request(path=b"/quick")).body == b"quick"
    await client.reset(endless)
    assert (await client.request(path=b"/quick")).body == b"quick"


# Mistakes of the application -------------------------------------------------------------------------------------


async def test_raising_before_the_body_is_500_and_one_traceback(start: Start) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        if connection.scope["path"] == "/good":
            await connection.respond(200)
            return
        await connection.send({"type": "http.response.start", "status": 200})
        raise ArithmeticError("on purpose")

    served, client, _ = await served_to(start, handler)
    found = await client.request()
    assert (found.status, found.body) == (500, b"internal server error\n")
    assert (await client.request(path=b"/good")).status == 200
    assert len(served.log) == served.tracebacks == 1
    assert served.log[0].startswith("exception in application for HTTP / from 127.0.0.1:")


async def test_raising_in_the_middle_of_the_body_resets_the_stream(start: Start) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        await connection.send({"type": "http.response.start", "status": 200})
        await connection.send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise ArithmeticError("on purpose")

    served, client, _ = await served_to(start, handler)
    found = await client.request()
    assert (found.body, found.ended, found.reset) == (b"half", False, h2.errors.ErrorCodes.INTERNAL_ERROR)
    assert len(served.log) == served.tracebacks == 1


async def test_returning_without_a_response_is_500_and_one_line(start: Start) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        pass

    served, client, _ = await served_to(start, handler)
    assert (await client.request()).status == 500
    assert [line.rpartition(": ")[2] for line in served.log] == ["application returned without completing its response"]
    assert served.tracebacks == 0


async def test_an_error_with_a_status_is_answered_with_it(start: Start) -> None:
    class Missing(Exception):
        asgi_status = 404

    async def handler(connection: Connection, tell: Any) -> None:
        raise Missing("no route for /")

    served, client, _ = await served_to(start, handler)
    assert (await client.request()).status == 404
    assert [line.partition(" ")[2] for line in served.log] == ["/: no route for /; answered with 404"]


@pytest.mark.parametrize(("declared", "more"), [(b"3", False), (b"5", False), (b"10", False), (b"3", True)])
async def test_9110_8_6_a_body_that_does_not_fit_its_length_is_500(start: Start, declared: bytes, more: bool) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        headers = [(b"Content-Length", declared)]
        await connection.send({"type": "http.response.start", "status": 200, "headers": headers})
        await connection.send({"type": "http.response.body", "body": b"four", "more_body": more})

    served, client, _ = await served_to(start, handler)
    assert (await client.request()).status == 500
    assert len(served.log) == served.tracebacks == 1


async def test_9110_8_6_a_body_that_stops_short_later_is_reset(start: Start) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        await connection.send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]})
        await connection.send({"type": "http.response.body", "body": b"four", "more_body": True})
        await connection.send({"type": "http.response.body", "body": b"five"})

    served, client, _ = await served_to(start, handler)
    found = await client.request()
    assert (found.body, found.reset) == (b"four", h2.errors.ErrorCodes.INTERNAL_ERROR)
    assert len(served.log) == served.tracebacks == 1


@pytest.mark.parametrize("body", [None, b"hello"])
async def test_9110_9_3_7_options_for_the_server_is_answered_by_it(start: Start, body: bytes | None) -> None:
    served, client, _ = await served_to(start, answer)
    for _ in range(2):
        found = await client.request(b"OPTIONS", b"*", body=body)
        assert (found.status, found.body) == (204, b"")
        assert found.fields["allow"] == "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
    assert (await client.request()).body == b"/:"
    assert served.log == []


@pytest.mark.parametrize(
    ("events", "message"),
    [
        ([{"type": "http.response.body"}], "http.response.body before http.response.start"),
        ([{"type": "http.response.start", "status": 101}], "the status of http.response.start is 200 to 999"),
        ([{"type": "http.response.start", "status": 200}] * 2, "http.response.start was sent already"),
        ([{"type": "http.response.nonsense"}], "unknown event 'http.response.nonsense'"),
        (
            [
                {"type": "http.response.start", "status": 200, "headers": [(b"a", b"b\r\nc: d")]},
                {"type": "http.response.body"},
            ],
            "http.response.start: ",
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
        tell(str(raised.value))

    _, client, app = await served_to(start, handler)
    number = await client.ask()
    assert message in await app.seen()
    assert (await client.answer(number)).status == 500


async def test_what_follows_a_complete_response_is_ignored(start: Start) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        await connection.respond(200, b"complete")
        await connection.send({"type": "http.response.body", "body": b"more"})
        tell(await connection.receive())
        tell(await connection.receive())

    served, client, app = await served_to(start, handler)
    assert (await client.request()).body == b"complete"
    assert [await app.seen(), await app.seen()] == [{"type": "http.disconnect"}] * 2
    assert (await client.request()).body == b"complete"
    assert served.log == []


# The client leaves -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["stream", "connection"])
async def test_a_client_that_resets_is_a_disconnect_and_sending_raises(start: Start, how: str) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        tell((await connection.receive())["type"])
        tell((await connection.receive())["type"])
        with pytest.raises(ConnectionClosed, match="the client has closed the connection") as raised:
            await connection.respond(200)
        raise raised.value

    served, client, app = await served_to(start, handler)
    number = await client.ask()
    assert await app.seen() == "http.request"
    if how == "stream":
        await client.reset(number)
    else:
        client.vanish()
    assert await app.seen() == "http.disconnect"
    await client.close()
    await served.idle()
    assert served.log == []
    assert served.tracebacks == 0


@pytest.mark.parametrize("how", ["stream", "connection"])
async def test_a_reset_wakes_an_application_that_waits_to_send(start: Start, how: str) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        await connection.send({"type": "http.response.start", "status": 200})
        tell("sending")
        try:
            while True:
                await connection.send({"type": "http.response.body", "body": bytes(100_000), "more_body": True})
        except ConnectionClosed:
            tell("closed")
            raise

    app = Recorder(handler)
    served = await start(app)
    client = await connect(served, takes=False)
    number = await client.ask()
    assert await app.seen() == "sending"
    await client.until(lambda: len(client.answers[number].body) == 65535)
    if how == "stream":
        await client.reset(number)
    else:
        client.vanish()
    assert await app.seen() == "closed"
    await client.close()
    await served.idle()
    assert served.log == []


async def test_a_client_that_closes_is_a_disconnect_for_all_its_requests(start: Start) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        await connection.receive()
        tell("waiting")
        tell((await connection.receive())["type"])

    served, client, app = await served_to(start, handler)
    for _ in range(5):
        await client.ask()
        assert await app.seen() == "waiting"
    await client.close()
    for _ in range(5):
        assert await app.seen() == "http.disconnect"
    await served.idle()
    assert served.log == []


async def test_a_client_that_has_ended_its_side_is_answered(start: Start) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        await connection.receive()
        tell((await connection.receive())["type"])
        await connection.respond(200, b"late")

    served, client, app = await served_to(start, handler)
    number = await client.ask()
    client.end_side()
    assert await app.seen() == "http.disconnect"
    assert (await client.answer(number)).body == b"late"
    await client.end()
    assert served.log == []


async def test_an_application_that_does_not_notice_is_cancelled_with_a_warning(start: Start) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        tell("running")
        try:
            await asyncio.Event().wait()
        finally:
            tell("cancelled")

    served, client, app = await served_to(start, handler, disconnect_timeout=0.05)
    number = await client.ask()
    await app.seen()
    await client.reset(number)
    assert await app.seen() == "cancelled"
    await until(lambda: not served.context.tasks)
    assert [line.partition(": ")[2] for line in served.log] == [
        "application did not end within 0.05 s after the disconnect: cancelled"
    ]


async def test_what_an_application_does_after_its_response_is_not_cancelled(start: Start) -> None:
    go_on = asyncio.Event()

    async def handler(connection: Connection, tell: Any) -> None:
        await connection.respond(200, b"done")
        await go_on.wait()
        tell("finished")

    served, client, app = await served_to(start, handler, disconnect_timeout=0.001)
    await client.request()
    client.vanish()
    await served.context.wait_no_connections()
    served.context.wheel.advance(served.context.touch() + 1000.0)
    go_on.set()
    assert await app.seen() == "finished"
    assert served.log == []


# Stopping --------------------------------------------------------------------------------------------------------


async def test_a_server_that_stops_warns_finishes_and_says_which_was_the_last(start: Start) -> None:
    go_on = asyncio.Event()

    async def handler(connection: Connection, tell: Any) -> None:
        tell(connection.scope["path"])
        await go_on.wait()
        await connection.respond(200, b"done")

    served, client, app = await served_to(start, handler)
    first = await client.ask(path=b"/first")
    assert await app.seen() == "/first"
    stopping = asyncio.ensure_future(served.server.end_connections(DEADLINE))
    # RFC 9113 section 6.8: what was on its way when the warning was sent is still served.
    await client.until(lambda: client.gone)
    assert client.gone[0] == (h2.errors.ErrorCodes.NO_ERROR, 2**31 - 1)
    go_on.set()
    assert (await client.answer(first)).body == b"done"
    gone = await client.end()
    assert gone[-1] == (0, first)
    await stopping
    assert served.log == []


async def test_an_event_stream_ends_when_the_server_stops(start: Start) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        headers = [(b"content-type", b"text/event-stream")]
        await connection.receive()
        await connection.send({"type": "http.response.start", "status": 200, "headers": headers})
        await connection.send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        tell("open")
        tell((await connection.receive())["type"])

    served, client, app = await served_to(start, handler)
    number = await client.ask()
    assert await app.seen() == "open"
    stopping = asyncio.ensure_future(served.server.end_connections(DEADLINE))
    found = await client.answer(number)
    assert (found.body, found.ended) == (b"data: 1\n\n", True)
    assert await app.seen() == "http.disconnect"
    await client.end()
    await stopping
    assert served.log == []


async def test_an_idle_connection_is_closed_after_its_time_and_told_so(start: Start) -> None:
    served, client, _ = await served_to(start, answer, keep_alive_timeout=50.0)
    await client.request()
    connection = the_connection(served)
    connection.handle_deadline(served.context.touch() + 9.0)
    await client.request()
    connection.handle_deadline(served.context.touch() + 51.0)
    assert await client.end() == [(h2.errors.ErrorCodes.NO_ERROR, 3)]
    assert served.log == []


# One connection and another --------------------------------------------------------------------------------------

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")


async def test_applications_share_no_context_variables(start: Start) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        before = variable.get("unset")
        variable.set(connection.scope["path"])
        await connection.respond(200, before.encode())

    token = variable.set("of the one who started the server")
    _, client, _ = await served_to(start, handler)
    variable.reset(token)
    assert [(await client.request()).body, (await client.request()).body] == [b"unset", b"unset"]


async def test_the_access_log_has_one_line_for_each_request(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        if connection.scope["path"] == "/fails":
            raise ArithmeticError
        await answer(connection, tell)

    caplog.set_level(logging.INFO, logger="fairway.access")
    _, client, _ = await served_to(start, handler)
    for path in (b"/", b"/x?token=secret", b"/fails"):
        await client.request(path=path)
    lines = [record.getMessage() for record in caplog.records if record.name == "fairway.access"]
    assert [line.partition(" ")[2].rpartition(" ")[0] for line in lines] == [
        '"GET / HTTP/2" 200 2',
        '"GET /x?token=*** HTTP/2" 200 3',
        '"GET /fails HTTP/2" 500 22',
    ]
