"""When an HTTP/2 connection as a whole has waited long enough, and for what."""

from __future__ import annotations

import enum
from typing import Protocol

from fairway.server.limits import Limits

DRAIN_SECONDS = 1.0
"""For a round trip between the warning that we go away and its truth (RFC 9113 section 6.8)."""


class Verdict(enum.Enum):
    """What to do when the time is up."""

    NO_SETTINGS = enum.auto()
    """The peer has not acknowledged our settings."""
    NO_HEAD = enum.auto()
    """A frame or a field block has begun, and does not end."""
    IDLE = enum.auto()
    """There was no request for long."""
    ASK = enum.auto()
    """Nothing was heard: see whether the peer is there."""
    SILENT = enum.auto()
    """It was asked, and has said nothing."""
    GOING = enum.auto()
    """The warning has been out for long enough."""
    LEFT = enum.auto()
    """The peer has ended its side, and may have left."""


class Watched(Protocol):
    """As much as is looked at of an `Http2Protocol`."""

    @property
    def settings_acknowledged(self) -> bool: ...

    @property
    def is_waiting(self) -> bool: ...


class Watch:
    """Times by the clock of the deadlines; whoever has one notes it here."""

    __slots__ = (
        "_began_at",
        "_limits",
        "_seen_window",
        "asked_at",
        "head_since",
        "heard_at",
        "idle_since",
        "left_at",
        "warned_at",
    )

    def __init__(self, limits: Limits, now: float) -> None:
        self._limits = limits
        self._began_at = self.heard_at = self.idle_since = now
        self.asked_at = 0.0
        self.head_since: float | None = None
        self.warned_at: float | None = None
        self.left_at: float | None = None
        self._seen_window = 0

    def has_moved(self, window: int) -> bool:
        """Whether content was sent to the peer since this was asked before: then its window is smaller."""
        seen, self._seen_window = self._seen_window, window
        return window != seen

    def deadline(self, protocol: Watched, has_streams: bool, is_reading: bool) -> tuple[float, Verdict]:
        """The next one, and what it means. While we do not read, it is no fault of the peer that nothing is heard."""
        limits = self._limits
        due = []
        if self.warned_at is not None:
            due.append((self.warned_at + DRAIN_SECONDS, Verdict.GOING))
        if self.left_at is not None:
            due.append((self.left_at + limits.disconnect_timeout, Verdict.LEFT))
        elif is_reading:
            if not protocol.settings_acknowledged:
                due.append((self._began_at + limits.settings_timeout, Verdict.NO_SETTINGS))
            if self.head_since is not None:
                due.append((self.head_since + limits.request_head_timeout, Verdict.NO_HEAD))
            if has_streams and self.asked_at > self.heard_at:
                due.append((self.asked_at + limits.ping_timeout, Verdict.SILENT))
            elif has_streams:
                due.append((self.heard_at + limits.ping_interval, Verdict.ASK))
        if not has_streams:
            due.append((self.idle_since + limits.keep_alive_timeout, Verdict.IDLE))
        return min(due, key=_when, default=(float("inf"), Verdict.IDLE))


def _when(due: tuple[float, Verdict]) -> float:
    return due[0]
