"""What bad input and faults get: the answer in the design's table, one line in the log, nobody else disturbed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from channels.consumer import AsyncConsumer, StopConsumer
from channels.routing import ProtocolTypeRouter
from fairway.asgi.errors import ConnectionClosed
from tests.integration.conftest import Start, over_http2_too
from tests.integration.raw import (
    BINARY,
    CLOSE,
    DEADLINE,
    HANDSHAKE,
    KEY,
    PING,
    PONG,
    TEXT,
    Client,
    Served,
    frame,
    next_pass,
)


class NotFound(ValueError):
    asgi_status = 404


class Application:
    """Answers HTTP with 200; echoes over WebSocket; keeps what it saw."""

    def __init__(self) -> None:
        self.disconnects: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"fine"})
        elif scope["type"] == "websocket":
            await self.websocket(scope, receive, send)
        else:
            raise NotImplementedError(scope["type"])

    async def websocket(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        assert (await receive())["type"] == "websocket.connect"
        if scope["path"] == "/unknown":
            raise NotFound("no route for /unknown")
        if scope["path"] == "/raises-before":
            raise ArithmeticError("before accept")
        await send({"type": "websocket.accept"})
        while True:
            event = await receive()
            if event["type"] == "websocket.disconnect":
                self.disconnects.put_nowait(event)
                return
            if event.get("text") == "raise":
                raise ArithmeticError("after accept")
            await send({**event, "type": "websocket.send"})

    async def disconnect(self) -> dict[str, Any]:
        async with asyncio.timeout(DEADLINE):
            return await self.disconnects.get()


@asynccontextmanager
async def bystander(served: Served) -> AsyncIterator[None]:
    """Another connection, which must work before and after."""
    client = await served.connect()
    await client.open()

    async def works(text: bytes) -> None:
        await client.send(frame(TEXT, text))
        assert await client.frame() == (TEXT, text)

    await works(b"before")
    yield
    await works(b"after")
    await client.close()


async def has_logged(served: Served, *, lines: int = 1, containing: str, tracebacks: int = 0) -> None:
    assert len(served.log) == lines, served.log
    assert containing in served.log[0]
    assert served.tracebacks == tracebacks


@pytest.fixture
async def app() -> Application:
    return Application()


MALFORMED = {
    "not HTTP at all": (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
    "bare LF": (b"GET / HTTP/1.1\nHost: a\n\n", 400),
    "folded line": (b"GET / HTTP/1.1\r\nHost: a\r\nA: b\r\n c\r\n\r\n", 400),
    "space before the colon": (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
    "no Host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "two Hosts": (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    "both lengths": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    "two lengths": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n", 400),
    "signed length": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\n", 400),
    "unknown coding": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
    "HTTP/2 in a request line": (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    "unknown expectation": (b"GET / HTTP/1.1\r\nHost: a\r\nExpect: wonders\r\n\r\n", 417),
    "long request line": (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    "header too large": (b"GET / HTTP/1.1\r\nHost: a\r\nA: " + b"a" * 70000 + b"\r\n\r\n", 431),
    "too many headers": (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"A: b\r\n" * 101 + b"\r\n", 431),
    "too many cookies": (b"GET / HTTP/1.1\r\nHost: a\r\nCookie: " + b"a=b; " * 12_000 + b"\r\n\r\n", 431),
}


@pytest.mark.parametrize(("request_bytes", "status"), MALFORMED.values(), ids=MALFORMED)
async def test_malformed_request(start: Start, app: Application, request_bytes: bytes, status: int) -> None:
    served = await start(app)
    async with bystander(served):
        client = await served.connect()

        await client.send(request_bytes)

        response = await client.response()
        assert response.status == status
        assert response.headers["connection"] == "close"
        assert await client.at_end()
    await has_logged(served, containing=f"answered with {status}")


async def test_a_bad_chunk_ends_the_request_and_the_application_sees_a_disconnect(start: Start) -> None:
    seen: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise NotImplementedError
        while True:
            event = await receive()
            seen.put_nowait(event)
            if event["type"] == "http.disconnect":
                return

    served = await start(application)
    client = await served.connect()

    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
    async with asyncio.timeout(DEADLINE):
        assert await seen.get() == {"type": "http.request", "body": b"abc", "more_body": True}
    await client.send(b"xyz\r\n")

    assert (await client.response()).status == 400
    async with asyncio.timeout(DEADLINE):
        assert await seen.get() == {"type": "http.disconnect"}
    await has_logged(served, containing="answered with 400")


def handshake(**changes: bytes | None) -> bytes:
    headers: dict[str, bytes | None] = {
        "Host": b"example.com",
        "Upgrade": b"websocket",
        "Connection": b"Upgrade",
        "Sec-WebSocket-Key": KEY,
        "Sec-WebSocket-Version": b"13",
    }
    headers |= {name.replace("_", "-"): value for name, value in changes.items()}
    lines = [name.encode() + b": " + value for name, value in headers.items() if value is not None]
    return b"GET /chat HTTP/1.1\r\n" + b"\r\n".join(lines) + b"\r\n\r\n"


@pytest.mark.parametrize(
    ("request_bytes", "status", "reason"),
    [
        (handshake(Sec_WebSocket_Key=None), 400, "the key is not 16 bytes of base64"),
        (handshake(Sec_WebSocket_Key=b"c2hvcnQ="), 400, "the key is not 16 bytes of base64"),
        (handshake(Sec_WebSocket_Key=b"!!!!!!!!!!!!!!!!!!!!!!=="), 400, "the key is not 16 bytes of base64"),
        (handshake(Sec_WebSocket_Version=b"12"), 426, "the version is not 13"),
        (handshake(Sec_WebSocket_Version=None), 426, "the version is not 13"),
        (handshake(Sec_WebSocket_Protocol=b"a, b c"), 400, "a subprotocol is not a token"),
        (handshake(Sec_WebSocket_Protocol=b", ".join([b"a"] * 51)), 400, "more than 50 subprotocols"),
        (handshake(Sec_WebSocket_Protocol=b"a, " * 15_000), 400, "the subprotocols are a list of more than 100"),
        (handshake(Cookie=b"a=b; " * 12_000), 431, "too many cookies"),
        (handshake().replace(b"GET", b"POST"), 405, "the handshake is not a GET"),
    ],
)
async def test_wrong_handshake(start: Start, app: Application, request_bytes: bytes, status: int, reason: str) -> None:
    served = await start(app)
    async with bystander(served):
        client = await served.connect()

        await client.send(request_bytes)

        response = await client.response()
        assert response.status == status
        assert response.headers.get("sec-websocket-version") == ("13" if status == 426 else None)
        assert await client.at_end()
    await has_logged(served, containing=reason)


FRAMES: dict[str, tuple[bytes, int, str]] = {
    "unmasked": (frame(TEXT, b"hello", masked=False), 1002, "frame not masked"),
    "reserved bits": (frame(TEXT, b"hello", rsv=2), 1002, "reserved bits set"),
    "compressed without being negotiated": (frame(TEXT, b"hello", rsv=4), 1002, "reserved bits set"),
    "reserved opcode": (frame(3), 1002, "reserved opcode 3"),
    "fragmented ping": (frame(PING, fin=False), 1002, "fragmented control frame"),
    "long ping": (frame(PING, b"a" * 126), 1002, "control frame too long"),
    "continuation of nothing": (frame(0, b"a"), 1002, "nothing to continue"),
    "message inside a message": (frame(TEXT, b"a", fin=False) + frame(TEXT, b"b"), 1002, "inside a fragmented one"),
    "bad UTF-8": (frame(TEXT, b"\xff\xfe"), 1007, "text is not UTF-8"),
    "bad UTF-8 inside an unfinished frame": (frame(TEXT, b"\xff" + b"a" * 999)[:20], 1007, "text is not UTF-8"),
    "bad UTF-8 over fragments": (frame(TEXT, b"\xe4", fin=False) + frame(0, b"a"), 1007, "text is not UTF-8"),
    "frame too long": (frame(BINARY, b"a" * 2000)[:14], 1009, "frame longer than 1000 bytes"),
    "message too long": (frame(BINARY, b"a" * 900, fin=False) + frame(0, b"a" * 900)[:8], 1009, "message longer than"),
    "close code that may not be sent": (frame(CLOSE, (1005).to_bytes(2, "big")), 1002, "close code 1005"),
    "close of one byte": (frame(CLOSE, b"a"), 1002, "close frame of one byte"),
    "close reason not UTF-8": (frame(CLOSE, b"\x03\xe8\xff"), 1007, "close reason is not UTF-8"),
}


@over_http2_too
@pytest.mark.parametrize(("data", "code", "reason"), FRAMES.values(), ids=FRAMES)
async def test_bad_frames(start: Start, app: Application, data: bytes, code: int, reason: str) -> None:
    served = await start(app, max_frame_bytes=1000, max_message_bytes=1500)
    async with bystander(served):
        client = await served.connect()
        await client.open()

        # A good message before it in the same segment is answered first.
        await client.send(frame(TEXT, b"good") + data)

        assert await client.frame() == (TEXT, b"good")
        sent_code, sent_reason = await client.close_frame()
        assert sent_code == code
        assert reason in sent_reason
        assert (await app.disconnect())["code"] == code
        assert await client.at_end()
    await has_logged(served, containing=reason)


@over_http2_too
async def test_no_route_is_404_and_one_line(start: Start, app: Application) -> None:
    served = await start(app)
    async with bystander(served):
        client = await served.connect()

        await client.send(HANDSHAKE.replace(b"/chat", b"/unknown"))

        assert (await client.response()).status == 404
    await has_logged(served, containing="no route for /unknown; answered with 404")


@over_http2_too
async def test_exception_before_accept_is_500_and_one_traceback(start: Start, app: Application) -> None:
    served = await start(app)
    async with bystander(served):
        client = await served.connect()

        await client.send(HANDSHAKE.replace(b"/chat", b"/raises-before"))

        assert (await client.response()).status == 500
        assert await client.at_end()
    await has_logged(served, containing="exception in application for WebSocket /raises-before", tracebacks=1)


@over_http2_too
async def test_exception_after_accept_is_1011_and_one_traceback(start: Start, app: Application) -> None:
    served = await start(app)
    async with bystander(served):
        client = await served.connect()
        await client.open()

        await client.send(frame(TEXT, b"raise"))

        assert await client.close_frame() == (1011, "")
        await client.send(frame(CLOSE, (1011).to_bytes(2, "big")))
        assert await client.at_end()
    await has_logged(served, containing="exception in application for WebSocket /chat", tracebacks=1)


@over_http2_too
@pytest.mark.parametrize("how", ["reset", "close"])
async def test_client_gone_in_the_middle_of_a_send(start: Start, how: str) -> None:
    """The application is blocked in `send`, because nobody reads, when the client vanishes."""
    outcome: asyncio.Queue[BaseException | None] = asyncio.Queue()
    event_after = asyncio.get_running_loop().create_future()
    blocked = asyncio.Event()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "websocket":
            raise NotImplementedError
        await receive()
        await send({"type": "websocket.accept"})
        try:
            while True:
                sending = asyncio.ensure_future(send({"type": "websocket.send", "bytes": bytes(50_000)}))
                await next_pass()
                if not sending.done():
                    await next_pass()
                    blocked.set()
                await sending
        except ConnectionClosed as error:
            outcome.put_nowait(error)
        event_after.set_result(await receive())

    served = await start(application)
    client = await served.connect(receive_buffer=4096)
    await client.open()
    async with asyncio.timeout(DEADLINE):
        await blocked.wait()

    if how == "reset":
        client.reset()
    else:
        await client.close()

    async with asyncio.timeout(DEADLINE):
        error = await outcome.get()
        assert isinstance(error, OSError)
        assert isinstance(error, RuntimeError)
        event = await event_after
    assert event["type"] == "websocket.disconnect"
    assert event["code"] == 1006
    await served.idle()
    await has_logged_nothing(served)


async def has_logged_nothing(served: Served) -> None:
    assert served.log == []
    assert served.tracebacks == 0


@over_http2_too
async def test_a_client_that_vanishes_is_1006(start: Start, app: Application) -> None:
    served = await start(app)
    client = await served.connect()
    await client.open()

    client.reset()

    assert await app.disconnect() == {"type": "websocket.disconnect", "code": 1006, "reason": "connection lost"}
    await has_logged_nothing(served)


async def test_a_flood_is_read_no_faster_than_it_is_handled_and_nothing_is_lost(start: Start) -> None:
    go_on = asyncio.Event()
    received: list[str] = []
    finished = asyncio.Event()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "websocket":
            raise NotImplementedError
        await receive()
        await send({"type": "websocket.accept"})
        await go_on.wait()
        while (event := await receive())["type"] != "websocket.disconnect":
            received.append(event["text"])
        finished.set()

    served = await start(application, inbox_messages=8)
    client = await served.connect()
    await client.open()
    total = 20_000
    flood = asyncio.ensure_future(client.send(b"".join(frame(TEXT, b"%d" % number) for number in range(total))))
    (connection,) = served.context.connections
    async with asyncio.timeout(DEADLINE):
        while connection.outbox.reading:  # type: ignore[attr-defined]
            await next_pass()
    assert len(connection.inbox.client) <= 2 * 8  # type: ignore[attr-defined]

    go_on.set()
    async with asyncio.timeout(DEADLINE):
        await flood
        await client.send(frame(CLOSE, (1000).to_bytes(2, "big")))
        await finished.wait()

    assert received == [str(number) for number in range(total)]


async def test_a_client_that_reads_nothing_is_dropped_when_its_bound_is_reached(start: Start) -> None:
    """A sender that cannot wait (a synchronous consumer) fills the outbox: 1013, and the memory is freed."""
    seen = asyncio.get_running_loop().create_future()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "websocket":
            raise NotImplementedError
        await receive()
        await send({"type": "websocket.accept"})
        refusal = ""
        try:
            while True:
                send.__self__.send_nowait({"type": "websocket.send", "bytes": bytes(10_000)})
                await next_pass()
        except ConnectionClosed as error:
            refusal = str(error)
        assert refusal == "the websocket is closed"
        seen.set_result(await receive())

    served = await start(application, outbox_bytes=200_000)
    client = await served.connect(receive_buffer=4096)
    await client.open()

    async with asyncio.timeout(DEADLINE):
        event = await seen
    assert event["code"] == 1013
    await has_logged(served, containing="client too slow: more than 200000 bytes wait for it; closed with 1013")


Attack = Callable[[Served, Client], Awaitable[None]]


async def test_time_limits(start: Start, app: Application) -> None:
    """Each deadline, moved by hand: the clock of the wheel is an argument."""
    served = await start(app)
    silent, slow, idle = [await served.connect() for _ in range(3)]
    await slow.send(b"GET / HTTP/1.1\r\nHo")
    await idle.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (await idle.response()).body == b"fine"
    await wait_until(lambda: len(served.context.connections) == 3)

    context = served.context
    for connection in list(context.connections):
        connection.handle_deadline(context.now + 20)  # type: ignore[attr-defined]

    assert (await slow.response()).status == 408
    assert await silent.at_end()
    for connection in list(context.connections):
        connection.handle_deadline(context.now + 80)  # type: ignore[attr-defined]
    assert await idle.at_end()
    assert await slow.at_end()
    await has_logged(served, containing="request head not complete in time")


async def test_a_peer_that_answers_no_ping_is_given_up(start: Start, app: Application) -> None:
    served = await start(app)
    client = await served.connect()
    await client.open()
    (connection,) = served.context.connections

    following = connection.handle_deadline(served.context.now + 26)  # type: ignore[attr-defined]
    assert await client.frame() == (PING, b"")
    connection.handle_deadline(following)  # type: ignore[attr-defined]

    assert (await app.disconnect())["code"] == 1006
    assert await client.at_end()


@over_http2_too
async def test_pings_are_answered_in_order_with_messages(start: Start, app: Application) -> None:
    served = await start(app)
    client = await served.connect()
    await client.open()

    await client.send(frame(PING, b"one") + frame(TEXT, b"two"))

    assert await client.frame() == (PONG, b"one")
    assert await client.frame() == (TEXT, b"two")


async def test_log_lines_of_an_attack_are_few_and_counted(start: Start, app: Application) -> None:
    served = await start(app)

    for _ in range(40):
        client = await served.connect()
        await client.send(b"\r\r\r\r")
        assert (await client.response()).status == 400
    served.context.faults.flush(served.context.now + 2)

    assert len(served.log) < 40
    assert any("more like this" in line for line in served.log)


async def wait_until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not condition():
            await next_pass()


async def test_the_log_is_safe_to_print(start: Start, app: Application, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="fairway.access")
    served = await start(app)
    client = await served.connect()

    await client.send(b"GET /%0aforged?token=secret HTTP/1.1\r\nHost: a\r\n\r\n")
    await client.response()

    lines = [record.getMessage() for record in caplog.records if record.name == "fairway.access"]
    assert len(lines) == 1
    assert "secret" not in lines[0]
    assert "\n" not in lines[0]


# What the log says of it ------------------------------------------------------------------------------------------


async def test_answer_of_the_server_is_logged_with_its_size(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    async def failing(scope: Any, receive: Any, send: Any) -> None:
        raise ArithmeticError("on purpose")

    served = await start(failing)
    client = await served.connect()
    await client.send(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
    body = (await client.response()).body

    [line] = [record.getMessage() for record in caplog.records if record.name == "fairway.access"]
    assert body == b"internal server error\n"
    assert f'"GET /x HTTP/1.1" 500 {len(body)} ' in line


@over_http2_too
async def test_errors_that_a_client_repeats_have_one_traceback(start: Start) -> None:
    served = await start(Application())
    for _ in range(5):
        client = await served.connect()
        await client.send(HANDSHAKE.replace(b"/chat", b"/raises-before"))
        await client.response()

    assert served.tracebacks == 1
    assert len(served.log) == 5
    assert "ArithmeticError: before accept (in test_faults.py, line" in served.log[1]


async def test_handshake_without_upgrade_names_the_proxy(start: Start) -> None:
    """RFC 9110 section 7.6.1: Upgrade is hop-by-hop, and nginx passes it on only if it is told to."""

    async def missing(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 404, "headers": []})
        await send({"type": "http.response.body", "body": b"no page"})

    served = await start(missing)
    client = await served.connect()
    await client.send(b"GET /ws/ HTTP/1.1\r\nHost: a\r\nSec-WebSocket-Key: " + KEY + b"\r\nConnection: close\r\n\r\n")
    await client.response()

    await has_logged(served, containing="/ws/: a WebSocket handshake without Upgrade: the proxy in front drops it")


@over_http2_too
async def test_error_that_the_client_has_caused_is_a_line(start: Start) -> None:
    async def strict(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            raise NotImplementedError
        await receive()
        await send({"type": "websocket.accept"})
        error = ValueError("not JSON")
        error.asgi_fault = "the client sent what cannot be read"  # type: ignore[attr-defined]
        raise error

    served = await start(strict)
    client = await served.connect()
    await client.open()
    assert (await client.frame())[0] == CLOSE

    await has_logged(served, containing="the client sent what cannot be read: ValueError: not JSON", tracebacks=0)


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("no.such", "NoHandler: No handler for message type no.such"),
        ("dispatch", "NoHandler: No handler for message type dispatch"),
        ("scope", "NoHandler: No handler for message type scope"),
        ("_private", "Unhandled: Malformed type in message (leading underscore)"),
        (None, "Unhandled: Malformed type in message (NoneType instead of str)"),
    ],
)
async def test_message_that_a_consumer_cannot_handle_is_a_line(start: Start, kind: Any, error: str) -> None:
    class Obedient(AsyncConsumer):
        async def websocket_connect(self, message: Any) -> None:
            await self.send({"type": "websocket.accept"})

        async def websocket_receive(self, message: Any) -> None:
            await self.dispatch({"type": kind})

        async def websocket_disconnect(self, message: Any) -> None:
            raise StopConsumer

    served = await start(ProtocolTypeRouter({"websocket": Obedient.as_asgi()}))
    client = await served.connect()
    await client.open()
    await client.send(frame(TEXT, b"x"))
    opcode, payload = await client.frame()
    assert (opcode, int.from_bytes(payload[:2], "big")) == (CLOSE, 1011)

    await has_logged(served, containing=f": a message was not handled: {error}")
