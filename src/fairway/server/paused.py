"""The connections of one event loop whose sockets are not being read, and whether their peers are still there.

A connection that does not read does not see the end of its stream either. It may stay paused for long while an
application takes nothing, and its peer may leave. Then task, scope and descriptor would be kept for nobody. So the
sockets of all paused connections are checked once a second, in one system call.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from fairway.server.transport import Transport
    from fairway.timing.wheel import Entry

LOOK_INTERVAL = 1.0

DISCARD_PAUSE = 0.01
"""Seconds between two reads of data that is thrown away, on a connection that only waits for its peer to close."""

_RESET = getattr(select, "POLLERR", 0) | getattr(select, "POLLHUP", 0)
_FIN = getattr(select, "POLLRDHUP", 0)


class PausedConnection(Protocol):
    """A connection that does not read."""

    def peer_has_left(self, is_reset: bool) -> None:
        """The peer sends nothing beyond what lies unread; or, with `is_reset`, the connection is broken."""


class Paused:
    """The paused connections of one loop. Call everything in that loop only. (`fairway.timing.wheel.Entry`)

    Where the system cannot tell (Windows; macOS shows only resets), an end is seen once reading goes on.
    """

    def __init__(self, now: Callable[[], float], schedule: Callable[[Entry, float], object]) -> None:
        self.wheel_slot: int | None = None
        self._now = now
        self._schedule = schedule
        self._transports: dict[PausedConnection, Transport] = {}

    def add(self, connection: PausedConnection, transport: Transport) -> None:
        """The connection has stopped reading from this transport."""
        self._transports[connection] = transport
        if self.wheel_slot is None:
            self._schedule(self, self._now() + LOOK_INTERVAL)

    def discard(self, connection: PausedConnection) -> None:
        """The connection reads again, or is lost. Does nothing if it is not here."""
        self._transports.pop(connection, None)

    def handle_deadline(self, now: float) -> float | None:
        """Tell connections whose peers have left, once each."""
        for connection, events in self._ended():
            self._transports.pop(connection, None)
            connection.peer_has_left(bool(events & _RESET))
        return now + LOOK_INTERVAL if self._transports else None

    def _ended(self) -> list[tuple[PausedConnection, int]]:
        if not hasattr(select, "poll"):
            return []
        poll, watched = select.poll(), {}
        for connection, transport in self._transports.items():
            # The number of a closing socket may belong to another one by now. A transport without a socket, such as a
            # stream, learns of the end by itself.
            endpoint = transport.get_extra_info("socket") if not transport.is_closing() else None
            if endpoint is not None:
                number = endpoint.fileno()
                poll.register(number, _FIN)
                watched[number] = connection
        return [(watched[number], events) for number, events in poll.poll(0)]
