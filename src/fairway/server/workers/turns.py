"""How many connections a worker takes while others have fewer. Pure.

Workers share their listening sockets, and without more ado the quickest would get most connections, for hours. So a
worker that is *ahead*, with more connections than its share, leaves those that come to the others, which accept them
within a fraction of a millisecond unless they are busy. If nobody has taken any after some turns, it takes one after
all: a client must not wait for a worker that computes. From some bound on it takes none.
"""

from __future__ import annotations

import sys

TURNS = 4
"""How often it asks in vain, 2 ms apart, before it takes what the others leave. A busy machine wakes them later."""

_RECENT = 0.1
"""Seconds after which the turns that were left to the others are forgotten."""

# How far above the mean a worker may be. Connections of one pass are counted only afterwards, and small differences
# between large numbers do not matter, so a fiftieth is nothing. Few connections are shared one by one.
_SLACK = 8
_SLACK_SHARE = 50
_FEW = 4

UNLIMITED = sys.maxsize


class Turns:
    """The turns of one worker. Call `room` before it accepts; `now` is always `time.monotonic()`."""

    __slots__ = ("_left", "_left_at", "_theirs")

    def __init__(self) -> None:
        self._left = 0  # turns that it has left to the others
        self._left_at = -_RECENT
        self._theirs = 0  # how many connections they had then

    def room(self, connections: int, others: int, theirs: int, now: float) -> int:
        """How many more connections it may take now, with so many of its own; 0 if others should take them.

        There are so many `others`, and they have `theirs` together.
        """
        if not others:
            return UNLIMITED
        mean = (connections + theirs) // (others + 1)
        above = connections - mean
        slack = max(_SLACK, mean // _SLACK_SHARE)
        share = min(slack, max(mean // _FEW, mean // _SLACK_SHARE))
        if above <= share:
            return share - above + 1
        if above > slack:
            return 0
        nobody_came = self._theirs == theirs and now - self._left_at < _RECENT
        self._left = self._left + 1 if nobody_came else 1
        self._theirs, self._left_at = theirs, now
        if self._left <= TURNS:
            return 0
        self._left = 0
        return 1
