"""How storms of new connections are accepted while requests are under way."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from fairway.server.config import Config
from fairway.server.listener import Server
from tests.integration.raw import DEADLINE, next_pass

STORM = 48


class Site:
    """Answers with nothing, and notes at which port it was asked; the request for /open stays under way."""

    def __init__(self) -> None:
        self.asked_at: list[int] = []
        self.is_open = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/open":
            self.is_open.set()
            while (await receive())["type"] != "http.disconnect":
                pass
            return
        self.asked_at.append(scope["server"][1])
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})


class FewestOfAll:
    """Other workers have more connections than this one. (`fairway.server.listener.Sharing`)"""

    def room(self, connections: int) -> int:
        return 1000

    def has(self, connections: int) -> None:
        pass


def client(port: int, path: str) -> socket.socket:
    """Connects to the backlog and asks, without waiting for anything."""
    endpoint = socket.create_connection(("127.0.0.1", port))
    endpoint.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    return endpoint


@asynccontextmanager
async def storm(site: Site, sockets: int, **options: Any) -> AsyncIterator[list[int]]:
    """So many sockets that listen, each with a storm in front of it, beside an open request. Gives their ports."""
    config = Config(port=0, lifespan="off")
    listening = [one for _ in range(sockets) for one in config.bind()]
    server = Server(site, config, **options)
    await server.start(listening)
    ports = [one.getsockname()[1] for one in listening]
    clients = [client(ports[0], "/open")]
    try:
        async with asyncio.timeout(DEADLINE):
            await site.is_open.wait()
            clients += [client(port, "/") for port in ports for _ in range(STORM)]
            yield ports
    finally:
        for one in clients:
            one.close()
        await server.stop(1.0)
        for one in listening:
            one.close()


@pytest.mark.slow
async def test_a_storm_at_one_socket_does_not_keep_the_others_from_accepting() -> None:
    site = Site()
    async with storm(site, 3) as ports:
        while len(site.asked_at) < 3 * STORM:
            await next_pass()
    assert set(site.asked_at[:STORM]) == set(ports)


@pytest.mark.slow
async def test_a_worker_that_leaves_passes_to_requests_does_not_leave_its_turn_to_other_workers() -> None:
    site = Site()
    passes = 0
    async with storm(site, 1, sharing=FewestOfAll()):
        while len(site.asked_at) < STORM:
            passes += 1
            await next_pass()
    # At worst one connection in every third pass, and its request takes some. A turn would last for hundreds of passes.
    assert passes < 3 * STORM + 50
