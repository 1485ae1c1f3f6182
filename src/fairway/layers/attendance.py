"""Who is present in the groups of one layer: `layer.presence`.

    await layer.presence.track("chat.lobby", channel_name, {"name": "Mira"}, key="7")
    await layer.presence.members("chat.lobby")      # {"7": [{"name": "Mira"}]}

`Attendance` has the entries of this process and tells its channels (`audiences.py`). Its `Reach` is how far that goes:
this process, for the in-memory layer, or all processes (`shared_reach.py`).

Any thread may call it. Its timers run in the event loop of its reach.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, NamedTuple, Protocol
from weakref import WeakSet

from fairway.delivery import running_loop_or_none
from fairway.layers.audiences import HIDDEN, SHOWN, Audiences, shown
from fairway.layers.channel_queue import member_behind
from fairway.layers.copying import copied
from fairway.layers.errors import InvalidChannelLayerError
from fairway.layers.hub import Hub
from fairway.layers.presence import Entry, OwnEntries
from fairway.timing.source import IN_FORCE, monotonic

MOST_KEY = 200
"""Characters of a key."""


class Standing(NamedTuple):
    """For how long others are sure to see the entries of this process.

    `term` names the time since when they have seen them without a break. `until` is a time of `fairway.timing.source`:
    before that, no other process can have found this one dead.
    """

    term: str
    until: float


class Reach(Protocol):
    """How far presence goes. The methods that are not coroutines are called under the lock of the attendance."""

    is_local: bool
    """Whether there are no other processes, so that nothing has to be read."""

    async def get_ready(self) -> None:
        """Raises an error if nobody can be tracked at all."""

    async def store(self, group: str) -> None:
        """Make known what has changed in a group."""

    async def members(self, group: str) -> dict[str, list[Any]]:
        """The keys of all persons in a group, each with its different data."""

    async def count(self, group: str) -> int:
        """How many connections there are."""

    def freeze(self, data: Any) -> Any:
        """The data of an entry as it is kept and compared."""

    def thaw(self, data: Any) -> Any:
        """The data as it is shown."""

    def tell(self, groups: Sequence[str]) -> None:
        """Tell other processes what has changed in these groups, soon."""

    def watch(self, group: str) -> None:
        """Somebody in this process hears of a group from now on."""

    def unwatch(self, group: str) -> None:
        """Nobody in this process hears of a group any more."""

    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop for timers."""

    def standing(self) -> Standing:
        """For how long others are sure to see the entries of this process."""

    def start_anew(self) -> None:
        """This is a forked child: the parent goes on with what it has begun."""


class Attendance:
    """Presence in the groups of one layer. `check_group` raises for a name of a group that is not valid."""

    def __init__(
        self,
        hub: Hub,
        check_group: Callable[[str], object],
        linger: float = 3.0,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """Whoever leaves without a word is missed after `linger` seconds."""
        if not 0 <= linger < math.inf:
            raise InvalidChannelLayerError(f"CHANNEL_LAYERS, CONFIG: linger is {linger!r}: use a number of seconds")
        self._hub = hub
        self._check_group = check_group
        self._linger = linger
        self._clock = clock
        self.reach: Reach = ThisProcess(self)
        self.start_anew()
        _attendances.add(self)

    def start_anew(self) -> None:
        """Know nobody: at the beginning, and in a forked child, whose consumers stay with the parent."""
        self.lock = threading.RLock()
        self.own = OwnEntries(self._linger)
        self.audiences = Audiences(self._hub, self.own, lambda data: self.reach.thaw(data))
        self._alarm = _Alarm(self.look, self.lock)
        self.reach.start_anew()

    # For applications -----------------------------------------------------------------------------------------

    async def track(
        self,
        group: str,
        channel: str,
        data: Any = None,
        key: str | None = None,
        *,
        hides_key: bool = False,
        hears: Collection[str] = (),
    ) -> None:
        """The channel is present in the group, until `untrack`, or until its consumer ends.

        Channels with the same key are one person; without a key, the channel is one of its own. `data` is what others
        are told about it; another call changes it. With `hides_key`, events name the person by a word that says
        nothing. `hears` are types of events that the channel wants: `STATE`, `DIFF`.

        In an outage of the service this returns, and other processes are told afterwards.
        """
        self._check_group(group)
        entry = Entry(_person(channel, key, hides_key), self.reach.freeze(data))
        await self.reach.get_ready()
        with self.lock:
            now = self._clock()
            self._expire(now)
            self._changed(group, self.own.track(group, channel, entry, now))
            if hears and self.audiences.hear(group, channel, hears, self.reach.is_local):
                self.reach.watch(group)
        if member_behind(self._hub.channels.get(channel)) is not None:
            self._hub.endings.add(channel, self._ended)
        self.arm()
        await self.reach.store(group)

    async def untrack(self, group: str, channel: str) -> None:
        """The channel is not present in the group any more. Does nothing if it was not."""
        with self.lock:
            id_ = self.own.untrack(group, channel, self._clock())
            self._stop_hearing(group, channel)
            if id_ is None:
                return
            self._changed(group, [id_])
        self.arm()
        await self.reach.store(group)

    async def members(self, group: str) -> dict[str, list[Any]]:
        """The keys of all persons in a group, each with the different data of its connections."""
        self._check_group(group)
        return await self.reach.members(group)

    async def count(self, group: str) -> int:
        """How many connections are tracked in a group: a person may have several."""
        self._check_group(group)
        return await self.reach.count(group)

    def standing(self) -> Standing:
        """For how long others are sure to see who is tracked in this process."""
        return self.reach.standing()

    def flush(self) -> None:
        """Everybody is forgotten, in all processes: who is present, and who hears of it. Nobody is told."""
        with self.lock:
            self.own.forget_all()
            for group in self.audiences.clear():
                self.reach.unwatch(group)

    # What happens in this process -----------------------------------------------------------------------------

    def _ended(self, channel: str) -> None:
        """The consumer of a channel has ended. (`Endings`)"""
        with self.lock:
            now = self._clock()
            for group in self.own.ended(channel, now):
                self._stop_hearing(group, channel)
            self._expire(now)
        self.arm()

    def _stop_hearing(self, group: str, channel: str) -> None:
        if self.audiences.stop(group, channel):
            self.reach.unwatch(group)

    def _expire(self, now: float) -> None:
        for group, id_ in self.own.expire(now):
            self._changed(group, [id_])

    def _changed(self, group: str, ids: Iterable[str]) -> None:
        self.audiences.own_changed(group, ids)

    def must_tell(self, group: str) -> None:
        """Other processes may not know what is in a group."""
        with self.lock:
            self.own.was_not_told(group, self._clock())
        self.arm()

    # Time -----------------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Do what is due, and set the alarm for what will be."""
        with self.lock:
            now = self._clock()
            self._expire(now)
            if due := self.own.due(now):
                self.reach.tell(due)
            self.audiences.tell(now)
        self.arm()

    def arm(self) -> None:
        """Set the alarm for the next thing to do."""
        with self.lock:
            self._alarm.set(min(self.own.next_at(), self.audiences.next_at), self._clock(), self.reach.loop())


class ThisProcess:
    """The reach of the in-memory layer. (`Reach`)"""

    is_local = True

    def __init__(self, attendance: Attendance) -> None:
        self._attendance = attendance

    async def get_ready(self) -> None:
        """It is."""

    async def store(self, group: str) -> None:
        """There is no store."""

    async def members(self, group: str) -> dict[str, list[Any]]:
        self._attendance.look()
        with self._attendance.lock:
            return shown(self._attendance.own.entries(group).values(), copied)

    async def count(self, group: str) -> int:
        self._attendance.look()
        return len(self._attendance.own.entries(group))

    def freeze(self, data: Any) -> Any:
        return copied(data)

    def thaw(self, data: Any) -> Any:
        return data

    def tell(self, groups: Sequence[str]) -> None:
        for group in groups:
            self._attendance.own.take(group)

    def watch(self, group: str) -> None:
        """There is nothing to read."""

    def unwatch(self, group: str) -> None:
        """Nothing was read."""

    def loop(self) -> asyncio.AbstractEventLoop | None:
        return running_loop_or_none()

    def standing(self) -> Standing:
        return Standing("", math.inf)

    def start_anew(self) -> None:
        """There is nothing to forget."""


def _person(channel: str, key: str | None, hides_key: bool) -> str:
    """The person that a channel belongs to, which is the same in all processes."""
    if key is None:
        return f"{HIDDEN}{channel}"
    if not isinstance(key, str) or not 0 < len(key) <= MOST_KEY:
        raise ValueError(f"a key of presence is a text of 1 to {MOST_KEY} characters, not {key!r}")
    return (HIDDEN if hides_key else SHOWN) + key


class _Alarm:
    """Calls a function at the earliest of the times that it was set to, in an event loop. Any thread may set it."""

    def __init__(self, ring: Callable[[], None], lock: threading.RLock) -> None:
        self._ring = ring
        self._lock = lock
        self._at = math.inf
        self._loop: asyncio.AbstractEventLoop | None = None
        self._handle: asyncio.TimerHandle | None = None

    def set(self, at: float, now: float, loop: asyncio.AbstractEventLoop | None) -> None:
        """Ring at this time, unless it rings earlier. If the loop of the last time has ended, this one serves."""
        with self._lock:
            if self._loop is None or not self._loop.is_running():
                self._loop, self._handle, self._at = loop, None, math.inf
            if self._loop is None or at >= self._at:
                return
            self._at = at
            delay = max(0.0, at - now)
            if self._loop is running_loop_or_none():
                self._set_here(delay)
            else:
                with contextlib.suppress(RuntimeError):  # the loop has just been closed
                    self._loop.call_soon_threadsafe(self._set_here, delay)

    def _set_here(self, delay: float) -> None:
        with self._lock:
            if self._handle is not None:
                self._handle.cancel()
            self._handle = IN_FORCE.call_later(asyncio.get_running_loop(), delay, self._rings)

    def _rings(self) -> None:
        with self._lock:
            self._handle, self._at = None, math.inf
        self._ring()


_attendances: WeakSet[Attendance] = WeakSet()


def _start_anew() -> None:
    for attendance in list(_attendances):
        attendance.start_anew()


os.register_at_fork(after_in_child=_start_anew)
