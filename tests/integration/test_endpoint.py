"""Sockets that share broadcasts are written past their transport: whose descriptor it is, and until when."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

import pytest

from fairway.delivery import Payload
from fairway.server.websocket import WebSocketDriver
from tests.integration.conftest import Start
from tests.integration.raw import DEADLINE, TEXT, Client, Served


async def accepting(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass


async def connected(start: Start) -> tuple[Served, Client, WebSocketDriver]:
    served = await start(accepting)
    client = await served.connect()
    await client.open()
    (driver,) = served.context.connections
    assert isinstance(driver, WebSocketDriver)
    return served, client, driver


async def test_a_broadcast_goes_to_the_socket_itself(start: Start) -> None:
    _, client, driver = await connected(start)
    assert driver.outbox._endpoint is None
    driver.broadcast(Payload("one"))
    assert await client.frame() == (TEXT, b"one")
    endpoint = driver.outbox._endpoint
    assert endpoint is not None
    assert endpoint.fileno() == driver._transport.get_extra_info("socket").fileno()  # type: ignore[union-attr]
    driver.send_text("two")
    assert await client.frame() == (TEXT, b"two")
    assert driver.outbox._endpoint is endpoint


async def test_what_the_socket_does_not_take_follows_in_order(start: Start) -> None:
    _, client, driver = await connected(start)
    texts = []
    while not driver.outbox.blocked or len(texts) % 5:
        texts.append(str(len(texts) % 10) * 60_000)
        driver.broadcast(Payload(texts[-1]))
        await asyncio.sleep(0)
    assert [(await client.frame())[1].decode() for _ in texts] == texts
    assert driver.is_open


@pytest.mark.parametrize(
    "end",
    [
        pytest.param(lambda client, driver: client.reset(), id="client resets"),
        pytest.param(lambda client, driver: client.writer.close(), id="client closes"),
        pytest.param(lambda client, driver: driver.abort(), id="server aborts"),
        pytest.param(lambda client, driver: driver.drain(), id="server closes"),
    ],
)
async def test_it_is_let_go_before_the_transport_closes_the_descriptor(
    start: Start, monkeypatch: pytest.MonkeyPatch, end: Callable[[Client, WebSocketDriver], None]
) -> None:
    served, client, driver = await connected(start)
    driver.broadcast(Payload("one"))
    await client.frame()
    endpoint = driver.outbox._endpoint
    assert endpoint is not None
    number, found = endpoint.fileno(), os.fstat(endpoint.fileno())
    at_the_end: list[tuple[int, bool]] = []
    connection_lost = WebSocketDriver.connection_lost

    def observed(self: WebSocketDriver, exc: Exception | None) -> None:
        connection_lost(self, exc)
        at_the_end.append((endpoint.fileno(), os.path.sameopenfile(number, number) and os.fstat(number) == found))

    monkeypatch.setattr(WebSocketDriver, "connection_lost", observed)
    end(client, driver)
    if not client.writer.is_closing():
        client.writer.close()
    async with asyncio.timeout(DEADLINE):
        await served.context.wait_no_connections()
    # Detached, while the descriptor is still the connection's: so neither closes what belongs to somebody else.
    assert at_the_end == [(-1, True)]
    assert driver.outbox._endpoint is None
    driver.broadcast(Payload("late"))
    await asyncio.sleep(0)
    assert driver.outbox._endpoint is None
