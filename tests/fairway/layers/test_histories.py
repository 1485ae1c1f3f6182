"""Histories in memory: their bounds, epochs and keys, and a model of what may be read."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from tests.seeds import examples

from fairway.layers import histories as module
from fairway.layers.backplane import Keep, Kept, Page, Position
from fairway.layers.histories import BARE, KEY_LIFE, LIFE, OVERHEAD, Histories

KEEP = Keep(10, 60)


def new(max_bytes: int = 10**6) -> Histories[str]:
    return Histories("abc", max_bytes)


def append(
    histories: Histories[str], data: str, keep: Keep = KEEP, now: float = 0.0, key: str = "", subject: str = "s"
) -> Position:
    return histories.append(subject, data, len(data), keep, now, 1000 + now, key)[0]


def data_of(page: Page[str]) -> Sequence[str]:
    return [kept.data for kept in page.messages]


def test_positions_grow_by_one_and_name_the_one_before() -> None:
    histories = new()
    assert histories.top("s", 0).offset == 0
    positions = [append(histories, str(number)) for number in range(3)]

    assert positions == [Position("abc1", number) for number in (1, 2, 3)]
    assert [kept.previous for kept in histories.read("s", None, 9, 0).messages] == [0, 1, 2]
    assert append(histories, "x", subject="another") == Position("abc2", 1)
    assert histories.changes == 4


def test_a_position_of_another_epoch_is_answered_with_all_there_is() -> None:
    histories = new()
    append(histories, "x")
    page = histories.read("s", Position("abc9", 1), 9, 0)

    assert (data_of(page), page.is_complete) == (["x"], False)


def test_a_time_before_the_first_message_of_all_is_complete() -> None:
    histories = new()
    assert histories.read("s", 5.0, 9, 0) == Page([], Position("abc1", 0), True)
    append(histories, "x", Keep(1, 60))
    page = histories.read("s", 5.0, 9, 0)
    assert (data_of(page), page.is_complete) == (["x"], True)
    append(histories, "y", Keep(1, 60))
    page = histories.read("s", 5.0, 9, 0)
    assert (data_of(page), page.is_complete) == (["y"], False)


def test_an_epoch_outlives_its_messages() -> None:
    histories = new()
    top = append(histories, "x", Keep(10, 5), now=0)

    assert histories.read("s", None, 9, 5) == Page([], top, True)
    assert not histories.read("s", Position(top.epoch, 0), 9, 5).is_complete
    assert append(histories, "y", Keep(10, 5), now=LIFE - 1) == Position(top.epoch, 2)
    assert append(histories, "z", now=2 * LIFE) == Position("abc2", 1)


def test_a_key_is_remembered_for_five_minutes() -> None:
    histories = new()
    first = append(histories, "x", now=0, key="k")

    assert append(histories, "y", now=KEY_LIFE - 1, key="k") == first
    assert append(histories, "y", now=KEY_LIFE - 1, key="k", subject="another") == Position("abc2", 1)
    assert append(histories, "z", now=KEY_LIFE, key="k").offset == 2


def test_only_so_many_keys_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_KEYS", 2)
    histories = new()
    for key in ("a", "b", "c", "d"):
        append(histories, key, key=key)

    assert append(histories, "again", key="d").offset == 4
    assert append(histories, "again", key="a").offset == 5


def test_the_history_that_was_not_used_for_the_longest_time_goes_first() -> None:
    histories = new(max_bytes=4 * (BARE + OVERHEAD + 100))
    for subject in ("a", "b", "c", "d"):
        append(histories, "x" * 100, subject=subject)
    histories.read("a", None, 9, 0)
    append(histories, "x" * 100, subject="e")

    assert len(histories) == 4
    assert data_of(histories.read("a", None, 9, 0)) == ["x" * 100]
    assert histories.top("b", 0) == Position("abc6", 0)  # it begins anew, and another one makes room for it
    assert len(histories) == 4


def test_names_that_somebody_makes_up_end_no_history_with_messages() -> None:
    histories = new(max_bytes=9 * BARE + 2 * (OVERHEAD + 10))
    append(histories, "x", subject="real")
    append(histories, "short", Keep(10, 5), subject="expired")
    for number in range(100):
        histories.top(f"made up {number}", 6)
        histories.read(f"made up, too {number}", None, 9, 6)
    assert len(histories) == 9
    assert histories.size == 9 * BARE + (OVERHEAD + len("x")) + (OVERHEAD + len("short"))
    assert data_of(histories.read("real", None, 9, 6)) == ["x"]
    # The one whose messages have expired is one of them, once somebody has looked.
    histories.read("expired", None, 9, 6)
    for number in range(100):
        histories.top(f"made up once more {number}", 6)
    assert histories.top("expired", 6).offset == 0


def test_one_history_takes_a_quarter_at_most() -> None:
    histories = new(max_bytes=40_000)
    for _ in range(100):
        append(histories, "x" * 750, Keep(1000, 60))

    assert 8000 < histories.size <= 10_000
    page = histories.read("s", Position("abc1", 1), 1000, 0)
    assert not page.is_complete
    assert page.messages[-1].position.offset == 100


def test_expiring_looks_at_all_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SWEPT_AT_ONCE", 3)
    histories = new()
    for number in range(7):
        append(histories, "x", Keep(10, 5), subject=str(number))
    for _ in range(4):
        histories.expire(6)
    assert histories.size == 7 * BARE
    for _ in range(8):
        histories.expire(LIFE + 1)

    assert (histories.size, len(histories)) == (0, 0)


def test_clearing_ends_everything() -> None:
    histories = new()
    append(histories, "x", key="k")
    changes = histories.changes
    histories.clear()

    assert (histories.size, len(histories)) == (0, 0)
    assert histories.changes != changes
    assert append(histories, "y", key="k") == Position("abc2", 1)


def test_a_page_has_at_least_one_message() -> None:
    histories = new(10**8)
    for number in range(3):
        append(histories, str(number) * 2_000_000)

    assert [data[:1] for data in data_of(histories.read("s", None, 9, 0))] == ["0"]
    assert [data[:1] for data in data_of(histories.read("s", Position("abc1", 1), 9, 0))] == ["1"]


class Model(RuleBasedStateMachine):
    """One history is a list of all messages ever: a page has those that are young and late enough, or says so."""

    KEEP = Keep(3, 10)

    def __init__(self) -> None:
        super().__init__()
        self.histories: Histories[str] = Histories("abc")
        self.now = 0.0
        self.sent: list[Kept[str]] = []

    def kept(self) -> list[Kept[str]]:
        return [one for one in self.sent[-self.KEEP.size :] if one.at - 1000 + self.KEEP.seconds > self.now]

    @rule()
    def append(self) -> None:
        position, kept = self.histories.append("s", str(len(self.sent)), 1, self.KEEP, self.now, 1000 + self.now)
        assert kept is not None
        assert (position.offset, kept.previous) == (len(self.sent) + 1, len(self.sent))
        self.sent.append(kept)

    @rule(seconds=st.sampled_from([1.0, 4.0, 11.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @rule(offset=st.integers(0, 12), limit=st.integers(1, 4))
    def read(self, offset: int, limit: int) -> None:
        top = self.histories.top("s", self.now)
        page = self.histories.read("s", Position(top.epoch, offset), limit, self.now)
        kept = self.kept()
        expected = [one for one in kept if one.position.offset > offset]
        missing = len([one for one in self.sent[offset:] if one not in kept])
        assert page.is_complete == (offset <= len(self.sent) and not missing)
        assert page.messages == (expected if page.is_complete else kept)[:limit]

    @rule(ago=st.sampled_from([0.0, 2.0, 5.0, 30.0]))
    def read_from_a_time(self, ago: float) -> None:
        page = self.histories.read("s", 1000 + self.now - ago, 100, self.now)
        assert page.messages == [one for one in self.kept() if one.at > 1000 + self.now - ago]
        if page.is_complete:
            assert [one for one in self.sent if one.at > 1000 + self.now - ago] == page.messages

    @invariant()
    def its_size_is_known(self) -> None:
        self.histories.expire(self.now)
        assert len(self.histories) in (0, 1)


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=examples(50), deadline=None)
