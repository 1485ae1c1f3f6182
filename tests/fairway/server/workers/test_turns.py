"""Who takes the next connection, in a model of several workers; real ones are in `test_supervisor.py`."""

from __future__ import annotations

import itertools
import random

import pytest

from fairway.server.workers.turns import TURNS, UNLIMITED, Turns


def room(connections: int, *others: int) -> int:
    """The room of a worker that has just begun."""
    return Turns().room(connections, len(others), sum(others), 10.0)


def test_who_is_alone_takes_all() -> None:
    assert room(1000) == UNLIMITED


@pytest.mark.parametrize(
    ("own", "others", "expected"),
    [
        (0, (0, 0, 0), 1),
        (1, (0, 0, 0), 0),
        (1, (1, 1, 0), 0),
        (1, (1, 1, 1), 1),
        (2, (2, 2, 2), 1),
        (10, (10, 10, 10), 3),
        (12, (10, 10, 10), 1),
        (13, (10, 10, 10), 0),
        (100, (100,), 9),
        (117, (100,), 0),
        (100_000, (100_000,), 2001),
    ],
)
def test_nobody_gets_far_ahead(own: int, others: tuple[int, ...], expected: int) -> None:
    assert room(own, *others) == expected


def test_what_nobody_else_takes_is_taken_after_some_turns() -> None:
    turns, times = Turns(), (10 + 0.002 * number for number in itertools.count())
    assert [turns.room(3, 1, 0, next(times)) for _ in range(TURNS + 1)] == [*[0] * TURNS, 1]
    assert turns.room(4, 1, 0, next(times)) == 0, "the next one is left to the other again"
    assert [turns.room(4, 1, 1, next(times)) for _ in range(TURNS + 1)] == [*[0] * TURNS, 1], "it has taken that"


def test_a_turn_of_long_ago_is_forgotten() -> None:
    turns = Turns()
    assert [turns.room(3, 1, 0, 10.0 * number) for number in range(1, TURNS + 3)] == [0] * (TURNS + 2)


def test_far_ahead_even_what_nobody_takes_is_left() -> None:
    turns = Turns()
    assert [turns.room(20, 1, 0, 10 + 0.002 * number) for number in range(TURNS + 2)] == [0] * (TURNS + 2)


@pytest.mark.parametrize("count", [4, 8, 40, 2000])
@pytest.mark.parametrize("seed", range(5))
def test_however_unevenly_they_are_woken_all_get_as_many(seed: int, count: int) -> None:
    chance = random.Random(seed)
    held, turns, resting, now = [0] * 4, [Turns() for _ in range(4)], [0.0] * 4, 1.0
    while sum(held) < count:
        now += 0.0001
        # One is woken first most of the time, as the system's order of waiting has it.
        awake = [slot for slot in range(4) if resting[slot] <= now]
        for slot in sorted(awake, key=lambda slot: chance.random() * (1, 5, 20, 20)[slot]):
            if turns[slot].room(held[slot], 3, sum(held) - held[slot], now):
                held[slot] += 1
                break
            resting[slot] = now + 0.002
    assert max(held) <= max(1.05 * count / 4, -(-count // 4) + min(2, count // 16))
