"""The ASGI conversation of a WebSocket, case by case: what the wire shows and what the application sees."""

from __future__ import annotations

import asyncio
import zlib
from typing import Any

import pytest
import websockets
from websockets.asyncio.client import connect

from fairway.asgi.errors import ConnectionClosed, ProtocolMisuse
from tests.integration.applications import Connection, Recorder
from tests.integration.conftest import Start, over_http2_too
from tests.integration.raw import BINARY, CLOSE, DEADLINE, HANDSHAKE, PING, PONG, TEXT, Client, Served, frame, next_pass

pytestmark = over_http2_too

NORMAL = (1000).to_bytes(2, "big")


async def echo(connection: Connection, tell: Any) -> None:
    await connection.accept()
    while (event := await connection.receive())["type"] == "websocket.receive":
        await connection.send({**event, "type": "websocket.send"})
    tell(event)


async def opened(start: Start, app: Recorder, handshake: bytes = HANDSHAKE, **limits: Any) -> tuple[Served, Client]:
    served = await start(app, **limits)
    client = await served.connect()
    await client.open(handshake)
    return served, client


# The answer to the handshake -------------------------------------------------------------------------------------


async def test_the_scope_of_a_handshake(start: Start) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        tell(connection.scope)
        await connection.accept()

    app = Recorder(handler)
    handshake = HANDSHAKE.replace(b"/chat", b"/a%20b/%C3%A4?x=1&y").replace(
        b"\r\n\r\n",
        b"\r\nSec-WebSocket-Protocol: one, two\r\nSec-WebSocket-Protocol: three\r\nX-A: 1\r\nx-a: 2\r\n\r\n",
    )
    served, client = await opened(start, app, handshake)

    scope = await app.seen()
    assert scope["type"] == "websocket"
    assert scope["asgi"] == {"version": "3.0", "spec_version": "2.5"}
    assert scope["http_version"] == ("1.1" if served.gateway is None else "2")
    assert scope["scheme"] == "ws"
    assert scope["path"] == "/a b/ä"
    assert scope["raw_path"] == b"/a%20b/%C3%A4"
    assert scope["query_string"] == b"x=1&y"
    assert scope["root_path"] == ""
    assert scope["subprotocols"] == ["one", "two", "three"]
    if served.gateway is None:
        assert scope["client"] == client.writer.get_extra_info("sockname")
        assert scope["server"] == ("127.0.0.1", served.port)
    assert all(type(address[1]) is int for address in (scope["client"], scope["server"]))
    assert scope["headers"][0] == (b"host", b"example.com")
    assert [value for name, value in scope["headers"] if name == b"x-a"] == [b"1", b"2"]
    assert scope["extensions"] == {"websocket.http.response": {}}
    assert "state" not in scope


async def test_subprotocol_and_headers_of_the_accept_reach_the_client(start: Start) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        headers = [(b"set-cookie", b"a=1"), (b"Set-Cookie", b"b=2"), (b"x-first", b"yes")]
        await connection.accept(subprotocol="two", headers=headers)
        tell(await connection.receive())

    app = Recorder(handler)
    served = await start(app)
    async with connect(f"ws://127.0.0.1:{served.port}/", subprotocols=["one", "two"], proxy=None) as client:  # type: ignore[list-item]
        assert client.subprotocol == "two"
        assert client.response is not None
        assert client.response.headers.get_all("set-cookie") == ["a=1", "b=2"]
        assert client.response.headers["x-first"] == "yes"
    assert served.log == []
    assert await app.seen() == {"type": "websocket.disconnect", "code": 1000, "reason": ""}


async def test_a_subprotocol_that_was_not_offered_is_logged(start: Start) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        await connection.accept(subprotocol="mine")

    served, _ = await opened(start, Recorder(handler))
    assert len(served.log) == 1
    assert "accepted subprotocol 'mine', which the client did not offer" in served.log[0]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"headers": [(b"Sec-WebSocket-Protocol", b"a")]}, "pass the subprotocol in subprotocol, not in the headers"),
        ({"headers": [("name", b"value")]}, "expected to be `bytes`"),
        ({"headers": [(b"name", b"a\r\nb: c")]}, "websocket.accept: "),
        ({"subprotocol": b"a"}, "the subprotocol is an ASCII str or None"),
    ],
)
async def test_an_accept_that_is_not_allowed_raises_and_changes_nothing(start: Start, keys: Any, message: str) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        assert (await connection.receive())["type"] == "websocket.connect"
        with pytest.raises(ProtocolMisuse) as raised:
            await connection.send({"type": "websocket.accept", **keys})
        tell(str(raised.value))
        await connection.send({"type": "websocket.accept"})
        await connection.send({"type": "websocket.send", "text": "fine"})

    app = Recorder(handler)
    _, client = await opened(start, app)
    assert message in await app.seen()
    assert await client.frame() == (TEXT, b"fine")


async def test_returning_before_accept_is_500_and_one_line(start: Start) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        await connection.receive()

    served = await start(Recorder(handler))
    client = await served.connect()
    await client.send(HANDSHAKE)
    response = await client.response()
    assert (response.status, response.headers["connection"]) == (500, "close")
    assert await client.at_end()
    assert len(served.log) == 1
    assert served.log[0].endswith("/chat: application returned without answering websocket.connect")
    assert served.tracebacks == 0


async def test_close_before_accept_is_403_and_the_application_sees_1006(start: Start) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        await connection.receive()
        await connection.send({"type": "websocket.close", "code": 4000})
        tell(await connection.receive())
        tell(await connection.receive())
        with pytest.raises(ConnectionClosed):
            await connection.send({"type": "websocket.send", "text": "late"})
        tell("done")

    app = Recorder(handler)
    served = await start(app)
    client = await served.connect()
    await client.send(HANDSHAKE)
    response = await client.response()
    assert (response.status, response.body) == (403, b"")
    assert await client.at_end()
    for _ in range(2):
        event = await app.seen()
        assert (event["type"], event["code"]) == ("websocket.disconnect", 1006)
    assert await app.seen() == "done"
    assert served.log == []


@pytest.mark.parametrize("size", [5, 1_000_000])
async def test_a_denial_response_is_delivered_in_full(start: Start, size: int) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        await connection.receive()
        headers = [(b"www-authenticate", b"Bearer"), (b"content-length", b"%d" % (2 * size))]
        await connection.send({"type": "websocket.http.response.start", "status": 401, "headers": headers})
        with pytest.raises(ProtocolMisuse, match="after the response to the handshake was begun"):
            await connection.send({"type": "websocket.send", "text": "no"})
        await connection.send({"type": "websocket.http.response.body", "body": b"a" * size, "more_body": True})
        await connection.send({"type": "websocket.http.response.body", "body": b"b" * size})
        tell(await connection.receive())

    app = Recorder(handler)
    served = await start(app)
    client = await served.connect()
    await client.send(HANDSHAKE)
    response = await client.response()
    assert response.status == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert response.headers["connection"] == "close"
    assert response.body == b"a" * size + b"b" * size
    assert await client.at_end()
    assert (await app.seen())["code"] == 1006
    assert served.log == []


START_OF_DENIAL = {
    "type": "websocket.http.response.start",
    "status": 401,
    "headers": [(b"content-length", b"10")],
}


def denial_body(body: bytes, more: bool = False) -> dict[str, Any]:
    return {"type": "websocket.http.response.body", "body": body, "more_body": more}


@pytest.mark.parametrize(
    "body", [[], [denial_body(b"short")], [denial_body(b"too long for it", more=True)]], ids=["none", "short", "long"]
)
async def test_9110_8_6_a_denial_that_contradicts_its_length_is_500(start: Start, body: list[Any]) -> None:
    """Its start is held back until its body begins, as that of any response."""

    async def handler(connection: Connection, tell: Any) -> None:
        await connection.receive()
        await connection.send(START_OF_DENIAL)
        for event in body:
            await connection.send(event)

    served = await start(Recorder(handler))
    client = await served.connect()
    await client.send(HANDSHAKE)
    response = await client.response()
    assert response.status == 500
    assert await client.at_end()
    await client.close()
    await served.idle()
    (line,) = served.log
    if body:
        assert served.tracebacks == 1
    else:
        assert line.endswith("/chat: application returned in the middle of its response to the handshake")


@pytest.mark.slow
@pytest.mark.parametrize("sent", [[], [START_OF_DENIAL]], ids=["nothing", "the start of a denial"])
async def test_who_says_no_more_in_time_is_answered_for(start: Start, sent: list[Any]) -> None:
    """A client waits no longer if a response has begun of which it has not been sent anything."""

    async def handler(connection: Connection, tell: Any) -> None:
        await connection.receive()
        for event in sent:
            await connection.send(event)
        tell(await connection.receive())

    served = await start(app := Recorder(handler), connect_timeout=0.05)
    client = await served.connect()
    await client.send(HANDSHAKE)
    response = await client.response()
    assert (response.status, response.body) == (500, b"the application did not answer in time\n")
    assert (await app.seen())["type"] == "websocket.disconnect"
    await client.close()
    await served.idle()
    (line,) = served.log
    assert line.endswith("/chat: application did not answer websocket.connect within 0.05 s")


async def test_a_denial_that_is_not_finished_is_cut(start: Start) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        await connection.receive()
        await connection.send(START_OF_DENIAL)
        await connection.send(denial_body(b"half", more=True))
        await asyncio.sleep(0)

    served = await start(Recorder(handler))
    client = await served.connect()
    await client.send(HANDSHAKE)
    with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
        await client.response()
    await served.idle()
    assert [line.rpartition(": ")[2] for line in served.log] == [
        "application returned in the middle of its response to the handshake"
    ]


async def test_what_the_client_sends_before_the_accept_is_not_lost(start: Start) -> None:
    go_on = asyncio.Event()

    async def handler(connection: Connection, tell: Any) -> None:
        tell(await connection.receive())
        await go_on.wait()
        await connection.send({"type": "websocket.accept"})
        for _ in range(3):
            tell((await connection.receive())["text"])

    app = Recorder(handler)
    served = await start(app)
    client = await served.connect()
    await client.send(HANDSHAKE + frame(TEXT, b"behind the request"))
    await app.seen()
    await client.send(frame(TEXT, b"before the accept"))
    go_on.set()
    assert (await client.response()).status == 101
    await client.send(frame(TEXT, b"after it"))
    assert [await app.seen() for _ in range(3)] == ["behind the request", "before the accept", "after it"]


@pytest.mark.parametrize("how", ["fin", "reset"])
async def test_asgi_disconnect_a_client_that_leaves_before_the_accept_is_1006_at_once(start: Start, how: str) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        tell(await connection.receive())
        for _ in range(2):
            tell(await connection.receive())
        with pytest.raises(ConnectionClosed, match=r"^the websocket is closed$") as raised:
            await connection.send({"type": "websocket.accept"})
        assert isinstance(raised.value, OSError)
        raise raised.value

    app = Recorder(handler)
    served = await start(app)
    client = await served.connect()
    await client.send(HANDSHAKE)
    await app.seen()
    if how == "fin":
        client.writer.write_eof()
        assert await client.at_end()
    else:
        client.reset()
    for _ in range(2):
        event = await app.seen()
        assert (event["type"], event["code"]) == ("websocket.disconnect", 1006)
    await served.idle()
    assert served.log == []
    assert served.tracebacks == 0


# Messages --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("deflate", ["deflate", None])
async def test_messages_of_all_kinds_and_sizes_come_back(start: Start, deflate: str | None) -> None:
    app = Recorder(echo)
    served = await start(app, max_message_bytes=1 << 21, max_frame_bytes=1 << 21)
    messages: list[Any] = ["", b"", "ä€😀", b"\x00\xff", "x" * 125, "y" * 126, b"z" * 70_000, "long " * 300_000]
    url = f"ws://127.0.0.1:{served.port}/"
    async with connect(url, compression=deflate, max_size=None, proxy=None) as client:  # type: ignore[arg-type]
        assert bool(client.protocol.extensions) is (deflate is not None)
        for message in messages:
            await client.send(message)
            assert await client.recv() == message
        await client.send(iter(["in ", "", "fragments"]))  # type: ignore[arg-type]
        assert await client.recv() == "in fragments"
        await client.close(4001, "bye")
    assert await app.seen() == {"type": "websocket.disconnect", "code": 4001, "reason": "bye"}
    assert served.log == []


async def test_a_compression_bomb_is_1009(start: Start) -> None:
    app = Recorder(echo)
    handshake = HANDSHAKE.replace(b"\r\n\r\n", b"\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n")
    served, client = await opened(start, app, handshake, max_message_bytes=10_000)
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = (compressor.compress(bytes(5_000_000)) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]
    assert len(bomb) < 10_000
    await client.send(frame(BINARY, bomb, rsv=4))
    code, reason = await client.close_frame()
    assert (code, reason) == (1009, "message longer than 10000 bytes (RFC 6455 section 7.4.1)")
    assert (await app.seen())["code"] == 1009
    assert len(served.log) == 1


async def test_a_shared_payload_is_written_to_all(start: Start) -> None:
    from fairway.delivery import Payload, connection_of

    async def handler(connection: Connection, tell: Any) -> None:
        await connection.accept()
        tell(connection_of(connection.send))
        tell(await connection.receive())

    app = Recorder(handler)
    served = await start(app)
    clients = [await served.connect() for _ in range(3)]
    connections = []
    for client in clients:
        await client.open()
        connections.append(await app.seen())
    payload = Payload(text="to all")
    for connection in connections:
        connection.broadcast(payload)
    for client in clients:
        assert await client.frame() == (TEXT, b"to all")


@pytest.mark.parametrize(
    ("event", "message"),
    [
        ({"type": "websocket.send", "text": "a", "bytes": b"b"}, "needs exactly one of text and bytes"),
        ({"type": "websocket.send"}, "needs exactly one of text and bytes"),
        ({"type": "websocket.send", "text": b"a"}, "the text of websocket.send is a str, not bytes"),
        ({"type": "websocket.send", "bytes": "a"}, "the bytes of websocket.send are bytes, not str"),
        ({"type": "websocket.nonsense"}, "unknown event 'websocket.nonsense'"),
        ({}, "unknown event None"),
        ({"type": "websocket.accept"}, "websocket.accept is not allowed now: the websocket is open"),
        ({"type": "websocket.http.response.start", "status": 401}, "is not allowed now: the websocket is open"),
        ({"type": "websocket.close", "code": 1006}, "websocket.close: close code 1006 may not be sent"),
        ({"type": "websocket.close", "code": "1000"}, "websocket.close has an int as code"),
        ({"type": "websocket.close", "reason": b"because"}, "and a str as reason"),
    ],
)
async def test_an_event_that_is_not_allowed_raises_and_changes_nothing(start: Start, event: Any, message: str) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        await connection.accept()
        with pytest.raises(ProtocolMisuse) as raised:
            await connection.send(event)
        tell(str(raised.value))
        await connection.send({"type": "websocket.send", "text": None, "bytes": b"fine"})

    app = Recorder(handler)
    _, client = await opened(start, app)
    assert message in await app.seen()
    assert await client.frame() == (BINARY, b"fine")


async def test_sending_before_the_accept_raises(start: Start) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        await connection.receive()
        with pytest.raises(ProtocolMisuse, match=r"websocket\.send before websocket\.accept"):
            await connection.send({"type": "websocket.send", "text": "early"})
        await connection.send({"type": "websocket.accept"})

    await opened(start, Recorder(handler))


async def test_cancelling_a_receive_loses_nothing(start: Start) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        await connection.accept()
        waiting = asyncio.ensure_future(connection.receive())
        await next_pass()
        waiting.cancel()
        tell("cancelled")
        tell((await connection.receive())["text"])

    app = Recorder(handler)
    _, client = await opened(start, app)
    assert await app.seen() == "cancelled"
    await client.send(frame(TEXT, b"still there"))
    assert await app.seen() == "still there"


# Endings ---------------------------------------------------------------------------------------------------------


async def test_returning_after_accept_is_1000(start: Start) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        await connection.accept()

    served, client = await opened(start, Recorder(handler))
    assert await client.close_frame() == (1000, "")
    await client.send(frame(CLOSE, NORMAL))
    assert await client.at_end()
    assert served.log == []


async def test_code_and_reason_of_the_application_reach_the_client_and_come_back(start: Start) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        await connection.accept()
        await connection.send({"type": "websocket.close", "code": 4005, "reason": "because ä"})
        with pytest.raises(ConnectionClosed) as raised:
            await connection.send({"type": "websocket.send", "text": "late"})
        assert isinstance(raised.value, OSError)
        assert isinstance(raised.value, RuntimeError)
        for _ in range(2):
            tell(await connection.receive())

    app = Recorder(handler)
    served, client = await opened(start, app)
    assert await client.close_frame() == (4005, "because ä")
    await client.send(frame(TEXT, b"not seen") + frame(CLOSE, NORMAL))
    assert await client.at_end()
    for _ in range(2):
        assert await app.seen() == {"type": "websocket.disconnect", "code": 4005, "reason": "because ä"}
    assert served.log == []


@pytest.mark.parametrize(
    ("payload", "code", "reason", "answer"),
    [
        ((4001).to_bytes(2, "big") + b"bye", 4001, "bye", (4001).to_bytes(2, "big")),
        (b"", 1005, "", b""),
        ((1001).to_bytes(2, "big"), 1001, "", (1001).to_bytes(2, "big")),
    ],
)
async def test_code_and_reason_of_the_client_reach_the_application(
    start: Start, payload: bytes, code: int, reason: str, answer: bytes
) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        await connection.accept()
        tell(await connection.receive())
        with pytest.raises(ConnectionClosed, match="the websocket is closed"):
            await connection.send({"type": "websocket.send", "text": "late"})
        tell(await connection.receive())

    app = Recorder(handler)
    served, client = await opened(start, app)
    await client.send(frame(CLOSE, payload))
    assert await client.frame() == (CLOSE, answer)
    assert await client.at_end()
    for _ in range(2):
        assert await app.seen() == {"type": "websocket.disconnect", "code": code, "reason": reason}
    await served.idle()
    assert served.log == []


@pytest.mark.parametrize("how", ["fin", "reset"])
async def test_an_end_without_a_close_frame_is_1006(start: Start, how: str) -> None:
    app = Recorder(echo)
    served, client = await opened(start, app)
    if how == "fin":
        client.writer.write_eof()
        assert await client.at_end()
    else:
        client.reset()
    event = await app.seen()
    assert (event["type"], event["code"]) == ("websocket.disconnect", 1006)
    await served.idle()
    assert served.log == []


async def test_closing_in_the_middle_of_a_flood_still_shakes_hands(start: Start) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        await connection.accept()
        await connection.receive()
        await connection.send({"type": "websocket.close", "code": 4000})
        while (event := await connection.receive())["type"] == "websocket.receive":
            pass
        tell(event)

    app = Recorder(handler)
    _, client = await opened(start, app, close_timeout=1000.0)
    await client.send(frame(TEXT, b"again") * 20_000 + frame(CLOSE, NORMAL))
    assert await client.close_frame() == (4000, "")
    assert await client.at_end()
    assert (await app.seen())["code"] == 4000


async def test_the_answer_to_the_last_message_comes_before_the_close(start: Start) -> None:
    app = Recorder(echo)
    _, client = await opened(start, app)
    await client.send(frame(TEXT, b"last") + frame(CLOSE, NORMAL))
    assert await client.frame() == (TEXT, b"last")
    assert await client.close_frame() == (1000, "")
    assert await client.at_end()


# Time ------------------------------------------------------------------------------------------------------------


async def test_a_client_that_answers_its_pings_at_once_stays(start: Start) -> None:
    served, client = await opened(start, Recorder(echo), ping_interval=1000, ping_timeout=1000)
    (connection,) = served.websockets
    for _ in range(5):
        deadline = connection.handle_deadline(served.context.touch())
        assert deadline is not None
        served.context.now = deadline  # far ahead: the clock stands still there
        connection.handle_deadline(deadline)
        opcode, payload = await client.frame()
        assert opcode == PING
        await client.send(frame(PONG, payload))
        for _ in range(20):
            await next_pass()
    await client.send(frame(TEXT, b"here"))
    assert await client.frame() == (TEXT, b"here")
    assert served.log == []


async def test_an_application_that_does_not_end_is_cancelled_with_a_warning(start: Start) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        await connection.accept()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            tell("cancelled")
            raise

    app = Recorder(handler)
    served, client = await opened(start, app, disconnect_timeout=0.05)
    client.reset()
    assert await app.seen() == "cancelled"
    await served.idle()
    assert len(served.log) == 1
    assert "application did not end within 0.05 s after the disconnect: cancelled" in served.log[0]
    assert served.tracebacks == 0
    assert len(served.context.wheel) == 0


async def test_a_peer_that_never_answers_a_close_is_left(start: Start) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        await connection.accept()
        await connection.send({"type": "websocket.close", "code": 4000})
        tell((await connection.receive())["code"])

    app = Recorder(handler)
    served, client = await opened(start, app, close_timeout=0.05)
    assert await client.close_frame() == (4000, "")
    assert await client.at_end()
    assert await app.seen() == 4000
    await served.idle()


async def test_a_peer_that_talks_on_after_its_fault_is_left(start: Start) -> None:
    app = Recorder(echo)
    served, client = await opened(start, app, close_timeout=0.05)
    await client.send(frame(TEXT, b"", masked=False))
    assert (await client.close_frame())[0] == 1002

    async def talk() -> None:
        while True:
            await client.send(b"more")
            await next_pass()

    with pytest.raises(OSError):  # noqa: PT011  # a reset or a broken pipe, as it comes
        async with asyncio.timeout(DEADLINE):
            await talk()
    await served.idle()


@pytest.mark.slow
async def test_a_client_that_takes_nothing_is_left_when_the_time_is_up(start: Start) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        await connection.accept()
        try:
            while True:
                await connection.send({"type": "websocket.send", "bytes": bytes(60_000)})
        except ConnectionClosed as error:
            tell(str(error))
        tell(await connection.receive())

    app = Recorder(handler)
    served = await start(app, write_stall_timeout=0.05)
    client = await served.connect(receive_buffer=4096)
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    await client.send(HANDSHAKE)
    assert await app.seen() == "the websocket is closed"
    assert (await app.seen())["code"] == 1013
    assert len(served.log) == 1
    assert "client took no data for 0.05 s" in served.log[0]


# Stopping --------------------------------------------------------------------------------------------------------


async def test_stopping_closes_with_1001_and_waits_for_the_handshake(start: Start) -> None:
    app = Recorder(echo)
    served, client = await opened(start, app)
    stopping = asyncio.ensure_future(served.server.stop(DEADLINE))
    assert await client.close_frame() == (1001, "server is shutting down")
    assert not stopping.done()
    await client.send(frame(CLOSE, (1001).to_bytes(2, "big")))
    assert await client.at_end()
    await stopping
    assert (await app.seen())["code"] == 1001
    assert served.log == []


@pytest.mark.slow
async def test_a_client_that_does_not_answer_the_close_holds_up_a_stop_for_a_second_only(start: Start) -> None:
    app = Recorder(echo)
    served, client = await opened(start, app, close_timeout=3 * DEADLINE)
    async with asyncio.timeout(DEADLINE):
        await served.server.stop(2 * DEADLINE)
    assert await client.close_frame() == (1001, "server is shutting down")
    assert await client.at_end()
    assert (await app.seen())["code"] == 1001
    assert served.log == []


async def test_a_handshake_under_way_is_accepted_and_then_closed_when_stopping(start: Start) -> None:
    go_on = asyncio.Event()

    async def handler(connection: Connection, tell: Any) -> None:
        tell(await connection.receive())
        await go_on.wait()
        await connection.send({"type": "websocket.accept"})
        tell(await connection.receive())

    app = Recorder(handler)
    served = await start(app)
    client = await served.connect()
    await client.send(HANDSHAKE)
    await app.seen()
    stopping = asyncio.ensure_future(served.server.stop(DEADLINE))
    await next_pass()
    go_on.set()
    assert (await client.response()).status == 101
    assert (await client.close_frame())[0] == 1001
    await client.close()
    await stopping


async def test_websockets_client_sees_a_clean_end(start: Start) -> None:
    async def handler(connection: Connection, tell: Any) -> None:
        await connection.accept()
        await connection.send({"type": "websocket.close", "code": 3000, "reason": "over"})

    served = await start(Recorder(handler))
    async with connect(f"ws://127.0.0.1:{served.port}/", proxy=None) as client:
        with pytest.raises(websockets.ConnectionClosedError) as raised:
            await client.recv()
    assert raised.value.rcvd is not None
    assert (raised.value.rcvd.code, raised.value.rcvd.reason) == (3000, "over")
