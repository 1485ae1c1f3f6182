"""How late a loop is, by a clock of the test."""

from __future__ import annotations

from fairway.server.lateness import Lateness


def test_a_loop_in_time_is_not_late() -> None:
    lateness = Lateness(0.25, now=10.0)
    lateness.beat(10.25)
    lateness.beat(10.5)
    assert (lateness.take(10.6), lateness.total) == (0.0, 0.0)


def test_the_longest_is_told_once_and_all_are_added_up() -> None:
    lateness = Lateness(1.0, now=0.0)
    for now in (1.5, 2.5, 6.5, 7.75):
        lateness.beat(now)
    assert lateness.take(8.0) == 3.0
    assert lateness.total == 0.5 + 0.0 + 3.0 + 0.25
    assert lateness.take(8.1) == 0.0


def test_a_loop_that_is_blocked_now_is_late_already() -> None:
    lateness = Lateness(1.0, now=0.0)
    assert lateness.take(5.0) == 4.0
