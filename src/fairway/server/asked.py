"""Whether others should make room for requests: for pages, not for streams. Pure."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Protocol

LATELY = 0.5
"""Seconds since the last request began. A page that takes longer is not held up by a few milliseconds."""


class Requests(Protocol):
    """The part of `fairway.server.context.Counters` that is used here."""

    requests: int

    @property
    def has_open_requests(self) -> bool: ...


class Asked:
    """Call it to know whether a request is under way for which others should make room. `clock` is in seconds.

    Streams and long polls are under way for long, and do nothing most of the time. So one must have begun lately, as
    far as the calls before can tell.
    """

    __slots__ = ("_at", "_clock", "_counters", "_seen")

    def __init__(self, counters: Requests, clock: Callable[[], float]) -> None:
        self._counters = counters
        self._clock = clock
        self._seen = counters.requests
        self._at = -inf

    def __call__(self) -> bool:
        counters, now = self._counters, self._clock()
        if counters.requests != self._seen:
            self._seen = counters.requests
            self._at = now
        return now - self._at < LATELY and counters.has_open_requests
