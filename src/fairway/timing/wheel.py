"""The timing wheel: holds the deadlines of all connections of an event loop, for one timer.

The wheel is pure. Time is an argument, in seconds of one monotonic clock. The wheel never waits: its owner calls it.

Theory of operation. Time is divided into ticks. Tick number n begins at `origin + n * tick`. The wheel is a ring of
slots, one for each of the next `slots` ticks. A slot is the set of entries to be called when its tick begins. An entry
is placed in the first tick that begins at its deadline or later, so it is called at most one tick late.

Most deadlines never come due, because each message that arrives moves the keep-alive or ping deadline of its connection
to a later time. Such a move costs nothing: the entry stays in its slot. When the slot comes up, the entry is called
early, returns its current deadline, and is placed again. For the same reason, an entry whose deadline is beyond the
last slot is placed in the last slot. So an entry must compare the time with its own deadline. It only calls `schedule`
for its first deadline, or for an earlier one.

A process may stand still for a while, because of a long callback or a closed laptop. Data that the peers sent meanwhile
is still unread in the sockets, so a deadline that passed meanwhile proves nothing about a peer. Therefore, after a gap
of more than two ticks, the entries that are due are put off to the next call of `advance`, once. In between, the event
loop reads from the sockets.

Thousands of entries may become due in one tick: clients that came together and are all silent. Whatever else its loop
has to do would wait for all of their handlers. So the owner says how many one call of `advance` may call, and calls
again, in the next pass of the loop, while there are more.

The default tick is a quarter of a second. This is a twentieth of the shortest default limit (5 seconds), and four
wake-ups a second cost nothing noticeable. 512 slots cover 128 seconds, more than the longest usual limit (75 seconds),
so that few entries are placed twice.
"""

from __future__ import annotations

import math
from typing import Protocol

DEFAULT_TICK = 0.25
DEFAULT_SLOTS = 512

STALL_TICKS = 2
"""If one call of `advance` passes more than this number of ticks, the process has stood still."""

_DUE = -1
"""The `wheel_slot` of an entry that has left its slot and is about to be called."""

_UNPLACED = -2
"""The `wheel_slot` of an entry that was scheduled while the wheel was asleep and did not know the time."""


class Entry(Protocol):
    """An object with a deadline. It must be hashed by identity, and belongs to one wheel at a time."""

    wheel_slot: int | None
    """Set only by the wheel. None while the entry is not in a wheel."""

    def handle_deadline(self, now: float, /) -> float | None:
        """Act if the entry's deadline has passed. Return its next deadline, or None if it has none.

        It may be called early, if the deadline has moved or is beyond the last slot. It is called at most one tick
        late, unless the process stands still. It may call `schedule` and `cancel` for any entry.
        """


class Wheel:
    """A ring of slots. Scheduling, cancelling, and a tick in which nothing is due are O(1).

    The owner calls `next_tick`, and then `advance` at the time that it returns, again and again. If `next_tick` returns
    None, the wheel is asleep. After the next `schedule`, the owner must call `next_tick` again.
    """

    __slots__ = (
        "_awake",
        "_behind",
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
        # Dictionaries instead of sets, because their order makes runs reproducible.
        self._ring: list[dict[Entry, None]] = [_slot() for _ in range(slots)]
        self._current = 0  # the last tick that was advanced over
        self._count = 0
        self._behind = False  # whether the last call left entries for the next one because they were too many
        self._awake = False
        self._unplaced: dict[Entry, float] = {}
        self._postponed: dict[Entry, None] = {}

    def __len__(self) -> int:
        """The number of entries that will still be called."""
        return self._count

    def schedule(self, entry: Entry, deadline: float) -> None:
        """Call the entry at the deadline. Does nothing if the entry is in the wheel and will be called before that.

        An entry with a deadline in the past is called at the next tick. Infinity means no deadline.
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
            # Most entries in the wheel will be called much earlier. The first comparison finds that in half the time.
            tick = self._tick_of(slot)
            if self._origin + tick * self._tick <= deadline or tick <= self._tick_for(deadline):
                return
            del self._ring[slot][entry]
        self._place(entry, self._tick_for(deadline))

    def cancel(self, entry: Entry) -> None:
        """Remove the entry, so that it is not called any more. Does nothing if it is not in the wheel."""
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
            self._postponed.pop(entry, None)  # otherwise `_call` is about to call it, and will skip it

    def hand_over(self, entry: Entry, successor: Entry) -> None:
        """Remove the entry, and call the successor at the time when the entry would have been called.

        The successor must not be in the wheel. If the entry is not in the wheel, or is about to be called, the
        successor is not placed.
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

    def advance(self, now: float, most: int | None = None) -> None:
        """Call the entries that are due, in the order of their ticks, and place each at its next deadline.

        After `most` entries, the others are left for the next call, which `next_tick` then wants at once. After a
        standstill, the entries that became due in it are left for the next call, too. An entry that raises is
        removed, and the others are still called. Then the errors are raised as an `ExceptionGroup`.
        """
        target = self._tick_begun(now)
        if not self._awake:
            self._wake(target)
        stalled = target - self._current > STALL_TICKS
        calling, due = list(self._postponed), self._collect(target)
        if not stalled:
            calling += due
            due = []
        left = [] if most is None else calling[most:]
        self._behind = bool(left)
        self._postponed = dict.fromkeys(left + due)
        self._call(calling[:most], now)

    def next_tick(self, now: float) -> float | None:
        """When to call `advance` next. None if nothing is scheduled.

        This is `now` if the last call has left entries, and otherwise the next tick, even if it has no entry. So the
        owner need not move its timer for an earlier deadline, and the wheel can tell a standstill from a time without
        entries.
        """
        if not self._count:
            if self._awake:
                self._awake = False
                self._ring = [_slot() for _ in range(self._size)]  # new ones, because an emptied dict keeps its size
            return None
        if not self._awake:
            self._wake(self._tick_begun(now))
        if self._behind:
            return now
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
        # One turn passes all slots, so more than one is not needed.
        for tick in range(self._current + 1, min(target, self._current + self._size) + 1):
            slot = tick % self._size
            due = self._ring[slot]
            for entry in due:
                entry.wheel_slot = _DUE
            collected += due
            due.clear()  # also if it is empty, which releases the memory of a dictionary that was large
        self._current = max(target, self._current)
        return collected

    def _call(self, calling: list[Entry], now: float) -> None:
        errors: list[Exception] = []
        for entry in calling:
            if entry.wheel_slot != _DUE:  # an entry that was called before has cancelled it
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
        # The division rounds, so compare with the exact times of ticks: no entry may be called before its deadline.
        while self._time_of(tick) > now:
            tick -= 1
        while self._time_of(tick + 1) <= now:
            tick += 1
        return tick

    def _tick_for(self, deadline: float) -> int:
        """The first tick at or after the deadline, or the nearest tick that has a slot."""
        first, last = self._current + 1, self._current + self._size
        # `_time_of` is inlined below.
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
    """Make an empty slot that Python's cyclic collector tracks from the beginning.

    The slots refer to all entries, 20,000 or more, and each collection would walk them, unless the slots are frozen
    with the entries (`fairway.server.collector`). Only tracked objects can be frozen, and a dictionary is tracked once
    it has held an object.
    """
    slot: dict[object, None] = {object(): None, _slot: None}
    slot.clear()
    return slot  # type: ignore[return-value]
