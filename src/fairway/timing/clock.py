"""Runs a timing wheel in an event loop: one timer for all deadlines of the loop, and a coarse clock."""

from __future__ import annotations

import asyncio

from fairway.timing.wheel import Entry, Wheel

CALLS_PER_PASS = 64
"""How many deadlines are handled in one pass of the loop: two milliseconds, at 30 µs for a client that is dropped."""


class Clock:
    """A wheel for the deadlines of one event loop, and a coarse clock.

    `now` is the loop's time at the last tick of the wheel or the last call of `touch`. While no deadline is scheduled,
    there are no ticks, and it stands still. So compute a new deadline from `touch()`, not from `now`.

    Belongs to one event loop. Call it only in that loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.now = loop.time()
        self.wheel = Wheel(self.now)
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = False

    def touch(self) -> float:
        """Bring the coarse clock up to date, and return its time."""
        now = self.loop.time()
        if now > self.now:
            self.now = now
        return self.now

    def schedule(self, entry: Entry, deadline: float) -> None:
        """Call the entry's `handle_deadline` at this time of the loop, or at most one tick later."""
        self.wheel.schedule(entry, deadline)
        if self._timer is None:
            self._arm()

    @property
    def is_armed(self) -> bool:
        """Whether the timer runs, because something is scheduled."""
        return self._timer is not None

    def _arm(self) -> None:
        if self._stopped:
            return
        tick = self.wheel.next_tick(self.loop.time())
        self._timer = None if tick is None else self.loop.call_at(tick, self._tick)

    def _tick(self) -> None:
        # Keep `_timer`, although it has fired, so that a handler that calls `schedule` does not arm a second timer.
        try:
            self.wheel.advance(self.touch(), CALLS_PER_PASS)
        finally:
            self.ticked()
            self._arm()

    def ticked(self) -> None:
        """Called after each tick, or a part of one that has many deadlines, also if a handler has raised."""

    def stop(self) -> None:
        """Stop the timer: no entry is called any more. Scheduled entries stay in the wheel."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
