"""A WebSocket with a bound on how much its client may send per second.

A client that sends more is not read for a while. So the kernel's buffers fill (over HTTP/2, its window closes), and the
client has to wait. Nothing is lost, and the consumer gets messages at the allowed rate. A client that exceeds the rate
for `rate_patience` is closed with 1008.

The amounts are checked after each read. Only servers with such a bound use this class; others count nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fairway.asgi.websocket import Phase
from fairway.protocols.websocket.frames import POLICY_VIOLATION
from fairway.protocols.websocket.protocol import State
from fairway.server.limits import Limits
from fairway.server.websocket.connection import WebSocketConnection
from fairway.server.websocket.handshake import Handshake
from fairway.server.websocket.rates import Meter
from fairway.server.wire import Wire

if TYPE_CHECKING:
    from fairway.server.context import ServerContext


def websocket_kind(limits: Limits) -> type[WebSocketConnection]:
    """The class to use for WebSockets with these limits."""
    return MeteredConnection if limits.max_messages_per_second or limits.max_bytes_per_second else WebSocketConnection


class MeteredConnection(WebSocketConnection):
    """A connection that is *held*, which means not read, while its meter says to wait. When the time is over, the wheel
    calls `handle_deadline`, which reads on.
    """

    __slots__ = ("_held_until", "_meter")

    def __init__(self, context: ServerContext, wire: Wire, handshake: Handshake, scope: dict[str, Any]) -> None:
        super().__init__(context, wire, handshake, scope)
        limits = context.limits
        rates = limits.max_messages_per_second, limits.max_bytes_per_second
        self._meter = Meter(rates, limits.rate_burst, context.now)
        self._held_until: float | None = None

    def data_received(self, data: bytes) -> None:
        counters = self._context.counters
        before = counters.messages_received
        super().data_received(data)
        self._spend(counters.messages_received - before, len(data))

    def go_on_reading(self) -> bool:
        """As in the base class, unless the client is held."""
        counters = self._context.counters
        before = counters.messages_received
        is_inflating = super().go_on_reading()
        self._spend(counters.messages_received - before, 0)
        return is_inflating

    def _spend(self, messages: int, size: int) -> None:
        if self.phase is not Phase.OPEN:
            return
        context = self._context
        if self._meter.spend((messages, size), context.touch()):
            context.counters.rate_excesses += 1
            limits = context.limits
            bounds = (limits.max_messages_per_second, "messages"), (limits.max_bytes_per_second, "bytes")
            allowed = " or ".join(f"{most} {what}" for most, what in bounds if most)
            self._fault("rate", f"client sends more than {allowed} a second: it is read more slowly")
        if self.outbox.reading and self._is_full:
            self._pause_reading()

    @property
    def _is_full(self) -> bool:
        return self._is_held or super()._is_full

    @property
    def _is_held(self) -> bool:
        return self.phase is Phase.OPEN and self._meter.wait(self._context.now) > 0

    def _pause_reading(self) -> None:
        if not self._is_held:
            super()._pause_reading()
            return
        self.outbox.pause_reading()
        now = self._context.touch()
        self._held_until = now + self._meter.wait(now)
        self.schedule(self._held_until)

    def handle_deadline(self, now: float) -> float | None:
        """As in the base class. A client whose time of being held is over is read again, or closed."""
        held_until = self._held_until
        if held_until is not None and now >= held_until:
            self._held_until = held_until = None
            since = self._meter.exceeded_since
            if since is not None and now >= since + self._context.limits.rate_patience:
                self._give_up()
            self.resume_reading()
        following = super().handle_deadline(now)
        return min((one for one in (held_until, following) if one is not None), default=None)

    def _give_up(self) -> None:
        core = self._core
        if core is not None and core.state is State.OPEN and self.phase is Phase.OPEN:
            seconds = self._context.limits.rate_patience
            self._take([core.give_up(POLICY_VIOLATION, f"client sent too much for {seconds:g} s")])
