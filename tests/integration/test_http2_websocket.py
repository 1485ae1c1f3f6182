"""Handshakes of WebSockets over HTTP/2 (RFC 8441) that are refused, and a stream that stalls among others."""

from __future__ import annotations

import asyncio
from typing import Any

import h2.settings

from fairway.asgi.errors import ConnectionClosed
from tests.integration import http2
from tests.integration.applications import Connection, Recorder
from tests.integration.conftest import Start
from tests.integration.raw import DEADLINE, TEXT, frame, next_pass

VERSION = (b"sec-websocket-version", b"13")


async def accepting(connection: Connection, tell: Any) -> None:
    await connection.accept()
    tell(await connection.receive())


async def ask(client: http2.Http2Client, *fields: tuple[bytes, bytes], ended: bool = False) -> int:
    await client.until(lambda: h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS in client.h2.remote_settings)
    number: int = client.h2.get_next_available_stream_id()
    client.answers[number] = http2.Answer()
    pseudo = [(b":method", b"CONNECT"), (b":protocol", b"websocket"), (b":scheme", b"http")]
    client.h2.send_headers(number, [*pseudo, (b":path", b"/chat"), (b":authority", b"a"), *fields], end_stream=ended)
    await client.flush()
    return number


async def refused(client: http2.Http2Client, *fields: tuple[bytes, bytes], ended: bool = False) -> http2.Answer:
    return await client.answer(await ask(client, *fields, ended=ended))


async def test_another_version_is_400_and_told_which(start: Start) -> None:
    served = await start(Recorder(accepting))
    answer = await refused(await http2.connect(served), (b"sec-websocket-version", b"12"))
    assert (answer.status, answer.fields["sec-websocket-version"]) == (400, "13")
    assert answer.body == b"the version is not 13 (RFC 6455 section 4.4)\n"
    assert served.log[-1].endswith("/chat: the version is not 13 (RFC 6455 section 4.4); answered with 400")
    assert served.websockets == []


async def test_a_handshake_that_ends_its_side_is_400(start: Start) -> None:
    served = await start(Recorder(accepting))
    answer = await refused(await http2.connect(served), VERSION, ended=True)
    assert answer.status == 400
    assert b"the client has ended its side with the handshake" in answer.body


async def test_websockets_of_one_socket_count_as_connections_and_the_first_one_with_its_socket(start: Start) -> None:
    served = await start(Recorder(accepting), max_connections=2)
    client = await http2.connect(served)
    for _ in range(2):
        number = await ask(client, VERSION)
        await client.until(lambda number=number: client.answers[number].status == 200)  # type: ignore[misc]
    answer = await refused(client, VERSION)
    assert (answer.status, answer.fields["retry-after"]) == (503, "10")
    assert (served.context.counters.refused, served.context.admission.count) == (1, 2)
    assert served.log[-1].endswith("/chat: too many connections; answered with 503")

    await client.reset(number)
    async with asyncio.timeout(DEADLINE):
        while len(served.websockets) > 1:
            await next_pass()
    assert served.context.admission.count == 1
    number = await ask(client, VERSION)
    await client.until(lambda: client.answers[number].status == 200)
    await client.close()
    await served.idle()
    assert served.context.admission.count == 0


async def test_a_socket_at_the_bound_carries_one_websocket_after_the_other(start: Start) -> None:
    served = await start(Recorder(accepting), max_connections=1)
    client = await http2.connect(served)
    for _ in range(3):
        number = await ask(client, VERSION)
        await client.until(lambda number=number: client.answers[number].status == 200)  # type: ignore[misc]
        await client.reset(number)
    assert (served.context.counters.refused, served.log) == (0, [])


async def test_where_they_are_switched_off_none_is_offered(start: Start) -> None:
    served = await start(Recorder(accepting), http2_websocket=False)
    client = await http2.connect(served)
    number = await ask(client, VERSION)
    await client.until(lambda: client.answers[number].over)
    assert client.h2.remote_settings.get(h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL, 0) == 0
    assert client.answers[number].status != 200


async def test_a_stream_that_is_reset_while_its_application_sends(start: Start) -> None:
    async def sending(connection: Connection, tell: Any) -> None:
        await connection.accept()
        try:
            while True:
                await connection.send({"type": "websocket.send", "bytes": bytes(60_000)})
        except ConnectionClosed as error:
            tell(str(error))
        tell(await connection.receive())

    app = Recorder(sending)
    served = await start(app)
    client = await http2.connect(served, takes=False)
    number = await ask(client, VERSION)
    await client.until(lambda: len(client.answers[number].body) == 65535)
    await client.reset(number)
    assert await app.seen() == "the websocket is closed"
    assert (await app.seen())["code"] == 1006
    assert served.log == []


async def test_one_that_takes_nothing_stops_none_of_a_hundred(start: Start) -> None:
    async def flooding(connection: Connection, tell: Any) -> None:
        await connection.accept()
        event = await connection.receive()
        while event["type"] == "websocket.receive":
            for _ in range(10 if event["text"] == "flood" else 1):
                await connection.send({"type": "websocket.send", "text": event["text"] * 4000})
            event = await connection.receive()

    served = await start(Recorder(flooding))
    client = await http2.connect(served, takes=False)
    client.h2.increment_flow_control_window(1 << 24)
    streams = [await ask(client, VERSION) for _ in range(100)]
    stuck, *others = streams
    await client.until(lambda: all(client.answers[number].status == 200 for number in streams))
    await client.content(stuck, frame(TEXT, b"flood"), ended=False)
    await client.until(lambda: len(client.answers[stuck].body) == 65535)
    for number in others:
        await client.content(number, frame(TEXT, b"y"), ended=False)
    await client.until(lambda: all(len(client.answers[number].body) == 4004 for number in others))
    assert max(one.outbox.size for one in served.websockets) < served.context.limits.outbox_high_water + 20_004
    assert served.log == []
