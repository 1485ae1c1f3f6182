"""What clients may do wrong over HTTP/2, by accident or on purpose: the answer, one line in the log, a client that can
read why, and others on the connection, or on the server, that are none the worse for it.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import h2.settings
import hpack
import pytest
from h2.errors import ErrorCodes

from fairway.server.http2.connection import Http2Connection
from tests.integration.applications import Connection, Recorder
from tests.integration.conftest import Start
from tests.integration.http2 import Http2Client, connect
from tests.integration.raw import Served, next_pass

WINDOW = h2.settings.SettingCodes.INITIAL_WINDOW_SIZE
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, END_HEADERS = 1, 4
REQUEST = [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"a"), (b":path", b"/")]


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def block(fields: list[tuple[bytes, bytes]]) -> bytes:
    """Fields in a block that leaves no trace in the table."""
    return hpack.Encoder().encode([hpack.NeverIndexedHeaderTuple(*field) for field in fields], huffman=False)


def ask(stream: int, *fields: tuple[bytes, bytes], without: bytes = b"", flags: int = END_STREAM) -> bytes:
    pseudo = [field for field in REQUEST if field[0] != without]
    return frame(HEADERS, END_HEADERS | flags, stream, block([*pseudo, *fields]))


async def hello(connection: Connection, tell: Any) -> None:
    if connection.scope["path"] == "/wait":
        tell("waiting")
        while (await connection.receive())["type"] != "http.disconnect":
            pass
        tell("told")
        return
    event = {"more_body": True}
    while event.get("more_body"):
        event = await connection.receive()
    if event["type"] == "http.request":  # else a flood has ended its connection
        await connection.respond(200, b"hello")


async def served_to(start: Start, **limits: Any) -> tuple[Served, Http2Client, Recorder]:
    app = Recorder(hello)
    served = await start(app, **limits)
    client = await connect(served)
    await client.request()
    return served, client, app


async def settled(served: Served, client: Http2Client) -> None:
    """The bystander is served, and nothing is left behind."""
    bystander = await connect(served)
    assert (await bystander.request()).body == b"hello"
    await bystander.close()
    await client.close()
    await served.idle()
    assert served.tracebacks == 0


# The connection is over ------------------------------------------------------------------------------------------

CONNECTION_FAULTS = {
    "frame too large": (frame(DATA, 0, 3, bytes(16385)), ErrorCodes.FRAME_SIZE_ERROR),
    "SETTINGS of a wrong size": (frame(SETTINGS, 0, 0, bytes(5)), ErrorCodes.FRAME_SIZE_ERROR),
    "SETTINGS on a stream": (frame(SETTINGS, 0, 3), ErrorCodes.PROTOCOL_ERROR),
    "PING of a wrong size": (frame(PING, 0, 0, bytes(7)), ErrorCodes.FRAME_SIZE_ERROR),
    "PING on a stream": (frame(PING, 0, 3, bytes(8)), ErrorCodes.PROTOCOL_ERROR),
    "GOAWAY on a stream": (frame(GOAWAY, 0, 3, bytes(8)), ErrorCodes.PROTOCOL_ERROR),
    "PUSH_PROMISE": (frame(PUSH_PROMISE, 4, 3, bytes(4)), ErrorCodes.PROTOCOL_ERROR),
    "an even stream": (ask(4), ErrorCodes.PROTOCOL_ERROR),
    "DATA on an idle stream": (frame(DATA, 0, 9, b"x"), ErrorCodes.PROTOCOL_ERROR),
    "HEADERS inside a block": (frame(HEADERS, END_STREAM, 5, block(REQUEST)) + ask(7), ErrorCodes.PROTOCOL_ERROR),
    "CONTINUATION of nothing": (frame(CONTINUATION, END_HEADERS, 5), ErrorCodes.PROTOCOL_ERROR),
    "index 0": (frame(HEADERS, 5, 5, b"\x80"), ErrorCodes.COMPRESSION_ERROR),
    "index beyond the table": (frame(HEADERS, 5, 5, b"\xff\x00"), ErrorCodes.COMPRESSION_ERROR),
    "window update of 0": (frame(WINDOW_UPDATE, 0, 0, bytes(4)), ErrorCodes.PROTOCOL_ERROR),
    "window too large": (frame(WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff"), ErrorCodes.FLOW_CONTROL_ERROR),
    "initial window too large": (
        frame(SETTINGS, 0, 0, b"\x00\x04\xff\xff\xff\xff"),
        ErrorCodes.FLOW_CONTROL_ERROR,
    ),
}


@pytest.mark.parametrize(("data", "code"), CONNECTION_FAULTS.values(), ids=CONNECTION_FAULTS)
async def test_the_client_reads_why_its_connection_ends(start: Start, data: bytes, code: int) -> None:
    served, client, app = await served_to(start)
    waiting = await client.ask(path=b"/wait")
    assert (waiting, await app.seen()) == (3, "waiting")

    await client.send(data)

    [(sent, _)] = await client.end()
    assert sent == code
    assert await app.seen() == "told"
    assert len(served.log) == 1
    assert "RFC " in served.log[0]
    assert f"closed with {int(code)}" in served.log[0]
    await settled(served, client)


async def test_a_first_frame_that_is_not_settings(start: Start) -> None:
    served = await start(Recorder(hello))
    client = Http2Client(await served.connect())
    await client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(PING, 0, 0, bytes(8)))
    assert [code for code, _ in await client.end()] == [ErrorCodes.PROTOCOL_ERROR]
    await settled(served, client)


async def test_a_preface_that_breaks_off(start: Start) -> None:
    served = await start(Recorder(hello), request_head_timeout=0.05)
    client = Http2Client(await served.connect())
    await client.send(b"PRI * HTTP/2.0\r\n\r\nSM")
    assert [code for code, _ in await client.end(answers=False)] == [ErrorCodes.PROTOCOL_ERROR]
    assert "request head not complete in time" in served.log[0]
    await settled(served, client)


# One stream is over ----------------------------------------------------------------------------------------------

STREAM_FAULTS = {
    "upper case": [(b"X-Upper", b"1")],
    "empty name": [(b"", b"1")],
    "line feed in a value": [(b"x", b"a\nb")],
    "NUL in a value": [(b"x", b"a\0b")],
    "space around a value": [(b"x", b" a ")],
    "unknown pseudo-field": [(b":other", b"1")],
    "pseudo-field twice": [(b":path", b"/")],
    "connection": [(b"connection", b"close")],
    "transfer-encoding": [(b"transfer-encoding", b"chunked")],
    "te other than trailers": [(b"te", b"gzip")],
    "host that contradicts": [(b"host", b"b")],
    "content-length without content": [(b"content-length", b"5")],
}


@pytest.mark.parametrize("fields", STREAM_FAULTS.values(), ids=STREAM_FAULTS)
async def test_a_malformed_request_resets_its_stream_and_no_other(start: Start, fields: Any) -> None:
    served, client, app = await served_to(start)
    waiting = await client.ask(path=b"/wait")
    await app.seen()
    number = client.reserve()

    await client.send(ask(number, *fields))

    await client.until(lambda: number in client.resets)
    assert client.resets[number] == ErrorCodes.PROTOCOL_ERROR
    assert not client.answers[waiting].over
    assert len(served.log) == 1
    assert "RFC " in served.log[0]
    await client.reset(waiting)
    assert await app.seen() == "told"
    await settled(served, client)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ([(b"x", b"a" * 70_000)], 431),
        ([(b"x", b"a")] * 101, 431),
        ([(b"cookie", b"a=b; " * 201)], 431),
        ([(b"expect", b"wonders")], 417),
    ],
)
async def test_a_request_that_is_not_served_is_answered_on_its_stream(start: Start, fields: Any, status: int) -> None:
    served, client, _ = await served_to(start)
    for _ in range(2):
        ended = fields[0][0] != b"expect"
        found = await client.answer(await client.ask(headers=fields, ended=ended))
        assert (found.status, found.fields["content-type"]) == (status, "text/plain; charset=utf-8")
    assert (await client.request()).body == b"hello"
    assert f"answered with {status}" in served.log[0]
    await settled(served, client)


async def test_a_plain_connect_is_501(start: Start) -> None:
    served, client, _ = await served_to(start)
    number = client.reserve()
    await client.send(frame(HEADERS, 5, number, block([(b":method", b"CONNECT"), (b":authority", b"a:443")])))
    await client.until(lambda: number in client.raw_heads)
    assert client.raw_heads[number][b":status"] == b"501"
    await settled(served, client)


@pytest.mark.slow
async def test_more_streams_than_allowed_are_refused(start: Start) -> None:
    served, client, app = await served_to(start, http2_max_streams=3)
    for _ in range(3):
        await client.ask(path=b"/wait")
        assert await app.seen() == "waiting"
    number = client.reserve()
    await client.send(ask(number))
    await client.until(lambda: number in client.resets)
    assert client.resets[number] == ErrorCodes.REFUSED_STREAM
    await settled(served, client)


async def test_an_application_that_runs_on_keeps_its_place(start: Start) -> None:
    go_on = asyncio.Event()
    running = 0

    async def stubborn(connection: Connection, tell: Any) -> None:
        nonlocal running
        running += 1
        tell("running")
        await go_on.wait()
        running -= 1

    app = Recorder(stubborn)
    served = await start(app, http2_max_streams=3)
    client = await connect(served)
    for count in range(1, 7):
        number = await client.ask()
        assert await app.seen() == "running"
        connection = the_connection(served)
        await client.reset(number)
        while connection.protocol.lingering < count:
            await next_pass()
    refused = client.reserve()
    await client.send(ask(refused))
    await client.until(lambda: refused in client.resets)
    assert (client.resets[refused], running) == (ErrorCodes.REFUSED_STREAM, 6)
    go_on.set()
    while connection.protocol.lingering:
        await next_pass()
    found = await client.request()
    assert found.status == 500  # it answers nothing, but it was called
    await client.close()


# Floods ----------------------------------------------------------------------------------------------------------


def many(count: int, make: Any) -> bytes:
    return b"".join(make(number) for number in range(count))


def rapid_reset(number: int) -> bytes:
    stream = 3 + 2 * number
    return ask(stream) + frame(RST_STREAM, 0, stream, (8).to_bytes(4, "big"))


def made_you_reset(number: int) -> bytes:
    stream = 3 + 2 * number
    return ask(stream, flags=0) + frame(WINDOW_UPDATE, 0, stream, bytes(4))


FLOODS = {
    "rapid reset": many(5000, rapid_reset),
    "resets that we are made to send": many(5000, made_you_reset),
    "PING": many(50_000, lambda number: frame(PING, 0, 0, bytes(8))),
    "SETTINGS": many(20_000, lambda number: frame(SETTINGS)),
    "PRIORITY": many(50_000, lambda number: frame(PRIORITY, 0, 3, b"\0\0\0\0\1")),
    "empty DATA": ask(3, flags=0) + many(50_000, lambda number: frame(DATA, 0, 3)),
    "unknown frames": many(50_000, lambda number: frame(0x77, 0, 0, b"x")),
    "empty CONTINUATION": frame(HEADERS, END_STREAM, 3, block(REQUEST)) + many(50_000, lambda number: frame(9, 0, 3)),
    "window updates": many(50_000, lambda number: frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\1")),
}


@pytest.mark.parametrize("data", FLOODS.values(), ids=FLOODS)
async def test_a_flood_ends_with_a_goaway_that_the_client_reads(start: Start, data: bytes) -> None:
    served, client, _ = await served_to(start)
    assert client.reserve(5000) == 3
    began = time.process_time()
    sending = asyncio.ensure_future(client.send(data))

    gone = await client.end()
    await sending

    assert [code for code, _ in gone] == [ErrorCodes.ENHANCE_YOUR_CALM]
    assert len(served.log) <= 45
    # Not all of it was looked at.
    assert time.process_time() - began < 5.0
    await settled(served, client)


async def test_a_compression_bomb_ends_with_a_goaway(start: Start) -> None:
    served, client, _ = await served_to(start)
    # 4,000 bytes go into the table, and come out again 12,000 times.
    literal = b"\x40\x01x\x7f\xa1\x1e" + b"a" * 4000
    bomb = block(REQUEST) + literal + b"\xbe" * 12_000
    await client.send(frame(HEADERS, 5, 3, bomb[:16384]))
    assert [code for code, _ in await client.end()] == [ErrorCodes.ENHANCE_YOUR_CALM]
    await settled(served, client)


# Time ------------------------------------------------------------------------------------------------------------


def the_connection(served: Served) -> Http2Connection:
    (connection,) = served.context.connections
    assert isinstance(connection, Http2Connection)
    return connection


async def test_9113_6_5_3_settings_that_are_not_acknowledged(start: Start) -> None:
    served = await start(Recorder(hello), settings_timeout=0.05)
    client = Http2Client(await served.connect())
    await client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS))
    assert [code for code, _ in await client.end(answers=False)] == [ErrorCodes.SETTINGS_TIMEOUT]
    assert "settings not acknowledged in time" in served.log[0]
    await settled(served, client)


async def test_a_head_that_does_not_end(start: Start) -> None:
    served, client, _ = await served_to(start, request_head_timeout=0.05)
    await client.send(frame(HEADERS, END_STREAM, 3, block(REQUEST)))
    assert [code for code, _ in await client.end()] == [ErrorCodes.PROTOCOL_ERROR]
    assert "request head not complete in time" in served.log[0]
    await settled(served, client)


async def test_a_slow_body_in_one_frame_is_no_slow_head(start: Start) -> None:
    served, client, _ = await served_to(start, request_head_timeout=0.05)
    number = client.reserve()
    await client.send(ask(number, flags=0) + (10).to_bytes(3, "big") + b"\0\1" + number.to_bytes(4, "big") + b"abc")
    connection = the_connection(served)
    while connection.wheel_slot is None:
        await next_pass()
    connection.handle_deadline(served.context.touch() + 1.0)
    await client.send(b"defghij")
    await client.until(lambda: number in client.raw_heads)
    assert client.raw_heads[number][b":status"] == b"200"
    assert served.log == []


async def test_a_window_that_stays_closed_cancels_its_stream_and_no_other(start: Start) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        if connection.scope["path"] == "/big":
            try:
                await connection.respond(200, bytes(1_000_000))
                await connection.receive()
            finally:
                tell("ended")
            return
        await connection.respond(200, b"hello")

    app = Recorder(handler)
    served = await start(app, write_stall_timeout=20.0)
    client = await connect(served, takes=False, settings={WINDOW: 1000})
    stalled = [await client.ask(path=b"/big") for _ in range(3)]
    await client.until(lambda: all(len(client.answers[number].body) == 1000 for number in stalled))
    assert (await client.request()).body == b"hello"

    connection = the_connection(served)
    connection.handle_deadline(served.context.touch() + 19.0)
    assert not client.answers[stalled[0]].over
    connection.handle_deadline(served.context.touch() + 21.0)

    for number in stalled:
        assert (await client.answer(number)).reset == ErrorCodes.CANCEL
        assert await app.seen() == "ended"
    assert (await client.request()).body == b"hello"
    assert len(served.log) == 3
    assert "client took no data for 20 s" in served.log[0]
    assert served.context.counters.slow_consumers == 3


@pytest.mark.slow
async def test_a_client_that_takes_no_byte_at_all_is_dropped(start: Start) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        try:
            await connection.respond(200, bytes(20_000_000))
        finally:
            tell("ended")

    app = Recorder(handler)
    served = await start(app, write_stall_timeout=0.05)
    client = await connect(served, settings={WINDOW: 2**31 - 1}, receive_buffer=4096)
    client.h2.increment_flow_control_window(2**30)
    client.pause()
    await client.ask()
    assert await app.seen() == "ended"
    await served.idle()
    assert len(served.log) == 1
    assert "client took no data for 0.05 s" in served.log[0]


async def test_a_silent_connection_with_a_request_is_asked_and_dropped(start: Start) -> None:
    served, client, app = await served_to(start, ping_interval=20.0, ping_timeout=5.0)
    await client.ask(path=b"/wait")
    assert await app.seen() == "waiting"
    connection = the_connection(served)
    now = served.context.touch()
    connection.handle_deadline(now + 21.0)
    await client.until(lambda: client.pings == 1)

    connection.watch.heard_at = now  # as if the answer had not come
    connection.watch.asked_at = now + 21.0
    connection.handle_deadline(now + 27.0)

    assert await app.seen() == "told"
    await served.idle()
    assert "client answers no PING: dropped" in served.log[0]


# Limits ----------------------------------------------------------------------------------------------------------


async def test_one_connection_too_many_is_told_over_http_1(start: Start) -> None:
    served, client, _ = await served_to(start, max_connections=1)
    other = await served.connect()
    assert (await other.response()).status == 503
    assert (await client.request()).body == b"hello"


async def test_what_comes_behind_the_response_is_dropped_up_to_a_bound(start: Start) -> None:
    async def early(connection: Connection, tell: Any) -> None:
        await connection.respond(200, b"enough")

    served = await start(Recorder(early), http2_discarded_bytes=100_000)
    client = await connect(served)
    number = await client.ask(b"POST", ended=False)
    await client.until(lambda: client.answers[number].ended)
    assert client.h2.local_flow_control_window(number) == 100_000
    await client.content(number, bytes(90_000))
    assert (await client.request()).body == b"enough"
    assert client.resets == {}


async def test_what_comes_beyond_that_bound_resets_the_stream(start: Start) -> None:
    async def early(connection: Connection, tell: Any) -> None:
        await connection.respond(200, b"enough")

    served = await start(Recorder(early), http2_discarded_bytes=100_000)
    client = await connect(served)
    number = await client.ask(b"POST", ended=False)
    assert (await client.answer(number)).body == b"enough"
    await client.content(number, bytes(99_999), ended=False)
    assert (await client.request()).body == b"enough"
    assert client.resets == {}
    await client.content(number, b"x", ended=False)
    await client.until(lambda: number in client.resets)
    assert client.resets == {number: ErrorCodes.NO_ERROR}
    assert (await client.request()).body == b"enough"
    assert served.log == []


async def test_the_table_of_fields_is_as_large_as_it_is_set(start: Start) -> None:
    served, client, _ = await served_to(start, http2_table_bytes=512)
    assert client.h2.remote_settings.header_table_size == 512
    await client.send(frame(HEADERS, END_HEADERS | END_STREAM, 101, b"\x3f\xe2\x03" + block(REQUEST)))
    await client.until(lambda: client.at_end)
    assert served.log[0].endswith("a table larger than allowed: RFC 7541 section 6.3; closed with 9")


async def test_what_waits_for_one_stream_is_as_much_as_is_set(start: Start) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        await connection.send({"type": "http.response.start", "status": 200, "headers": []})
        for number in range(100):
            sent.append(number)
            await connection.send({"type": "http.response.body", "body": bytes(1000), "more_body": True})

    sent: list[int] = []
    served = await start(Recorder(handler), http2_stream_outbox_bytes=5000)
    client = await connect(served, takes=False, settings={WINDOW: 1000})
    number = await client.ask()
    await client.until(lambda: len(client.answers[number].body) == 1000)
    for _ in range(50):
        await next_pass()
    assert sent == [0, 1, 2, 3, 4, 5]
    await client.reset(number)


@pytest.mark.slow
async def test_one_stalled_stream_among_many_stops_none(start: Start) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        await connection.respond(200, bytes(5_000_000) if connection.scope["path"] == "/big" else b"hello")

    served = await start(Recorder(handler))
    client = await connect(served, takes=False, settings={WINDOW: 40_000})
    stalled = await client.ask(path=b"/big")
    await client.until(lambda: len(client.answers[stalled].body) == 40_000)
    for _ in range(3):
        numbers = [await client.ask() for _ in range(99)]
        for number in numbers:
            assert (await client.answer(number)).body == b"hello"
    # What waits for the stalled one waits once, with its stream.
    assert the_connection(served).outbox.size == 0
