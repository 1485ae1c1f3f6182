"""Own entries and views: rule by rule, and many processes together under loss, doubling, disorder and death."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from itertools import permutations
from typing import Any

from tests.seeds import seeded

from fairway.layers.backplane import NOTE
from fairway.layers.leases import Leases
from fairway.layers.presence import (
    GATHER,
    MOST_DEPARTED,
    MOST_SHOWN,
    MOST_TOLD,
    Departures,
    Difference,
    Entry,
    News,
    OwnEntries,
    Reading,
    View,
)

MIRA, TOM = Entry("+mira", {"name": "Mira"}), Entry("+tom", {"name": "Tom"})


def view() -> View:
    return View(Departures())


def whole(number: int, **entries: Entry) -> Difference:
    return Difference(0, number, entries, ())


# Own entries --------------------------------------------------------------------------------------------------------


def test_changes_are_gathered_and_then_told_once() -> None:
    own = OwnEntries(linger=3)
    own.track("room", "c1", MIRA, now=10.0)
    own.track("room", "c2", TOM, now=10.05)

    assert own.due(10.0 + GATHER - 0.01) == []
    assert own.next_at() == 10.0 + GATHER
    assert own.due(10.0 + GATHER) == ["room"]
    assert own.due(10.0 + GATHER) == []
    batch = own.take("room")
    assert [dict(one.joined) for one in batch.differences] == [{"0": MIRA, "1": TOM}]
    assert (batch.entries, batch.left, batch.number) == ({"0": MIRA, "1": TOM}, [], 2)
    assert own.next_at() == math.inf


def test_the_first_difference_is_whole_and_the_next_ones_follow_it() -> None:
    own = OwnEntries(linger=3)
    own.track("room", "c1", MIRA, now=0)
    (first,) = own.take("room").differences
    own.track("room", "c2", TOM, now=1)
    own.untrack("room", "c1", now=1)
    (second,) = own.take("room").differences

    assert (first.since, first.number) == (0, 1)
    assert second == Difference(1, 3, {"1": TOM}, ["0"])


def test_numbers_grow_over_all_groups_and_beyond_the_end_of_a_group() -> None:
    own = OwnEntries(linger=3)
    own.track("room", "c1", MIRA, now=0)
    own.take("room")
    own.untrack("room", "c1", now=0)
    (last,) = own.take("room").differences
    assert own.groups == []
    own.track("room", "c1", MIRA, now=0)
    (again,) = own.take("room").differences

    assert (last.number, again.since, again.number) == (2, 0, 3)


def test_the_store_is_told_what_it_does_not_know() -> None:
    own = OwnEntries(linger=3)
    own.track("room", "c1", MIRA, now=0)
    own.track("room", "c2", TOM, now=0)
    first = own.store("room")
    own.untrack("room", "c1", now=0)
    second = own.store("room")
    own.untrack("room", "c2", now=0)
    last = own.take("room")

    assert (first.entries, first.left, first.number) == ({"0": MIRA, "1": TOM}, [], 2)
    assert (second.entries, second.left, second.number) == ({}, ["0"], 3)
    assert (last.entries, last.left, last.number) == ({}, ["1"], None)
    assert [dict(one.joined) for one in last.differences] == [{}]


def test_what_could_not_be_stored_is_stored_again_in_full() -> None:
    own = OwnEntries(linger=3)
    own.track("room", "c1", MIRA, now=0)
    own.take("room")
    own.track("room", "c2", TOM, now=0)
    own.untrack("room", "c1", now=0)
    own.was_not_stored("room", own.take("room"))
    again = own.store("room")
    own.untrack("room", "c2", now=0)
    own.was_not_stored("room", own.take("room"))

    assert (again.left, again.entries, again.number) == (["0"], {"1": TOM}, 3)
    assert (own.store("room").left, own.groups) == (["1"], [])


def test_a_store_that_may_have_lost_something_is_told_everything_again() -> None:
    own = OwnEntries(linger=3)
    own.track("room", "c1", MIRA, now=0)
    own.take("room")
    assert own.store("room").entries == {}
    own.store_again()

    assert (own.store("room").entries, own.store("room").entries) == ({"0": MIRA}, {})


def test_what_could_not_be_told_is_told_as_a_whole() -> None:
    own = OwnEntries(linger=3)
    own.track("room", "c1", MIRA, now=0)
    own.track("hall", "c1", MIRA, now=0)
    own.untrack("hall", "c1", now=0)
    for group in own.due(1):
        own.take(group)
    own.was_not_told("room", now=5)
    own.was_not_told("hall", now=5)

    assert own.due(5 + GATHER) == ["room", "hall"]
    assert own.take("room").differences == [Difference(0, 1, {"0": MIRA}, ())]
    assert own.take("hall").differences == [Difference(0, 4, {}, ())], "nobody is left"


def test_a_new_term_tells_everything_to_everybody() -> None:
    own = OwnEntries(linger=3)
    own.track("room", "c1", MIRA, now=0)
    own.take("room")
    own.begin_term()
    batch = own.take("room")

    assert batch.entries == {"0": MIRA}
    assert batch.differences == [Difference(0, 1, {"0": MIRA}, ())]


def test_a_long_list_is_not_sent_but_has_to_be_read() -> None:
    own = OwnEntries(linger=3)
    for number in range(MOST_TOLD + 1):
        own.track("room", f"c{number}", Entry(f"+{number}", None), now=0)
    (difference,) = own.take("room").differences

    assert difference == Difference(MOST_TOLD + 1, MOST_TOLD + 1, {}, ())


def test_many_changes_are_told_in_parts_that_follow_each_other() -> None:
    own = OwnEntries(linger=3)
    own.track("room", "first", MIRA, now=0)
    own.take("room")
    for number in range(2 * MOST_TOLD + 10):
        own.track("room", f"c{number}", Entry(f"+{number}", None), now=0)
    own.untrack("room", "c0", now=0)
    parts = own.take("room").differences

    assert [len(part.joined) + len(part.left) for part in parts] == [MOST_TOLD, MOST_TOLD, 10]
    assert [part.since for part in parts] == [1, *(part.number for part in parts[:-1])]
    assert list(parts[-1].left) == ["1"]


def test_a_person_who_comes_back_in_time_has_not_left() -> None:
    own = OwnEntries(linger=3)
    own.track("room", "c1", MIRA, now=0)
    assert own.due(1) == ["room"]
    own.take("room")
    assert own.ended("c1", now=1) == ["room"]
    assert own.next_at() == 4
    assert own.track("room", "c2", MIRA, now=3.9) == []
    assert own.expire(10) == []
    assert own.person("room", "c2") == MIRA.person
    assert own.due(10) == []

    own.ended("c2", now=10)
    assert own.track("room", "c3", TOM, now=11) == ["1"], "another person does not take it over"
    assert own.expire(12.9) == []
    assert own.expire(13) == [("room", "0")]


def test_somebody_with_two_tabs_who_closes_both_lingers_twice() -> None:
    own = OwnEntries(linger=3)
    own.track("room", "c1", MIRA, now=0)
    own.track("room", "c2", MIRA, now=0)
    own.ended("c1", now=1)
    own.ended("c2", now=2)
    own.track("room", "c3", MIRA, now=3)

    assert own.expire(6) == [("room", "0")]
    assert list(own.entries("room")) == ["1"]


def test_untracking_is_leaving_at_once() -> None:
    own = OwnEntries(linger=3)
    own.track("room", "c1", MIRA, now=0)

    assert own.untrack("room", "c1", now=1) == "0"
    assert own.untrack("room", "c1", now=1) is None
    assert own.entries("room") == {}


def test_tracking_again_changes_the_data_or_the_person() -> None:
    own = OwnEntries(linger=3)
    own.track("room", "c1", MIRA, now=0)
    assert own.track("room", "c1", MIRA, now=0) == []
    assert own.track("room", "c1", Entry("+mira", "away"), now=0) == ["0"]
    assert own.track("room", "c1", TOM, now=0) == ["0", "1"]
    assert own.entries("room") == {"1": TOM}


# The view -----------------------------------------------------------------------------------------------------------


def test_a_person_joins_with_the_first_entry_and_leaves_with_the_last() -> None:
    seen = view()
    seen.apply("a", 1, whole(1, x=MIRA))
    assert seen.take() == News({"+mira": [MIRA.data]}, {}, {})
    seen.apply("b", 1, whole(1, y=MIRA))
    assert seen.take() == News({}, {}, {})
    seen.apply("a", 1, Difference(1, 2, {}, ["x"]))
    assert seen.take() == News({}, {}, {})
    seen.apply("b", 1, Difference(1, 2, {}, ["y"]))
    assert seen.take() == News({}, {}, {"+mira": [MIRA.data]})


def test_different_data_is_news_and_the_same_data_is_not() -> None:
    seen = view()
    seen.apply("a", 1, whole(1, x=MIRA))
    seen.take()
    seen.apply("a", 1, Difference(1, 2, {"z": MIRA}, ()))
    assert seen.take() == News({}, {}, {})
    seen.apply("a", 1, Difference(1, 2, {"z": MIRA}, ()))
    seen.own("z", MIRA)
    seen.take()
    seen.own("z", MIRA)
    assert not seen.has_news
    seen.apply("a", 1, Difference(2, 3, {"z": Entry("+mira", "phone")}, ()))
    assert seen.take() == News({}, {"+mira": [MIRA.data, "phone"]}, {})


def test_somebody_who_comes_and_goes_between_two_looks_is_no_news() -> None:
    seen = view()
    seen.apply("a", 1, whole(1, x=MIRA))
    seen.apply("a", 1, Difference(1, 2, {}, ["x"]))

    assert seen.has_news
    assert seen.take() == News({}, {}, {})


def test_what_comes_twice_or_late_has_no_effect() -> None:
    seen = view()
    seen.apply("a", 1, whole(1, x=MIRA))
    seen.apply("a", 1, Difference(1, 2, {}, ["x"]))
    seen.apply("a", 1, whole(1, x=MIRA))
    seen.apply("a", 1, Difference(1, 2, {"x": MIRA}, ()))

    assert seen.people() == {}


def test_what_overlaps_is_applied() -> None:
    seen = view()
    seen.read([Reading("a", 1, 5, {"x": MIRA})], is_complete=True)
    seen.apply("a", 1, Difference(3, 7, {"x": MIRA, "y": TOM}, ()))

    assert seen.people() == {"+mira": [MIRA.data], "+tom": [TOM.data]}
    assert not seen.has_gap


def test_a_gap_is_noticed_and_reading_closes_it() -> None:
    seen = view()
    seen.apply("a", 1, whole(1, x=MIRA))
    seen.apply("a", 1, Difference(2, 3, {"y": TOM}, ()))
    assert (seen.has_gap, seen.people()) == (True, {"+mira": [MIRA.data]})
    seen.begin_reading()
    assert seen.read([Reading("a", 1, 2, {"x": MIRA})], is_complete=True), "the store was behind"
    seen.begin_reading()
    assert not seen.read([Reading("a", 1, 3, {"y": TOM})], is_complete=True)
    assert seen.people() == {"+tom": [TOM.data]}


def test_one_who_is_heard_of_in_the_middle_has_to_be_read() -> None:
    seen = view()
    seen.apply("a", 1, Difference(4, 5, {"y": TOM}, ()))

    assert (seen.has_gap, seen.people()) == (True, {})


def test_what_is_heard_while_the_store_is_read_is_newer() -> None:
    seen = view()
    seen.begin_reading()
    seen.apply("a", 1, whole(2, x=MIRA))
    seen.apply("b", 1, whole(1, z=TOM))
    seen.read([Reading("a", 1, 1, {"y": TOM})], is_complete=True)

    assert seen.people() == {"+mira": [MIRA.data], "+tom": [TOM.data]}


def test_whoever_is_heard_of_while_the_store_is_read_is_there() -> None:
    seen = view()
    seen.apply("a", 1, whole(1, x=MIRA))
    seen.begin_reading()
    seen.apply("a", 1, Difference(1, 2, {"y": TOM}, ()))
    seen.read([], is_complete=True)
    assert len(seen) == 2

    seen.begin_reading()
    seen.read([], is_complete=True)
    assert len(seen) == 0


def test_an_entry_may_become_another_persons() -> None:
    seen = view()
    seen.apply("a", 1, whole(1, x=MIRA))
    seen.take()
    seen.apply("a", 1, Difference(1, 2, {"x": TOM}, ()))

    assert seen.take() == News({"+tom": [TOM.data]}, {}, {"+mira": [MIRA.data]})


def test_whoever_is_missing_in_the_store_has_gone_unless_others_may_still_be_coming_back() -> None:
    seen = view()
    seen.read([Reading("a", 1, 1, {"x": MIRA})], is_complete=True)
    seen.own("o", TOM)
    seen.begin_reading()
    assert seen.read([], is_complete=False), "it has to be read again"
    assert len(seen) == 2
    seen.begin_reading()
    assert not seen.read([], is_complete=True)
    assert seen.people() == {"+tom": [TOM.data]}


def test_a_process_that_has_not_entered_everything_yet_is_left_as_it_was() -> None:
    seen = view()
    seen.read([Reading("a", 1, 9, {"x": MIRA, "y": TOM})], is_complete=True)
    seen.begin_reading()
    seen.read([Reading("a", 2, -1, {"x": MIRA})], is_complete=True)

    assert len(seen) == 2


def test_another_term_takes_the_place_of_the_earlier_one_without_news() -> None:
    seen = view()
    seen.apply("a", 1, whole(7, x=MIRA))
    seen.take()
    seen.apply("a", 2, whole(7, x=MIRA))
    seen.apply("a", 1, Difference(7, 8, {}, ["x"]))
    assert seen.take() == News({}, {}, {})

    seen.apply("a", 3, Difference(9, 9, {}, ()))
    assert (seen.has_gap, len(seen)) == (True, 1), "its entries stay until they have been read"


def test_what_is_said_about_or_in_an_ended_term_does_not_reach_the_next_one() -> None:
    departures = Departures()
    seen = View(departures)
    seen.apply("a", 1, whole(1, x=MIRA))
    departures.add("a", 1)
    seen.depart("a", 1)
    assert seen.people() == {}
    seen.apply("a", 1, whole(2, x=MIRA))
    seen.read([Reading("a", 1, 3, {"x": MIRA})], is_complete=True)
    assert seen.people() == {}

    seen.apply("a", 2, whole(3, x=MIRA))
    seen.depart("a", 1)
    seen.depart("b", 1)
    assert seen.people() == {"+mira": [MIRA.data]}


def test_departures_are_bounded_and_never_go_back() -> None:
    departures = Departures()
    departures.add("a", 2)
    departures.add("a", 1)
    assert departures.include("a", 2)
    for number in range(MOST_DEPARTED):
        departures.add(str(number), 1)

    assert not departures.include("a", 1)
    assert departures.include("0", 1)


def test_few_of_the_data_of_one_person_are_shown() -> None:
    seen = view()
    seen.apply("a", 1, whole(1, **{f"x{number}": Entry("+mira", number) for number in range(2 * MOST_SHOWN)}))

    assert len(seen.people()["+mira"]) == MOST_SHOWN


def test_parts_of_several_processes_merge_in_any_order() -> None:
    parts = [("a", whole(1, x=MIRA)), ("b", whole(1, x=TOM, y=MIRA)), ("c", whole(1)), ("a", whole(2, y=TOM))]
    results = []
    for order in permutations(parts):
        seen = view()
        for process, difference in order:
            seen.apply(process, 1, difference)
        results.append({person: sorted(map(str, data)) for person, data in seen.people().items()})

    assert all(result == results[0] for result in results)


# Many processes -----------------------------------------------------------------------------------------------------

LEASE, LINGER = 5.0, 3.0


class Process:
    """A process with its entries and a view of one group, as the registrar moves them."""

    def __init__(self, name: str, world: World) -> None:
        self.name = name
        self.world = world
        self.own = OwnEntries(LINGER)
        self.departures = Departures()
        self.view = View(self.departures)
        self.term = 0
        self.inbox: list[tuple[Any, ...]] = []
        self.channels: list[str] = []
        self.shown: dict[str, list[Any]] = {}
        self.is_dead = self.is_cut_off = False
        self.judges_from = 0.0
        self.renewed_at = 0.0
        self.must_read = True

    def renew(self) -> None:
        world, leases = self.world, self.world.leases
        if self.is_cut_off:
            return
        if world.now - self.renewed_at > LEASE:
            self.judges_from = world.now + LEASE
        if not leases.renew(self.name, self.term, world.now + LEASE, world.now):
            self.term += 1
            leases.begin(self.name, self.term, world.now + LEASE)
            self.own.begin_term()
            self.own.was_not_told("room", world.now)
            self.judges_from = world.now + LEASE
        self.renewed_at = world.now
        if world.now >= self.judges_from:
            for departed in leases.departed(world.now, 10):
                world.publish(("departed", departed.process, departed.term), self)
                if not world.is_bad or world.chance.random() < 0.7:  # else it dies, or is cut off, before it has swept
                    leases.sweep(departed.process, departed.term, world.now)

    def store(self) -> None:
        self._write(self.own.store("room"))

    def _write(self, batch: Any) -> None:
        if self.is_cut_off:
            self.own.was_not_stored("room", batch)
            return
        leases = self.world.leases
        leases.leave(self.name, self.term, "room", batch.left)
        if batch.number is not None and (batch.left or batch.entries):
            stored = {id_: f"{entry.person} {entry.data}".encode() for id_, entry in batch.entries.items()}
            leases.enter(self.name, self.term, "room", {**stored, NOTE: b"%d" % batch.number})

    def tell(self) -> None:
        for group in self.own.due(self.world.now):
            batch = self.own.take(group)
            self._write(batch)
            if self.is_cut_off:
                self.own.was_not_told(group, self.world.now)
                continue
            for difference in batch.differences:
                self.world.publish(("difference", self.name, self.term, difference), self)

    def hear(self) -> None:
        inbox, self.inbox = self.inbox, []
        for kind, process, term, *rest in inbox:
            if kind == "departed":
                self.departures.add(process, term)
                self.view.depart(process, term)
            elif process != self.name:
                self.view.apply(process, term, rest[0])

    def read(self) -> None:
        if self.is_cut_off or not (self.must_read or self.view.has_gap):
            return
        self.view.begin_reading()
        if self.world.chance.random() < 0.3:
            self.hear()
        present = [one for one in self.world.leases.present("room", self.world.now) if one.process != self.name]
        if self.world.chance.random() < 0.3:
            self.hear()
        readings = [Reading(one.process, one.term, *read(one.entries)) for one in present]
        self.must_read = self.view.read(readings, self.world.now >= self.judges_from)

    def look(self) -> None:
        """Follow the news as a page does: each person joins when it is not there, and leaves when it is."""
        news = self.view.take()
        assert not news.joined.keys() & self.shown.keys(), "joined twice"
        assert news.left.keys() <= self.shown.keys(), "left without having joined"
        assert news.changed.keys() <= self.shown.keys()
        self.shown.update({**news.joined, **news.changed})
        for person in news.left:
            del self.shown[person]
        assert self.shown == self.view.people()

    def changed(self, ids: list[str]) -> None:
        for id_ in ids:
            self.view.own(id_, self.own.entries("room").get(id_))


def read(entries: Mapping[str, bytes]) -> tuple[int, dict[str, Entry]]:
    found = {id_: Entry(*data.decode().split(" ")) for id_, data in entries.items() if id_ != NOTE}
    return int(entries.get(NOTE, b"-1")), found


class World:
    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.now = 0.0
        self.leases = Leases()
        self.is_bad = True
        self.processes = [Process(name, self) for name in "abcd"]

    @property
    def living(self) -> list[Process]:
        return [process for process in self.processes if not process.is_dead]

    def publish(self, message: tuple[Any, ...], sender: Process) -> None:
        for process in self.living:
            if process.is_cut_off:
                continue
            copies = self.chance.choice([0, 1, 1, 1, 2]) if self.is_bad else 1
            # What is lost without a word, the next difference shows. After a bad time everybody reads.
            for _ in range(copies):
                place = self.chance.randint(0, len(process.inbox)) if self.is_bad else len(process.inbox)
                process.inbox.insert(place, message)

    def step(self) -> None:
        chance = self.chance
        process = chance.choice(self.living)
        action = chance.choice(
            ["track", "track", "untrack", "end", "end", "wait", "wait", "cut", "heal", "die", "flush"]
        )
        if action == "track":
            channel = chance.choice([f"{process.name}{len(process.channels)}", *process.channels[-1:]])
            if channel not in process.channels:
                process.channels.append(channel)
            entry = Entry(f"+{chance.choice('uvwxyz')}", chance.choice("12"))
            process.changed(process.own.track("room", channel, entry, self.now))
            process.store()
        elif action == "untrack" and process.channels:
            id_ = process.own.untrack("room", chance.choice(process.channels), self.now)
            process.changed([] if id_ is None else [id_])
        elif action == "end" and process.channels:
            process.own.ended(process.channels.pop(chance.randrange(len(process.channels))), self.now)
        elif action == "cut":
            process.is_cut_off = True
        elif action == "heal":
            self.heal(process)
        elif action == "die" and len(self.living) > 2 and chance.random() < 0.1:
            process.is_dead = True
        elif action == "flush" and chance.random() < 0.1:
            self.leases.clear()
        self.now += chance.choice([0.0, 0.01, 0.05, 0.2, 1.0, 4.0])
        self.move()

    def move(self) -> None:
        for process in self.living:
            if self.now - process.renewed_at >= 1 or not process.term:
                process.renew()
            process.changed([id_ for _, id_ in process.own.expire(self.now)])
            process.tell()
            if self.chance.random() < 0.8 or not self.is_bad:
                process.hear()
                process.read()
            process.look()

    def heal(self, process: Process) -> None:
        process.is_cut_off = False
        process.inbox = []
        process.must_read = True
        process.own.store_again()
        process.renew()
        process.store()
        process.own.was_not_told("room", self.now)

    def settle(self) -> None:
        """The bad time is over: all connections are there again, and nothing is lost any more."""
        self.is_bad = False
        for process in self.living:
            self.heal(process)
        for _ in range(60):
            self.now += 0.5
            self.move()

    def truth(self) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for process in self.living:
            for entry in process.own.entries("room").values():
                found.setdefault(entry.person, set()).add(entry.data)
        return found


@seeded(40)
def test_everybody_sees_the_same_in_the_end_and_each_person_joins_and_leaves_once(seed: int) -> None:
    world = World(seed)
    for _ in range(80):
        world.step()
    world.settle()

    truth = world.truth()
    for process in world.living:
        assert {person: set(data) for person, data in process.view.people().items()} == truth
    stored: dict[str, set[str]] = {}
    for one in world.leases.present("room", world.now):
        for person, data in read(one.entries)[1].values():
            stored.setdefault(person, set()).add(data)
    assert stored == truth
    assert {one.process for one in world.leases.present("room", world.now)} <= {one.name for one in world.living}
    assert len(world.leases) == len(world.living), "what the dead have left was swept"
