"""The ASGI conversation of an HTTP request, case by case, over both versions of HTTP: what the client gets, what the
application sees. What only one of them has is in `test_asgi_http1.py` and `test_asgi_http2.py`.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from typing import Any

import pytest
from h2.errors import ErrorCodes

from fairway.asgi.errors import ConnectionClosed, ProtocolMisuse
from tests.integration import http1, http2
from tests.integration.applications import Connection, Handler, Recorder
from tests.integration.conftest import Start
from tests.integration.http1 import Http1Client
from tests.integration.http2 import Http2Client
from tests.integration.raw import Served, next_pass

CONNECT: dict[str, Any] = {"1.1": http1.connect, "2": http2.connect}
CUT = {"1.1": http1.CUT, "2": ErrorCodes.INTERNAL_ERROR}
"""How a response ends that will never be complete: with the connection, or with its stream."""

LATE = "application did not end within 0.05 s after the disconnect: cancelled"


class Opening:
    """Starts a server with one handler, and connects a client of this version of HTTP."""

    def __init__(self, start: Start, version: str) -> None:
        self._start = start
        self.version = version

    async def __call__(self, handler: Handler, **limits: Any) -> tuple[Served, Http1Client | Http2Client, Recorder]:
        app = Recorder(handler)
        served = await self._start(app, **limits)
        return served, await self.connect(served), app

    async def connect(self, served: Served) -> Http1Client | Http2Client:
        client: Http1Client | Http2Client = await CONNECT[self.version](served)
        return client


@pytest.fixture(params=["1.1", "2"], ids=["HTTP/1.1", "HTTP/2"])
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def opened(start: Start, version: str) -> Opening:
    return Opening(start, version)


async def answer(connection: Connection, tell: Any) -> None:
    await connection.respond(200, connection.scope["raw_path"] + b":" + await connection.body())


async def gone(served: Served) -> None:
    """Nothing is left of any client."""
    await served.idle()
    assert served.tracebacks == 0


# Requests --------------------------------------------------------------------------------------------------------


async def test_the_scope_of_a_request(opened: Opening) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        tell(connection.scope)
        await connection.respond(204)

    served, client, app = await opened(handler)
    await client.request(path=b"/%C3%A4/%ff?q=%20", headers=[(b"cookie", b"one"), (b"x", b"y"), (b"cookie", b"two")])
    scope = await app.seen()
    assert scope["type"] == "http"
    assert scope["asgi"] == {"version": "3.0", "spec_version": "2.5"}
    assert (scope["http_version"], scope["method"], scope["scheme"]) == (opened.version, "GET", "http")
    assert (scope["path"], scope["raw_path"]) == ("/ä/\N{REPLACEMENT CHARACTER}", b"/%C3%A4/%ff")
    assert (scope["query_string"], scope["root_path"]) == (b"q=%20", "")
    # RFC 9113 sections 8.2.3 and 8.3.1: the authority is the host, and the crumbs are one cookie.
    crumbs = [(b"x", b"y"), (b"cookie", b"one; two")]
    fields = crumbs if opened.version == "2" else [(b"cookie", b"one"), (b"x", b"y"), (b"cookie", b"two")]
    assert scope["headers"] == [(b"host", b"a"), *fields]
    assert scope["client"] == client.address
    assert scope["server"] == ("127.0.0.1", served.port)
    assert "state" not in scope
    assert set(scope["extensions"]) == {"http.response.early_hint", "http.response.trailers"}


async def test_many_requests_over_one_connection(opened: Opening) -> None:
    served, client, _ = await opened(answer)
    for number in range(3):
        found = await client.request(path=b"/%d" % number)
        assert (found.status, found.body, found.ended) == (200, b"/%d:" % number, True)
        assert found.fields.keys() == {"server", "date", "content-length"}
    assert served.context.counters.connections == 1
    assert served.context.counters.requests == 3
    assert served.log == []


async def test_a_body_comes_in_pieces_and_whole(opened: Opening) -> None:
    _, client, _ = await opened(answer)
    pieces = [b"a", bytes(range(256)) * 2000, b"the end"]
    number = await client.ask(b"POST", b"/", ended=False)
    for piece in pieces:
        await client.content(number, piece, ended=piece == b"the end")
    assert (await client.answer(number)).body == b"/:" + b"".join(pieces)


@pytest.mark.parametrize("wants", [True, False])
async def test_continue_is_sent_only_when_the_body_is_asked_for(opened: Opening, wants: bool) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        body = await connection.body() if wants else b"no, thanks"
        await connection.respond(200, body)

    served, client, _ = await opened(handler)
    number = await client.ask(b"POST", b"/", [(b"expect", b"100-continue"), (b"content-length", b"4")], ended=False)
    if wants:
        await client.until(lambda: client.answers[number].informational)
        assert client.answers[number].informational == [(100, [])]
        await client.content(number, b"body")
        assert (await client.answer(number)).body == b"body"
        assert (await client.request(b"POST", body=b"more")).body == b"more"
    else:
        found = await client.answer(number)
        assert (found.status, found.body, found.informational) == (200, b"no, thanks", [])
        if opened.version == "1.1":
            # Whether the body comes all the same cannot be known.
            assert found.fields["connection"] == "close"
            await client.end()
    assert served.log == []


# Responses -------------------------------------------------------------------------------------------------------


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
    opened: Opening, method: bytes, status: int, body: bytes, headers: Any, length: str | None
) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        await connection.respond(status, body, headers)

    _, client, _ = await opened(handler)
    for _ in range(2):
        found = await client.request(method)
        assert (found.status, found.body, found.ended) == (status, b"", True)
        assert found.fields.get("content-length") == length
        assert "transfer-encoding" not in found.fields


@pytest.mark.parametrize("takes", [True, False])
async def test_early_hints_and_trailers(opened: Opening, takes: bool) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        await connection.send({"type": "http.response.early_hint", "links": [b"</a.css>; rel=preload"]})
        await connection.send(
            {"type": "http.response.start", "status": 200, "headers": [(b"trailer", b"x-sum")], "trailers": True}
        )
        await connection.send({"type": "http.response.body", "body": b"abc"})
        await connection.send({"type": "http.response.trailers", "headers": [(b"x-sum", b"9")], "more_trailers": True})
        await connection.send({"type": "http.response.trailers", "headers": [(b"x-more", b"1")]})

    _, client, _ = await opened(handler)
    found = await client.request(headers=[(b"te", b"trailers")] if takes else [])
    assert found.informational == [(103, [(b"link", b"</a.css>; rel=preload")])]
    assert found.body == b"abc"
    assert found.trailers == ([(b"x-sum", b"9"), (b"x-more", b"1")] if takes else [])


async def test_a_fast_reader_does_not_keep_the_application_from_letting_others_run(opened: Opening) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        if connection.scope["path"] == "/quick":
            await connection.respond(200, b"quick")
            return
        await connection.send({"type": "http.response.start", "status": 200})
        while True:
            await connection.send({"type": "http.response.body", "body": bytes(65536), "more_body": True})

    served, client, _ = await opened(handler)
    endless = await client.ask()
    taking = asyncio.ensure_future(client.answer(endless))
    other = await opened.connect(served)
    for _ in range(5):
        assert (await other.request(path=b"/quick")).body == b"quick"
    taking.cancel()
    client.vanish()


# Mistakes of the application -------------------------------------------------------------------------------------


async def test_raising_before_the_body_is_500_and_one_traceback(opened: Opening) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        await connection.send({"type": "http.response.start", "status": 200})
        raise ArithmeticError("on purpose")

    served, client, _ = await opened(handler)
    found = await client.request()
    assert (found.status, found.body, found.ended) == (500, b"internal server error\n", True)
    assert len(served.log) == served.tracebacks == 1
    assert served.log[0].startswith("exception in application for HTTP / from 127.0.0.1:")


async def test_raising_in_the_middle_of_the_body_cuts_the_response(opened: Opening) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        await connection.send({"type": "http.response.start", "status": 200})
        await connection.send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise ArithmeticError("on purpose")

    served, client, _ = await opened(handler)
    found = await client.request()
    assert (found.body, found.ended, found.reset) == (b"half", False, CUT[opened.version])
    assert len(served.log) == served.tracebacks == 1


async def test_returning_without_a_response_is_500_and_one_line(opened: Opening) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        pass

    served, client, _ = await opened(handler)
    assert (await client.request()).status == 500
    assert [line.rpartition(": ")[2] for line in served.log] == ["application returned without completing its response"]
    assert served.tracebacks == 0


async def test_an_error_with_a_status_is_answered_with_it(opened: Opening) -> None:
    class Missing(Exception):
        asgi_status = 404

    async def handler(connection: Connection, tell: Any) -> None:
        raise Missing("no route for /")

    served, client, _ = await opened(handler)
    assert (await client.request()).status == 404
    assert [line.partition(" ")[2] for line in served.log] == ["/: no route for /; answered with 404"]
    assert served.tracebacks == 0


@pytest.mark.parametrize(("declared", "more"), [(b"3", False), (b"5", False), (b"10", False), (b"3", True)])
@pytest.mark.parametrize("headers", [[], [(b"x-long", b"x" * 3000)]])
async def test_9110_8_6_a_body_that_does_not_fit_its_length_is_500(
    opened: Opening, declared: bytes, more: bool, headers: list[tuple[bytes, bytes]]
) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        headers_of_all = [*headers, (b"Content-Length", declared)]
        await connection.send({"type": "http.response.start", "status": 200, "headers": headers_of_all})
        await connection.send({"type": "http.response.body", "body": b"four", "more_body": more})

    served, client, _ = await opened(handler)
    assert (await client.request()).status == 500
    assert len(served.log) == served.tracebacks == 1


async def test_9110_8_6_a_body_that_stops_short_later_is_cut(opened: Opening) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        await connection.send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]})
        await connection.send({"type": "http.response.body", "body": b"four", "more_body": True})
        await connection.send({"type": "http.response.body", "body": b"five"})

    served, client, _ = await opened(handler)
    found = await client.request()
    assert (found.body, found.ended, found.reset) == (b"four", False, CUT[opened.version])
    assert len(served.log) == served.tracebacks == 1


@pytest.mark.parametrize("body", [None, b"hello"])
async def test_9110_9_3_7_options_for_the_server_is_answered_by_it(opened: Opening, body: bytes | None) -> None:
    served, client, _ = await opened(answer)
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
async def test_an_event_that_is_not_allowed_raises(opened: Opening, events: Any, message: str) -> None:
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

    _, client, app = await opened(handler)
    number = await client.ask()
    assert message in await app.seen()
    assert (await client.answer(number)).status == 500


async def test_what_follows_a_complete_response_is_ignored(opened: Opening) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        await connection.respond(200, b"complete")
        await connection.send({"type": "http.response.body", "body": b"more"})
        tell(await connection.receive())
        tell(await connection.receive())

    served, client, app = await opened(handler)
    assert (await client.request()).body == b"complete"
    assert [await app.seen(), await app.seen()] == [{"type": "http.disconnect"}] * 2
    assert (await client.request()).body == b"complete"
    assert served.log == []


# The client leaves -----------------------------------------------------------------------------------------------

in_each_way = pytest.mark.parametrize(
    ("version", "how"), [("1.1", "connection"), ("2", "connection"), ("2", "stream")], indirect=["version"]
)


async def leave(client: Http1Client | Http2Client, number: int, how: str) -> None:
    if how == "stream":
        assert isinstance(client, Http2Client)
        await client.reset(number)
        await client.close()
    else:
        client.vanish()


@in_each_way
async def test_a_client_that_resets_is_a_disconnect_and_sending_raises(opened: Opening, how: str) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        tell((await connection.receive())["type"])
        tell((await connection.receive())["type"])
        with pytest.raises(ConnectionClosed, match="the client has closed the connection") as raised:
            await connection.respond(200)
        assert isinstance(raised.value, OSError)
        assert isinstance(raised.value, RuntimeError)
        raise raised.value

    served, client, app = await opened(handler)
    number = await client.ask()
    assert await app.seen() == "http.request"
    await leave(client, number, how)
    assert await app.seen() == "http.disconnect"
    await gone(served)
    assert served.log == []


@in_each_way
async def test_a_reset_wakes_an_application_that_waits_to_send(opened: Opening, how: str) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        await connection.send({"type": "http.response.start", "status": 200})
        try:
            while True:
                sending = asyncio.ensure_future(
                    connection.send({"type": "http.response.body", "body": bytes(100_000), "more_body": True})
                )
                for _ in range(3):
                    await next_pass()
                if not sending.done():
                    tell("waits")
                await sending
        except ConnectionClosed:
            tell("closed")
            raise

    served, client, app = await opened(handler)
    number = await client.ask()
    assert await app.seen() == "waits"
    await leave(client, number, how)
    while (seen := await app.seen()) == "waits":
        pass
    assert seen == "closed"
    await gone(served)
    assert served.log == []


@pytest.mark.slow
async def test_9112_9_6_a_client_that_has_ended_its_side_gets_a_late_answer(opened: Opening) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        await connection.receive()
        tell((await connection.receive())["type"])
        assert (await connection.receive())["type"] == "http.disconnect"
        await connection.respond(200, b"late")

    served, client, app = await opened(handler)
    number = await client.ask()
    client.end_side()
    assert await app.seen() == "http.disconnect"
    assert (await client.answer(number)).body == b"late"
    await client.end()
    assert served.log == []


@pytest.mark.slow
async def test_a_client_that_has_ended_its_side_and_gets_no_byte_is_given_up(opened: Opening) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        tell("running")
        try:
            await asyncio.Event().wait()
        finally:
            tell("cancelled")

    served, client, app = await opened(handler, disconnect_timeout=0.05)
    await client.ask()
    assert await app.seen() == "running"
    client.end_side()
    await client.end()
    assert await app.seen() == "cancelled"
    await gone(served)
    assert [line.partition(": ")[2] for line in served.log] == [LATE]


async def test_a_stream_goes_on_for_a_client_that_has_ended_its_side_and_takes_it(opened: Opening) -> None:
    go_on = asyncio.Event()

    async def handler(connection: Connection, tell: Any) -> None:
        await connection.send({"type": "http.response.start", "status": 200})
        for piece in (b"one", b"two"):
            await connection.send({"type": "http.response.body", "body": piece, "more_body": True})
            tell(piece)
            await go_on.wait()
            go_on.clear()
        await connection.send({"type": "http.response.body", "body": b"three"})

    served, client, app = await opened(handler)
    number = await client.ask()
    await app.seen()
    client.end_side()
    (connection,) = served.context.connections
    while not connection.outbox.eof:  # type: ignore[attr-defined]
        await next_pass()
    go_on.set()
    await app.seen()
    # It has been sent a piece since: that it is still there is not doubted before another such time.
    now = served.context.touch()
    while (deadline := connection.handle_deadline(now)) is None:  # type: ignore[attr-defined]
        await next_pass()
    assert connection.handle_deadline(deadline) is not None  # type: ignore[attr-defined]
    go_on.set()
    found = await client.answer(number)
    assert (found.body, found.ended) == (b"onetwothree", True)
    assert served.log == []


@pytest.mark.slow
@in_each_way
async def test_an_application_that_does_not_notice_is_cancelled_with_a_warning(opened: Opening, how: str) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        tell("running")
        try:
            await asyncio.Event().wait()
        finally:
            tell("cancelled")

    served, client, app = await opened(handler, disconnect_timeout=0.05)
    number = await client.ask()
    await app.seen()
    await leave(client, number, how)
    assert await app.seen() == "cancelled"
    await gone(served)
    assert [line.partition(": ")[2] for line in served.log] == [LATE]


async def test_what_an_application_does_after_its_response_is_not_cancelled(opened: Opening) -> None:
    go_on = asyncio.Event()

    async def handler(connection: Connection, tell: Any) -> None:
        await connection.respond(200, b"done")
        await go_on.wait()
        tell("finished")

    served, client, app = await opened(handler, disconnect_timeout=0.001)
    await client.request()
    client.vanish()
    await served.context.wait_no_connections()
    served.context.wheel.advance(served.context.touch() + 1000.0)
    go_on.set()
    assert await app.seen() == "finished"
    assert served.log == []


@pytest.mark.slow
async def test_a_body_that_stops_is_408_and_the_application_sees_a_disconnect(opened: Opening) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        tell((await connection.receive())["body"])
        tell((await connection.receive())["type"])

    served, client, app = await opened(handler, keep_alive_timeout=0.05)
    number = await client.ask(b"POST", ended=False)
    await client.content(number, b"abc", ended=False)
    found = await client.answer(number)
    assert (found.status, found.ended) == (408, True)
    assert [await app.seen(), await app.seen()] == [b"abc", "http.disconnect"]
    (line,) = served.log
    assert line.endswith(
        "request body stopped arriving, or arrives too slowly: RFC 9110 section 15.5.9; answered with 408"
    )


# One connection and another --------------------------------------------------------------------------------------

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")


async def test_applications_share_no_context_variables(opened: Opening) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        before = variable.get("unset")
        variable.set(connection.scope["path"])
        await connection.respond(200, before.encode())

    token = variable.set("of the one who started the server")
    _, client, _ = await opened(handler)
    variable.reset(token)
    assert [(await client.request()).body, (await client.request()).body] == [b"unset", b"unset"]


async def test_the_access_log_has_one_line_for_each_request(opened: Opening, caplog: pytest.LogCaptureFixture) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        if connection.scope["path"] == "/fails":
            raise ArithmeticError
        await answer(connection, tell)

    caplog.set_level(logging.INFO, logger="fairway.access")
    _, client, _ = await opened(handler)
    for path in (b"/", b"/x?token=secret", b"/fails"):
        await client.request(path=path)
    lines = [record.getMessage() for record in caplog.records if record.name == "fairway.access"]
    assert [line.partition(" ")[2].rpartition(" ")[0] for line in lines] == [
        f'"GET / HTTP/{opened.version}" 200 2',
        f'"GET /x?token=*** HTTP/{opened.version}" 200 3',
        f'"GET /fails HTTP/{opened.version}" 500 22',
    ]


# The server itself ------------------------------------------------------------------------------------------------


async def test_a_path_is_answered_without_the_application(opened: Opening) -> None:
    served, client, _ = await opened(answer, health_path="/healthz")
    found = await client.request(path=b"/healthz?x=1")
    assert (found.status, found.body, found.fields["cache-control"]) == (200, b"", "no-store")
    assert (await client.request(path=b"/healthz/")).body == b"/healthz/:"
    served.context.draining = True
    assert (await client.request(path=b"/healthz")).status == 503


async def test_without_the_setting_every_path_is_the_applications(opened: Opening) -> None:
    _, client, _ = await opened(answer)
    assert (await client.request(path=b"/healthz")).body == b"/healthz:"
