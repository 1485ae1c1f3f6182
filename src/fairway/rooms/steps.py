"""Cuts time into steps of the same length, so that a game goes on in the same way on a slow machine. Pure.

Times are in seconds of one monotonic clock.
"""

from __future__ import annotations


class Steps:
    """Says how many steps are due. The first one is due `seconds` after `now`.

    Whoever comes late makes up for at most `most` steps at once. What is beyond that is left out, and counted in
    `missed`: a process that was stopped for a minute goes on where it was, and does not play the minute in one second.
    """

    __slots__ = ("_begun", "_most", "_taken", "missed", "seconds")

    def __init__(self, seconds: float, most: int, now: float) -> None:
        if not seconds > 0:
            raise ValueError(f"a step lasts {seconds!r} seconds: use a number above 0")
        self.seconds = seconds
        self.missed = 0
        self._most = max(1, most)
        self.restart(now)

    @property
    def next_at(self) -> float:
        """When the next step is due."""
        return self._begun + (self._taken + 1) * self.seconds

    def take(self, now: float) -> int:
        """How many steps are due: 0 to `most`. They count as done."""
        # Computed from the beginning: a sum of many steps would drift.
        due = int((now - self._begun) / self.seconds + 1e-9) - self._taken
        if due <= 0:
            return 0
        self._taken += due
        self.missed += max(0, due - self._most)
        return min(due, self._most)

    def restart(self, now: float) -> None:
        """Time stood still until now: nothing is due for it, and nothing counts as missed."""
        self._begun = now
        self._taken = 0
