"""The timing wheel: every deadline of every connection of a process, for one timer of the event loop.

It is pure. Time is an argument (seconds of a monotonic clock), nothing is waited for, and its owner calls it.

Theory of operation. Time is cut into ticks; tick number n begins at `origin + n * tick`. The wheel is a ring of
slots, one for each of the next `slots` ticks, and a slot is the set of entries to be called when its tick begins.
A deadline goes to the first tick that begins at it or after it, so an entry is at most one tick late.

Most deadlines never come due: each message that arrives moves the keep-alive or ping deadline of its connection
further away. Therefore nothing happens then. The entry stays where it is, is called when its old slot comes up, and
answers with its true deadline, at which it is placed again. For the same reason a deadline beyond the last slot is
put into the last slot. So an entry must decide by its own deadline whether there is anything to do, and `schedule`
is needed only to begin, or to move a deadline earlier.

A process may be stopped for a while (a long callback, a laptop's lid). What the peers sent meanwhile lies unread in
the sockets, so a deadline that passed meanwhile proves nothing about the peer. After a gap of more than two ticks the
entries that are due are therefore put off until the next call, once: the loop reads before it judges.

The tick is a quarter of a second: a twentieth of the shortest default limit (5 seconds), and four wake-ups a second
are not noticeable. 512 slots reach 128 seconds, beyond the longest usual limit (75), so that little is placed twice.
"""

from __future__ import annotations

import math
from typing import Protocol

DEFAULT_TICK = 0.25
DEFAULT_SLOTS = 512

STALL_TICKS = 2
"""A wheel that is advanced by more than this many ticks at once was not called when it should have been."""

_DUE = -1
"""The `wheel_slot` of an entry that has left its slot and waits to be called."""

_UNPLACED = -2
"""The `wheel_slot` of an entry that came while the wheel was asleep, when nobody had told it the time."""


class Entry(Protocol):
    """Something that has a deadline. It is hashed by identity, and belongs to one wheel at a time."""

    wheel_slot: int | None
    """Set by the wheel only; None while the entry is not in it."""

    def handle_deadline(self, now: float, /) -> float | None:
        """Act if the entry's own deadline has passed, and return the next one, or None for none.

        May be called early (a deadline that moved, or lies beyond the horizon), never later than one tick after the
        scheduled time as long as the loop runs. It may call `schedule` and `cancel` for any entry.
        """


class Wheel:
    """A ring of slots; scheduling and cancelling are O(1), and so is a tick in which nothing is due.

    Its owner calls `advance` at the time that `next_tick` names, for as long as it names one. Once that was None the
    wheel is asleep: after the next `schedule`, it has to ask `next_tick` again.
    """

    __slots__ = (
        "_awake",
        "_count",
        "_current",
        "_origin",
        "_postponed",
        "_ring",
        "_size",
        "_tick",
        "_unplaced",
    )

    def __init__(self, now: float, tick: float = DEFAULT_TICK, slots: int = DEFAULT_SLOTS) -> None:
        if not tick > 0 or slots < 2:
            raise ValueError("a wheel needs a tick of more than 0 seconds and at least 2 slots")
        self._origin = now
        self._tick = tick
        self._size = slots
        # Dictionaries keep the order in which the entries came, so that a run is reproducible.
        self._ring: list[dict[Entry, None]] = [_slot() for _ in range(slots)]
        self._current = 0  # the last tick that was advanced over
        self._count = 0
        self._awake = False
        self._unplaced: dict[Entry, float] = {}
        self._postponed: dict[Entry, None] = {}

    def __len__(self) -> int:
        """The number of entries that will still be called."""
        return self._count

    def schedule(self, entry: Entry, deadline: float) -> None:
        """See to it that the entry is called at the deadline; does nothing if it will be called before that anyway.

        A deadline in the past is due at the next tick. One of infinity is none.
        """
        if deadline == math.inf:
            return
        slot = entry.wheel_slot
        if not self._awake:
            if slot is None:
                self._count += 1
                entry.wheel_slot = _UNPLACED
                self._unplaced[entry] = deadline
            elif deadline < self._unplaced[entry]:
                self._unplaced[entry] = deadline
            return
        if slot is None:
            self._count += 1
        elif slot == _DUE:
            return
        else:
            # Most that are in the wheel are called much earlier, which is found out in half the time.
            tick = self._tick_of(slot)
            if self._origin + tick * self._tick <= deadline or tick <= self._tick_for(deadline):
                return
            del self._ring[slot][entry]
        self._place(entry, self._tick_for(deadline))

    def cancel(self, entry: Entry) -> None:
        """Forget the entry: it is not called any more, and nothing here refers to it. Harmless if it is not in."""
        slot = entry.wheel_slot
        if slot is None:
            return
        entry.wheel_slot = None
        self._count -= 1
        if slot >= 0:
            del self._ring[slot][entry]
        elif slot == _UNPLACED:
            del self._unplaced[entry]
        else:
            self._postponed.pop(entry, None)  # else it is among those that are being called

    def hand_over(self, entry: Entry, successor: Entry) -> None:
        """Call the successor, which is not in the wheel, when the entry would have been called.

        As after `cancel` the entry is not called any more. One that is not in the wheel, or is due already, has no
        place to give away.
        """
        slot = entry.wheel_slot
        if slot is None or slot == _DUE:
            self.cancel(entry)
            return
        entry.wheel_slot = None
        successor.wheel_slot = slot
        if slot == _UNPLACED:
            self._unplaced[successor] = self._unplaced.pop(entry)
        else:
            del self._ring[slot][entry]
            self._ring[slot][successor] = None

    def advance(self, now: float) -> None:
        """Call every entry that is due, in the order of their ticks, and place it again as it answers.

        After a stall, those that became due in it are left for the next call. An entry that raises is dropped and the
        others are still called; then the errors are raised together, as an `ExceptionGroup`.
        """
        target = self._tick_begun(now)
        if not self._awake:
            self._wake(target)
        stalled = target - self._current > STALL_TICKS
        calling, due = list(self._postponed), self._collect(target)
        if stalled:
            self._postponed = dict.fromkeys(due)
        else:
            self._postponed = {}
            calling += due
        self._call(calling, now)

    def next_tick(self, now: float) -> float | None:
        """When to call `advance` next, or None while nothing is scheduled.

        It is the next tick and not the next one with an entry in it, so that the owner's timer need not be moved
        when an earlier deadline comes, and so that a stall can be told from having had nothing to do.
        """
        if not self._count:
            if self._awake:
                self._awake = False
                self._ring = [_slot() for _ in range(self._size)]  # what was big without entries keeps its size
            return None
        if not self._awake:
            self._wake(self._tick_begun(now))
        return self._time_of(self._current + 1)

    def _wake(self, begun: int) -> None:
        self._awake = True
        self._current = max(begun, self._current)
        unplaced, self._unplaced = self._unplaced, {}
        for entry, deadline in unplaced.items():
            self._place(entry, self._tick_for(deadline))

    def _place(self, entry: Entry, tick: int) -> None:
        slot = tick % self._size
        self._ring[slot][entry] = None
        entry.wheel_slot = slot

    def _collect(self, target: int) -> list[Entry]:
        collected: list[Entry] = []
        # More than one turn passes no slot that the first one did not.
        for tick in range(self._current + 1, min(target, self._current + self._size) + 1):
            slot = tick % self._size
            due = self._ring[slot]
            for entry in due:
                entry.wheel_slot = _DUE
            collected += due
            due.clear()  # even if it is empty: a dictionary that was big keeps its size
        self._current = max(target, self._current)
        return collected

    def _call(self, calling: list[Entry], now: float) -> None:
        errors: list[Exception] = []
        for entry in calling:
            if entry.wheel_slot != _DUE:  # cancelled by one that was called before it
                continue
            entry.wheel_slot = None
            self._count -= 1
            try:
                deadline = entry.handle_deadline(now)
                if deadline is not None:
                    self.schedule(entry, deadline)
            except Exception as error:
                errors.append(error)
        if errors:
            raise ExceptionGroup("deadlines that could not be handled", errors)

    def _tick_of(self, slot: int) -> int:
        ahead = (slot - self._current - 1) % self._size
        return self._current + 1 + ahead

    def _time_of(self, tick: int) -> float:
        return self._origin + tick * self._tick

    def _tick_begun(self, now: float) -> int:
        tick = math.floor((now - self._origin) / self._tick)
        # The division rounds; the comparison with the time of the tick is what "never early" is promised against.
        while self._time_of(tick) > now:
            tick -= 1
        while self._time_of(tick + 1) <= now:
            tick += 1
        return tick

    def _tick_for(self, deadline: float) -> int:
        """The first tick at or after the deadline, or the nearest one that has a slot."""
        first, last = self._current + 1, self._current + self._size
        # `_time_of`, in line.
        origin, width = self._origin, self._tick
        if deadline <= origin + first * width:
            return first
        if deadline >= origin + last * width:
            return last
        tick = math.ceil((deadline - origin) / width)
        while origin + tick * width < deadline:
            tick += 1
        while origin + (tick - 1) * width >= deadline:
            tick -= 1
        return tick


def _slot() -> dict[Entry, None]:
    """A slot that stays where Python's collector has it, for good.

    All entries of a process are in the slots: 20,000 to be looked up in each collection, unless the slots are frozen
    with their entries (`fairway.server.collector`). Only a dictionary that has held an object can be.
    """
    slot: dict[object, None] = {object(): None, _slot: None}
    slot.clear()
    return slot  # type: ignore[return-value]
