"""Decides what follows when a room has failed. Pure. Times are in seconds of one monotonic clock."""

from __future__ import annotations

from enum import Enum


class OnError(Enum):
    """What becomes of a room when its code raises an exception. (`Room.on_error`)"""

    RESTART = "restart"
    END = "end"


FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds before the first restart, and at most."""

CALM = 60.0
"""Seconds without an error after which the next pause is a short one again."""


class Restarts:
    """Pauses before restarts, each twice as long as the last.

    A room begins again with what it last saved. If it fails before it has saved something else, that may be the reason,
    and it begins with nothing.
    """

    __slots__ = ("_failed_at", "_pause", "_saved", "saved")

    def __init__(self, saved: object = None) -> None:
        self.saved = saved
        self._saved = False
        self._pause = 0.0
        self._failed_at = 0.0

    def save(self, saved: object) -> None:
        """The room has saved something, and so works."""
        self.saved = saved
        self._saved = True

    def failed(self, now: float) -> float:
        """The room has failed. Returns the seconds to wait before it begins again, with `saved`."""
        if not self._saved:
            self.saved = None
        self._saved = False
        is_calm = self._pause == 0.0 or now - self._failed_at >= CALM
        self._pause = FIRST_PAUSE if is_calm else min(2 * self._pause, LONGEST_PAUSE)
        self._failed_at = now
        return self._pause
