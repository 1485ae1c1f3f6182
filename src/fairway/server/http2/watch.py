"""The deadlines of an HTTP/2 connection as a whole, and what each of them means."""

from __future__ import annotations

import enum
from typing import Protocol

from fairway.server.limits import Limits

DRAIN_SECONDS = 1.0
"""Seconds between the first GOAWAY, a warning, and the final one: time for a round trip (RFC 9113 section 6.8)."""


class Verdict(enum.Enum):
    """What has lasted too long."""

    NO_SETTINGS = enum.auto()
    """The peer has not acknowledged our settings."""
    NO_HEAD = enum.auto()
    """A frame or a field block has begun, and has not ended."""
    IDLE = enum.auto()
    """There has been no request for a long time."""
    ASK = enum.auto()
    """The peer has been silent: ask whether it is there."""
    SILENT = enum.auto()
    """The peer has not answered the question."""
    GOING = enum.auto()
    """The warning GOAWAY has been out for long enough."""
    LEFT = enum.auto()
    """The peer has ended its side, and may have left."""


class Watched(Protocol):
    """The part of an `Http2Protocol` that matters here."""

    @property
    def settings_acknowledged(self) -> bool: ...

    @property
    def is_waiting(self) -> bool: ...


class Watch:
    """Notes the times of what happens, and computes the next deadline. The connection sets the public attributes."""

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
        """Whether content has been sent to the peer since the last call: its window is different then."""
        seen, self._seen_window = self._seen_window, window
        return window != seen

    def deadline(self, protocol: Watched, has_streams: bool, is_reading: bool) -> tuple[float, Verdict]:
        """The next deadline, and what it means. While we do not read, the peer is not blamed for silence."""
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
