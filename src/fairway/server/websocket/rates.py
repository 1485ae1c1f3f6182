"""How much a client may send in a second, and for how long it may go on trying to send more. Pure.

A `Bucket` holds what may be spent: it fills at a rate, up to what is there at most, and goes below zero when more is
spent than it holds, since what has been read cannot be unread. A `Meter` has one for messages and one for bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf


class Bucket:
    """`burst`: for how many seconds' worth it has room. A rate of 0 bounds nothing."""

    __slots__ = ("_at", "_burst", "_level", "_rate")

    def __init__(self, rate: int, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._level = burst  # in seconds
        self._at = now

    def spend(self, amount: int, now: float) -> None:
        if self._rate:
            self._level = self.level(now) - amount / self._rate
            self._at = now

    def level(self, now: float) -> float:
        """Seconds' worth that are there; below 0, seconds until there is anything."""
        return min(self._burst, self._level + now - self._at) if self._rate else inf


class Meter:
    """Of one client. It is *exceeded* from when a bucket is empty until both are half full: a client that is only held
    back stays on the brink, and does not come to rest.
    """

    __slots__ = ("_buckets", "_burst", "exceeded_since")

    exceeded_since: float | None

    def __init__(self, rates: Sequence[int], burst: float, now: float) -> None:
        self._buckets = [Bucket(rate, burst, now) for rate in rates]
        self._burst = burst
        self.exceeded_since = None

    def spend(self, amounts: Sequence[int], now: float) -> bool:
        """Whether that is now more than there was, and was not before."""
        for bucket, amount in zip(self._buckets, amounts, strict=True):
            bucket.spend(amount, now)
        if self.exceeded_since is not None and self._least(now) * 2 >= self._burst:
            self.exceeded_since = None
        if self.exceeded_since is None and self.wait(now):
            self.exceeded_since = now
            return True
        return False

    def wait(self, now: float) -> float:
        """For how many seconds nothing more is to be read; 0 for none."""
        return max(0.0, -self._least(now))

    def _least(self, now: float) -> float:
        return min(bucket.level(now) for bucket in self._buckets)
