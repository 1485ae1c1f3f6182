"""What a client may send: with numbers, and whatever it tries."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairway.server.websocket.rates import Bucket, Meter


def test_a_bucket_fills_at_its_rate_up_to_its_burst() -> None:
    bucket = Bucket(10, 5.0, 100.0)
    assert bucket.level(200.0) == 5.0
    bucket.spend(30, 200.0)
    assert bucket.level(200.0) == 2.0
    assert bucket.level(201.0) == 3.0
    bucket.spend(70, 201.0)
    assert bucket.level(201.0) == -4.0
    assert bucket.level(205.0) == 0.0


def test_a_rate_of_0_bounds_nothing() -> None:
    bucket = Bucket(0, 5.0, 0.0)
    bucket.spend(10**9, 0.0)
    assert bucket.level(0.0) == inf


@pytest.mark.parametrize(("amounts", "wait"), [((50, 0), 0), ((51, 0), 0.1), ((0, 600), 1.0), ((60, 550), 1.0)])
def test_both_buckets_count(amounts: tuple[int, int], wait: float) -> None:
    meter = Meter((10, 100), 5.0, 0.0)
    assert meter.spend(amounts, 0.0) is (wait > 0)
    assert meter.wait(0.0) == pytest.approx(wait)


def test_it_is_exceeded_until_the_client_has_come_to_rest() -> None:
    meter = Meter((10,), 4.0, 0.0)
    assert meter.spend((50,), 0.0)
    assert not meter.spend((20,), 2.0), "it was before"
    assert meter.exceeded_since == 0.0
    assert not meter.spend((0,), 5.5)
    assert meter.exceeded_since is None


@given(
    st.integers(1, 100),
    st.floats(0.1, 10.0),
    st.lists(st.tuples(st.floats(0.0, 5.0), st.integers(0, 8)), max_size=200),
)
def test_who_waits_as_it_is_told_never_sends_more_than_its_rate(
    rate: int, burst: float, reads: list[tuple[float, int]]
) -> None:
    meter, now, sent = Meter((rate,), burst, 0.0), 0.0, 0
    for pause, messages in reads:
        now += max(pause, meter.wait(now))
        meter.spend((messages,), now)
        sent += messages
        assert sent <= rate * (burst + now) + 8 + 1e-3
