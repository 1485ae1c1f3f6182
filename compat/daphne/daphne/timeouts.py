"""Daphne's two time limits on an application that Fairway's server has no setting for, as a wrapper around it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

Application = Callable[[Any, Any, Any], Awaitable[None]]


class TooSlowError(Exception):
    """The application has not finished its response in time; the server answers with `asgi_status`, or cuts it off."""

    asgi_status = 503

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds

    def __str__(self) -> str:
        return f"no complete response within {self.seconds:g} s"


class TimeLimits:
    """`application`, given `http_timeout` seconds for a response and `websocket_timeout` for the life of a socket.

    None, and for sockets a negative number, is no limit. A socket whose time is up is closed with 1000, which the
    application sees as a disconnect. `receive` and `send` are handed on as they are.
    """

    def __init__(self, application: Application, http_timeout: float | None, websocket_timeout: float | None) -> None:
        self.application = application
        self.http_timeout = http_timeout
        self.websocket_timeout = None if websocket_timeout is not None and websocket_timeout < 0 else websocket_timeout

    def __call__(self, scope: Any, receive: Any, send: Any) -> Awaitable[None]:
        if scope["type"] == "http" and self.http_timeout is not None:
            return self._respond(self.http_timeout, scope, receive, send)
        if scope["type"] == "websocket" and self.websocket_timeout is not None:
            return self._converse(self.websocket_timeout, scope, receive, send)
        return self.application(scope, receive, send)

    async def _respond(self, seconds: float, scope: Any, receive: Any, send: Any) -> None:
        try:
            async with asyncio.timeout(seconds) as deadline:
                await self.application(scope, receive, send)
        except TimeoutError:
            if not deadline.expired():
                raise
            raise TooSlowError(seconds) from None

    async def _converse(self, seconds: float, scope: Any, receive: Any, send: Any) -> None:
        loop = asyncio.get_running_loop()
        closing: list[asyncio.Task[None]] = []
        timer = loop.call_later(seconds, lambda: closing.append(loop.create_task(_close(send))))
        try:
            await self.application(scope, receive, send)
        finally:
            timer.cancel()
            if closing:
                await closing[0]


async def _close(send: Any) -> None:
    # It may have ended in the same moment.
    with contextlib.suppress(OSError):
        await send({"type": "websocket.close", "code": 1000})
