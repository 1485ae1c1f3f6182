"""The leases of processes against a model that is as simple as can be, and their rules one by one."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from tests.seeds import examples

from fairway.layers.backplane import NOTE, Departed, Present
from fairway.layers.leases import BARE, MOST_NAMED, OVERHEAD, Leases, TooMuch


def leases_of(*processes: str, until: float = 5.0) -> Leases:
    leases = Leases()
    for process in processes:
        leases.begin(process, 1, until)
    return leases


def test_entries_are_listed_while_the_lease_lasts() -> None:
    leases = leases_of("a")
    leases.enter("a", 1, "room", {"1": b"x", NOTE: b"7"})

    assert leases.present("room", 4.9) == [Present("a", 1, {"1": b"x", NOTE: b"7"})]
    assert leases.count("room", 4.9) == 1, "the note does not count"
    assert leases.present("room", 5.0) == []
    assert leases.count("room", 5.0) == 0


def test_a_lease_that_has_ended_does_not_come_back() -> None:
    leases = leases_of("a")

    assert leases.renew("a", 1, until=9.0, now=4.9)
    assert not leases.renew("a", 1, until=20.0, now=9.0)
    assert not leases.renew("a", 2, until=20.0, now=9.0)
    leases.begin("a", 2, until=20.0)
    leases.enter("a", 2, "room", {"1": b"new"})
    leases.enter("a", 3, "room", {"1": b"never begun"})
    leases.sweep("a", 1, now=9.0)
    assert leases.present("room", 9.0) == [Present("a", 2, {"1": b"new"})]


def test_one_that_has_departed_is_named_to_one_caller_and_again_if_it_was_not_swept() -> None:
    leases = leases_of("a", "b")

    assert leases.departed(4.9, swept_within=10) == []
    assert leases.departed(5.0, swept_within=10) == [Departed("a", 1), Departed("b", 1)]
    assert leases.departed(14.9, swept_within=10) == []
    leases.sweep("a", 1, now=14.9)
    assert leases.departed(15.0, swept_within=10) == [Departed("b", 1)]


def test_sweeping_removes_the_entries_under_all_subjects() -> None:
    leases = leases_of("a")
    for subject in ("room", "hall"):
        leases.enter("a", 1, subject, {"1": b"x", NOTE: b"1"})
    leases.sweep("a", 1, now=5.0)

    assert (len(leases), leases.size) == (0, 0)
    assert leases.present("room", 0.0) == leases.present("hall", 0.0) == []


def test_few_are_named_at_once() -> None:
    leases = leases_of(*map(str, range(25)))

    assert [len(leases.departed(5.0, 10)) for _ in range(4)] == [MOST_NAMED, MOST_NAMED, 5, 0]


def test_one_that_lives_is_not_swept() -> None:
    leases = leases_of("a")
    leases.enter("a", 1, "room", {"1": b"x"})
    leases.sweep("a", 1, now=4.9)

    assert leases.count("room", 4.9) == 1


def test_a_note_goes_with_the_last_entry() -> None:
    leases = leases_of("a")
    leases.enter("a", 1, "room", {"1": b"x", "2": b"y", NOTE: b"7"})
    leases.leave("a", 1, "room", ["1", "nobody"])
    assert leases.present("room", 0) == [Present("a", 1, {"2": b"y", NOTE: b"7"})]
    leases.leave("a", 1, "room", ["2"])
    leases.leave("a", 1, "room", ["2"])

    assert leases.present("room", 0) == []
    assert leases.size == 0


def test_a_lease_can_be_shortened_but_not_made_longer_by_that() -> None:
    leases = leases_of("a")
    leases.enter("a", 1, "room", {"1": b"x"})
    leases.shorten("a", 1, until=8.0)
    leases.shorten("nobody", 1, until=8.0)
    assert leases.count("room", 5.0) == 0
    leases.shorten("a", 1, until=3.0)

    assert (leases.count("room", 2.9), leases.count("room", 3.0)) == (1, 0)


def test_there_is_a_bound_for_all_together() -> None:
    most = BARE + len("room") + 2 * (OVERHEAD + 11)
    leases = Leases(max_bytes=most)
    leases.begin("a", 1, 5.0)
    leases.enter("a", 1, "room", {"1": b"x" * 10, "2": b"x" * 10})
    leases.enter("a", 1, "room", {"1": b"y" * 10})
    with pytest.raises(TooMuch, match=f"all entries together have {most} bytes"):
        leases.enter("a", 1, "room", {"3": b""})
    leases.leave("a", 1, "room", ["1"])
    with pytest.raises(TooMuch):
        leases.enter("a", 1, "hall", {"1": b""})
    leases.leave("a", 1, "room", ["2"])
    leases.enter("a", 1, "hall", {"1": b""})

    assert leases.count("hall", 0) == 1


def test_what_nobody_has_seen_to_is_forgotten_in_the_end() -> None:
    leases = leases_of("a")
    leases.enter("a", 1, "room", {"1": b"x"})
    leases.expire(64.9, after=60)
    assert len(leases) == 1
    leases.expire(65.0, after=60)

    assert (len(leases), leases.size) == (0, 0)


PROCESSES = st.sampled_from("abc")
SUBJECTS = st.sampled_from(["room", "hall"])
KEYS = st.sampled_from(["1", "2", NOTE])


class LeasesLikeAModel(RuleBasedStateMachine):
    """Processes that renew or do not, with a table of everything that was entered."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.leases = Leases()
        self.terms: dict[str, int] = {}
        self.until: dict[tuple[str, int], float] = {}
        self.entered: dict[tuple[str, int, str], dict[str, bytes]] = {}
        self.named: dict[tuple[str, int], float] = {}

    @rule(seconds=st.floats(0.1, 7.0))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(process=PROCESSES)
    def renew(self, process: str) -> None:
        who = process, self.terms.get(process, 0)
        stands = self.until.get(who, 0.0) > self.now
        assert self.leases.renew(*who, self.now + 5, self.now) == stands
        if not stands:
            self.terms[process] = who[1] + 1
            who = process, who[1] + 1
            self.leases.begin(*who, self.now + 5)
        self.until[who] = self.now + 5

    @rule(process=PROCESSES, back=st.integers(0, 1), subject=SUBJECTS, key=KEYS, data=st.binary(max_size=3))
    def enter(self, process: str, back: int, subject: str, key: str, data: bytes) -> None:
        who = process, self.terms.get(process, 0) - back
        self.leases.enter(*who, subject, {key: data})
        if who in self.until:
            self.entered.setdefault((*who, subject), {})[key] = data

    @rule(process=PROCESSES, back=st.integers(0, 1), subject=SUBJECTS, keys=st.sets(KEYS))
    def leave(self, process: str, back: int, subject: str, keys: set[str]) -> None:
        who = process, self.terms.get(process, 0) - back
        self.leases.leave(*who, subject, keys)
        there = self.entered.get((*who, subject), {})
        left = {key: data for key, data in there.items() if key not in keys}
        self.entered[*who, subject] = left if left.keys() - {NOTE} else {}

    @rule()
    def name_and_sweep(self) -> None:
        for departed in self.leases.departed(self.now, 10):
            who = departed.process, departed.term
            assert self.until[who] <= self.now
            assert self.named.get(who, -1.0) <= self.now
            self.named[who] = self.now + 10
            if departed.term % 2:
                self.leases.sweep(*who, self.now)
                del self.until[who]
                self.entered = {key: there for key, there in self.entered.items() if key[:2] != who}

    @invariant()
    def all_is_as_in_the_model(self) -> None:
        for subject in ("room", "hall"):
            there = {
                (process, term): entries
                for (process, term, where), entries in self.entered.items()
                if where == subject and entries and self.until.get((process, term), 0.0) > self.now
            }
            present = self.leases.present(subject, self.now)
            assert {(one.process, one.term): one.entries for one in present} == there
            assert self.leases.count(subject, self.now) == sum(len(one.keys() - {NOTE}) for one in there.values())
        sizes = [len(key) + len(data) + OVERHEAD for there in self.entered.values() for key, data in there.items()]
        bare = [BARE + len(subject) for (_, _, subject), there in self.entered.items() if there]
        assert self.leases.size == sum(sizes) + sum(bare)


TestLeasesLikeAModel = LeasesLikeAModel.TestCase
TestLeasesLikeAModel.settings = settings(max_examples=examples(25), stateful_step_count=40, deadline=None)
