"""A bound on what all clients of a server together keep in its memory: bodies, messages, and unsent answers.

Each client has bounds of its own, but there may be many clients. With `max_client_memory`, the server adds up about
once a second how much they hold, in steps of a millisecond. If the sum exceeds the bound, the connections that hold
most are dropped until the rest is well below it, and new connections are answered 503 until the next sum
(`Admission.has_memory`). Without that setting, nothing here runs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from fairway.asgi.websocket import TRY_AGAIN_LATER, WebSocketExchange
from fairway.protocols.http2 import Http2Protocol
from fairway.server.http2.connection import Http2Connection

if TYPE_CHECKING:
    from fairway.server.context import Drainable, ServerContext

_INTERVAL = 1.0

ADDED_PER_TICK = 2000
"""How many connections are added up in one step: about a millisecond."""

REASON = "server is short of memory"

_One = TypeVar("_One")


def largest(held: Iterable[tuple[int, _One]], bound: int) -> list[_One]:
    """Which to drop so that the rest hold at most seven eighths of the bound, the largest first. None of them if
    together they hold no more than the bound.
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
    """The running sum of one server. (`fairway.timing.wheel.Entry`)"""

    def __init__(self, context: ServerContext) -> None:
        self.wheel_slot: int | None = None
        self.total = 0
        """The latest sum, in bytes."""
        self._context = context
        self._waiting: list[Drainable] = []
        self._held: list[tuple[int, Drainable]] = []
        self._began_at = context.touch()
        context.schedule(self, self._began_at + _INTERVAL)

    def handle_deadline(self, now: float) -> float:
        """Add up the next connections. After the last one, drop some if necessary."""
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
        context.admission.short_of_memory = self.total > bound
        victims = largest(held, bound)
        if victims:
            context.counters.memory_drops += len(victims)
            text = f"clients hold {self.total} bytes, and may hold {bound}: {len(victims)} that hold most are dropped"
            context.fault("memory", None, text)
        for one in victims:
            if isinstance(one, WebSocketExchange):
                one.ended(TRY_AGAIN_LATER, REASON)  # no Close frame: it would wait behind what the client does not take
            one.abort()


def held_by(connection: Any) -> int:
    """How many bytes this connection keeps in memory. 0 for a socket that is still in a handshake.

    A WebSocket over HTTP/2 is a connection of its own here, and is not part of its HTTP/2 connection's sum.
    """
    if isinstance(connection, Http2Connection):
        protocol = connection.protocol
        return connection.outbox.held_bytes + connection.writer.held + protocol.unread + _incomplete(protocol)
    held: int = getattr(connection, "held_bytes", 0)
    return held


def _incomplete(protocol: Http2Protocol) -> int:
    """How many bytes of an incomplete frame or field block are kept."""
    partial = protocol.heads.partial
    return len(protocol.held or b"") + (0 if partial is None else partial.size)
