"""Applications that know that their client has gone, and have not ended yet."""

from __future__ import annotations

from collections import deque

from fairway.asgi.http import HttpExchange
from fairway.server.context import ServerContext


class Leaving:
    """The leaving applications of one connection. They may outlive it."""

    __slots__ = ("_context", "_exchanges")

    def __init__(self, context: ServerContext) -> None:
        self._context = context
        self._exchanges: deque[tuple[float, HttpExchange]] | None = None  # an empty one takes 760 bytes

    def add(self, exchange: HttpExchange) -> float:
        """This application was told just now. Returns when to call `judge`."""
        deadline = self._context.touch() + self._context.limits.disconnect_timeout
        if self._exchanges is None:
            self._exchanges = deque()
        self._exchanges.append((deadline, exchange))
        return deadline

    def judge(self, now: float) -> float | None:
        """Cancel the applications whose time is up. Returns when to call this again, or None."""
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
        """Forget all: they have ended."""
        self._exchanges = None
