"""How slowly a body may come: with numbers, and whatever the pieces."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairway.server.pace import next_deadline

RATE, PATIENCE = 240, 75.0


def lives(pieces: list[tuple[float, int]], rate: int = RATE, patience: float = PATIENCE) -> float:
    """How long a client lives that waits so long before each of these, and then says nothing."""
    now, deadline = 0.0, patience
    for wait, size in pieces:
        now += wait
        if now >= deadline:
            break
        deadline = next_deadline(deadline, now, size, rate, patience)
    return deadline


@pytest.mark.parametrize(
    ("pieces", "seconds"),
    [
        ([], 75.0),
        ([(10.0, 240)], 76.0),
        ([(10.0, 1_000_000)], 85.0),
        ([(74.0, 1_000_000), (74.0, 1)], 149.0 + 1 / 240),
    ],
)
def test_a_byte_buys_its_part_of_a_second_and_nobody_has_more_than_so_much(
    pieces: list[tuple[float, int]], seconds: float
) -> None:
    assert lives(pieces) == pytest.approx(seconds)


def test_a_trickle_ends_soon_after_silence_would() -> None:
    assert 75.0 <= lives([(1.0, 1)] * 10_000) < 76.0
    assert 75.0 <= lives([(1.0, 120)] * 10_000) <= 151.0


def test_whoever_sends_at_the_rate_goes_on_for_ever() -> None:
    assert lives([(1.0, 240)] * 10_000) == pytest.approx(10_075.0)


def test_without_a_rate_each_byte_buys_everything() -> None:
    assert lives([(74.0, 1)] * 10, rate=0) == 815.0
    assert lives([(74.0, 1)] * 10, patience=inf) == inf


@given(st.lists(st.tuples(st.floats(0.01, 60.0), st.integers(1, 100_000)), min_size=1, max_size=50))
def test_nobody_lives_longer_than_what_it_sent_has_bought(pieces: list[tuple[float, int]]) -> None:
    sent, now = 0, 0.0
    for wait, size in pieces:
        now, sent = now + wait, sent + size
    assert lives(pieces) <= min(PATIENCE + sent / RATE, now + PATIENCE) + 1e-6
