"""The base class of middlewares, and how an ASGI application enters the next one (`fairway.entering`)."""

from __future__ import annotations

from typing import Any

from fairway.entering import Application, Receive, Scope, Send, TailCalling, copy_of, enter_application, stands_for

__all__ = [
    "Application",
    "BaseMiddleware",
    "Receive",
    "Scope",
    "Send",
    "TailCalling",
    "copy_of",
    "enter_application",
    "stands_for",
]


class BaseMiddleware:
    """Wraps the application `inner`; one instance serves all connections, so it keeps no state of one.

    Subclasses override `__call__`, change a copy of the scope, and end with `super().__call__(...)`.
    """

    def __init__(self, inner: Application) -> None:
        self.inner = inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> Any:
        entered = enter_application(self.inner, copy_of(scope), receive, send)
        del scope, receive, send
        return await entered
