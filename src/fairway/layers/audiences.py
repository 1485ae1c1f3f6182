"""The channels that hear who is present in a group, and what they are told.

An *audience* has the channels of this process that hear of one group, and the group's view. Each channel first gets
everybody who is present (`presence.state`), then each difference (`presence.diff`), at most ten times a second. A
channel that is full gets a new `presence.state` when it has room again.

Call everything under one lock. Times are those of the caller.
"""

from __future__ import annotations

import heapq
import math
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any

from fairway.delivery import Member, Message
from fairway.layers.copying import copied
from fairway.layers.hub import Hub
from fairway.layers.presence import GATHER, Departures, Difference, Entry, News, OwnEntries, Reading, View

STATE, DIFF = "presence.state", "presence.diff"

MOST_LISTED = 1000
"""How many persons one event lists. Beyond that, it only says how many there are."""

PER_HEARER = 1e-4
"""Seconds between two events to a group, for each channel that hears of it, if that is more than `GATHER`."""

STATES_PER_PASS = 50
"""To how many channels the state is sent at once. Others have their turn before the next ones."""

HIDDEN, SHOWN = "-", "+"
"""How the names of persons begin: by whether clients see the rest."""


class _Audience:
    """Those in `waiting` have to get the state first. `is_ready`: the view has been read."""

    __slots__ = ("hearing", "is_due", "is_ready", "next_at", "view", "waiting")

    def __init__(self, departures: Departures) -> None:
        self.view = View(departures)
        self.hearing: dict[str, frozenset[str]] = {}  # the types of events that each channel wants
        self.waiting: dict[str, None] = {}
        self.next_at = 0.0
        self.is_ready = False
        self.is_due = False


class Audiences:
    """All audiences of one layer. `thaw` makes what is shown of the data of an entry."""

    def __init__(self, hub: Hub, own: OwnEntries, thaw: Callable[[Any], Any]) -> None:
        self._hub = hub
        self._own = own
        self._thaw = thaw
        self._departures = Departures()
        self._audiences: dict[str, _Audience] = {}
        self._due: list[tuple[float, str]] = []  # a heap: when which audience hears what there is
        self._secret = os.urandom(16)

    @property
    def groups(self) -> list[str]:
        """The groups that somebody hears of."""
        return list(self._audiences)

    # Who hears ------------------------------------------------------------------------------------------------

    def hear(self, group: str, channel: str, types: Collection[str], is_ready: bool) -> bool:
        """A channel hears of a group. True if it is the first. Unless `is_ready`, the view has to be read."""
        audience = self._audiences.get(group)
        is_first = audience is None
        if audience is None:
            audience = self._audiences[group] = _Audience(self._departures)
            for id_, entry in self._own.entries(group).items():
                audience.view.own(id_, entry)
            audience.view.take()
            audience.is_ready = is_ready
        if channel not in audience.hearing:
            audience.waiting[channel] = None
        audience.hearing[channel] = frozenset(types)
        self._has_news(group, audience)
        return is_first

    def stop(self, group: str, channel: str) -> bool:
        """A channel does not hear of a group any more. True if it was the last."""
        audience = self._audiences.get(group)
        if audience is None or audience.hearing.pop(channel, None) is None:
            return False
        audience.waiting.pop(channel, None)
        if audience.hearing:
            return False
        del self._audiences[group]
        return True

    def clear(self) -> list[str]:
        """Nobody hears of any group any more. Returns the groups that somebody has heard of."""
        groups = self.groups
        self._audiences.clear()
        self._due.clear()
        return groups

    # What happens ---------------------------------------------------------------------------------------------

    def own_changed(self, group: str, ids: Iterable[str]) -> None:
        """Entries of this process have changed."""
        audience = self._audiences.get(group)
        if audience is not None:
            entries = self._own.entries(group)
            for id_ in ids:
                audience.view.own(id_, entries.get(id_))
            self._has_news(group, audience)

    def heard(self, group: str, process: str, term: int, difference: Difference) -> bool:
        """Another process has published a difference. True if the store has to be read."""
        audience = self._audiences.get(group)
        if audience is None:
            return False
        audience.view.apply(process, term, difference)
        self._has_news(group, audience)
        return audience.view.has_gap

    def departed(self, process: str, term: int) -> None:
        """A process has died."""
        self._departures.add(process, term)
        for group, audience in self._audiences.items():
            audience.view.depart(process, term)
            self._has_news(group, audience)

    def begin_reading(self, group: str) -> None:
        """The store is about to be read."""
        audience = self._audiences.get(group)
        if audience is not None:
            audience.view.begin_reading()

    def have_read(self, group: str, readings: Sequence[Reading], is_complete: bool) -> bool:
        """The store has been read. True if it has to be read again."""
        audience = self._audiences.get(group)
        if audience is None:
            return False
        again = audience.view.read(readings, is_complete)
        if not audience.is_ready:
            audience.is_ready = True
            audience.view.take()  # it is in the state, which everybody has still to get
        self._has_news(group, audience)
        return again

    # Telling --------------------------------------------------------------------------------------------------

    @property
    def next_at(self) -> float:
        """When `tell` will have something to do."""
        return self._due[0][0] if self._due else math.inf

    def tell(self, now: float) -> None:
        """Tell each audience what it has not heard yet, if its last event was long enough ago."""
        while self._due and self._due[0][0] <= now:
            group = heapq.heappop(self._due)[1]
            audience = self._audiences.get(group)
            if audience is not None and audience.is_due and audience.next_at <= now:
                audience.is_due = False
                self._tell(group, audience, now)
                self._has_news(group, audience)
                if audience.next_at <= now:
                    break  # there is more, but others have their turn first

    def _has_news(self, group: str, audience: _Audience) -> None:
        if not audience.is_due and audience.is_ready and (audience.waiting or audience.view.has_news):
            audience.is_due = True
            heapq.heappush(self._due, (audience.next_at, group))

    def _tell(self, group: str, audience: _Audience, now: float) -> None:
        self._tell_news(group, audience)
        is_full = False
        if audience.waiting:
            state = self._state(group, audience.view)
            for channel in list(audience.waiting)[:STATES_PER_PASS]:
                del audience.waiting[channel]
                if STATE in audience.hearing[channel] and not self._deliver(channel, self._own_state(state, channel)):
                    audience.waiting[channel] = None
                    is_full = True
        pause = max(GATHER, PER_HEARER * len(audience.hearing))
        audience.next_at = now if audience.waiting and not is_full else now + pause

    def _tell_news(self, group: str, audience: _Audience) -> None:
        news = audience.view.take()
        if not (news.joined or news.changed or news.left):
            return
        event = self._difference(group, news, len(audience.view))
        for channel, types in list(audience.hearing.items()):
            hears = DIFF in types and channel not in audience.waiting
            if hears and not self._deliver(channel, copied(event)) and STATE in types:
                audience.waiting[channel] = None

    def _deliver(self, channel: str, event: Message) -> bool:
        target = self._hub.channels.get(channel)
        if type(target) is Member:
            return target.deliver(event)
        return self._hub.send(channel, event)

    # Events ---------------------------------------------------------------------------------------------------

    def _state(self, group: str, view: View) -> Message:
        if len(view) > MOST_LISTED:
            return {"type": STATE, "group": group, "counts": {"present": len(view)}}
        return {"type": STATE, "group": group, "members": self._named(view.people())}

    def _own_state(self, state: Message, channel: str) -> Message:
        person = self._own.person(state["group"], channel)
        return {**copied(state), "me": None if person is None else self._name(person)}

    def _difference(self, group: str, news: News, present: int) -> Message:
        event: Message = {"type": DIFF, "group": group}
        lists = {"joined": news.joined, "left": news.left, "changed": news.changed}
        if sum(map(len, lists.values())) > MOST_LISTED:
            return {**event, "counts": {**{name: len(people) for name, people in lists.items()}, "present": present}}
        return {**event, **{name: self._named(people) for name, people in lists.items()}}

    def _named(self, people: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
        return {self._name(person): [self._thaw(data) for data in found] for person, found in people.items()}

    def _name(self, person: str) -> str:
        """What clients see of a person: its key, or a word that means something in this process only."""
        if person[0] == SHOWN:
            return person[1:]
        return blake2b(person.encode(), key=self._secret, digest_size=9).hexdigest()


def shown(entries: Iterable[Entry], thaw: Callable[[Any], Any]) -> dict[str, list[Any]]:
    """The keys of persons, each with the different data of its entries: for code that may know all keys."""
    found: dict[str, list[Any]] = {}
    for person, data in entries:
        several = found.setdefault(person[1:], [])
        if data not in several:
            several.append(data)
    return {key: [thaw(data) for data in several] for key, several in found.items()}
