"""Runs one room in this process: its ticks, its messages, and what follows when it fails."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from enum import Enum, auto
from typing import Any

from fairway.layers.backplane import BackplaneError
from fairway.layers.copying import copied
from fairway.logs import ErrorLog, FaultLog, get_logger
from fairway.rooms.counters import counters
from fairway.rooms.restarts import OnError, Restarts
from fairway.rooms.room import Room
from fairway.rooms.steps import Steps

logger = get_logger("fairway.rooms")

MOST_WAITING = 1000
"""Messages that wait for a room."""

MOST_AT_ONCE = 100
"""Messages that a room receives before it looks at the clock again."""

STOP_WITHIN = 2.0
"""Seconds that a room has to finish what it is doing when it is stopped."""

AWAY = (BackplaneError, OSError)
"""What a channel layer raises when its service is away."""

errors = ErrorLog(logger)
_faults = FaultLog(logger, per_second=1)


def drop(room: str) -> None:
    """A message for this room finds no place: count and log it."""
    counters.dropped_messages += 1
    text = "Room %s has dropped a message: it is behind, or no process runs it"
    _faults.report(time.monotonic(), "dropped", text, room)


class Outcome(Enum):
    """Why a room does not run any more."""

    STOPPED = auto()
    LAPSED = auto()
    """Another process may be running it."""
    ENDED = auto()
    """It has failed, and does not begin again."""


class Runner:
    """Runs a room until `stop`, or until `may_run` says no.

    `room` is the first one. After an error, another one like it begins. `restarts` has what the room begins with, and
    afterwards what it has saved. `publish_save` tells other processes of that. `tell` is called with the seconds until
    the next try when the room has failed, and with None when it has ended.
    """

    def __init__(
        self,
        room: Room,
        restarts: Restarts,
        may_run: Callable[[], bool],
        publish_save: Callable[[Any], Awaitable[None]],
        tell: Callable[[float | None], Awaitable[None]],
    ) -> None:
        self._room = room
        self._restarts = restarts
        self._may_run = may_run
        self._publish_save = publish_save
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._messages: deque[Any] = deque()
        self._woken = asyncio.Event()
        self._stopping = False
        self._must_save = False
        self.task = self._loop.create_task(self._run())

    def put(self, message: Any) -> None:
        """A message for the room. Beyond `MOST_WAITING`, it is dropped, counted and logged."""
        if len(self._messages) >= MOST_WAITING:
            drop(self._room.name)
            return
        self._messages.append(message)
        self._woken.set()

    def save_soon(self) -> None:
        """Somebody needs what is saved: do not wait until it is time."""
        self._must_save = True
        self._woken.set()

    async def stop(self) -> None:
        """Stop between two calls of the room's methods. One that takes too long is cancelled."""
        self._stopping = True
        self._woken.set()
        await asyncio.wait([self.task], timeout=STOP_WITHIN)
        if not self.task.done():
            logger.warning("Room %s did not finish within %g s: it is cancelled", self._room.name, STOP_WITHIN)
            self.task.cancel()
            await asyncio.wait([self.task])

    # Running --------------------------------------------------------------------------------------------------

    async def _run(self) -> Outcome:
        counters.running += 1
        try:
            while True:
                try:
                    return await self._run_once()
                except (Exception, asyncio.CancelledError) as error:
                    if isinstance(error, asyncio.CancelledError) and self.task.cancelling():
                        raise
                    # Not cancelled by `stop`: the room has waited for a task that somebody has cancelled.
                    if not await self._has_failed(error):
                        return Outcome.ENDED
                    self._room = type(self._room)(self._room.name, self._room.layer)
                if self._stopping:
                    return Outcome.STOPPED
        finally:
            counters.running -= 1

    async def _run_once(self) -> Outcome:
        room = self._room
        await room.begin(self._restarts.saved)
        now = self._loop.time()
        steps, save_at = Steps(room.step, room.catch_up, now), now + room.save_every
        while (outcome := self._outcome()) is None:
            await self._receive(room)
            if (due := steps.take(self._loop.time())) or room._has_changed:
                await self._go_on(room, due)
                counters.missed_ticks += steps.missed
                steps.missed = 0
            if (now := self._loop.time()) >= save_at or self._must_save:
                self._must_save = False
                save_at = now + room.save_every
                await self._save(room)
            await self._wait_until(min(steps.next_at, save_at))
        self._restarts.save(copied(room.save()))
        if outcome is Outcome.STOPPED:
            await room.end()
        return outcome

    def _outcome(self) -> Outcome | None:
        if self._stopping:
            return Outcome.STOPPED
        return None if self._may_run() else Outcome.LAPSED

    async def _go_on(self, room: Room, steps: int) -> None:
        for _ in range(steps):
            await room.tick(room.step)
        counters.ticks += steps
        if changed := room._has_changed:
            room._has_changed = False
            saved = await self._share(room)
        try:
            await room.publish()
        except AWAY as error:
            self._was_not_told(error)
        if changed:  # not before it was published: what fails there would fail again
            self._restarts.save(saved)

    async def _receive(self, room: Room) -> None:
        for _ in range(min(len(self._messages), MOST_AT_ONCE)):
            try:
                await room.receive(self._messages.popleft())
            except Exception as error:
                counters.failed_messages += 1
                errors.report(time.monotonic(), error, "Room %s could not receive a message", self._room.name)

    async def _save(self, room: Room) -> None:
        self._restarts.save(await self._share(room))

    async def _share(self, room: Room) -> Any:
        """Tell other processes what the room goes on with. Returns it."""
        saved = copied(room.save())
        if saved is not None:
            try:
                await self._publish_save(saved)
            except AWAY as error:
                self._was_not_told(error)
        return saved

    async def _wait_until(self, moment: float) -> None:
        """Wait until this time, or until there is a message, or until the room is stopped. Others run in any case."""
        if self._messages or self._stopping:
            await asyncio.sleep(0)
        else:
            await self._sleep_until(moment)

    async def _sleep_until(self, moment: float) -> None:
        self._woken.clear()
        alarm = self._loop.call_at(moment, self._woken.set)
        try:
            await self._woken.wait()
        finally:
            alarm.cancel()

    # Failing --------------------------------------------------------------------------------------------------

    async def _has_failed(self, error: BaseException) -> bool:
        """Log, count and tell it. Returns whether the room begins again, after a pause."""
        counters.failures += 1
        pause = self._restarts.failed(self._loop.time())
        begins_again = OnError(self._room.on_error) is OnError.RESTART
        what = f"begins again in {pause:g} s" if begins_again else "has ended"
        errors.report(time.monotonic(), error, f"Room %s has failed, and {what}", self._room.name)
        try:
            await self._tell(pause if begins_again else None)
        except AWAY as away:
            self._was_not_told(away)
        if begins_again:
            await self._pause(pause)
        return begins_again

    async def _pause(self, seconds: float) -> None:
        """Messages that come meanwhile wait."""
        until = self._loop.time() + seconds
        while not self._stopping and self._loop.time() < until:
            await self._sleep_until(until)

    def _was_not_told(self, error: BaseException) -> None:
        counters.unpublished += 1
        _faults.report(
            time.monotonic(), "unpublished", "Room %s could not tell its visitors: %s", self._room.name, error
        )
