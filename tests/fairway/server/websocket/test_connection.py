"""One WebSocket from handshake to end, over a transport of two queues: how far it reads, and when an end is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from tests.fairway.server.queue_transport import QueueTransport
from tests.integration.raw import CLOSE, HANDSHAKE, PING, PONG, TEXT, frame

from fairway.asgi.websocket import Phase
from fairway.delivery import Payload
from fairway.server.access import AccessLog
from fairway.server.config import Config
from fairway.server.context import ServerContext
from fairway.server.http1.connection import Http1Connection
from fairway.server.limits import Limits
from fairway.server.websocket.connection import WebSocketConnection


class Echo:
    """Accepts, answers each text with the same; waits before each if a test wants it to. Remembers how it ended."""

    def __init__(self, answer: dict[str, Any] | None = None) -> None:
        self.answer = answer or {"type": "websocket.accept"}
        self.pace = asyncio.Event()
        self.pace.set()
        self.heard: list[str] = []
        self.end: dict[str, Any] = {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(self.answer)
        while (event := await receive())["type"] == "websocket.receive":
            await self.pace.wait()
            self.heard.append(event["text"])
            if self.answer["type"] == "websocket.accept":
                await send({"type": "websocket.send", "text": event["text"]})
        self.end = event


class Line:
    """A client's handshake has arrived, and whatever it sends behind it."""

    def __init__(self, app: Any, room: int, early: bytes, **limits: Any) -> None:
        config = Config(limits=Limits(**limits))
        self.context = ServerContext(app, config, asyncio.get_running_loop(), AccessLog(False))
        self.transport = QueueTransport(room)
        http = Http1Connection(self.context)
        self.transport.set_protocol(http)
        http.connection_made(self.transport)  # type: ignore[arg-type]
        self.transport.send(HANDSHAKE + early)

    @property
    def connection(self) -> WebSocketConnection:
        assert isinstance(self.transport.protocol, WebSocketConnection)
        return self.transport.protocol

    async def opened(self) -> None:
        await passes()
        assert self.transport.take_all().startswith(b"HTTP/1.1 101 ")


Connect = Callable[..., Line]


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    lines: list[Line] = []

    def connecting(app: Any, room: int = 1 << 40, early: bytes = b"", **limits: Any) -> Line:
        lines.append(Line(app, room, early, **limits))
        return lines[-1]

    yield connecting
    for line in lines:
        line.connection.abort()
    await passes()
    for line in lines:
        line.context.close()


async def passes(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def text(message: str) -> bytes:
    return frame(TEXT, message.encode())


def close(code: int) -> bytes:
    return frame(CLOSE, code.to_bytes(2, "big"))


def from_server(opcode: int, payload: bytes) -> bytes:
    return frame(opcode, payload, masked=False)


async def test_an_upgrade_takes_the_wire_along(connect: Connect) -> None:
    app = Echo()
    line = connect(app)
    await line.opened()
    assert line.connection.outbox.owner is line.connection
    line.transport.send(text("hello"))
    await passes()
    assert line.transport.take_all() == from_server(TEXT, b"hello")
    line.transport.send(close(4000))
    await passes()
    assert line.transport.take_all() == from_server(CLOSE, (4000).to_bytes(2, "big"))
    assert (app.end["code"], line.transport.gone, line.connection.outbox.owner) == (4000, True, None)


async def test_what_a_client_says_too_early_is_kept(connect: Connect) -> None:
    app = Echo()
    line = connect(app, early=text("early"))
    await passes()
    assert line.transport.take_all().endswith(from_server(TEXT, b"early"))


async def test_what_was_said_before_a_close_is_answered_before_it_is_told(connect: Connect) -> None:
    app = Echo()
    line = connect(app)
    await line.opened()
    app.pace.clear()
    line.transport.send(text("one") + text("two") + close(4000))
    await passes()
    assert (line.connection.phase, line.transport.take_all()) == (Phase.OPEN, b"")
    app.pace.set()
    await passes()
    answers = from_server(TEXT, b"one") + from_server(TEXT, b"two")
    assert line.transport.take_all() == answers + from_server(CLOSE, (4000).to_bytes(2, "big"))
    assert (app.heard, app.end["code"]) == (["one", "two"], 4000)


async def test_a_close_is_told_when_its_time_is_up_although_the_application_is_busy(connect: Connect) -> None:
    app = Echo()
    line = connect(app, close_timeout=5.0)
    await line.opened()
    app.pace.clear()
    line.transport.send(text("one") + close(4000))
    await passes()
    line.connection.handle_deadline(line.context.touch() + 4.0)
    assert line.connection.phase is Phase.OPEN
    line.connection.handle_deadline(line.context.touch() + 6.0)
    assert (line.connection.phase, line.connection.closing.event["code"]) == (Phase.ENDED, 4000)


async def test_a_full_inbox_stops_reading_and_a_half_empty_one_resumes_it(connect: Connect) -> None:
    app = Echo()
    line = connect(app, inbox_messages=4)
    await line.opened()
    app.pace.clear()
    line.transport.send(b"".join(text(str(number)) for number in range(10)))
    await passes()
    assert not line.connection.outbox.reading
    app.pace.set()
    await passes(30)
    assert line.connection.outbox.reading
    assert app.heard == [str(number) for number in range(10)]


async def test_who_takes_no_pongs_is_not_read(connect: Connect) -> None:
    line = connect(Echo(), room=200, outbox_high_water=500)
    await line.opened()
    for _ in range(20):
        line.transport.send(frame(PING, b"x" * 100))
        await passes(3)
    assert (line.connection.outbox.reading, line.connection.outbox.blocked) == (False, True)
    pongs = b""
    for _ in range(20):
        pongs += line.transport.take_all()
        await passes(3)
    assert pongs == from_server(PONG, b"x" * 100) * 20
    assert line.connection.outbox.reading


async def test_a_refusal_reaches_a_client_that_goes_on_sending(connect: Connect) -> None:
    app = Echo({"type": "websocket.close"})
    line = connect(app, close_timeout=5.0)
    await passes()
    assert line.transport.take_all().startswith(b"HTTP/1.1 403 ")
    assert (line.transport.ended, line.transport.closing) == (True, False)
    line.transport.send(b"more")
    assert not line.connection.outbox.reading, "it is discarded at a measured pace"
    line.connection.handle_deadline(line.context.touch() + 6.0)
    assert line.transport.aborted


async def test_a_client_that_takes_no_byte_is_dropped_with_1013(connect: Connect) -> None:
    app = Echo()
    line = connect(app, room=200, write_stall_timeout=10.0)
    await line.opened()
    line.transport.send(text("x" * 1000))
    await passes()
    line.connection.handle_deadline(line.context.touch() + 11.0)
    assert line.transport.aborted
    await passes()
    assert (app.end["code"], line.context.counters.slow_consumers) == (1013, 1)


async def test_a_client_for_which_too_much_waits_gets_what_has_begun_and_a_close(connect: Connect) -> None:
    app = Echo()
    line = connect(app, room=200, outbox_high_water=1000, outbox_bytes=2000)
    await line.opened()
    for _ in range(5):
        line.connection.broadcast(Payload("x" * 1000))
        await passes()
    assert (line.connection.phase, line.transport.closing) == (Phase.ENDED, False)
    assert (line.context.counters.slow_consumers, line.connection.outbox.reading) == (1, False)
    taken = line.transport.take_all()
    assert taken.startswith(from_server(TEXT, b"x" * 1000))
    assert taken.endswith((1013).to_bytes(2, "big") + b"client too slow")
    await passes()
    assert (app.end["code"], line.connection.outbox.reading) == (1013, True)


async def test_a_server_that_stops_says_so_once_the_handshake_is_answered(connect: Connect) -> None:
    app = Echo()
    line = connect(app)
    line.context.draining = True
    await passes()
    going_away = from_server(CLOSE, (1001).to_bytes(2, "big") + b"server is shutting down")
    assert line.transport.take_all().endswith(going_away)
    line.transport.send(close(1001))
    await passes()
    assert (app.end["code"], line.transport.gone) == (1001, True)


@pytest.mark.parametrize("is_lost", [True, False])
async def test_a_broken_rule_is_answered_and_an_end_without_one_is_not(connect: Connect, is_lost: bool) -> None:
    app = Echo()
    line = connect(app)
    await line.opened()
    if is_lost:
        line.transport.abort()
    else:
        line.transport.send(frame(TEXT, b"not masked", masked=False))
    await passes()
    assert app.end["code"] == (1006 if is_lost else 1002)
    assert line.transport.take_all()[2:4] == (b"" if is_lost else (1002).to_bytes(2, "big"))
    assert line.transport.ended is not is_lost


@pytest.mark.parametrize("last", [frame(3, b"reserved"), close(1000)], ids=["fault", "close"])
async def test_a_message_is_answered_although_the_end_comes_in_the_same_pass(connect: Connect, last: bytes):
    line = connect(app := Echo())
    await line.opened()

    line.transport.send(text("hello"))
    line.transport.send(last)  # as two frames of HTTP/2, or two records of TLS, that came together
    await passes()

    sent = line.transport.take_all()
    assert sent.startswith(from_server(TEXT, b"hello"))
    assert sent[7] & 0x0F == CLOSE
    assert app.heard == ["hello"]
