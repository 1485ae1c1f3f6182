"""Stamps in front of kept messages."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fairway.layers.backplane import Kept, Position
from fairway.layers.stamps import stamped, unstamped

OFFSETS = st.integers(0, 10**18 - 1)


@given(
    data=st.binary(max_size=50),
    epoch=st.text("0123456789abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=40),
    offset=OFFSETS,
    previous=OFFSETS,
    at=st.integers(0, 10**13),
)
def test_what_is_stamped_is_read_again(data: bytes, epoch: str, offset: int, previous: int, at: int) -> None:
    kept = Kept(data, Position(epoch, offset), at / 1000, previous)

    assert unstamped(stamped(kept)) == kept
    assert Position.read(str(kept.position)) == kept.position


@given(st.binary(max_size=80) | st.binary(max_size=80).map(lambda data: b"\0" + data))
def test_anything_else_is_not_stamped(data: bytes) -> None:
    assert unstamped(data) is None


def test_a_text_that_is_no_position_is_none() -> None:
    bad = ["", "-", "a-", "-1", "A-1", "a-1 ", "a--1", "a-1\n", "a:1", "a-²", "a" * 41 + "-1", "a-" + "1" * 19]
    assert [Position.read(text) for text in bad] == [None] * len(bad)
