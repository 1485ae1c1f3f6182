"""Measures how far behind a backplane is: how long a message takes from this process back to itself. Pure.

The session sends the messages, and reports to `Lag` when each one is sent and comes back.
"""

from __future__ import annotations

GIVEN_UP = 30.0
"""Seconds to wait for a message to come back before another one is sent."""


class Lag:
    """Only one message is under way at a time. All times are in seconds of one monotonic clock."""

    def __init__(self) -> None:
        self._number = 0
        self._since: float | None = None  # when the oldest message without an answer was sent
        self._sent_at = 0.0
        self._last: float | None = None

    def sent(self, now: float) -> int | None:
        """The number of a message that the caller must send now. None while a message is under way."""
        if self._since is not None and now - self._sent_at < GIVEN_UP:
            return None
        self._number += 1
        self._sent_at = now
        if self._since is None:
            self._since = now
        return self._number

    def came(self, number: int, now: float) -> None:
        """A message has come back. It is ignored if a newer message has been sent since."""
        if number == self._number and self._since is not None:
            self._last, self._since = now - self._sent_at, None

    def lost(self) -> None:
        """The connection was lost: forget the message under way and the last measurement."""
        self._since = self._last = None

    def seconds(self, now: float) -> float | None:
        """How long the last message took, or how long the one under way has taken so far if that is longer.

        None if nothing has been measured.
        """
        if self._since is None:
            return self._last
        return max(now - self._since, self._last or 0.0)
