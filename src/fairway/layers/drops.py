"""Counts the deliveries that are dropped, and logs few lines, however many there are."""

from __future__ import annotations

import time

from fairway.delivery import running_loop_or_none
from fairway.layers.backplane import BackplaneStatistics
from fairway.logs import FaultLog, get_logger

logger = get_logger("fairway.layers")

INTERVAL = 10.0
"""Seconds between the first line about drops and the line that sums up those that followed."""


class Drops:
    """Counts the dropped deliveries of one layer in `total`, which is never reset. Any thread may call it.

    The first drop is logged at once. Further drops within `INTERVAL`, in any group, are summed up in one line at its
    end.
    """

    def __init__(self) -> None:
        self.total = 0
        self._unsaid = 0
        self._until = 0.0
        self._faults = FaultLog(logger, per_second=1)

    def crowded_out(self, channel: str, count: int, most: int) -> None:
        """`count` messages of a channel were dropped, because `most` others were sent to since, and nobody reads."""
        self.total += count
        text = "%d channels that nobody reads hold messages: those of %s are dropped, sent to the longest ago"
        self._faults.report(time.monotonic(), "unread channels", text, most, channel)

    def left_out(self, group: str, count: int, everybody: int) -> None:
        """`count` of a group's `everybody` channels were full and missed a message."""
        self.total += count
        now = time.monotonic()
        if now >= self._until:
            self._sum_up()
            self._until = now + INTERVAL
            logger.warning("%d of %d channels over capacity in group %s", count, everybody, group)
            return
        self._unsaid += count
        loop = running_loop_or_none()
        if self._unsaid == count and loop is not None:
            loop.call_later(self._until - now, self._sum_up)

    def _sum_up(self) -> None:
        unsaid, self._unsaid = self._unsaid, 0
        if unsaid:
            logger.warning("%d more deliveries to channels over capacity in %g s, in all groups", unsaid, INTERVAL)


def count_lost(statistics: BackplaneStatistics, queue: str, error: Exception) -> None:
    """A message was taken from a queue for a reader that has gone, and could not be put back."""
    statistics.lost += 1
    logger.warning("a message of the queue %s is lost: its reader has gone, and %s", queue, error)
