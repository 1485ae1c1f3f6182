"""How late an event loop is: by how much it calls later than it was asked to. Pure."""

from __future__ import annotations


class Lateness:
    """Of one loop, in which `beat` is called every `interval` seconds. Times are seconds of one monotonic clock.

    `take` may be called in another thread, also while the loop is blocked.
    """

    __slots__ = ("_due", "_interval", "_longest", "total")

    def __init__(self, interval: float, now: float) -> None:
        self._interval = interval
        self._due = now + interval
        self._longest = 0.0
        self.total = 0.0
        """By how many seconds all beats so far were late, added up."""

    def beat(self, now: float) -> None:
        """The loop has called."""
        late = max(0.0, now - self._due)
        self._due = now + self._interval
        self.total += late
        if late > self._longest:
            self._longest = late

    def take(self, now: float) -> float:
        """By how much the latest beat was late since this was last asked, or the one that is due is late now."""
        longest, self._longest = self._longest, 0.0
        return max(longest, now - self._due, 0.0)
