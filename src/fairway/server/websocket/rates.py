"""How much a client may send per second, and since when it has tried to send more. Pure.

A `Bucket` holds what may be spent. It fills at a rate until it is full. Spending more than it holds makes its level
negative, because bytes that were read cannot be unread. A `Meter` has one bucket for messages and one for bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf


class Bucket:
    """`rate` is in units per second; 0 bounds nothing. A full bucket holds the amount of `burst` seconds."""

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
        """The amount in the bucket, in seconds of its rate. If negative, the number of seconds until it reaches 0."""
        return min(self._burst, self._level + now - self._at) if self._rate else inf


class Meter:
    """The buckets of one client. The meter is *exceeded* from when a bucket is below empty until all are half full. A
    client that is only slowed down by being held stays near empty, so the meter stays exceeded.
    """

    __slots__ = ("_buckets", "_burst", "exceeded_since")

    exceeded_since: float | None
    """When the client began to exceed its rates; None if it does not."""

    def __init__(self, rates: Sequence[int], burst: float, now: float) -> None:
        self._buckets = [Bucket(rate, burst, now) for rate in rates]
        self._burst = burst
        self.exceeded_since = None

    def spend(self, amounts: Sequence[int], now: float) -> bool:
        """Take these amounts out of the buckets. True if the meter has just become exceeded."""
        for bucket, amount in zip(self._buckets, amounts, strict=True):
            bucket.spend(amount, now)
        if self.exceeded_since is not None and self._least(now) * 2 >= self._burst:
            self.exceeded_since = None
        if self.exceeded_since is None and self.wait(now):
            self.exceeded_since = now
            return True
        return False

    def wait(self, now: float) -> float:
        """For how many seconds nothing may be read."""
        return max(0.0, -self._least(now))

    def _least(self, now: float) -> float:
        return min(bucket.level(now) for bucket in self._buckets)
