"""At most one candidate runs a room, whatever the order of their steps. The store is one, and its steps are atomic."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from fairway.rooms.election import Candidacy, Next, first_of


def test_the_first_one_begins_and_later_ones_wait() -> None:
    listed: dict[str, int | None] = {}
    first, second = Candidacy("b"), Candidacy("a")
    for candidacy in (first, second):
        while (step := candidacy.read(listed)) is Next.ENTER:
            listed[candidacy.name] = candidacy.number
        assert step is (Next.RUN if candidacy is first else Next.WAIT)

    assert first_of(listed) == "b"
    del listed["b"]
    assert second.read(listed) is Next.RUN


def test_nobody_begins_while_somebody_draws_but_who_runs_goes_on() -> None:
    running, new = Candidacy("a"), Candidacy("b")
    assert running.read({}) is Next.ENTER
    assert running.read({"a": None}) is Next.ENTER
    assert running.read({"a": 1, "b": None}) is Next.WAIT
    assert running.read({"a": 1}) is Next.RUN
    assert running.read({"a": 1, "b": None}) is Next.RUN
    assert new.read({"a": 1}) is Next.ENTER
    assert new.read({"a": 1, "b": None}) is Next.ENTER
    assert new.number == 2


def test_an_entry_that_comes_back_from_the_dead_does_not_count() -> None:
    candidacy = Candidacy("a")
    for listed in ({}, {"a": None}):
        assert candidacy.read(listed) is Next.ENTER
    assert candidacy.read({"a": 1}) is Next.RUN
    candidacy.lost()

    assert candidacy.read({"a": 1, "b": 2}) is Next.ENTER
    assert candidacy.read({"a": None, "b": 2}) is Next.ENTER
    assert candidacy.read({"a": 3, "b": 2}) is Next.WAIT


def test_nobody_is_first_of_none() -> None:
    assert first_of({}) is None
    assert first_of({"a": None}) is None


class Process:
    """A candidate, cut into its steps: it reads, then it acts on what it has read; it enters, later it is stored.

    Its lease may end while it is stopped. When it goes on, the layer lists its entry again, before anybody notices.
    The process itself knows that a lease has ended before others can (`Standing`): it checks that when it acts.
    """

    def __init__(self, name: str, store: dict[str, int | None]) -> None:
        self.candidacy = Candidacy(name)
        self.store = store
        self.read: dict[str, int | None] | None = None
        self.runs = False
        self.term = self.read_in = 0
        self.entered: int | None = None
        self.is_listed = False

    def step(self) -> None:
        """The next one of: read, act, enter."""
        if self.read is None:
            self.read, self.read_in = dict(self.store), self.term
            return
        listed, self.read = self.read, None
        if self.read_in != self.term:
            return
        step = self.candidacy.read(listed)
        self.runs = step is Next.RUN
        if step is Next.ENTER:
            self.entered = self.candidacy.number
            self.store[self.candidacy.name] = self.entered
            self.is_listed = True

    def dies(self) -> None:
        """The lease ends: from here on it runs nothing, and knows that it has lost."""
        self.store.pop(self.candidacy.name, None)
        self.term += 1
        self.runs = False
        self.candidacy.lost()

    def returns(self) -> None:
        if self.is_listed:
            self.store[self.candidacy.name] = self.entered

    def leaves(self) -> None:
        self.dies()
        self.is_listed = False


ACTIONS = st.tuples(st.integers(0, 3), st.sampled_from(["step"] * 12 + ["dies", "returns", "leaves"]))


@settings(max_examples=400)
@given(st.lists(ACTIONS, max_size=120))
def test_at_most_one_runs_and_in_the_end_exactly_one(actions: list[tuple[int, str]]) -> None:
    store: dict[str, int | None] = {}
    processes = [Process(name, store) for name in "abcd"]
    for which, action in actions:
        getattr(processes[which], action)()
        assert sum(process.runs for process in processes) <= 1

    for _ in range(40):
        for process in processes:
            process.step()
            assert sum(each.runs for each in processes) <= 1
    assert [process.candidacy.name for process in processes if process.runs] == [first_of(store)]


@given(st.lists(st.integers(0, 3), max_size=60))
def test_who_runs_goes_on_while_others_come(order: list[int]) -> None:
    store: dict[str, int | None] = {}
    processes = [Process(name, store) for name in "dabc"]
    for _ in range(6):
        processes[0].step()
    for which in order:
        processes[which].step()
        assert processes[0].runs
