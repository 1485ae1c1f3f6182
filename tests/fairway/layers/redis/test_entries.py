"""The texts that have the entries of a small group."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from fairway.layers.backplane import NOTE
from fairway.layers.redis.entries import entries_in, written

IDS = st.from_regex(re.compile(r"[A-Za-z0-9._!-]{0,120}", re.ASCII), fullmatch=True)


@given(st.dictionaries(IDS, st.binary(max_size=200), max_size=20))
def test_entries_come_back(entries: dict[str, bytes]) -> None:
    text = written(entries)
    assert entries_in(text) == entries
    counted = re.match(rb"\d+", text)
    assert counted is not None
    assert int(counted[0]) == len(entries.keys() - {NOTE})


@given(st.binary(max_size=200) | st.from_regex(rb"[0-9]?( [0-9]{0,6} [0-9]{0,10} ?[a-z]{0,9}){0,5}"))
def test_any_other_text_is_read_as_far_as_it_goes(text: bytes) -> None:
    found = entries_in(text)
    assert sum(len(data) for data in found.values()) <= len(text)


def test_a_text_that_was_cut_loses_its_end_only() -> None:
    text = written({"1": b"mira", "2": b"tom"})
    assert entries_in(text[:-1]) == {"1": b"mira"}
    assert entries_in(b"") == {}
