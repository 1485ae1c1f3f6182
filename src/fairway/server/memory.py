"""A bound over what all clients of a server have waiting in it: bodies, messages, and answers that they do not take.

Each client has bounds of its own, but there may be many of them. With `max_client_memory` the server adds up what they
hold, about once a second, some of them at a time so that nobody waits for it. While that is more than the bound new
connections are answered 503, and those that hold most are dropped until the rest is well below it. Without it nothing
here runs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from fairway.asgi.websocket import TRY_AGAIN_LATER, WebSocketExchange
from fairway.server.http2.connection import Http2Connection
from fairway.server.http2.stream import RequestStream

if TYPE_CHECKING:
    from fairway.server.context import Drainable, ServerContext

_INTERVAL = 1.0

ADDED_PER_TICK = 2000
"""Connections that are looked at in one go: about a millisecond."""

REASON = "server is short of memory"

_One = TypeVar("_One")


def largest(held: Iterable[tuple[int, _One]], bound: int) -> list[_One]:
    """Whom to drop so that the rest hold at most seven eighths of the bound, the largest first; nobody if all together
    do not hold more than the bound.
    """
    sizes = sorted(held, key=lambda one: one[0], reverse=True)
    total = sum(size for size, _ in sizes)
    if total <= bound:
        return []
    dropped = []
    for size, one in sizes:
        if total <= bound - bound // 8:
            break
        total -= size
        dropped.append(one)
    return dropped


class ClientMemory:
    """Belongs to one server. (`fairway.timing.wheel.Entry`)"""

    def __init__(self, context: ServerContext) -> None:
        self.wheel_slot: int | None = None
        self.is_over = False
        self.total = 0
        """Bytes, when they were last added up."""
        self._context = context
        self._waiting: list[Drainable] = []
        self._held: list[tuple[int, Drainable]] = []
        self._began_at = context.touch()
        context.schedule(self, self._began_at + _INTERVAL)

    def handle_deadline(self, now: float) -> float:
        """Look at some; when all have been looked at, judge."""
        if not self._waiting and not self._held:
            self._began_at = now
            self._waiting = list(self._context.connections)
        some, self._waiting = self._waiting[:ADDED_PER_TICK], self._waiting[ADDED_PER_TICK:]
        self._held += [(size, one) for one in some if (size := held_by(one))]
        if self._waiting:
            return now
        held, self._held = self._held, []
        self._judge(held)
        return self._began_at + _INTERVAL

    def _judge(self, held: list[tuple[int, Drainable]]) -> None:
        context, bound = self._context, self._context.limits.max_client_memory
        self.total = sum(size for size, _ in held)
        self.is_over = self.total > bound
        victims = largest(held, bound)
        if victims:
            context.counters.memory_drops += len(victims)
            text = f"clients hold {self.total} bytes, and may hold {bound}: {len(victims)} that hold most are dropped"
            context.fault("memory", None, text)
        for one in victims:
            if isinstance(one, WebSocketExchange):
                one.ended(TRY_AGAIN_LATER, REASON)  # its Close would wait behind what it does not take
            one.abort()


def held_by(connection: Any) -> int:
    """Bytes that wait in the server because of this client; 0 for what is no connection yet. WebSockets over HTTP/2
    count for themselves.
    """
    if isinstance(connection, Http2Connection):
        waiting = sum(one.outbox.size for one in connection.writer.waiting if isinstance(one, RequestStream))
        return connection.outbox.held_bytes + connection.protocol.unread + waiting
    held: int = getattr(connection, "held_bytes", 0)
    return held
