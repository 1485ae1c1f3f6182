"""A wheel on an event loop: one timer for all deadlines of the loop, and a coarse clock beside it."""

from __future__ import annotations

import asyncio

from fairway.timing.wheel import Entry, Wheel


class Clock:
    """`now` is a coarse clock: the loop's time at the last tick of the wheel, or when somebody needed it exactly. It
    stands still while no deadline is scheduled, so a new deadline is counted from `touch()`.

    Belongs to one loop; everything is called in that loop only.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.now = loop.time()
        self.wheel = Wheel(self.now)
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = False

    def touch(self) -> float:
        """Bring the coarse clock up to date."""
        now = self.loop.time()
        if now > self.now:
            self.now = now
        return self.now

    def schedule(self, entry: Entry, deadline: float) -> None:
        """Have the entry's `handle_deadline` called at that time (of the loop), at most a tick late."""
        self.wheel.schedule(entry, deadline)
        if self._timer is None:
            self._arm()

    @property
    def is_armed(self) -> bool:
        """Whether the loop will call: something is scheduled."""
        return self._timer is not None

    def _arm(self) -> None:
        if self._stopped:
            return
        tick = self.wheel.next_tick(self.loop.time())
        self._timer = None if tick is None else self.loop.call_at(tick, self._tick)

    def _tick(self) -> None:
        # The timer that has fired stays in its place, so that a handler's `schedule` arms no second one.
        try:
            self.wheel.advance(self.touch())
        finally:
            self.ticked()
            self._arm()

    def ticked(self) -> None:
        """Called after each tick, whether or not a handler has raised; for subclasses."""

    def stop(self) -> None:
        """Call nobody any more. What is scheduled stays in the wheel."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
