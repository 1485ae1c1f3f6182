"""Applications that were told that their client is gone, and have not ended yet."""

from __future__ import annotations

from collections import deque

from fairway.asgi.http import HttpExchange
from fairway.server.context import ServerContext


class Leaving:
    """Those of one connection. They may outlive it."""

    __slots__ = ("_context", "_exchanges")

    def __init__(self, context: ServerContext) -> None:
        self._context = context
        self._exchanges: deque[tuple[float, HttpExchange]] | None = None  # an empty one takes 760 bytes

    def add(self, exchange: HttpExchange) -> float:
        """It was told just now; when `judge` is to be called."""
        deadline = self._context.touch() + self._context.limits.disconnect_timeout
        if self._exchanges is None:
            self._exchanges = deque()
        self._exchanges.append((deadline, exchange))
        return deadline

    def judge(self, now: float) -> float | None:
        """Cancel those whose time is up; when to look again."""
        exchanges = self._exchanges
        if exchanges is None:
            return None
        while exchanges and (now >= exchanges[0][0] or exchanges[0][1].task is None):
            _, exchange = exchanges.popleft()
            if exchange.task is not None:
                self._context.cancel_hanging(exchange.task, exchange.scope)
        if exchanges:
            return exchanges[0][0]
        self._exchanges = None
        return None

    def clear(self) -> None:
        """All of them have ended."""
        self._exchanges = None
