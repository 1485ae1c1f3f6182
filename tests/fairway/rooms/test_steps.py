from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairway.rooms.steps import Steps


def test_a_step_is_due_when_its_time_has_passed() -> None:
    steps = Steps(0.5, 5, now=10.0)

    assert [steps.take(now) for now in (10.0, 10.4, 10.5, 10.5, 11.6)] == [0, 0, 1, 0, 2]
    assert steps.next_at == 12.0


def test_whoever_is_late_makes_up_for_a_few_steps_and_leaves_out_the_rest() -> None:
    steps = Steps(0.1, 3, now=0.0)

    assert steps.take(60.0) == 3
    assert steps.missed == 597
    assert steps.take(60.1) == 1


def test_time_that_stood_still_is_not_made_up_for() -> None:
    steps = Steps(0.1, 5, now=0.0)
    steps.restart(60.0)

    assert (steps.take(60.05), steps.take(60.1), steps.missed) == (0, 1, 0)


def test_a_step_lasts_some_time() -> None:
    for seconds in (0, -1, math.nan):
        with pytest.raises(ValueError, match="use a number above 0"):
            Steps(seconds, 5, 0.0)


@given(
    st.floats(0.001, 10),
    st.integers(1, 10),
    st.lists(st.floats(0, 100), max_size=50),
)
def test_every_step_is_done_or_counted_as_missed(seconds: float, most: int, waits: list[float]) -> None:
    now, done = 1e5, 0
    steps = Steps(seconds, most, now)
    for wait in waits:
        now += wait
        due = steps.take(now)
        assert 0 <= due <= most
        assert steps.next_at > now - 1e-6
        done += due

    assert abs(done + steps.missed - (now - 1e5) / seconds) <= 1 + 1e-6
