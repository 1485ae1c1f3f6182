"""How many connections are accepted in a pass: `fairway.server.accepting`, with times passed in."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fairway.server.accepting import LEAST_RATE, LONG_BESIDE_REQUESTS, LONG_PASS, MOST, AcceptPace


def storm(
    pace: AcceptPace, passes: int, cost: float, other: float = 0.0, now: float = 100.0, beside_requests: bool = False
) -> list[int]:
    """Numbers accepted in each pass, if each connection costs so many seconds and whatever else the loop does."""
    numbers = []
    for _ in range(passes):
        number = pace.begin_pass(now, beside_requests)
        pace.more_wait()
        numbers.append(number)
        now += number * cost + other
    return numbers


def test_cheap_connections_are_accepted_eight_at_a_time():
    assert storm(AcceptPace(), 50, cost=0.0001) == [MOST] * 50


def test_expensive_ones_shorten_the_passes():
    numbers = storm(AcceptPace(), 200, cost=0.0006)
    assert numbers[0] == MOST
    assert max(numbers[1:]) * 0.0006 <= 2 * LONG_PASS
    assert sum(numbers[1:]) / 199 * 0.0006 <= LONG_PASS


def test_passes_are_shorter_while_requests_are_under_way():
    pace = AcceptPace()
    numbers = storm(pace, 200, cost=0.0003, beside_requests=True)
    assert sum(numbers[1:]) / 199 * 0.0003 <= LONG_BESIDE_REQUESTS
    assert min(numbers) == 1
    assert storm(pace, MOST + 1, cost=0.0003)[-1] == MOST
    assert storm(AcceptPace(), 50, cost=0.00005, beside_requests=True) == [MOST] * 50


def test_a_loop_that_is_busy_with_something_else_accepts_at_the_least_rate():
    numbers = storm(AcceptPace(), 100, cost=0.0001, other=0.005)
    assert min(numbers) >= int(0.005 * LEAST_RATE)
    assert storm(AcceptPace(), 100, cost=0.0001, other=0.05) == [MOST] * 100


def test_nobody_who_waits_is_left_waiting():
    assert min(storm(AcceptPace(), 100, cost=0.0009)) >= 1


def test_time_in_which_nobody_waited_says_nothing():
    pace = AcceptPace()
    assert pace.begin_pass(1.0) == MOST
    assert pace.begin_pass(2.0) == MOST  # a second later, without a queue


def test_after_a_storm_it_recovers():
    pace = AcceptPace()
    storm(pace, 100, cost=0.001)
    assert storm(pace, MOST + 1, cost=0.0001)[-1] == MOST


@given(st.lists(st.tuples(st.floats(0, 10), st.booleans(), st.booleans())))
def test_it_is_always_between_one_and_the_most(passes: list[tuple[float, bool, bool]]):
    pace, now = AcceptPace(), 0.0
    for took, more, beside_requests in passes:
        now += took
        assert 1 <= pace.begin_pass(now, beside_requests) <= MOST
        if more:
            pace.more_wait()
