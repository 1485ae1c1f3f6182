"""Conversations of a WebSocket over a stream that a peer makes as hard as it may, or harder."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import hpack
import pytest
from tests.fairway.server.http2.conftest import Connect
from tests.fairway.server.http2.line import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    RST_STREAM,
    SETTINGS,
    Line,
    ask,
    frame,
    passes,
    window,
)

from fairway.delivery import Payload
from fairway.protocols.http2 import ErrorCode
from fairway.server.websocket.connection import WebSocketConnection

PADDED = 8
TEXT, CLOSE = 0x81, 0x88
HELLO = b"\x81\x05hello"
CONNECT = [
    (b":method", b"CONNECT"),
    (b":protocol", b"websocket"),
    (b":scheme", b"http"),
    (b":path", b"/chat"),
    (b":authority", b"a"),
    (b"sec-websocket-version", b"13"),
]


def block(*fields: tuple[bytes, bytes]) -> bytes:
    return hpack.Encoder().encode([hpack.NeverIndexedHeaderTuple(*field) for field in fields])


def handshake(stream: int, *fields: tuple[bytes, bytes], without: bytes = b"") -> bytes:
    fields = (*(field for field in CONNECT if field[0] != without), *fields)
    return frame(HEADERS, END_HEADERS, stream, block(*fields))


def message(payload: bytes = b"hello", opcode: int = TEXT) -> bytes:
    """A frame of a client, whose mask changes nothing."""
    return bytes((opcode, 0x80 | len(payload))) + bytes(4) + payload


def data(stream: int, payload: bytes, flags: int = 0, padding: int = 0) -> bytes:
    if padding:
        flags |= PADDED
        payload = bytes((padding,)) + payload + bytes(padding)
    return frame(DATA, flags, stream, payload)


def reset(stream: int, code: ErrorCode = ErrorCode.CANCEL) -> bytes:
    return frame(RST_STREAM, 0, stream, code.to_bytes(4, "big"))


def first_window(size: int) -> bytes:
    return frame(SETTINGS, 0, 0, b"\0\4" + size.to_bytes(4, "big"))


class Echo:
    """Answers what it gets, and notes how each conversation ends."""

    def __init__(self) -> None:
        self.ends: list[tuple[int, str]] = []
        self.may_accept = asyncio.Event()
        self.may_accept.set()
        self.errors: list[BaseException] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await self._serve(scope, receive, send)
        except BaseException as error:
            self.errors.append(error)
            raise

    async def _serve(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": b"over HTTP"})
            return
        assert (await receive())["type"] == "websocket.connect"
        await self.may_accept.wait()
        await send({"type": "websocket.accept"})
        while (event := await receive())["type"] == "websocket.receive":
            if event["text"] == "close":
                await send({"type": "websocket.close", "code": 4000, "reason": "as you like"})
            else:
                await send({"type": "websocket.send", "text": event["text"]})
        self.ends.append((event["code"], event["reason"]))


@pytest.fixture
async def app() -> Echo:
    return Echo()


@pytest.fixture
async def line(app: Echo, connect: Connect) -> Line:
    """With two WebSockets, on the streams 1 and 3."""
    line = connect(app)
    line.send(handshake(1) + handshake(3))
    await passes()
    assert [kind for kind, _, _, _ in line.take()] == [HEADERS, HEADERS]
    return line


async def said(line: Line) -> list[tuple[int, int, int, bytes]]:
    await passes()
    return line.take()


async def still_served(line: Line, stream: int = 3) -> bool:
    line.send(data(stream, message()))
    return await said(line) == [(DATA, 0, stream, HELLO)]


# How it ends ------------------------------------------------------------------------------------------------------


async def test_the_side_of_the_peer_ends_without_a_close(line: Line, app: Echo) -> None:
    line.send(data(1, b"", END_STREAM))
    assert await said(line) == [(DATA, END_STREAM, 1, b"")]
    assert app.ends == [(1006, "connection lost")]
    assert list(line.connection.protocol.streams) == [3]
    assert await still_served(line)
    assert line.context.counters.faults == 0


async def test_close_and_end_come_in_one_padded_frame(line: Line, app: Echo) -> None:
    line.send(data(1, message(b"\x03\xe8bye", CLOSE), END_STREAM, padding=200))
    assert await said(line) == [(DATA, 0, 1, b"\x88\x02\x03\xe8"), (DATA, END_STREAM, 1, b"")]
    assert app.ends == [(1000, "bye")]
    assert list(line.connection.protocol.streams) == [3]


@pytest.mark.parametrize("answer", [reset(1), data(1, b"", END_STREAM)])
async def test_our_close_is_not_answered_with_one(line: Line, app: Echo, answer: bytes) -> None:
    line.send(data(1, message(b"close")))
    assert await said(line) == [(DATA, 0, 1, b"\x88\x0d\x0f\xa0as you like")]
    line.send(answer)
    assert [one for one in await said(line) if one[0] == RST_STREAM] == []
    assert app.ends == [(4000, "as you like")]
    assert list(line.connection.protocol.streams) == [3]
    assert line.context.counters.faults == 0


async def test_a_reset_meets_the_answer_to_the_handshake(
    app: Echo, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="fairway.server")
    line = connect(app)
    app.may_accept.clear()
    line.send(handshake(1) + handshake(3))
    await passes()
    # The application runs in the next pass, before its connection is told.
    app.may_accept.set()
    line.send(reset(1))
    assert [one[:3] for one in await said(line)] == [(HEADERS, END_HEADERS, 3)]
    assert (app.ends, app.errors, caplog.messages) == ([(1006, "connection lost")], [], [])
    assert await still_served(line)


# What does not belong there ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sample", "reason"),
    [
        (frame(HEADERS, END_HEADERS | END_STREAM, 1, block((b"x", b"y"))), "HEADERS in a tunnel: RFC 9113 section 8.5"),
        (handshake(1), "HEADERS in a tunnel: RFC 9113 section 8.5"),
        (frame(HEADERS, 0, 1) + frame(CONTINUATION, END_HEADERS, 1), "HEADERS in a tunnel: RFC 9113 section 8.5"),
        (window(1, 0), "WINDOW_UPDATE of 0: RFC 9113 section 6.9"),
        (window(1, 2**31 - 1), "a window above 2^31-1: RFC 9113 section 6.9.1"),
    ],
)
async def test_a_frame_that_a_tunnel_does_not_carry_ends_it_and_no_other(
    line: Line, app: Echo, caplog: pytest.LogCaptureFixture, sample: bytes, reason: str
) -> None:
    line.send(data(1, message()) + sample)
    reset_frame, *_ = [one for one in await said(line) if one[0] == RST_STREAM]
    assert reset_frame[2] == 1
    assert app.ends == [(1006, "connection lost")]
    assert reason in caplog.text
    assert await still_served(line)


@pytest.mark.parametrize("missing", [b":path", b":scheme", b":authority"])
async def test_a_handshake_that_lacks_something_is_reset_and_another_is_served(
    line: Line, app: Echo, missing: bytes
) -> None:
    line.send(handshake(5, without=missing) + handshake(7))
    first, second = await said(line)
    assert first == (RST_STREAM, 0, 5, ErrorCode.PROTOCOL_ERROR.to_bytes(4, "big"))
    assert second[:3] == (HEADERS, END_HEADERS, 7)
    assert await still_served(line, 7)


async def test_a_peer_that_goes_away_may_still_ask(line: Line) -> None:
    line.send(frame(GOAWAY, 0, 0, bytes(8)) + handshake(5) + ask(7))
    assert sorted(one[:3] for one in await said(line)) == [
        (DATA, END_STREAM, 7),
        (HEADERS, END_HEADERS, 5),
        (HEADERS, END_HEADERS, 7),
    ]
    assert await still_served(line)


# How it is cut, and what it may send ------------------------------------------------------------------------------


async def test_a_message_in_crumbs_with_padding_between_those_of_another(line: Line) -> None:
    crumbs = [data(1, bytes((byte,)), padding=7) + data(3, message()) for byte in message()]
    line.send(b"".join(crumbs))
    answers = await said(line)
    assert (DATA, 0, 1, HELLO) in answers
    assert b"".join(payload for kind, _, stream, payload in answers if (kind, stream) == (DATA, 3)) == HELLO * 11


async def test_windows_become_negative_and_positive_again_while_data_waits(app: Echo, connect: Connect) -> None:
    line = connect(app, 10)
    text = bytes(range(32, 127))
    whole = bytes((TEXT, len(text))) + text
    line.send(handshake(1) + data(1, message(text)) + data(1, message()))
    sent = b""
    for step, expected in [
        (b"", 10),
        (first_window(0), 10),  # the window is -10 now
        (window(1, 9), 10),
        (window(1, 1), 10),
        (window(1, 1), 11),
        (first_window(50), 61),
        (first_window(20), 61),  # -30
        (window(1, 2) + first_window(49), 62),
        (first_window(2**31 - 1 - 100), len(whole + HELLO)),
    ]:
        line.send(step)
        sent += b"".join(one[3] for one in await said(line) if one[0] == DATA)
        assert sent == (whole + HELLO)[:expected]
    assert await still_served(line, 1)


# What is counted --------------------------------------------------------------------------------------------------


async def test_bytes_are_counted_once_with_those_of_the_connection(line: Line) -> None:
    batch = line.context.batch
    received, written = batch.carriers.received, batch.carriers.written
    sample = data(1, message()) + data(3, message())
    line.send(sample)
    await said(line)
    assert batch.carriers.received - received == len(sample)
    assert batch.carriers.written - written == 2 * (9 + len(HELLO))
    assert (batch.received, batch.written) == (0, 0)


async def test_bytes_of_a_broadcast_to_many_are_counted_once(app: Echo, connect: Connect) -> None:
    line = connect(app)
    line.send(b"".join(handshake(stream) for stream in range(1, 81, 2)))
    await said(line)
    batch = line.context.batch
    written = batch.carriers.written
    sockets: Any = [one for one in line.context.connections if isinstance(one, WebSocketConnection)]
    assert batch.fanout.broadcast(batch.fanout.recipients_of(sockets), Payload("hello")) == []
    assert sorted(await said(line)) == [(DATA, 0, stream, HELLO) for stream in range(1, 81, 2)]
    assert batch.carriers.written - written == 40 * (9 + len(HELLO))
    assert (batch.written, batch.fanout.written) == (0, 0)
