"""Which names a process is subscribed to: every interleaving of short histories, and long ones by chance."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fairway.layers.subscriptions import Subscriptions


def standing(*names: str) -> Subscriptions:
    subscriptions = Subscriptions()
    for name in names:
        subscriptions.open(name)
    request, asked = subscriptions.take_wanted()
    subscriptions.answered(request, asked, is_standing=True)
    return subscriptions


def test_a_name_stands_when_the_service_has_answered() -> None:
    subscriptions = Subscriptions()
    subscriptions.open("a")
    request, names = subscriptions.take_wanted()
    assert (names, subscriptions.is_standing("a")) == (["a"], False)

    subscriptions.answered(request, names, is_standing=True)

    assert subscriptions.is_standing("a")
    assert subscriptions.take_wanted()[1] == []


def test_it_is_given_up_some_seconds_after_nobody_wants_it_any_more() -> None:
    subscriptions = standing("a", "b")
    subscriptions.close("a", 10.0)
    subscriptions.close("b", 12.0)

    assert subscriptions.take_left(14.9) == []
    assert subscriptions.is_standing("a")
    assert subscriptions.take_left(15.0) == ["a"]
    assert not subscriptions.is_standing("a")
    assert subscriptions.has_leaving
    assert subscriptions.take_left(17.0) == ["b"]
    assert not subscriptions.has_leaving
    assert len(subscriptions) == 0


def test_who_comes_back_in_time_costs_nothing() -> None:
    subscriptions = standing("a")
    subscriptions.close("a", 10.0)
    subscriptions.open("a")

    assert subscriptions.take_wanted()[1] == []
    assert subscriptions.take_left(100.0) == []
    assert subscriptions.is_standing("a")


def test_what_could_not_be_had_is_asked_for_again_when_told() -> None:
    subscriptions = Subscriptions()
    subscriptions.open("a")
    subscriptions.answered(*subscriptions.take_wanted(), is_standing=False)
    assert subscriptions.take_wanted()[1] == []

    subscriptions.ask_again()

    assert subscriptions.take_wanted()[1] == ["a"]


def test_an_answer_that_is_too_late_counts_for_nothing() -> None:
    subscriptions = Subscriptions()
    subscriptions.open("a")
    first, names = subscriptions.take_wanted()
    subscriptions.reset()
    second, again = subscriptions.take_wanted()
    assert names == again == ["a"]

    subscriptions.answered(first, names, is_standing=True)
    assert not subscriptions.is_standing("a")
    subscriptions.answered(second, names, is_standing=True)
    assert subscriptions.is_standing("a")


def test_another_connection_begins_with_what_is_wanted_and_forgets_the_rest() -> None:
    subscriptions = standing("a", "b", "c")
    subscriptions.close("b", 1.0)
    subscriptions.reset()

    assert subscriptions.take_wanted()[1] == ["a", "c"]
    assert not subscriptions.has_leaving


def test_a_name_that_is_given_up_before_it_was_asked_for_is_forgotten() -> None:
    subscriptions = Subscriptions()
    subscriptions.open("a")
    subscriptions.close("a", 0.0)

    assert subscriptions.take_wanted()[1] == []
    assert len(subscriptions) == 0
    subscriptions.close("never opened", 0.0)
    assert not subscriptions.has_leaving


class Service:
    """Does what it is asked in order, some time later, and its answers take some time, too."""

    def __init__(self) -> None:
        self.subscriptions = Subscriptions(linger=1.0)
        self.now = 0.0
        self.is_wanted = False
        self.stands = False  # what the service knows
        self.commands: list[tuple[str, int, list[str]]] = []
        self.answers: list[tuple[int, list[str], bool]] = []

    def open(self) -> None:
        self.is_wanted = True
        self.subscriptions.open("a")

    def close(self) -> None:
        self.is_wanted = False
        self.subscriptions.close("a", self.now)

    def ask(self) -> None:
        request, names = self.subscriptions.take_wanted()
        if names:
            self.commands.append(("subscribe", request, names))

    def sweep(self) -> None:
        self.now += 1.0
        if names := self.subscriptions.take_left(self.now):
            self.commands.append(("unsubscribe", 0, names))

    def execute(self) -> None:
        if self.commands:
            what, request, names = self.commands.pop(0)
            self.stands = what == "subscribe"
            if self.stands:
                self.answers.append((request, names, True))

    def refuse(self) -> None:
        if self.commands and self.commands[0][0] == "subscribe":
            _, request, names = self.commands.pop(0)
            self.answers.append((request, names, False))

    def answer(self) -> None:
        if self.answers:
            self.subscriptions.answered(*self.answers.pop(0))

    def check(self) -> None:
        """What is said to stand does, unless it is being given up and nobody wants it."""
        if self.subscriptions.is_standing("a"):
            assert self.stands

    def settle(self) -> None:
        """Let everything that is to happen, happen."""
        for _ in range(6):
            self.subscriptions.ask_again()
            for step in (self.ask, self.execute, self.answer, self.sweep):
                step()
                self.check()
        assert self.stands == self.is_wanted == self.subscriptions.is_standing("a")
        assert len(self.subscriptions) == self.is_wanted


STEPS = ("open", "close", "ask", "sweep", "execute", "answer", "refuse")


@pytest.mark.parametrize("first", STEPS)
def test_every_order_of_five_steps_ends_well(first: str) -> None:
    for steps in itertools.product(STEPS, repeat=4):
        service = Service()
        for step in (first, *steps):
            getattr(service, step)()
            service.check()
        service.settle()


class Histories(RuleBasedStateMachine):
    """Several names, connections that are lost, and a service that loses nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.subscriptions = Subscriptions(linger=2.0)
        self.now = 0.0
        self.wanted: set[str] = set()
        self.known: set[str] = set()
        self.asked: list[tuple[int, list[str]]] = []

    names = st.sampled_from("abc")

    @rule(name=names)
    def open(self, name: str) -> None:
        self.wanted.add(name)
        self.subscriptions.open(name)

    @rule(name=names)
    def close(self, name: str) -> None:
        self.wanted.discard(name)
        self.subscriptions.close(name, self.now)

    @rule()
    def ask(self) -> None:
        request, names = self.subscriptions.take_wanted()
        assert not self.known & set(names), "what stands is not asked for again"
        if names:
            self.known |= set(names)
            self.asked.append((request, names))

    @precondition(lambda self: self.asked)
    @rule(is_standing=st.booleans())
    def answer(self, is_standing: bool) -> None:
        request, names = self.asked.pop(0)
        if not is_standing:
            self.known -= set(names)
        self.subscriptions.answered(request, names, is_standing)

    @rule(seconds=st.sampled_from([0.5, 3.0]))
    def sweep(self, seconds: float) -> None:
        self.now += seconds
        left = self.subscriptions.take_left(self.now)
        assert not self.wanted & set(left), "what is wanted is not given up"
        self.known -= set(left)

    @rule()
    def lose(self) -> None:
        self.subscriptions.reset()
        self.known.clear()
        self.asked.clear()

    @invariant()
    def what_stands_is_known(self) -> None:
        assert {name for name in "abc" if self.subscriptions.is_standing(name)} <= self.known
        assert set(self.subscriptions.wanted) == self.wanted

    def teardown(self) -> None:
        while self.asked:
            self.answer(True)
        self.subscriptions.ask_again()
        self.ask()
        while self.asked:
            self.answer(True)
        self.sweep(100.0)
        assert self.known == self.wanted
        assert len(self.subscriptions) == len(self.wanted)


TestHistories = Histories.TestCase
