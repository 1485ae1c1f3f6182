"""A token bucket: how often one connection may do something. Time is an argument, so it needs no clock to be tested."""

from __future__ import annotations


class RateLimit:
    """Allows `burst` at once, then `per_second` on average."""

    def __init__(self, burst: int, per_second: float) -> None:
        self.burst = burst
        self.per_second = per_second
        self._tokens = float(burst)
        self._last: float | None = None

    def allow(self, now: float) -> bool:
        """Take one token if there is one; `now` is in seconds and never goes back."""
        if self._last is not None:
            self._tokens = min(self.burst, self._tokens + (now - self._last) * self.per_second)
        self._last = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
