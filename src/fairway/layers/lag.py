"""How far behind a backplane is: how long a message takes from this process to itself. Pure."""

from __future__ import annotations

GIVEN_UP = 30.0
"""Seconds after which a message that has not come back is followed by another."""


class Lag:
    """One message at a time goes round. Times are in seconds, of any clock that does not go backwards."""

    def __init__(self) -> None:
        self._number = 0
        self._since: float | None = None  # when the first of those was sent that have not come back
        self._sent_at = 0.0
        self._last: float | None = None

    def sent(self, now: float) -> int | None:
        """The number of a message to send now; None while one is under way."""
        if self._since is not None and now - self._sent_at < GIVEN_UP:
            return None
        self._number += 1
        self._sent_at = now
        if self._since is None:
            self._since = now
        return self._number

    def came(self, number: int, now: float) -> None:
        """A message has come back. One that was given up counts no more."""
        if number == self._number and self._since is not None:
            self._last, self._since = now - self._sent_at, None

    def lost(self) -> None:
        """Nothing is under way, and nothing is known."""
        self._since = self._last = None

    def seconds(self, now: float) -> float | None:
        """How long the last message took, or the present one has taken if that is longer; None if it is not known."""
        if self._since is None:
            return self._last
        return max(now - self._since, self._last or 0.0)
