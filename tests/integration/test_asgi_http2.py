"""What only HTTP/2 has of the ASGI conversation of a request: many at once, windows, and how a connection goes."""

from __future__ import annotations

import asyncio
from typing import Any

import h2.errors
import h2.settings
import pytest

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


@pytest.mark.slow
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


@pytest.mark.slow
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


# The client leaves -----------------------------------------------------------------------------------------------


@pytest.mark.slow
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


# Stopping --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
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


@pytest.mark.slow
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
