"""Who is present in a group: the entries of this process, and the view of all processes. Pure.

Each connection that is tracked in a group is an *entry*: a person, and data about it. The truth about an entry is in
its process (`OwnEntries`). The store of the backplane has a copy, for others to read. Entries of one *person* in any
number of processes are one: it joins with the first, and leaves with the last.

A process that wants to know who is present has a `View`, in *parts*, one for each process. It reads the store once.
Then it follows the differences that each process publishes. Every change of an entry has a number, which grows within
the process. A difference brings all changes after one number (`since`) up to another. The store notes for each process
the number of its last change. So whoever has read up to a number applies a difference from any earlier one on: the
same change may come twice, without effect. If a difference begins later than the part has got, something is missing,
and the view has to read again. A difference from 0 on is *whole*: it says everything that the process has.

A process whose lease has ended begins another term, which counts before numbers. What is said in or about an earlier
term has no effect on a later one.

Times are in seconds of one monotonic clock.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

GATHER = 0.1
"""Seconds for which changes are gathered before they are told: to other processes, and to the members of a group."""

MOST_TOLD = 200
"""Entries in one difference between processes."""

MOST_SHOWN = 20
"""How many different data of one person are shown."""

MOST_DEPARTED = 1000
"""How many departed processes are remembered, to ignore what they have said before."""

OWN = ""
"""The part of a view that is this process's own."""


class Entry(NamedTuple):
    """One connection of a person. `data` is whatever the caller compares, stores and shows."""

    person: str
    data: Any


@dataclass(frozen=True)
class Difference:
    """Changes of one process in one group, after the number `since` up to `number`."""

    since: int
    number: int
    joined: Mapping[str, Entry]
    left: Sequence[str]


class _Group:
    """The entries of this process in one group, by their ids, and what others do not know yet.

    `pending`: the ids that have changed, in the order of their last changes, with the numbers of these. `told` and
    `stored`: the number up to which other processes, and the store, know everything; None if they may know nothing.
    """

    __slots__ = ("entries", "number", "pending", "stored", "told")

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.pending: dict[str, int] = {}
        self.number = 0
        self.stored: int | None = None
        self.told: int | None = None


@dataclass(frozen=True)
class Batch:
    """What the store has to be told about one group, in this order: ids to remove, entries, and the last number.

    The number is None if the process has no entries in the group. `differences` are to be published afterwards, in
    their order.
    """

    left: Sequence[str]
    entries: Mapping[str, Entry]
    number: int | None
    differences: Sequence[Difference] = ()


class OwnEntries:
    """The entries of this process in all groups. A connection is named by its channel.

    An entry whose connection has ended without a word lingers for some seconds: if the same person comes back to the
    same group meanwhile, as after the reload of a page, it takes the entry over, and nothing has happened.
    """

    def __init__(self, linger: float) -> None:
        self.linger = linger
        self._groups: dict[str, _Group] = {}
        self._by_channel: dict[str, dict[str, str]] = {}
        self._numbers = itertools.count(1)
        self._ids = itertools.count()
        self._lingering: deque[tuple[float, str, str]] = deque()
        self._waiting: dict[tuple[str, str], list[str]] = {}  # ids that linger, by group and person
        self._changed: dict[str, float] = {}  # when to tell others of a group's changes; in the order of these times
        self._unremoved: dict[str, list[str]] = {}  # ids that the store may still have

    @property
    def groups(self) -> list[str]:
        """The groups with entries, or with changes that have not been told."""
        return list(self._groups)

    def entries(self, group: str) -> Mapping[str, Entry]:
        own = self._groups.get(group)
        return own.entries if own is not None else {}

    def person(self, group: str, channel: str) -> str | None:
        """Whom a channel is tracked as."""
        id_ = self._by_channel.get(channel, {}).get(group)
        return None if id_ is None else self._groups[group].entries[id_].person

    # Changes --------------------------------------------------------------------------------------------------

    def track(self, group: str, channel: str, entry: Entry, now: float) -> list[str]:
        """Enter a connection, or change its entry. Returns the ids of the entries that have changed."""
        ids = self._by_channel.setdefault(channel, {})
        own = self._groups.get(group)
        if own is None:
            own = self._groups[group] = _Group()
        changed = []
        id_ = ids.get(group)
        if id_ is not None and own.entries[id_].person != entry.person:
            self._remove(group, own, id_, now)
            changed.append(id_)
            id_ = None
        if id_ is None:
            id_ = self._take_over(group, entry.person) or _short(next(self._ids))
        ids[group] = id_
        if own.entries.get(id_) != entry:
            own.entries[id_] = entry
            self._note(group, own, id_, now)
            changed.append(id_)
        return changed

    def untrack(self, group: str, channel: str, now: float) -> str | None:
        """Remove an entry. Returns its id, or None if there was none."""
        ids = self._by_channel.get(channel, {})
        id_ = ids.pop(group, None)
        if id_ is None:
            return None
        if not ids:
            del self._by_channel[channel]
        self._remove(group, self._groups[group], id_, now)
        return id_

    def ended(self, channel: str, now: float) -> list[str]:
        """A connection has ended: its entries linger, until `expire` removes them. Returns their groups."""
        ids = self._by_channel.pop(channel, {})
        for group, id_ in ids.items():
            self._lingering.append((now + self.linger, group, id_))
            self._waiting.setdefault((group, self._groups[group].entries[id_].person), []).append(id_)
        return list(ids)

    def expire(self, now: float) -> list[tuple[str, str]]:
        """Remove entries that have lingered for long enough. Returns their groups and ids."""
        removed = []
        while self._lingering and self._lingering[0][0] <= now:
            _, group, id_ = self._lingering.popleft()
            own = self._groups.get(group)
            entry = own.entries.get(id_) if own is not None else None
            if own is None or entry is None or not self._stop_lingering(group, entry.person, id_):
                continue  # somebody has taken it over
            self._remove(group, own, id_, now)
            removed.append((group, id_))
        return removed

    def _take_over(self, group: str, person: str) -> str | None:
        waiting = self._waiting.get((group, person))
        if not waiting:
            return None
        id_ = waiting[-1]
        self._stop_lingering(group, person, id_)
        return id_

    def _stop_lingering(self, group: str, person: str, id_: str) -> bool:
        waiting = self._waiting.get((group, person), [])
        if id_ not in waiting:
            return False
        waiting.remove(id_)
        if not waiting:
            del self._waiting[group, person]
        return True

    def _remove(self, group: str, own: _Group, id_: str, now: float) -> None:
        del own.entries[id_]
        self._note(group, own, id_, now)

    def _note(self, group: str, own: _Group, id_: str, now: float) -> None:
        own.number = next(self._numbers)
        own.pending.pop(id_, None)
        own.pending[id_] = own.number
        self._changed.setdefault(group, now + GATHER)

    # Telling others -------------------------------------------------------------------------------------------

    def next_at(self) -> float:
        """When `expire` or `due` will have something."""
        lingering = self._lingering[0][0] if self._lingering else math.inf
        return min(lingering, next(iter(self._changed.values()), math.inf))

    def due(self, now: float) -> list[str]:
        """The groups whose changes have been gathered for long enough: `take` each of them. They are named once."""
        found = list(itertools.takewhile(lambda group: self._changed[group] <= now, self._changed))
        for group in found:
            del self._changed[group]
        return found

    def store(self, group: str) -> Batch:
        """What the store does not know yet. The number counts only if all of it is stored."""
        left = self._unremoved.pop(group, [])
        own = self._groups.get(group)
        if own is None:
            return Batch(left, {}, None)
        pending, stored = own.pending, own.stored or 0
        news = list(itertools.takewhile(lambda id_: pending[id_] > stored, reversed(pending)))
        left += [id_ for id_ in news if id_ not in own.entries]
        entries = own.entries if own.stored is None else {id_: own.entries[id_] for id_ in news if id_ in own.entries}
        own.stored = own.number
        return Batch(left, dict(entries), own.number if own.entries else None)

    def take(self, group: str) -> Batch:
        """What the store and others do not know yet."""
        batch = self.store(group)
        own = self._groups.get(group)
        if own is None:
            return replace(batch, differences=[Difference(0, next(self._numbers), {}, ())])
        differences = list(_differences(own))
        own.pending.clear()
        own.told = own.number
        if not own.entries:
            del self._groups[group]
        return replace(batch, differences=differences)

    def was_not_stored(self, group: str, batch: Batch) -> None:
        """The store could not be told: next time, tell it everything."""
        if batch.left:
            self._unremoved.setdefault(group, []).extend(batch.left)
        own = self._groups.get(group)
        if own is not None:
            own.stored = None

    def was_not_told(self, group: str, now: float) -> None:
        """Others may have missed a difference: tell them everything, or make them read it."""
        own = self._groups.get(group)
        if own is not None:
            own.told = None
        self._changed.setdefault(group, now + GATHER)

    def store_again(self) -> None:
        """The store may have lost something: tell it everything. The caller does so group by group, with `store`."""
        for own in self._groups.values():
            own.stored = None

    def forget_all(self) -> None:
        """Nobody is present any more, in no process: nobody has to be told."""
        for known in (self._groups, self._by_channel, self._lingering, self._waiting, self._changed, self._unremoved):
            known.clear()

    def begin_term(self) -> None:
        """The lease has ended and another term begins: neither the store nor others know anything in it.

        The caller tells them, group by group, with `was_not_told`.
        """
        self._unremoved.clear()
        for own in self._groups.values():
            own.stored = own.told = None


def _differences(own: _Group) -> Iterator[Difference]:
    if own.told is None:
        is_short = len(own.entries) <= MOST_TOLD
        # A long list is not sent: whoever has less than all of it reads the store.
        yield Difference(0 if is_short else own.number, own.number, dict(own.entries) if is_short else {}, ())
        return
    since, pending = own.told, list(own.pending.items())
    for begin in range(0, len(pending), MOST_TOLD):
        part = pending[begin : begin + MOST_TOLD]
        joined = {id_: own.entries[id_] for id_, _ in part if id_ in own.entries}
        number = part[-1][1]
        yield Difference(since, number, joined, [id_ for id_, _ in part if id_ not in own.entries])
        since = number


_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def _short(number: int) -> str:
    text = ""
    while True:
        number, digit = divmod(number, 36)
        text = _DIGITS[digit] + text
        if not number:
            return text


# The view -----------------------------------------------------------------------------------------------------------


class _Part:
    """What one process has: the person of each of its entries.

    `number` is that of the last change that is in here, and `heard` the last that was heard of. `is_fresh`: something
    was heard since the last reading began.
    """

    __slots__ = ("heard", "is_fresh", "number", "people", "term")

    def __init__(self, term: int, number: int) -> None:
        self.term = term
        self.number = self.heard = number
        self.is_fresh = True
        self.people: dict[str, str] = {}


@dataclass(frozen=True)
class Reading:
    """What the store says about one process."""

    process: str
    term: int
    number: int
    entries: Mapping[str, Entry]


@dataclass(frozen=True)
class News:
    """What has happened to persons: each with the different data of its entries, and in `left` with the last."""

    joined: Mapping[str, list[Any]]
    changed: Mapping[str, list[Any]]
    left: Mapping[str, list[Any]]


class Departures:
    """The last terms of processes that have departed: what is said in them does not count any more."""

    def __init__(self) -> None:
        self._terms: dict[str, int] = {}

    def add(self, process: str, term: int) -> None:
        term = max(term, self._terms.pop(process, term))
        self._terms[process] = term
        if len(self._terms) > MOST_DEPARTED:
            del self._terms[next(iter(self._terms))]

    def include(self, process: str, term: int) -> bool:
        return term <= self._terms.get(process, -1)


class View:
    """Who is present in one group, over all processes."""

    __slots__ = ("_before", "_departures", "_parts", "_people")

    def __init__(self, departures: Departures) -> None:
        self._departures = departures
        self._parts: dict[str, _Part] = {}
        self._people: dict[str, dict[tuple[str, str], Any]] = {}
        self._before: dict[str, list[Any]] = {}  # persons with news, and what was last told about each

    def __len__(self) -> int:
        return len(self._people)

    @property
    def has_news(self) -> bool:
        return bool(self._before)

    @property
    def has_gap(self) -> bool:
        """Whether something is missing, and the store has to be read."""
        return any(part.number < part.heard for part in self._parts.values())

    def people(self) -> dict[str, list[Any]]:
        """Each person, with the different data of its entries."""
        return {person: _distinct(entries) for person, entries in self._people.items()}

    def take(self) -> News:
        """What has happened since the last call."""
        joined, changed, left = {}, {}, {}
        for person, before in self._before.items():
            now = _distinct(self._people.get(person, {}))
            if not before and now:
                joined[person] = now
            elif before and not now:
                left[person] = before
            elif before != now:
                changed[person] = now
        self._before = {}
        return News(joined, changed, left)

    def own(self, id_: str, entry: Entry | None) -> None:
        """An entry of this process was entered or changed, or has gone."""
        part = self._parts.setdefault(OWN, _Part(0, 0))
        self._set(OWN, part, id_, entry)

    def apply(self, process: str, term: int, difference: Difference) -> None:
        """Another process has published a difference. Look at `has_gap` afterwards."""
        if self._departures.include(process, term):
            return
        part = self._parts.get(process)
        if part is None or part.term < term:
            part = self._begin(process, term)
        if term < part.term or difference.number <= part.number:
            return
        part.is_fresh = True
        part.heard = max(part.heard, difference.number)
        if difference.since == 0:
            self._replace(process, part, difference.joined)
        elif difference.since > part.number:
            return
        for id_, entry in difference.joined.items():
            self._set(process, part, id_, entry)
        for id_ in difference.left:
            self._set(process, part, id_, None)
        part.number = difference.number

    def begin_reading(self) -> None:
        """The store is read from now on. What is heard meanwhile may be newer."""
        for part in self._parts.values():
            part.is_fresh = False

    def read(self, readings: Iterable[Reading], is_complete: bool) -> bool:
        """The store was read. Unless `is_complete`, others may only not have come back to it yet, and stay.

        Returns whether the store has to be read again, because something is still missing, or some have stayed.
        """
        missing = {process for process, part in self._parts.items() if not part.is_fresh and process != OWN}
        for reading in readings:
            missing.discard(reading.process)
            if self._departures.include(reading.process, reading.term):
                continue
            part = self._parts.get(reading.process)
            if part is None or part.term < reading.term:
                part = self._begin(reading.process, reading.term)
            if (part.term, part.number) < (reading.term, reading.number):
                self._replace(reading.process, part, reading.entries)
                part.number = reading.number
                part.heard = max(part.heard, reading.number)
        if is_complete:
            for process in missing:
                self._end(process)
        return self.has_gap or (bool(missing) and not is_complete)

    def depart(self, process: str, term: int) -> None:
        """A term of a process has ended, and with it its entries. `Departures` has to know it already."""
        part = self._parts.get(process)
        if part is not None and part.term <= term:
            self._end(process)

    def _begin(self, process: str, term: int) -> _Part:
        """A process is heard of for the first time in this term. What it had in an earlier one stays until replaced."""
        earlier = self._parts.get(process)
        part = self._parts[process] = _Part(term, -1)
        if earlier is not None:
            part.people = earlier.people
        return part

    def _replace(self, process: str, part: _Part, entries: Mapping[str, Entry]) -> None:
        for id_ in [id_ for id_ in part.people if id_ not in entries]:
            self._set(process, part, id_, None)
        for id_, entry in entries.items():
            self._set(process, part, id_, entry)

    def _end(self, process: str) -> None:
        part = self._parts.pop(process)
        for id_ in list(part.people):
            self._set(process, part, id_, None)

    def _set(self, process: str, part: _Part, id_: str, entry: Entry | None) -> None:
        earlier = part.people.get(id_)
        where = process, id_
        if earlier is not None and (entry is None or entry.person != earlier):
            self._touch(earlier)
            entries = self._people[earlier]
            del entries[where], part.people[id_]
            if not entries:
                del self._people[earlier]
        if entry is not None:
            entries = self._people.get(entry.person, {})
            if where in entries and entries[where] == entry.data:
                return
            self._touch(entry.person)
            entries[where] = entry.data
            self._people[entry.person] = entries
            part.people[id_] = entry.person

    def _touch(self, person: str) -> None:
        if person not in self._before:
            self._before[person] = _distinct(self._people.get(person, {}))


def _distinct(entries: Mapping[tuple[str, str], Any]) -> list[Any]:
    found: list[Any] = []
    for data in entries.values():
        if data not in found:
            found.append(data)
            if len(found) == MOST_SHOWN:
                break
    return found
