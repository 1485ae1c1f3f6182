"""Whether others should make room for requests."""

from __future__ import annotations

import pytest

from fairway.server.asked import LATELY, Asked


class Counters:
    requests = responses = 0

    @property
    def has_open_requests(self) -> bool:
        return self.requests > self.responses


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def counters() -> Counters:
    return Counters()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_room_is_made_until_the_answer(counters: Counters, clock: Clock):
    asked = Asked(counters, clock)
    assert not asked()
    counters.requests += 1
    assert asked()
    counters.responses += 1
    assert not asked()


def test_no_room_is_made_for_what_stays_open(counters: Counters, clock: Clock):
    asked = Asked(counters, clock)
    counters.requests += 1  # such as an event stream
    assert asked()
    clock.now += LATELY
    assert not asked()
    counters.requests += 1
    assert asked()
    counters.responses += 1
    clock.now += LATELY
    assert not asked()


def test_what_was_open_before_makes_no_difference(counters: Counters, clock: Clock):
    counters.requests += 1
    assert not Asked(counters, clock)()
