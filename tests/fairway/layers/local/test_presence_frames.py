"""Frames about who is present."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairway.layers.backplane import Departed, Present
from fairway.layers.local import presence_frames as frames_of
from fairway.layers.local.fields import ProtocolError
from fairway.layers.local.protocol import Answer, Ask, Decoder

NAMES = st.text("ABCabc019._!-", max_size=120)
ENTRIES = st.dictionaries(NAMES, st.binary(max_size=40), max_size=5)
TERMS = st.integers(0, 2**32 - 1)


@given(NAMES, TERMS, ENTRIES, st.lists(NAMES))
def test_who_is_present_comes_as_it_was_sent(
    subject: str, term: int, entries: dict[str, bytes], keys: list[str]
) -> None:
    read = Decoder(Ask).feed(frames_of.enter(subject, term, entries) + frames_of.depart(subject, term, keys))
    present = [Present("a", term, entries), Present("b", 1, {})]
    ((answer, _, listed),) = Decoder(Answer).feed(frames_of.listed(present))

    (enter, entered_at, entered), (depart, departed_at, departed) = read
    assert (enter, entered_at, frames_of.read_enter(entered)) == (Ask.ENTER, subject, (term, entries))
    assert (depart, departed_at, frames_of.read_depart(departed)) == (Ask.DEPART, subject, (term, keys))
    assert (answer, frames_of.read_listed(listed)) == (Answer.LISTED, present)


@given(TERMS, st.booleans(), st.booleans())
def test_leases_come_as_they_were_sent(term: int, begins: bool, judges: bool) -> None:
    frames = frames_of.renew("a", term, 5.0, 3.0, 10.0, begins, judges) + frames_of.sweep("b", term)
    (_, process, renew), (_, other, sweep) = Decoder(Ask).feed(frames)
    departed = [Departed("b", term), Departed("c", 1)]
    ((_, _, renewed),) = Decoder(Answer).feed(frames_of.renewed(True, departed))

    assert (process, frames_of.read_renew(renew)) == ("a", (term, 5.0, 3.0, 10.0, begins, judges))
    assert (other, frames_of.read_sweep(sweep)) == ("b", term)
    assert frames_of.read_renewed(renewed) == (True, departed)


@pytest.mark.parametrize(
    "read",
    [
        frames_of.read_enter,
        frames_of.read_depart,
        frames_of.read_listed,
        frames_of.read_renewed,
        frames_of.read_renew,
    ],
)
@given(data=st.binary(max_size=60))
def test_nonsense_about_presence_is_refused_or_read(read: Callable[[bytes], object], data: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        read(data)


@pytest.mark.parametrize("cut", range(1, 20))
def test_presence_that_is_cut_off_is_refused(cut: int) -> None:
    entries = frames_of.enter("h.room", 1, {"1": b"mira"})[12:]
    listed = frames_of.listed([Present("process", 1, {"1": b"mira"})])[6:]
    for body, read in ((entries, frames_of.read_enter), (listed, frames_of.read_listed)):
        if cut < len(body) and len(body) - cut != 4:  # a term without entries
            with pytest.raises(ProtocolError, match=r"cut off|a body of"):
                read(body[: len(body) - cut])


def test_too_many_for_one_frame_are_refused_by_the_sender() -> None:
    entries = {str(number): b"x" * 4096 for number in range(4500)}
    for write in (
        lambda: frames_of.enter("h.room", 1, entries),
        lambda: frames_of.listed([Present("a", 1, entries)]),
    ):
        with pytest.raises(ValueError, match="a body"):
            write()
