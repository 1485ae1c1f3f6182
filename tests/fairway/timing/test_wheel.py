"""`Wheel`: every entry is called when it is due and not before, cancelled ones never, and a stall is forgiven once."""

from __future__ import annotations

import gc
import math
import sys
import weakref
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fairway.timing.wheel import DEFAULT_TICK, Wheel

START = 1000.0


class Deadline:
    """An entry as connections are: it knows its own deadline and acts when that has passed."""

    def __init__(self, at: float, then: Callable[[float], float | None] = lambda now: None) -> None:
        self.wheel_slot: int | None = None
        self.at = at
        self.then = then
        self.asked: list[float] = []
        self.fired: list[float] = []

    def handle_deadline(self, now: float, /) -> float | None:
        self.asked.append(now)
        if now < self.at:
            return self.at
        self.fired.append(now)
        following = self.then(now)
        if following is not None:
            self.at = following
        return following


def drive(wheel: Wheel, now: float, until: float) -> float:
    """Do what an event loop does that is never late: advance at each tick that the wheel names."""
    while True:
        tick = wheel.next_tick(now)
        if tick is None or tick > until:
            return until
        assert tick > now
        now = tick
        wheel.advance(now)


def test_entry_fires_at_the_first_tick_after_its_deadline():
    wheel, entry = Wheel(START, tick=0.5), Deadline(START + 1.2)
    wheel.schedule(entry, entry.at)

    drive(wheel, START, START + 10)

    assert entry.fired == [START + 1.5]
    assert entry.asked == entry.fired
    assert entry.wheel_slot is None
    assert len(wheel) == 0


def test_deadline_on_a_tick_fires_at_that_tick():
    wheel, entry = Wheel(START, tick=0.5), Deadline(START + 1.5)
    wheel.schedule(entry, entry.at)

    drive(wheel, START, START + 10)

    assert entry.fired == [START + 1.5]


@pytest.mark.parametrize("late", [0.0, 5.0, math.inf])
def test_deadline_in_the_past_fires_at_the_next_tick(late: float):
    wheel, entry = Wheel(START, tick=0.5), Deadline(START - late)
    wheel.schedule(entry, entry.at)

    drive(wheel, START, START + 10)

    assert entry.fired == [START + 0.5]


def test_moving_a_deadline_later_needs_no_call():
    wheel, entry = Wheel(START, tick=0.5), Deadline(START + 1)
    wheel.schedule(entry, entry.at)

    entry.at = START + 7
    drive(wheel, START, START + 10)

    assert entry.asked == [START + 1, START + 7]
    assert entry.fired == [START + 7]


def test_scheduling_later_changes_nothing_and_earlier_moves():
    wheel, entry = Wheel(START, tick=0.5), Deadline(START + 5)
    wheel.schedule(entry, START + 5)
    now = drive(wheel, START, START + 1)

    wheel.schedule(entry, START + 8)
    assert len(wheel) == 1
    entry.at = START + 2
    wheel.schedule(entry, START + 2)
    assert len(wheel) == 1
    drive(wheel, now, START + 20)

    assert entry.asked == entry.fired == [START + 2]


def test_earlier_deadline_is_taken_before_the_wheel_has_been_told_the_time():
    wheel, entry = Wheel(START, tick=0.5), Deadline(START + 2)
    wheel.schedule(entry, START + 5)
    wheel.schedule(entry, START + 2)
    wheel.schedule(entry, START + 9)

    drive(wheel, START, START + 20)

    assert entry.asked == [START + 2]


def test_deadline_beyond_the_horizon_is_placed_again_on_the_way():
    wheel, entry = Wheel(START, tick=0.5, slots=8), Deadline(START + 11.1)
    wheel.schedule(entry, entry.at)

    drive(wheel, START, START + 20)

    assert entry.fired == [START + 11.5]
    assert entry.asked == [START + 4, START + 8, START + 11.5]


def test_infinity_is_no_deadline():
    wheel, entry = Wheel(START), Deadline(START + 1, then=lambda now: math.inf)
    wheel.schedule(entry, math.inf)
    assert wheel.next_tick(START) is None

    wheel.schedule(entry, START + 1)
    drive(wheel, START, START + 10)

    assert len(wheel) == 0


def test_entry_that_answers_with_a_deadline_comes_again():
    wheel, entry = Wheel(START, tick=0.5), Deadline(START + 1, then=lambda now: now + 2)
    wheel.schedule(entry, entry.at)

    drive(wheel, START, START + 6)

    assert entry.fired == [START + 1, START + 3, START + 5]


def test_entry_that_answers_with_the_past_comes_at_the_next_tick():
    wheel, entry = Wheel(START, tick=0.5), Deadline(START + 1, then=lambda now: now - 9)
    wheel.schedule(entry, entry.at)

    drive(wheel, START, START + 2)

    assert entry.fired == [START + 1, START + 1.5, START + 2]


@pytest.mark.parametrize("awake", [True, False])
def test_cancelled_entry_is_not_called_and_not_held(awake: bool):
    wheel, other = Wheel(START), Deadline(START + 90)
    wheel.schedule(other, other.at)
    if awake:
        wheel.next_tick(START)
    entry = Deadline(START + 1)
    wheel.schedule(entry, entry.at)
    gone = weakref.ref(entry)

    gc.disable()
    try:
        wheel.cancel(entry)
        wheel.cancel(entry)
        assert entry.wheel_slot is None
        del entry
        assert gone() is None
    finally:
        gc.enable()
    assert len(wheel) == 1


@pytest.mark.parametrize("others", [0, 1])
def test_a_slot_that_was_large_keeps_no_memory_for_cancelled_entries(others: int):
    wheel = Wheel(START, tick=0.5, slots=8)
    for entry in [Deadline(START + 1000) for _ in range(others)]:
        wheel.schedule(entry, entry.at)
    keeping_awake = Deadline(START + 1)
    wheel.schedule(keeping_awake, keeping_awake.at)
    assert wheel.next_tick(START) is not None
    fanout = [Deadline(START + 2) for _ in range(1000)]
    for entry in fanout:
        wheel.schedule(entry, entry.at)
    for entry in fanout:
        wheel.cancel(entry)
    assert sum(map(sys.getsizeof, wheel._ring)) > 10_000

    drive(wheel, START, START + 10)

    assert len(wheel) == others
    assert sum(map(sys.getsizeof, wheel._ring)) <= len(wheel._ring) * sys.getsizeof({None: None})


def test_fired_entry_is_not_held():
    wheel, entry = Wheel(START), Deadline(START + 1)
    wheel.schedule(entry, entry.at)
    drive(wheel, START, START + 2)
    gone = weakref.ref(entry)

    gc.disable()
    try:
        del entry
        assert gone() is None
    finally:
        gc.enable()


def test_entry_can_cancel_another_one_that_is_due_with_it():
    wheel, second = Wheel(START), Deadline(START + 1)
    first = Deadline(START + 1, then=lambda now: wheel.cancel(second))
    wheel.schedule(first, first.at)
    wheel.schedule(second, second.at)

    drive(wheel, START, START + 5)

    assert first.fired
    assert not second.asked
    assert len(wheel) == 0


def test_entry_that_is_due_is_not_moved_by_another_one():
    wheel, second = Wheel(START), Deadline(START + 1)
    first = Deadline(START + 1, then=lambda now: wheel.schedule(second, now + 3))
    wheel.schedule(first, first.at)
    wheel.schedule(second, second.at)

    drive(wheel, START, START + 9)

    assert second.fired == first.fired


def test_entry_can_schedule_itself_and_answer_none():
    wheel = Wheel(START, tick=0.5)
    entry = Deadline(START + 1, then=lambda now: wheel.schedule(entry, now + 1))
    wheel.schedule(entry, entry.at)

    drive(wheel, START, START + 3)

    assert entry.asked == [START + 1, START + 2, START + 3]


def test_error_of_one_entry_does_not_lose_the_others():
    def fail(now: float) -> None:
        raise LookupError(f"at {now}")

    wheel = Wheel(START)
    entries = [Deadline(START + 1, then=fail), Deadline(START + 1), Deadline(START + 1, then=fail)]
    for entry in entries:
        wheel.schedule(entry, entry.at)
    wheel.next_tick(START)
    wheel.advance(START + 0.75)

    with pytest.raises(ExceptionGroup, match=r"^deadlines that could not be handled") as caught:
        wheel.advance(START + 1)

    assert [type(error) for error in caught.value.exceptions] == [LookupError, LookupError]
    assert all(entry.fired for entry in entries)
    assert len(wheel) == 0


def test_entries_of_one_tick_come_in_the_order_of_scheduling():
    wheel = Wheel(START)
    order: list[int] = []
    for number in range(100):
        wheel.schedule(Deadline(START + 1, then=lambda now, number=number: order.append(number)), START + 1)

    drive(wheel, START, START + 2)

    assert order == list(range(100))


def test_many_that_are_due_together_are_called_some_at_a_time_and_all_before_later_ones():
    wheel, called = Wheel(START, tick=0.5), []
    entries = []
    for number in range(8):
        entries.append(Deadline(START + 1 + number // 4 * 0.5, lambda now, number=number: called.append(number)))
        wheel.schedule(entries[-1], entries[-1].at)
    wheel.next_tick(START)
    wheel.advance(START + 0.5, 3)
    assert wheel.next_tick(START + 0.5) == START + 1

    wheel.advance(START + 1, 3)
    assert (called, wheel.next_tick(START + 1.1)) == ([0, 1, 2], START + 1.1)
    wheel.cancel(entries[3])
    wheel.advance(START + 1.5, 3)
    assert (called, wheel.next_tick(START + 1.6)) == ([0, 1, 2, 4, 5, 6], START + 1.6)
    wheel.advance(START + 1.7, 3)
    assert (called, wheel.next_tick(START + 1.7)) == ([0, 1, 2, 4, 5, 6, 7], None)


def test_those_that_a_stall_puts_off_wait_behind_those_that_were_too_many():
    wheel, called = Wheel(START, tick=0.5), []
    for number, at in enumerate([1.0, 1.0, 1.0, 4.0, 4.0]):
        entry = Deadline(START + at, lambda now, number=number: called.append(number))
        wheel.schedule(entry, entry.at)
    wheel.next_tick(START)
    wheel.advance(START + 1, 1)
    wheel.advance(START + 5, 1)
    assert (called, wheel.next_tick(START + 5)) == ([0, 1], START + 5)
    wheel.advance(START + 5, 10)
    assert called == [0, 1, 2, 3, 4]


@given(st.lists(st.floats(0, 20), max_size=60), st.integers(1, 7))
def test_with_a_bound_all_are_called_once_and_not_early(delays: list[float], most: int):
    wheel, now = Wheel(START, tick=0.5), START
    entries = [Deadline(START + delay) for delay in delays]
    for entry in entries:
        wheel.schedule(entry, entry.at)
    calls = 0
    while (tick := wheel.next_tick(now)) is not None:
        now = tick
        before = sum(len(one.asked) for one in entries)
        wheel.advance(now, most)
        assert sum(len(one.asked) for one in entries) <= before + most
        calls += 1
        assert calls < 1000
    assert [one.fired for one in entries] == [one.asked for one in entries]
    assert all(one.at <= one.fired[0] <= one.at + 0.5 + 1e-9 and len(one.fired) == 1 for one in entries)


def test_after_a_stall_the_loop_reads_before_the_wheel_judges():
    wheel, entry = Wheel(START, tick=0.5), Deadline(START + 2)
    wheel.schedule(entry, entry.at)
    wheel.next_tick(START)

    wheel.advance(START + 60.1)

    assert entry.asked == []
    assert wheel.next_tick(START + 60.1) == START + 60.5
    entry.at = START + 90  # something was read meanwhile
    wheel.advance(START + 60.5)
    assert entry.asked == [START + 60.5]
    assert entry.fired == []


def test_stall_is_forgiven_once():
    wheel, entry, later = Wheel(START, tick=0.5), Deadline(START + 2), Deadline(START + 50)
    for each in (entry, later):
        wheel.schedule(each, each.at)
    wheel.next_tick(START)

    wheel.advance(START + 30)
    wheel.advance(START + 60)
    assert (entry.fired, later.fired) == ([START + 60], [])  # the other one was due in the second stall only
    wheel.advance(START + 90)
    assert later.fired == [START + 90]


def test_two_ticks_late_is_no_stall():
    wheel, entry = Wheel(START, tick=0.5), Deadline(START + 1)
    wheel.schedule(entry, entry.at)
    wheel.next_tick(START)

    wheel.advance(START + 1)

    assert entry.fired == [START + 1]


def test_postponed_entry_can_be_cancelled():
    wheel, entry = Wheel(START, tick=0.5), Deadline(START + 2)
    wheel.schedule(entry, entry.at)
    wheel.next_tick(START)
    wheel.advance(START + 60)

    wheel.cancel(entry)
    wheel.advance(START + 60.5)

    assert entry.asked == []
    assert wheel.next_tick(START + 60.5) is None


@pytest.mark.parametrize("awake", [False, True])
def test_successor_is_called_in_the_place_of_the_entry(awake: bool):
    wheel, entry, successor = Wheel(START, tick=0.5), Deadline(START + 2), Deadline(START + 7)
    wheel.schedule(entry, entry.at)
    if awake:
        wheel.next_tick(START)

    wheel.hand_over(entry, successor)
    drive(wheel, START, START + 10)

    assert entry.asked == []
    assert successor.asked == [START + 2, START + 7]
    assert successor.fired == [START + 7]
    assert len(wheel) == 0


def test_entry_that_is_not_in_the_wheel_hands_nothing_over():
    wheel, entry, successor = Wheel(START), Deadline(START + 2), Deadline(START + 7)

    wheel.hand_over(entry, successor)

    assert successor.wheel_slot is None
    assert len(wheel) == 0


def test_entry_that_a_stall_has_put_off_hands_nothing_over():
    wheel, entry, successor = Wheel(START, tick=0.5), Deadline(START + 2), Deadline(START + 62)
    wheel.schedule(entry, entry.at)
    wheel.next_tick(START)
    wheel.advance(START + 60)

    wheel.hand_over(entry, successor)

    assert (entry.wheel_slot, successor.wheel_slot, len(wheel)) == (None, None, 0)
    wheel.schedule(successor, successor.at)
    drive(wheel, START + 60, START + 70)
    assert entry.asked == []
    assert successor.fired == [START + 62]


def test_time_without_entries_is_no_stall():
    wheel = Wheel(START, tick=0.5, slots=8)
    assert wheel.next_tick(START) is None

    entry = Deadline(START + 3601.1)
    wheel.schedule(entry, entry.at)
    drive(wheel, START + 3600, START + 3700)

    assert entry.asked == entry.fired == [START + 3601.5]


def test_wheel_sleeps_when_the_last_entry_is_gone():
    wheel, entry = Wheel(START), Deadline(START + 5)
    wheel.schedule(entry, entry.at)
    assert wheel.next_tick(START) == START + DEFAULT_TICK

    wheel.cancel(entry)

    assert wheel.next_tick(START) is None


@pytest.mark.parametrize(("tick", "slots"), [(0.0, 8), (-1.0, 8), (math.nan, 8), (0.5, 1)])
def test_impossible_wheel_is_refused(tick: float, slots: int):
    with pytest.raises(ValueError, match=r"^a wheel needs a tick of more than 0 seconds and at least 2 slots$"):
        Wheel(START, tick=tick, slots=slots)


@given(
    start=st.floats(0, 1e9),
    tick=st.floats(0.001, 5),
    slots=st.integers(2, 40),
    delays=st.lists(st.floats(0, 50), min_size=1, max_size=20),
)
@settings(max_examples=150, deadline=None)
def test_every_entry_fires_once_within_a_tick_and_never_early(
    start: float, tick: float, slots: int, delays: list[float]
):
    wheel = Wheel(start, tick=tick, slots=slots)
    entries = [Deadline(start + delay * tick) for delay in delays]
    for entry in entries:
        wheel.schedule(entry, entry.at)

    drive(wheel, start, start + 60 * tick)

    for entry in entries:
        [fired] = entry.fired
        assert entry.at <= fired
        # A deadline of this very moment has to wait for the next tick; rounding is that of the clock itself.
        assert fired <= max(entry.at, start) + tick + math.ulp(fired) * 4
    assert len(wheel) == 0


class WheelAgainstModel(RuleBasedStateMachine):
    """Any mixture of calls: nothing fires early or after being cancelled, and nothing is forgotten."""

    TICK, SLOTS = 0.5, 6

    @initialize()
    def begin(self) -> None:
        self.now = START
        self.wheel = Wheel(START, tick=self.TICK, slots=self.SLOTS)
        self.entries: list[Deadline] = []
        self.live: dict[Deadline, float] = {}  # entry to its last allowed time

    def _drive(self, until: float) -> None:
        self.now = drive(self.wheel, self.now, until)
        for entry in list(self.live):
            if entry.fired:
                assert entry.fired[0] >= entry.at
                assert entry.fired[0] <= self.live.pop(entry)

    @rule(delay=st.integers(0, 60))
    def add(self, delay: int) -> None:
        entry = Deadline(self.now + delay * 0.1)
        self.entries.append(entry)
        self.live[entry] = max(entry.at, self.now) + self.TICK
        self.wheel.schedule(entry, entry.at)
        self.wheel.next_tick(self.now)

    @precondition(lambda self: self.live)
    @rule(data=st.data(), delay=st.integers(0, 60))
    def move(self, data: st.DataObject, delay: int) -> None:
        entry = data.draw(st.sampled_from(list(self.live)))
        at = self.now + delay * 0.1
        if at < entry.at:
            self.wheel.schedule(entry, at)
        entry.at = at
        self.live[entry] = at + self.TICK

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        entry = data.draw(st.sampled_from(list(self.live)))
        self.wheel.cancel(entry)
        del self.live[entry]
        asked = len(entry.asked)
        entry.then = lambda now: pytest.fail("a cancelled entry was called")
        assert entry.wheel_slot is None
        assert len(entry.asked) == asked

    @precondition(lambda self: self.live)
    @rule(data=st.data(), delay=st.integers(0, 60))
    def hand_over(self, data: st.DataObject, delay: int) -> None:
        entry = data.draw(st.sampled_from(list(self.live)))
        entry.then = lambda now: pytest.fail("an entry was called that has a successor")
        del self.live[entry]
        successor = Deadline(self.now + delay * 0.1)
        self.entries.append(successor)
        self.live[successor] = successor.at + self.TICK
        self.wheel.hand_over(entry, successor)
        self.wheel.schedule(successor, successor.at)
        assert entry.wheel_slot is None

    @rule(ticks=st.integers(0, 9))
    def wait(self, ticks: int) -> None:
        self._drive(self.now + ticks * 0.3)

    @invariant()
    def counts_what_is_scheduled(self) -> None:
        if hasattr(self, "live"):
            assert len(self.wheel) == len(self.live)
            assert all(not entry.fired or entry not in self.live for entry in self.entries)

    def teardown(self) -> None:
        if hasattr(self, "live"):
            self._drive(self.now + 100)
            assert not self.live
            assert self.wheel.next_tick(self.now) is None


TestWheelAgainstModel = WheelAgainstModel.TestCase
TestWheelAgainstModel.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


@pytest.mark.slow
def test_hundred_thousand_entries_are_looked_at_only_when_due():
    wheel = Wheel(START)
    entries = [Deadline(START + 5 + number / 1000) for number in range(100_000)]
    for entry in entries:
        wheel.schedule(entry, entry.at)

    now = drive(wheel, START, START + 30)
    asked = sum(len(entry.asked) for entry in entries)
    assert asked == sum(1 for entry in entries if entry.at <= now - DEFAULT_TICK or entry.fired)
    for entry in entries:
        wheel.cancel(entry)

    assert len(wheel) == 0
    assert wheel.next_tick(now) is None
