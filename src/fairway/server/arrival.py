"""A socket that was accepted and is no connection yet: something has to be said first.

It counts as a connection from the beginning, for the bound of connections and for a server that stops, and has
`request_head_timeout` for what it has to say. One that is refused (`Refusal`) has nothing to say, and is read until it
has seen its answer.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fairway.server.context import ServerContext

_MOST_DISCARDED = 1 << 16


class Arrival:
    """`step` is called when something has arrived, in the turn of whoever derives from this.

    (`fairway.server.context.Drainable`, `fairway.timing.wheel.Entry`)
    """

    __slots__ = ("_number", "_peer", "_until", "context", "endpoint", "is_open", "wheel_slot")

    kind = "arrival"
    """Of the lines in the log, which are limited by it."""

    def __init__(self, context: ServerContext, accepted: socket.socket) -> None:
        self.wheel_slot: int | None = None
        self.context = context
        self.is_open = True
        self.endpoint = accepted
        self._number = accepted.fileno()  # it is the same when the socket has been wrapped, or could not be
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
        """How many seconds it has."""
        return self.context.limits.request_head_timeout

    def step(self) -> None:
        """Go on, as far as what has arrived allows."""
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
        """Be none of the server's any more; the socket is still open."""
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
        """Nothing is under way that would be worth finishing."""
        self._end()

    def abort(self) -> None:
        self._end()


class Refusal(Arrival):
    """Of a client that is told why, in clear. To be closed with something unread would reset its connection, and it
    would never see why; but it is not read for ever, nor however much it says.
    """

    __slots__ = ("_answer", "_left")

    def __init__(self, context: ServerContext, accepted: socket.socket, answer: bytes) -> None:
        super().__init__(context, accepted)
        self._answer = answer
        self._left = _MOST_DISCARDED

    def begin(self) -> None:
        """Answer, end our side, and wait for the client to end its own."""
        self.context.refusing += 1
        super().begin()
        try:
            self.endpoint.send(self._answer)  # a fresh socket takes it whole
            self.endpoint.shutdown(socket.SHUT_WR)
        except OSError:
            self._end()

    @property
    def patience(self) -> float:
        return self.context.linger_seconds

    def step(self) -> None:
        try:
            size = len(self.endpoint.recv(_MOST_DISCARDED))
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            size = 0
        self._left -= size
        if not size or self._left <= 0:
            self._end()

    def _leave(self) -> None:
        self.context.refusing -= 1
        super()._leave()
