"""The time by which something expires: what layers keep, who lingers, which lease ends.

It is the system's time, unless a test has put another one in its place (`fairway.testing.VirtualClock`). Whoever waits
for somebody else, for an answer or a connection, does not ask here: such waits take real time, in tests as well.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Protocol


class TimeSource(Protocol):
    """A clock, and timers that go by it."""

    def monotonic(self) -> float:
        """Seconds of a clock that never goes back."""

    def time(self) -> float:
        """The time of day: seconds since 1970."""

    def call_later(
        self, loop: asyncio.AbstractEventLoop, seconds: float, callback: Callable[..., object], *arguments: Any
    ) -> asyncio.TimerHandle:
        """Call a function in an event loop. Call this in the same loop."""

    async def sleep(self, seconds: float) -> None:
        """Wait for this number of seconds."""

    def host(self) -> None:
        """An application begins in the running task: whatever it does goes by this clock. For tests' clients."""


class _System:
    """The system's clocks. (`TimeSource`)"""

    def monotonic(self) -> float:
        return time.monotonic() + _ahead

    def time(self) -> float:
        return time.time()

    def call_later(
        self, loop: asyncio.AbstractEventLoop, seconds: float, callback: Callable[..., object], *arguments: Any
    ) -> asyncio.TimerHandle:
        return loop.call_later(seconds, callback, *arguments)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def host(self) -> None:
        """Every application goes by it anyway."""


class _InForce:
    """Whatever source is in force at the time of each call. (`TimeSource`)"""

    def monotonic(self) -> float:
        return _source.monotonic()

    def time(self) -> float:
        return _source.time()

    def call_later(
        self, loop: asyncio.AbstractEventLoop, seconds: float, callback: Callable[..., object], *arguments: Any
    ) -> asyncio.TimerHandle:
        return _source.call_later(loop, seconds, callback, *arguments)

    async def sleep(self, seconds: float) -> None:
        await _source.sleep(seconds)

    def host(self) -> None:
        _source.host()


SYSTEM = _System()
IN_FORCE: TimeSource = _InForce()

_source: TimeSource = SYSTEM
_ahead = 0.0  # seconds that other sources have been ahead of the system's clock: time must not go back

applications: ContextVar[TimeSource | None] = ContextVar("applications", default=None)
"""The source that the application in this context goes by, if it is not the system's."""


def monotonic() -> float:
    """Seconds of a clock that never goes back."""
    # Hubs ask with each message.
    return time.monotonic() + _ahead if _source is SYSTEM else _source.monotonic()


def begin(source: TimeSource) -> None:
    """Put a source in the place of the system's. Raises RuntimeError if another one is there already."""
    global _source
    if _source is not SYSTEM:
        raise RuntimeError("another clock is in force: end it first")
    _source = source


def end() -> None:
    """Return to the system's time."""
    global _source, _ahead
    _ahead = max(_ahead, _source.monotonic() - time.monotonic())
    _source = SYSTEM
