"""`Lane`: which of its items count."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fairway.delivery import Lane


@given(begin=st.integers(0, 3), steps=st.lists(st.sampled_from(["live", "missed", "take"]), max_size=60))
def test_what_was_missed_does_not_count(begin, steps):
    lane, model = Lane(["live"] * begin), ["live"] * begin
    for step in steps:
        if step == "take":
            if model:
                assert lane.popleft() == model.pop(0)
            continue
        lane.append(step)
        model.append(step)
        if step == "missed":
            lane.uncount()
        assert lane.counted == model.count("live")
    assert list(lane) == model


def test_after_something_was_removed_in_the_middle_not_too_few_count():
    lane = Lane(["live"] * 3)
    for _ in range(5):
        lane.append("missed")
        lane.uncount()
    del lane[1]

    assert lane.counted >= 2
