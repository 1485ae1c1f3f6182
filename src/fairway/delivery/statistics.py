"""What was not delivered, or not on the shortest way: counted for the whole process."""

from __future__ import annotations

import logging
from collections import Counter

logger = logging.getLogger("fairway.delivery")


class Statistics:
    """Counts of what was not delivered, or not on the shortest way, for this process.

    `sends_after_close`: messages for clients that had gone. `unhandled`: messages of clients that left while all
    handlers of their consumer were busy. `detours`: why broadcasts went through consumers, and how many did.
    """

    __slots__ = ("detours", "sends_after_close", "unhandled")

    def __init__(self) -> None:
        self.sends_after_close = 0
        self.unhandled = 0
        self.detours: Counter[str] = Counter()


statistics = Statistics()


def note_detour(reason: str, what: str) -> None:
    """Count a broadcast that was not written straight to a socket; log `what` happens with the first for a reason."""
    if reason not in statistics.detours:
        logger.info("%s: %s", what, reason)
    statistics.detours[reason] += 1
