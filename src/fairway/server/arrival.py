"""An accepted socket that is not a connection yet, because something has to happen first.

For the bound of connections, and for a server that stops, it counts as a connection from the beginning. It has
`request_head_timeout` to become one. A socket that is refused (`fairway.server.refusal`) never does.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fairway.server.context import ServerContext


class Arrival:
    """Calls `step` when something has arrived; subclasses may make it wait for its turn.

    (`fairway.server.context.Drainable`, `fairway.timing.wheel.Entry`)
    """

    __slots__ = ("_number", "_peer", "_until", "context", "endpoint", "is_open", "wheel_slot")

    kind = "arrival"
    """The kind of its log lines. The number of lines of each kind is limited."""

    def __init__(self, context: ServerContext, accepted: socket.socket) -> None:
        self.wheel_slot: int | None = None
        self.context = context
        self.is_open = True
        self.endpoint = accepted
        self._number = accepted.fileno()  # stays the same when the socket is wrapped, even if that fails
        self._peer: Any = None
        self._until = 0.0

    def begin(self) -> None:
        """Wait for the first bytes."""
        context = self.context
        context.add(self)
        self._until = context.touch() + self.patience
        context.schedule(self, self._until)
        self._watch()

    @property
    def patience(self) -> float:
        """How many seconds it may take."""
        return self.context.limits.request_head_timeout

    def step(self) -> None:
        """Make as much progress as the received data allows."""
        raise NotImplementedError

    def _ready(self) -> None:
        self.step()

    def _watch(self) -> None:
        self.context.loop.add_reader(self._number, self._ready)

    def _watch_for_room(self) -> None:
        self.context.loop.add_writer(self._number, self._ready)

    def _unwatch(self) -> None:
        loop = self.context.loop
        loop.remove_reader(self._number)
        loop.remove_writer(self._number)

    def _leave(self) -> None:
        """Leave the server's books. The socket stays open."""
        self.is_open = False
        self._unwatch()
        self.context.wheel.cancel(self)
        self.context.remove(self)

    def _end(self) -> None:
        if self.is_open:
            self._leave()
            self.endpoint.close()

    def _fail(self, text: str) -> None:
        client = self._peer[:2] if isinstance(self._peer, tuple) else None
        self.context.fault(self.kind, {"client": client, "path": "-"}, text)
        self._end()

    def _out_of_time(self) -> None:
        self._end()

    def handle_deadline(self, now: float) -> float | None:
        if now < self._until:
            return self._until
        if self.is_open:
            self._out_of_time()
        return None

    def drain(self) -> None:
        """End at once: nothing is in progress that would be worth finishing."""
        self._end()

    def abort(self) -> None:
        self._end()
