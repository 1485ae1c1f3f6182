"""The base class of middlewares, and the helpers of `fairway.asgi.calling` that call the next application."""

from __future__ import annotations

from typing import Any

from fairway.asgi.calling import TailCall, copy_of, enter_application, note_alias
from fairway.asgi.types import Application, Receive, Scope, Send

__all__ = [
    "Application",
    "BaseMiddleware",
    "Receive",
    "Scope",
    "Send",
    "TailCall",
    "copy_of",
    "enter_application",
    "note_alias",
]


class BaseMiddleware:
    """Wraps the application `inner`. One instance serves all connections, so it must not keep state of a connection.

    Subclasses override `__call__`, change a copy of the scope, and end with `super().__call__(...)`.
    """

    def __init__(self, inner: Application) -> None:
        self.inner = inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> Any:
        entered = enter_application(self.inner, copy_of(scope), receive, send)
        del scope, receive, send
        return await entered
