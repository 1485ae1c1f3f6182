"""Frames about histories."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairway.layers.backplane import Keep, Kept, Page, Position
from fairway.layers.local import history_frames as frames_of
from fairway.layers.local.fields import ProtocolError
from fairway.layers.local.protocol import Answer, Ask, Decoder

OFFSETS = st.integers(0, 2**63)
POSITIONS = st.builds(Position, st.text("0123456789abcxyz", min_size=1, max_size=40), st.integers(0, 10**18 - 1))
KEEPS = st.builds(Keep, st.integers(1, 2**32 - 1), st.floats(0, 1e9))
TIMES = st.floats(0, 1e9)


@given(POSITIONS, st.binary(max_size=40), KEEPS, st.text(max_size=20), st.integers(1, 2**32 - 1))
def test_what_is_asked_comes_as_it_was_sent(place: Position, data: bytes, keep: Keep, key: str, limit: int) -> None:
    asked = [frames_of.read("g.a", after, limit) for after in (place, 2.5, None)]
    append, *reads = Decoder(Ask).feed(frames_of.append("g.a", data, keep, key) + b"".join(asked))

    assert (append[:2], frames_of.read_append(append[2])) == ((Ask.APPEND, "g.a"), (data, keep, key))
    assert [(read[:2], frames_of.read_read(read[2])) for read in reads] == [
        ((Ask.READ, "g.a"), (after, limit)) for after in (place, 2.5, None)
    ]


@given(POSITIONS, st.lists(st.tuples(st.binary(max_size=20), OFFSETS, TIMES, OFFSETS), max_size=4), st.booleans())
def test_answers_come_as_they_were_sent(
    top: Position, rows: list[tuple[bytes, int, float, int]], is_complete: bool
) -> None:
    messages = [Kept(data, Position(top.epoch, offset), at, previous) for data, offset, at, previous in rows]
    page = Page(messages, top, is_complete, 7)
    sent = frames_of.position(top) + frames_of.positions([top, top]) + frames_of.page(page)
    (_, _, position), (_, _, positions), (_, _, read) = Decoder(Answer).feed(sent)

    assert frames_of.read_position(position) == top
    assert frames_of.read_positions(positions) == [top, top]
    assert frames_of.read_page(read) == page


@given(POSITIONS, TIMES, st.binary(max_size=20), st.text(max_size=20))
def test_what_is_handed_over_comes_as_it_was_sent(place: Position, seconds: float, data: bytes, key: str) -> None:
    message = Kept(data, place, 3.5, 2)
    sent = frames_of.epoch("g.a", place, seconds) + frames_of.kept("g.a", seconds, message)
    (_, _, epoch), (_, _, kept), (_, _, remembered) = Decoder(Answer).feed(
        sent + frames_of.key("g.a", key, seconds, place)
    )

    assert frames_of.read_epoch(epoch) == (seconds, place)
    assert frames_of.read_kept(kept, place.epoch) == (seconds, message)
    assert frames_of.read_key(remembered) == (seconds, place, key)


READERS: list[Callable[[bytes], object]] = [
    frames_of.read_append,
    frames_of.read_read,
    frames_of.read_position,
    frames_of.read_positions,
    frames_of.read_page,
    frames_of.read_epoch,
    lambda body: frames_of.read_kept(body, "e"),
    frames_of.read_key,
]


@pytest.mark.parametrize("read", READERS)
@given(data=st.binary(max_size=80))
def test_nonsense_about_histories_is_refused_or_read(read: Callable[[bytes], object], data: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        read(data)


def test_a_page_that_is_cut_off_is_refused() -> None:
    page = Page([Kept(b"hello", Position("e", 3), 1.0, 2)], Position("e", 3), True)
    ((_, _, body),) = Decoder(Answer).feed(frames_of.page(page))
    for cut in range(1, 5):
        with pytest.raises(ProtocolError, match="cut off"):
            frames_of.read_page(body[:-cut])
