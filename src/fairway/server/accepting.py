"""How many connections are accepted in a pass of the loop while more are waiting. Pure.

What a connection costs is the application's affair: eight may take one millisecond to set up, or ten. While clients
queue up, accepting takes place in every pass, so the time from one to the next is what all others of the loop wait for.
A pass that took long halves the number, a short one gives back one. That helps only if the new connections are what
takes long. A loop that is busy with something else would keep the queue waiting for nothing: hence the least rate.
"""

from __future__ import annotations

MOST = 8
"""About a millisecond, where connections are cheap. Half as many would cost new connections 5 % of their rate, since
each pass has a cost of its own.
"""

LONG_PASS = 0.0025
"""Seconds. A client that is answered after three passes, as most are, waits for three times as long."""

LEAST_RATE = 1000
"""Connections a second, however long the passes take."""


class AcceptPace:
    """Belongs to one event loop. `begin_pass`, accept as many; `more_wait` if as many came."""

    __slots__ = ("_began", "_more", "_most")

    def __init__(self) -> None:
        self._most = MOST
        self._began = 0.0
        self._more = False

    def begin_pass(self, now: float) -> int:
        """How many to accept in the pass that begins now, by a monotonic clock in seconds: 1 to `MOST`."""
        took, self._began = now - self._began, now
        if not self._more:
            return self._most  # the time since then says nothing: nobody was waiting
        self._more = False
        if took > LONG_PASS:
            self._most = max(1, self._most // 2)
        elif self._most < MOST:
            self._most += 1
        return max(self._most, min(MOST, int(took * LEAST_RATE)))

    def more_wait(self) -> None:
        """As many came as were to be accepted: the next pass goes on."""
        self._more = True
