"""How many connections to accept from a socket in one pass of the event loop while more are waiting. Pure.

The cost of a connection depends on the application: eight may take one millisecond to set up, or ten. While clients
queue up, every pass accepts some, and everything else in the loop waits for that. So a long pass halves the number, and
a short pass adds one. That helps only if the new connections make the passes long. If the loop is busy with something
else, accepting fewer would only keep clients waiting; hence `LEAST_RATE`.

While a request is under way, shorter passes count as long: a page of Django takes nine or ten passes, most of which do
next to nothing, from its first byte to its answer. That costs a storm of new connections little, because requests end.
"""

from __future__ import annotations

MOST = 8
"""Connections in one pass: about a millisecond if they are cheap. With half as many, 5 % fewer connections are accepted
per second, because each pass has a fixed cost.
"""

LONG_PASS = 0.0025
"""Seconds from which a pass is long. Most clients are answered after three passes, and wait three times as long."""

LONG_BESIDE_REQUESTS = 0.0006
"""The same while requests are under way."""

LEAST_RATE = 1000
"""Connections to accept per second, however long the passes take."""


class AcceptPace:
    """The pace of one listening socket. In each pass call `begin_pass`, accept up to that many connections, and call
    `more_wait` if there were that many.

    Each socket has its own: with one for all, the passes that are left to requests would always be those of the same
    sockets, and a storm at one would keep the others from accepting anything.
    """

    __slots__ = ("_began", "_more", "_most")

    def __init__(self) -> None:
        self._most = MOST
        self._began = 0.0
        self._more = False

    def begin_pass(self, now: float, beside_requests: bool = False) -> int:
        """How many to accept in the pass that begins now: 1 to `MOST`. `now` is in seconds of a monotonic clock.

        `beside_requests` says whether any request is under way.
        """
        took, self._began = now - self._began, now
        if not self._more:
            return self._most  # nobody was waiting, so the time since then does not matter
        self._more = False
        if took > (LONG_BESIDE_REQUESTS if beside_requests else LONG_PASS):
            self._most = max(1, self._most // 2)
        elif self._most < MOST:
            self._most += 1
        return max(self._most, min(MOST, int(took * LEAST_RATE)))

    def more_wait(self) -> None:
        """Note that this pass accepted all it could: more connections may be waiting, for the next pass."""
        self._more = True
