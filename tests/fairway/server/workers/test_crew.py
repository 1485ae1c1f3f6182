"""The decisions of a supervisor, driven by hand and by Hypothesis."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairway.server.workers.crew import (
    MARGIN,
    NEVER_READY,
    Abandon,
    Abort,
    Crew,
    Exit,
    Kill,
    Leave,
    Retire,
    Start,
    State,
)


@pytest.fixture
def crew() -> Crew:
    """Three members that serve."""
    made = Crew(3, 8)
    assert made.decide(0.0) == [Start(1), Start(2), Start(3)]
    for number in (1, 2, 3):
        made.ready(number, 20.0)
    assert made.decide(0.0) == []
    return made


def test_slots_are_their_own(crew: Crew) -> None:
    assert sorted(one.slot for one in crew.members.values()) == [0, 1, 2]


def test_who_ends_is_replaced_at_once_and_then_later_and_later(crew: Crew) -> None:
    delays, now, number = [], 10.0, 3
    for _ in range(11):
        crew.ended(number, None, now)
        delays.append(round(crew.retry_at - now, 3))
        assert crew.decide(math.nextafter(crew.retry_at, 0.0)) == []
        now = crew.retry_at
        [start] = crew.decide(now)
        assert isinstance(start, Start)
        number = start.number
        crew.ready(number, 20.0)
    assert delays == [0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0]
    crew.ended(number, None, now + 61)
    assert crew.decide(now + 61) == [Start(number + 1)]


def test_a_new_generation_replaces_one_by_one_and_nobody_is_missing(crew: Crew) -> None:
    crew.renew(2)
    for old, new in ((1, 4), (2, 5), (3, 6)):
        [start] = [one for one in crew.decide(1.0) if isinstance(one, Start)] or [Start(new)]
        assert start == Start(new)
        assert crew.decide(1.0) == []
        crew.ready(new, 20.0)
        actions = crew.decide(1.0)
        assert Leave(old, replaced=True) in actions
        assert len(crew.of(State.READY)) == 3
    assert Retire(1) in actions
    for number in (1, 2, 3):
        assert crew.ended(number, 0, 2.0) is None
    assert crew.decide(2.0) == []


def test_a_generation_that_does_not_start_changes_nothing(crew: Crew) -> None:
    crew.renew(2)
    assert crew.decide(1.0) == [Start(4)]
    crew.ended(4, 3, 2.0)
    assert crew.decide(2.0) == [Abandon(2)]
    assert crew.generation == 1
    crew.ended(1, None, 3.0)
    assert crew.decide(3.0) == [Start(5)]
    assert crew.members[5].generation == 1


def test_the_next_generation_may_start_after_one_that_could_not(crew: Crew) -> None:
    crew.renew(2)
    crew.decide(1.0)
    crew.ended(4, 3, 2.0)
    crew.decide(2.0)
    crew.renew(3)
    assert crew.decide(3.0) == [Start(5)]
    crew.ready(5, 20.0)
    assert crew.decide(3.0)[0] == Leave(1, replaced=True)


def test_if_the_first_cannot_start_there_is_no_second_attempt() -> None:
    crew = Crew(2, 6)
    crew.decide(0.0)
    crew.ended(1, 3, 1.0)
    assert crew.decide(1.0) == [Leave(2, replaced=False)]
    crew.ended(2, 3, 1.0)
    assert crew.decide(1.0) == [Exit(3)]


def test_five_starts_that_fail_with_nobody_there_are_the_end() -> None:
    crew = Crew(1, 4)
    crew.decide(0.0)
    crew.ready(1, 20.0)
    crew.ended(1, None, 1.0)
    now = 1.0
    for number in range(2, 7):
        now = max(now, crew.retry_at)
        assert crew.decide(now) == [Start(number)]
        crew.ended(number, None, now)
    assert crew.decide(now) == [Exit(NEVER_READY)]


def test_who_does_not_leave_is_killed(crew: Crew) -> None:
    crew.stop()
    assert crew.decide(1.0) == [Leave(number, replaced=False) for number in (1, 2, 3)]
    assert crew.next_deadline() == 1.0 + 20.0 + MARGIN
    crew.ended(1, 0, 2.0)
    assert crew.decide(1.0 + 20.0 + MARGIN) == [Kill(2), Kill(3)]
    assert crew.next_deadline() == math.inf
    crew.ended(2, None, 30.0)
    crew.ended(3, None, 30.0)
    assert crew.decide(30.0) == [Exit(0)]


def test_the_second_time_they_have_little_time_and_the_third_none(crew: Crew) -> None:
    crew.stop()
    crew.decide(1.0)
    crew.stop()
    assert crew.decide(1.0) == [Abort(number) for number in (1, 2, 3)]
    assert crew.decide(1.5) == []
    assert crew.next_deadline() == 1.0 + MARGIN
    crew.stop()
    assert crew.decide(2.0) == [Kill(1), Kill(2), Kill(3)]


def test_more_and_fewer_are_wanted(crew: Crew) -> None:
    assert crew.resize(1)
    assert crew.decide(1.0) == [Start(4)]
    assert not crew.resize(1), "half of the slots"
    assert crew.resize(-1)
    assert crew.decide(1.0) == [Leave(4, replaced=True)]
    assert crew.resize(-2)
    assert crew.decide(1.0) == [Leave(2, replaced=True), Leave(3, replaced=True)]
    assert not crew.resize(-1)


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("ready"), st.integers(0, 9)),
        st.tuples(st.just("end"), st.integers(0, 9)),
        st.tuples(st.sampled_from(["renew", "more", "fewer", "wait", "stop"]), st.just(0)),
    ),
    max_size=60,
)


@given(EVENTS)
def test_whatever_happens_the_crew_is_in_order(events: list[tuple[str, Any]]) -> None:
    crew, now, generations, retired, exited = Crew(3, 8), 0.0, 1, set[int](), False

    def decide() -> None:
        nonlocal exited
        ready_before = len(crew.of(State.READY))
        for action in crew.decide(now):
            assert not exited
            if isinstance(action, Start):
                assert crew.members[action.number].generation not in retired
            elif isinstance(action, Retire):
                retired.add(action.generation)
            exited |= isinstance(action, Exit)
        if not crew.is_stopping:
            assert len(crew.of(State.READY)) >= min(ready_before, crew.wanted)
        assert crew.decide(now) == [] or exited or crew.is_stopping, "what is decided is decided once"
        assert len({one.slot for one in crew.members.values()}) == len(crew.members)
        assert crew.next_deadline() > now

    decide()
    for kind, value in events:
        numbers = list(crew.members)
        if kind == "ready" and numbers:
            crew.ready(numbers[value % len(numbers)], 20.0)
        elif kind == "end" and numbers:
            crew.ended(numbers[value % len(numbers)], None, now)
        elif kind == "renew" and not crew.is_stopping:
            generations += 1
            crew.renew(generations)
        elif kind in ("more", "fewer"):
            crew.resize(1 if kind == "more" else -1)
        elif kind == "wait":
            now += 31.0
        elif kind == "stop":
            crew.stop()
        decide()
        if exited:
            return
        if not crew.is_stopping:
            own = crew.of(State.STARTING, State.READY)
            assert len(own) <= crew.wanted + 1
    crew.stop()
    while crew.members:
        decide()
        crew.ended(next(iter(crew.members)), None, now)
    decide()
    assert exited
