"""ASGI applications for one test each: a handler of one connection, and what it has seen."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from tests.integration.raw import DEADLINE

Handler = Callable[["Connection"], Awaitable[None]]


class Connection:
    """What the application is given for one connection, with shorter names."""

    def __init__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        self.scope = scope
        self.receive = receive
        self.send = send

    async def accept(self, **keys: Any) -> None:
        assert await self.receive() == {"type": "websocket.connect"}
        await self.send({"type": "websocket.accept", **keys})

    async def respond(self, status: int = 200, body: bytes = b"", headers: Any = (), **keys: Any) -> None:
        await self.send({"type": "http.response.start", "status": status, "headers": list(headers), **keys})
        await self.send({"type": "http.response.body", "body": body})

    async def body(self) -> bytes:
        """The whole body of the request."""
        pieces = []
        while True:
            event = await self.receive()
            assert event["type"] == "http.request"
            pieces.append(event["body"])
            if not event["more_body"]:
                return b"".join(pieces)


class Recorder:
    """Runs the handler for each connection; the handler tells the test by `tell` what it saw."""

    def __init__(self, handler: Callable[..., Awaitable[None]]) -> None:
        self._handler = handler
        self._seen: asyncio.Queue[Any] = asyncio.Queue()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            raise NotImplementedError("no lifespan here")
        await self._handler(Connection(scope, receive, send), self.tell)

    def tell(self, what: Any) -> None:
        self._seen.put_nowait(what)

    async def seen(self) -> Any:
        async with asyncio.timeout(DEADLINE):
            return await self._seen.get()


async def answer(connection: Connection, tell: Any) -> None:
    """Answer a request, or accept a WebSocket and stay until its client has left. For a `Recorder`."""
    if connection.scope["type"] == "websocket":
        await connection.accept()
        while (await connection.receive())["type"] == "websocket.receive":
            pass
    else:
        await connection.respond(200, b"fine")
