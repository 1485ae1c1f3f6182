"""What expires, when, and what it takes with it; a number serves as the clock."""

from __future__ import annotations

import asyncio
import time
from itertools import count
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fairway.layers.doubles import Clock, new_hub, new_member, waiting
from tests.fairway.loops import passes

from fairway.delivery import Payload
from fairway.layers.expiry import SHORTEST, ExpiryQueue
from fairway.layers.hub import Hub

# Messages -----------------------------------------------------------------------------------------------------------


async def test_an_unread_message_expires_and_its_channel_leaves_all_groups() -> None:
    clock = Clock()
    hub = new_hub(expiry=10, clock=clock)
    hub.group_add("one", "c")
    hub.group_add("two", "c")
    hub.group_add("two", "d")
    hub.send("c", {"n": 1})
    clock.now += 10.5

    hub.send("another", {"n": 2})

    assert list(hub.channels) == ["another"]
    assert {group: list(members) for group, members in hub.groups.items()} == {"two": ["d"]}


async def test_a_message_lives_until_its_time_is_over() -> None:
    clock = Clock()
    hub = new_hub(expiry=10, clock=clock)
    hub.group_add("g", "c")
    hub.send("c", {"n": 1})
    clock.now += 10

    assert await hub.receive("c") == {"n": 1}
    assert list(hub.groups) == ["g"]


async def test_only_what_has_expired_is_dropped() -> None:
    clock = Clock()
    hub = new_hub(expiry=10, clock=clock)
    hub.send("c", {"n": "old"})
    clock.now += 6
    hub.send("c", {"n": "new"})
    clock.now += 6

    assert await hub.receive("c") == {"n": "new"}


@pytest.mark.parametrize("touch", ["send", "group_send", "group_broadcast", "receive"])
async def test_any_activity_finds_what_has_expired(touch: str) -> None:
    clock = Clock()
    hub = new_hub(expiry=0.5, clock=clock)
    hub.send("c", {"n": 1})
    clock.now += 1

    if touch == "send":
        hub.send("d", {"n": 2})
    elif touch == "receive":
        reader = asyncio.ensure_future(hub.receive("d"))
        await passes()
        reader.cancel()
    elif touch == "group_send":
        hub.group_send("g", {"n": 2})
    else:
        hub.group_broadcast("g", Payload("a"))

    assert "c" not in hub.channels


async def test_what_has_expired_is_not_delivered_to_a_member_that_comes_late() -> None:
    clock = Clock()
    hub = new_hub(expiry=60, clock=clock)
    hub.send("m", {"type": "old"})
    clock.now += 61

    member = new_member(hub)

    assert waiting(member) == []


async def test_a_wall_clock_that_jumps_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub(lambda channel: 100)
    member = new_member(hub, "m")
    hub.group_add("g", "m")
    hub.send("unread", {"n": 1})
    wall = time.time()
    monkeypatch.setattr(time, "time", lambda: wall + 2 * 86400)

    hub.group_send("g", {"n": 2})

    assert waiting(member) == [{"n": 2}]
    assert await hub.receive("unread") == {"n": 1}


# Memberships --------------------------------------------------------------------------------------------------------


async def test_a_consumer_that_still_runs_is_named_when_its_membership_expires(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    hub = new_hub(group_expiry=60, clock=clock)
    for name in "ab":
        new_member(hub, name)
        hub.group_add("g", name)
    hub.group_add("g", "nobody")
    clock.now += 61

    hub.group_send("g", {"n": 1})

    assert hub.groups == {}
    assert caplog.messages == [
        "A running consumer is no longer in group g: its membership expired 60 s after it joined (group_expiry). To "
        "stay, it has to join again before that. This is logged once"
    ]


async def test_a_membership_expires_counted_from_the_last_add() -> None:
    clock = Clock()
    hub = new_hub(group_expiry=100, clock=clock)
    member = new_member(hub)
    hub.group_add("g", "m")
    clock.now += 60
    hub.group_add("g", "m")
    clock.now += 60
    hub.group_send("g", {"n": 1})
    assert waiting(member) == [{"n": 1}]
    clock.now += 41

    hub.group_send("g", {"n": 2})

    assert waiting(member) == []
    assert hub.groups == {}
    assert member.groups == []


# Notes --------------------------------------------------------------------------------------------------------------


@given(
    st.lists(st.integers(0, 5), max_size=40),
    st.lists(st.integers(0, 60), max_size=5).map(sorted),
    st.integers(0, 20),
)
def test_notes_are_taken_when_they_are_due_and_oldest_first(steps: list[int], looks: list[int], lifetime: int) -> None:
    queue: ExpiryQueue[tuple[float, int]] = ExpiryQueue(lambda note: True)
    notes, now = [], 0
    for number, step in enumerate(steps):
        now += step
        queue.add((now, number))
        notes.append((now, number))

    for look in looks:
        assert queue.oldest == (notes[0][0] if notes else inf)
        due = [note for note in notes if note[0] + lifetime < look]
        assert list(queue.take_due(look, lifetime)) == due
        notes = notes[len(due) :]
        assert len(queue) == len(notes)


def test_notes_that_no_longer_stand_are_dropped_when_their_number_has_doubled() -> None:
    standing: set[int] = set()
    asked = count()
    queue: ExpiryQueue[tuple[float, int]] = ExpiryQueue(lambda note: next(asked) >= 0 and note[1] in standing)

    for number in range(20 * SHORTEST):
        standing.add(number)
        standing.discard(number - 10)
        queue.add((number, number))
        assert len(queue) <= SHORTEST

    assert next(asked) < 2 * 20 * SHORTEST
    assert queue.oldest == next(queue.take_due(inf))[0]


def test_an_empty_queue_has_no_oldest_note() -> None:
    queue: ExpiryQueue[tuple[float, str]] = ExpiryQueue(lambda note: True)
    queue.add((1.0, "a"))
    queue.add((2.0, "b"))

    queue.clear()

    assert (queue.oldest, len(queue), list(queue.take_due(inf))) == (inf, 0, [])


async def test_notes_about_what_is_long_read_do_not_pile_up() -> None:
    clock = Clock()
    hub = new_hub(clock=clock)
    for number in range(5000):
        clock.now += 0.001
        hub.send("c", {"n": number})
        await hub.receive("c")

    assert hub.statistics()["expiry_notes"] <= 1001


async def test_notes_about_memberships_that_ended_do_not_pile_up() -> None:
    hub = new_hub(clock=Clock())
    hub.group_add("g", "stays")
    for number in range(5000):
        hub.group_add("g", f"c{number}")
        hub.group_discard("g", f"c{number}")

    assert hub.statistics()["expiry_notes"] <= 1001


async def test_what_is_noted_survives_the_tidying() -> None:
    clock = Clock()
    hub = new_hub(expiry=10, group_expiry=100, clock=clock)
    hub.send("unread", {"n": 1})
    hub.group_add("g", "unread")
    hub.group_add("h", "other")
    for number in range(3000):
        hub.send("c", {"n": number})
        await hub.receive("c")
        hub.group_add("g", "c")
        hub.group_discard("g", "c")
    clock.now += 11
    hub.group_send("nobody", {"n": 1})
    assert "unread" not in hub.channels
    assert list(hub.groups) == ["h"]
    clock.now += 100

    hub.group_send("nobody", {"n": 1})

    assert hub.groups == {}
