"""Frames are written past the transport, to the socket it was given: whose that is, and until when."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import pytest

from fairway.delivery import Payload
from fairway.server.websocket.connection import WebSocketConnection
from tests.integration.conftest import Start
from tests.integration.raw import DEADLINE, TEXT, Client, Served, next_pass


async def accepting(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass


async def connected(start: Start) -> tuple[Served, Client, WebSocketConnection]:
    served = await start(accepting)
    client = await served.connect()
    await client.open()
    (connection,) = served.context.connections
    assert isinstance(connection, WebSocketConnection)
    return served, client, connection


class Unused:
    """In place of a transport that nothing should be written to."""

    def write(self, data: bytes) -> None:
        raise AssertionError(f"{data!r} went to the transport")


async def test_frames_go_to_the_socket_itself(start: Start) -> None:
    _, client, connection = await connected(start)
    transport, connection.outbox.transport = connection.outbox.transport, Unused()  # type: ignore[assignment]
    connection.broadcast(Payload("one"))
    connection.send_text("two")
    assert [await client.frame() for _ in range(2)] == [(TEXT, b"one"), (TEXT, b"two")]
    assert connection.outbox.endpoint.fileno() == transport.get_extra_info("socket").fileno()  # type: ignore[union-attr]
    connection.outbox.transport = transport


async def test_what_the_socket_does_not_take_follows_in_order(start: Start) -> None:
    _, client, connection = await connected(start)
    texts = []
    while not connection.outbox.blocked or len(texts) % 5:
        texts.append(str(len(texts) % 10) * 60_000)
        connection.broadcast(Payload(texts[-1]))
        await asyncio.sleep(0)
    assert [(await client.frame())[1].decode() for _ in texts] == texts
    assert connection.is_open


@pytest.mark.parametrize(
    "end",
    [
        pytest.param(lambda client, connection: client.reset(), id="client resets"),
        pytest.param(lambda client, connection: client.writer.close(), id="client closes"),
        pytest.param(lambda client, connection: connection.abort(), id="server aborts"),
        pytest.param(lambda client, connection: connection.drain(), id="server closes"),
    ],
)
async def test_after_the_end_nothing_can_be_sent_on_it(
    start: Start, end: Callable[[Client, WebSocketConnection], None]
) -> None:
    served, client, connection = await connected(start)
    endpoint = connection.outbox.endpoint
    assert endpoint is not None
    end(client, connection)
    if not client.writer.is_closing():
        client.writer.close()
    async with asyncio.timeout(DEADLINE):
        await served.context.wait_no_connections()
        assert connection.outbox.endpoint is None
        while endpoint.fileno() >= 0:  # the transport closes it behind `connection_lost`
            await next_pass()
    # So its number, which may be another connection's by now, is out of reach.
    with pytest.raises(OSError, match="Bad file descriptor"):
        endpoint.send(b"late")


async def test_a_socket_that_breaks_under_a_write_ends_the_connection(start: Start) -> None:
    served, client, connection = await connected(start)
    endpoint = connection.outbox.endpoint
    assert endpoint is not None
    endpoint.shutdown(socket.SHUT_WR)
    connection.send_text("into nowhere")
    async with asyncio.timeout(DEADLINE):
        await served.context.wait_no_connections()
    assert not connection.is_open
    await client.close()
