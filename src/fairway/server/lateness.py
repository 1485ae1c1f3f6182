"""How late an event loop is: how long after the requested time it calls back. Pure."""

from __future__ import annotations


class Lateness:
    """The lateness of one loop, which has to call `beat` every `interval` seconds. Times are seconds of one monotonic
    clock. `take` may be called from another thread, even while the loop is blocked.
    """

    __slots__ = ("_due", "_interval", "_longest", "total")

    def __init__(self, interval: float, now: float) -> None:
        self._interval = interval
        self._due = now + interval
        self._longest = 0.0
        self.total = 0.0
        """The sum of the lateness of all beats so far, in seconds."""

    def beat(self, now: float) -> None:
        """Note a callback of the loop. The next one is due after `interval`."""
        late = max(0.0, now - self._due)
        self._due = now + self._interval
        self.total += late
        if late > self._longest:
            self._longest = late

    def take(self, now: float) -> float:
        """The longest lateness since the previous `take`, in seconds. A beat that is overdue now counts as well."""
        longest, self._longest = self._longest, 0.0
        return max(longest, now - self._due, 0.0)
