"""`Hub`: who gets what, isolated from whom, how much of it waits, and when it is forgotten. Time is a number."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fairway.loops import LoopFactory, LoopThread, on_each_loop, passes, run

from fairway.delivery import WAKES_PER_PASS, Connection, Inbox, Member, Message, Payload
from fairway.layers.hub import AHEAD, NAMES, SLICE, ChannelQueue, Hub, copied, delivers_through_hub, hub_of, is_flat
from fairway.protocols.websocket.frames import PLAIN


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def new_hub(capacity: int = 100, **options: Any) -> Hub:
    return Hub(lambda channel: capacity, **options)


def new_member(hub: Hub, name: str = "m", capacity: int = 100) -> Member:
    member = Member(name, Inbox(asyncio.get_running_loop()), capacity)
    hub.attach(member)
    return member


def waiting(member: Member) -> list[Any]:
    items = []
    while (item := member.inbox.take_nowait()) is not None:
        items.append(item)
    return items


# Copies -------------------------------------------------------------------------------------------------------


class Shout(str):
    """A str that could carry attributes: not of an exact built-in type."""


@pytest.mark.parametrize(
    ("message", "flat"),
    [
        ({"type": "a", "n": 1, "f": 1.5, "b": b"x", "t": True, "none": None}, True),
        ({}, True),
        ({"list": []}, False),
        ({"dict": {}}, False),
        ({"tuple": ()}, False),
        ({"shout": Shout("a")}, False),
        ({Shout("key"): 1}, False),
        ({"bytes": bytearray()}, False),
    ],
)
def test_flat_means_that_a_shallow_copy_isolates(message: Message, flat: bool) -> None:
    assert is_flat(message) is flat


def test_a_copy_shares_nothing_that_can_change() -> None:
    original: Message = {"list": [1, {"deep": []}], "set": {1}, "tuple": ([],), (1, 2): bytearray(b"x")}

    copy = copied(original)

    assert copy == original
    copy["list"][1]["deep"].append(1)
    copy["set"].add(2)
    copy["tuple"][0].append(1)
    copy[(1, 2)].extend(b"y")
    assert original == {"list": [1, {"deep": []}], "set": {1}, "tuple": ([],), (1, 2): bytearray(b"x")}


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(_json)
def test_a_copy_is_equal_and_of_the_same_types(value: Any) -> None:
    copy = copied(value)

    assert copy == value
    assert repr(copy) == repr(value)


# Channels -----------------------------------------------------------------------------------------------------


async def test_a_channel_is_first_in_first_out() -> None:
    hub = new_hub()
    for number in range(3):
        assert hub.send("c", {"n": number})

    assert [await hub.receive("c") for _ in range(3)] == [{"n": 0}, {"n": 1}, {"n": 2}]
    assert hub.channels == {}


async def test_sending_copies() -> None:
    hub = new_hub()
    message = {"list": [1]}
    hub.send("c", message)
    message["list"].append(2)

    assert await hub.receive("c") == {"list": [1]}


async def test_sending_to_a_member_copies() -> None:
    hub = new_hub()
    member = new_member(hub)
    message = {"list": [1]}
    hub.send("m", message)
    message["list"].append(2)

    assert waiting(member) == [{"list": [1]}]


async def test_a_full_channel_refuses_and_the_drop_is_counted() -> None:
    hub = new_hub(capacity=2)

    assert [hub.send("c", {"n": number}) for number in range(3)] == [True, True, False]
    assert hub.dropped == 1
    assert hub.send("other", {"n": 0})


async def test_capacity_is_asked_once_when_the_queue_is_made() -> None:
    asked = []
    hub = Hub(lambda channel: asked.append(channel) or 1)
    hub.send("c", {"n": 0})
    hub.send("c", {"n": 1})

    assert asked == ["c"]


async def test_each_message_goes_to_one_of_several_readers() -> None:
    hub = new_hub()
    readers = [asyncio.ensure_future(hub.receive("c")) for _ in range(3)]
    await passes()

    for number in range(3):
        hub.send("c", {"n": number})

    got = await asyncio.gather(*readers)
    assert sorted(message["n"] for message in got) == [0, 1, 2]
    assert hub.channels == {}


async def test_a_reader_makes_its_channel_appear() -> None:
    hub = new_hub()
    reader = asyncio.ensure_future(hub.receive("c"))
    await passes()
    assert list(hub.channels) == ["c"]

    reader.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await reader

    assert hub.channels == {}


async def test_removing_the_entry_behind_a_reader_does_not_lose_its_message() -> None:
    hub = new_hub()
    reader = asyncio.ensure_future(hub.receive("c"))
    await passes()
    hub.send("c", {"n": 1})

    del hub.channels["c"]

    assert await reader == {"n": 1}


@on_each_loop
def test_a_cancelled_reader_loses_nothing(new_loop: LoopFactory) -> None:
    async def main() -> Message:
        hub = new_hub()
        reader = asyncio.ensure_future(hub.receive("c"))
        await passes()
        hub.send("c", {"n": 1})
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        assert list(hub.channels) == ["c"]
        return await hub.receive("c")

    assert run(new_loop, main()) == {"n": 1}


@on_each_loop
def test_a_message_for_a_cancelled_reader_goes_to_the_next(new_loop: LoopFactory) -> None:
    async def main() -> Message:
        hub = new_hub()
        first, second = (asyncio.ensure_future(hub.receive("c")) for _ in range(2))
        await passes()
        hub.send("c", {"n": 1})
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        return await second

    assert run(new_loop, main()) == {"n": 1}


def test_a_queue_looks_like_a_queue() -> None:
    queue = ChannelQueue(maxsize=1)
    assert (queue.qsize(), queue.empty(), queue.full(), queue.first_expiry) == (0, True, False, float("inf"))
    with pytest.raises(asyncio.QueueEmpty):
        queue.get_nowait()

    queue.put_nowait((5.0, {"n": 1}))

    assert (queue.qsize(), queue.empty(), queue.full(), queue.first_expiry) == (1, False, True, 5.0)
    with pytest.raises(asyncio.QueueFull):
        queue.put_nowait((5.0, {"n": 2}))
    assert queue.get_nowait() == (5.0, {"n": 1})


def test_a_queue_without_a_bound_is_never_full() -> None:
    queue = ChannelQueue(maxsize=0)
    for number in range(1000):
        queue.put_nowait((0.0, {"n": number}))

    assert not queue.full()


# Members ------------------------------------------------------------------------------------------------------


async def test_a_member_gets_first_what_was_queued_for_it() -> None:
    hub = new_hub()
    hub.send("m", {"n": 0})
    member = new_member(hub)
    hub.send("m", {"n": 1})

    assert waiting(member) == [{"n": 0}, {"n": 1}]


async def test_detaching_ends_channel_and_memberships() -> None:
    hub = new_hub()
    member = new_member(hub)
    hub.group_add("one", "m")
    hub.group_add("two", "m")
    hub.group_add("two", "other")

    hub.detach(member)

    assert hub.channels == {}
    assert list(hub.groups) == ["two"]
    assert list(hub.groups["two"]) == ["other"]
    assert member.closed


async def test_detaching_leaves_a_successor_of_the_same_name_alone() -> None:
    hub = new_hub()
    first = new_member(hub)
    second = new_member(hub)

    hub.detach(first)

    assert hub.channels == {"m": second}


async def test_a_discarded_group_is_not_kept_in_mind() -> None:
    hub = new_hub()
    member = new_member(hub)
    hub.group_add("g", "m")
    hub.group_add("g", "m")
    hub.group_discard("g", "m")

    assert member.groups == []
    assert hub.groups == {}


async def test_a_reader_of_a_members_channel_goes_first_and_gives_it_back() -> None:
    hub = new_hub()
    member = new_member(hub)
    reader = asyncio.ensure_future(hub.receive("m"))
    await passes()
    hub.group_add("g", "m")

    hub.send("m", {"n": 1})

    assert await reader == {"n": 1}
    hub.group_send("g", {"n": 2})
    assert waiting(member) == [{"n": 2}]
    hub.detach(member)
    assert (hub.channels, hub.groups) == ({}, {})


async def test_a_member_that_ends_while_its_channel_is_read_stays_away() -> None:
    hub = new_hub()
    member = new_member(hub)
    reader = asyncio.ensure_future(hub.receive("m"))
    await passes()

    hub.detach(member)
    hub.send("m", {"n": 1})

    assert await reader == {"n": 1}
    assert hub.channels == {}


@on_each_loop
def test_a_member_of_a_closed_loop_is_forgotten_without_a_count(new_loop: LoopFactory) -> None:
    hub = new_hub()

    async def connect() -> None:
        for name in ("a", "b", "c"):
            new_member(hub, name)
            hub.group_add("g", name)

    run(new_loop, connect())

    async def use() -> None:
        assert hub.send("a", {"n": 1})
        assert await hub.receive("a") == {"n": 1}
        del hub.groups["g"]["c"]
        hub.group_send("g", {"n": 1})
        hub.group_add("g", "c")
        hub.group_broadcast("g", Payload("x"))
        assert hub.dropped == 0

    run(new_loop, use())
    assert (hub.channels, hub.groups, hub.dropped) == ({}, {}, 0)


# Groups -------------------------------------------------------------------------------------------------------


async def test_a_group_reaches_its_members_and_nobody_else() -> None:
    hub = new_hub()
    inside, outside = new_member(hub, "in"), new_member(hub, "out")
    hub.group_add("g", "in")
    hub.group_add("g", "unread")

    hub.group_send("g", {"n": 1})
    assert hub.dropped == 0

    assert waiting(inside) == [{"n": 1}]
    assert waiting(outside) == []
    assert await hub.receive("unread") == {"n": 1}


async def test_a_group_without_members_swallows_messages() -> None:
    hub = new_hub()

    hub.group_send("g", {"n": 1})
    hub.group_broadcast("g", Payload("a"))
    assert hub.dropped == 0
    assert (hub.groups, hub.channels) == ({}, {})


async def test_adding_twice_delivers_once() -> None:
    hub = new_hub()
    member = new_member(hub)
    hub.group_add("g", "m")
    hub.group_add("g", "m")

    hub.group_send("g", {"n": 1})

    assert waiting(member) == [{"n": 1}]


async def test_discarding_what_is_not_there_is_no_error() -> None:
    hub = new_hub()
    hub.group_discard("g", "m")
    hub.group_add("g", "m")
    hub.group_discard("g", "other")

    assert list(hub.groups) == ["g"]


@pytest.mark.parametrize("message", [{"n": 1}, {"nested": {"n": [1]}}], ids=["flat", "nested"])
async def test_what_one_member_changes_no_other_sees(message: Message) -> None:
    hub = new_hub()
    members = [new_member(hub, name) for name in "abc"]
    for name in "abc":
        hub.group_add("g", name)
    hub.group_send("g", message)

    first = waiting(members[0])[0]
    first["added"] = True
    if "nested" in first:
        first["nested"]["n"].append(2)

    expected = {"nested": {"n": [1]}} if "nested" in first else {"n": 1}
    assert message == expected
    assert [waiting(member) for member in members[1:]] == [[expected], [expected]]


async def test_full_members_miss_the_message_and_others_do_not(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "fairway.layers")
    hub = new_hub(capacity=1)
    full, free = new_member(hub, "full", capacity=1), new_member(hub, "free")
    for name in ("full", "free", "unread"):
        hub.group_add("g", name)
    hub.send("full", {"n": 0})
    hub.send("unread", {"n": 0})

    hub.group_send("g", {"n": 1})

    assert waiting(full) == [{"n": 0}]
    assert waiting(free) == [{"n": 1}]
    assert (hub.dropped, full.dropped) == (2, 1)
    assert caplog.messages == ["2 of 3 channels over capacity in group g"]


class Written(Connection):
    __slots__ = ("payloads",)

    def __init__(self, inbox: Inbox) -> None:
        self.inbox = inbox
        self.is_open = True
        self.payloads: list[Payload] = []

    def broadcast(self, payload: Payload) -> None:
        self.payloads.append(payload)


async def test_a_broadcast_gives_all_members_the_same_payload() -> None:
    hub = new_hub()
    fast = new_member(hub, "fast")
    fast.connection = connection = Written(fast.inbox)
    fast.inbox.wait()
    slow = new_member(hub, "slow")
    for name in ("fast", "slow", "unread"):
        hub.group_add("g", name)
    payload = Payload("a")

    hub.group_broadcast("g", payload)
    assert hub.dropped == 0

    assert connection.payloads == [payload]
    assert waiting(slow) == [payload]
    assert await hub.receive("unread") == {"type": "fairway.broadcast", "text": "a"}


async def test_a_broadcast_leaves_out_the_excluded() -> None:
    hub = new_hub()
    members = {name: new_member(hub, name) for name in "ab"}
    for name in "ab":
        hub.group_add("g", name)

    hub.group_broadcast("g", Payload("x"), frozenset({"a"}))

    assert waiting(members["a"]) == []
    assert len(waiting(members["b"])) == 1


async def test_a_broadcast_to_full_members_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "fairway.layers")
    hub = new_hub()
    new_member(hub, "m", capacity=1)
    hub.group_add("g", "m")
    hub.group_broadcast("g", Payload("x"))

    hub.group_broadcast("g", Payload("y"))
    assert hub.dropped == 1
    assert caplog.messages == ["1 of 1 channels over capacity in group g"]


# Slices --------------------------------------------------------------------------------------------------------------


def crowd(hub: Hub, count: int) -> list[Member]:
    members = [new_member(hub, f"m{number}") for number in range(count)]
    for member in members:
        hub.group_add("g", member.name)
    return members


async def test_a_large_group_is_served_in_slices() -> None:
    hub = new_hub()
    members = crowd(hub, 2 * SLICE + 1)

    done = hub.group_broadcast("g", Payload("a"))

    assert done is not None
    served = [sum(bool(member.inbox.layer_size) for member in members)]
    while not done.done():
        await asyncio.sleep(0)
        served.append(sum(bool(member.inbox.layer_size) for member in members))
    assert sorted(set(served)) == [SLICE, 2 * SLICE, 2 * SLICE + 1]


async def test_messages_of_a_group_keep_their_order_although_they_are_sliced() -> None:
    hub = new_hub()
    members = crowd(hub, SLICE + 1)
    message = {"n": 1, "list": [1]}

    waits = [
        hub.group_send("g", message),
        hub.group_broadcast("g", Payload("a")),
        hub.group_send("g", message | {"n": 2}),
    ]
    message["list"].append("later")  # type: ignore[attr-defined]
    waits[0].cancel()  # type: ignore[union-attr]
    await waits[2]  # type: ignore[misc]

    for member in (members[0], members[-1]):
        first, payload, second = waiting(member)
        assert (first, payload.text, second) == ({"n": 1, "list": [1]}, "a", {"n": 2, "list": [1]})
    assert hub._rounds == {}


async def test_channels_without_a_consumer_are_served_in_slices_too() -> None:
    hub = new_hub()
    count = 2 * NAMES + 1
    for number in range(count):
        hub.group_add("g", f"c{number}")
    first, second = hub.group_send("g", message := {"n": 1}), hub.group_send("g", {"n": 2})
    message["n"] = "changed meanwhile"
    assert len(hub.channels) == NAMES
    assert first is not None
    assert second is not None
    await first
    assert len(hub.channels) == count
    await second
    for number in range(count):
        assert [(await hub.receive(f"c{number}"))["n"] for _ in range(2)] == [1, 2]


async def test_drops_of_a_large_group_are_one_line(caplog: pytest.LogCaptureFixture) -> None:
    hub = new_hub(capacity=1)
    new_member(hub, "m", capacity=1)
    for name in ("m", *(f"c{number}" for number in range(NAMES + 1))):
        hub.group_add("g", name)
    for _ in range(2):
        sent = hub.group_send("g", {"n": 1})
        assert sent is not None
        await sent
    assert caplog.messages == [f"{NAMES + 2} of {NAMES + 2} channels over capacity in group g"]


async def test_a_group_that_has_become_small_still_waits_its_turn() -> None:
    hub = new_hub()
    members = crowd(hub, SLICE + 1)

    first = hub.group_broadcast("g", Payload("a"))
    for member in members[1:]:
        hub.group_discard("g", member.name)
    second = hub.group_broadcast("g", Payload("b"))

    assert first is not None
    assert second is not None
    await second
    assert first.done()
    assert [payload.text for payload in waiting(members[0])] == ["a", "b"]


async def test_another_group_does_not_wait() -> None:
    hub = new_hub()
    crowd(hub, SLICE + 1)
    other = new_member(hub, "other")
    hub.group_add("h", "other")
    done = hub.group_broadcast("g", Payload("a"))

    assert hub.group_broadcast("h", Payload("b")) is None
    assert [payload.text for payload in waiting(other)] == ["b"]
    assert done is not None
    await done


def test_without_a_loop_nothing_is_sliced() -> None:
    hub = new_hub()
    for number in range(SLICE + 1):
        hub.group_add("g", f"m{number}")

    assert hub.group_send("g", {"n": 1}) is None
    assert len(hub.channels) == SLICE + 1


async def test_a_failure_in_a_slice_holds_up_nothing() -> None:
    hub = new_hub()
    members = crowd(hub, 2 * SLICE)

    class Broken(Written):
        def broadcast(self, payload: Payload) -> None:
            raise ArithmeticError("on purpose")

    members[0].connection = Broken(members[0].inbox)
    members[0].inbox.wait()
    with pytest.raises(ArithmeticError, match=r"^on purpose$"):
        hub.group_broadcast("g", Payload("a"))
    wait = hub.group_send("g", {"n": 1})
    assert wait is not None
    await wait
    assert waiting(members[-1])[-1] == {"n": 1}


# The sender's pace ---------------------------------------------------------------------------------------------------


async def test_a_sender_is_asked_to_wait_when_it_is_far_ahead_of_the_members() -> None:
    hub = new_hub()
    crowd(hub, 1000)
    waits = [hub.group_send("g", {"n": number}) for number in range(AHEAD // 1000 + 1)]
    assert [wait is None for wait in waits] == [True] * (AHEAD // 1000) + [False]
    passes_made = 0

    async def count() -> None:
        nonlocal passes_made
        while True:
            passes_made += 1
            await asyncio.sleep(0)

    counting = asyncio.ensure_future(count())
    await waits[-1]  # type: ignore[misc]
    assert passes_made >= 1000 // WAKES_PER_PASS  # so that each of them can be woken
    counting.cancel()


async def test_messages_of_different_passes_do_not_add_up() -> None:
    hub = new_hub()
    crowd(hub, 1000)
    for number in range(10):
        assert hub.group_broadcast("g", Payload(str(number))) is None
        await asyncio.sleep(0)


async def test_a_small_group_is_not_flooded_in_one_pass() -> None:
    hub = new_hub()
    member = new_member(hub)
    hub.group_add("g", "m")
    for number in range(1000):
        wait = hub.group_send("g", {"n": number})
        if wait is not None:
            assert len(waiting(member)) < member.capacity
            await wait
    assert hub.dropped == 0


async def test_flush_forgets_messages_and_groups_and_keeps_members_and_readers() -> None:
    hub = new_hub()
    member = new_member(hub)
    hub.group_add("g", "m")
    hub.send("unread", {"n": 1})
    reader = asyncio.ensure_future(hub.receive("read"))
    await passes()

    hub.flush()

    assert (hub.groups, set(hub.channels), member.groups) == ({}, {"m", "read"}, None)
    hub.send("m", {"n": 2})
    hub.send("read", {"n": 3})
    assert waiting(member) == [{"n": 2}]
    assert await reader == {"n": 3}


# Expiry -------------------------------------------------------------------------------------------------------


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
        "A consumer that still runs is no longer in group g, 60 s after it has joined (group_expiry); it would have to "
        "join again before. Further ones are not logged"
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


async def test_notes_about_what_is_long_read_do_not_pile_up() -> None:
    clock = Clock()
    hub = new_hub(clock=clock)
    for number in range(5000):
        clock.now += 0.001
        hub.send("c", {"n": number})
        await hub.receive("c")

    assert len(hub._expiries) <= 1001


async def test_notes_about_memberships_that_ended_do_not_pile_up() -> None:
    hub = new_hub(clock=Clock())
    hub.group_add("g", "stays")
    for number in range(5000):
        hub.group_add("g", f"c{number}")
        hub.group_discard("g", f"c{number}")

    assert len(hub._joins) <= 1001


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


_names = st.sampled_from("abc")
_groups = st.sampled_from("gh")


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("add"), _groups, _names),
            st.tuples(st.just("discard"), _groups, _names),
            st.tuples(st.just("attach"), _names),
            st.tuples(st.just("detach"), _names),
            st.tuples(st.just("send"), _groups),
        ),
        max_size=30,
    )
)
def test_groups_behave_like_sets_of_names(steps: list[tuple[str, ...]]) -> None:
    async def main() -> None:
        hub = new_hub(clock=Clock())
        model: dict[str, set[str]] = {"g": set(), "h": set()}
        members: dict[str, Member] = {}
        for action, *names in steps:
            if action == "add":
                hub.group_add(*names)
                model[names[0]].add(names[1])
            elif action == "discard":
                hub.group_discard(*names)
                model[names[0]].discard(names[1])
            elif action == "attach" and names[0] not in members and not any(names[0] in m for m in model.values()):
                members[names[0]] = new_member(hub, names[0])
            elif action == "detach" and names[0] in members:
                hub.detach(members.pop(names[0]))
                for group in model.values():
                    group.discard(names[0])
            elif action == "send":
                for member in members.values():
                    waiting(member)
                hub.group_send(names[0], {"n": 1})
                reached = {name for name, member in members.items() if waiting(member)}
                assert reached == model[names[0]] & set(members)
            assert {group: set(names) for group, names in hub.groups.items()} == {
                group: names for group, names in model.items() if names
            }

    asyncio.run(main())


# Rosters ------------------------------------------------------------------------------------------------------


class Company(Written):
    """A connection of a fanout, which writes to all of it in one call."""

    __slots__ = ("of",)

    def __init__(self, inbox: Inbox, of: TogetherWritten) -> None:
        super().__init__(inbox)
        self.encoder = PLAIN
        self.of = of

    @property
    def fanout(self) -> TogetherWritten:
        return self.of


class TogetherWritten:
    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.calls = 0

    def recipients_of(self, connections: Sequence[Connection]) -> Seated:
        assert all(one.is_open for one in connections)
        assert len(set(connections)) == len(connections)
        return Seated(connections)

    def broadcast(self, recipients: Seated, payload: Payload, without: Collection[int] = ()) -> list[int]:
        self.calls += 1
        others = []
        for place, one in enumerate(recipients):
            if place in without:
                continue
            if one.is_open and one.inbox.parked:
                one.broadcast(payload)
            else:
                others.append(place)
        return others


class Seated(tuple[Connection, ...]):
    def index_of(self, connection: Connection) -> int | None:
        return self.index(connection) if connection in self else None


def in_company(hub: Hub, name: str, of: TogetherWritten) -> tuple[Member, Company]:
    inbox = Inbox(asyncio.get_running_loop())
    connection = Company(inbox, of)
    member = Member(name, inbox, connection=connection)
    hub.attach(member)
    hub.group_add("g", name)
    inbox.wait()
    return member, connection


async def test_a_crowd_is_given_a_payload_in_one_call_and_others_get_it_one_by_one() -> None:
    hub, of, another = new_hub(), TogetherWritten(), TogetherWritten()
    connections = [in_company(hub, name, of)[1] for name in "abc"]
    stranger = in_company(hub, "d", another)[1]
    without = new_member(hub, "e")
    hub.group_add("g", "e")
    hub.group_add("g", "nobody")
    payload = Payload("a")

    hub.group_broadcast("g", payload)

    assert [one.payloads for one in (*connections, stranger)] == [[payload]] * 4
    assert (of.calls, another.calls) == (1, 0)
    assert waiting(without) == [payload]
    assert await hub.receive("nobody") == {"type": "fairway.broadcast", "text": "a"}


async def test_a_member_of_a_crowd_that_is_busy_gets_the_payload_into_its_inbox() -> None:
    hub, of = new_hub(), TogetherWritten()
    busy, connection = in_company(hub, "busy", of)
    idle = in_company(hub, "idle", of)[1]
    busy.deliver({"type": "earlier"})
    payload = Payload("a")

    hub.group_broadcast("g", payload)

    assert (connection.payloads, idle.payloads) == ([], [payload])
    assert waiting(busy) == [payload]  # what came earlier has been handed over


async def test_the_excluded_are_not_in_the_crowd_for_one_message() -> None:
    hub, of = new_hub(), TogetherWritten()
    connections = [in_company(hub, name, of)[1] for name in "ab"]
    others = [new_member(hub, name) for name in "cd"]
    for name in "cd":
        hub.group_add("g", name)
    for exclude in ({"a", "c"}, {"a", "b", "d"}, set(), {"stranger"}):
        hub.group_broadcast("g", Payload("x"), frozenset(exclude))
    assert [len(one.payloads) for one in connections] == [2, 3]
    assert [len(waiting(one)) for one in others] == [3, 3]


async def test_two_consumers_of_one_connection_are_two_members() -> None:
    hub, of = new_hub(), TogetherWritten()
    _, connection = in_company(hub, "a", of)
    hub.attach(Member("b", connection.inbox, connection=connection))
    hub.group_add("g", "b")
    hub.group_broadcast("g", Payload("x"))
    assert len(connection.payloads) == 2


async def test_a_connection_that_opens_later_is_in_the_crowd_from_then_on() -> None:
    hub, of = new_hub(), TogetherWritten()
    in_company(hub, "a", of)
    _, late = in_company(hub, "late", of)
    late.is_open = False
    hub.group_broadcast("g", Payload("too early"))
    late.inbox.take_nowait()
    late.inbox.wait()
    roster = hub._roster("g")
    assert hub._roster("g") is roster
    late.is_open = True
    hub.group_broadcast("g", Payload("in time"))
    assert [payload.text for payload in late.payloads] == ["in time"]
    assert hub._roster("g") is not roster
    assert len(hub._roster("g")._recipients) == 2  # type: ignore[union-attr, arg-type]


async def test_the_inbox_that_a_consumer_reads_says_whether_it_is_busy() -> None:
    # Behind a middleware that wraps `receive`, the connection's own inbox is read by a pump, which always waits.
    hub, of = new_hub(), TogetherWritten()
    connection = Company(Inbox(asyncio.get_running_loop()), of)
    connection.inbox.wait()
    member = Member("a", Inbox(asyncio.get_running_loop()), connection=connection)
    hub.attach(member)
    hub.group_add("g", "a")
    payload = Payload("a")

    hub.group_broadcast("g", payload)

    assert connection.payloads == []
    assert waiting(member) == [payload]


async def test_a_member_is_taken_off_the_direct_way_at_once() -> None:
    hub, of = new_hub(), TogetherWritten()
    member, connection = in_company(hub, "a", of)
    hub.group_broadcast("g", Payload("direct"))
    member.detour()
    hub.group_broadcast("g", Payload("by inbox"))
    assert [payload.text for payload in connection.payloads] == ["direct"]
    assert member.connection is None
    assert not member.inbox.parked


async def test_from_another_thread_a_crowd_is_not_touched() -> None:
    hub, of = new_hub(), TogetherWritten()
    member, connection = in_company(hub, "a", of)
    payload = Payload("a")
    await asyncio.to_thread(hub.group_broadcast, "g", payload)
    assert (of.calls, connection.payloads) == (0, [])
    await asyncio.sleep(0)
    assert not member.inbox.parked


def test_a_hub_keeps_nothing_of_groups_that_are_gone() -> None:
    async def main() -> None:
        hub = new_hub()
        for number in range(10):
            member = new_member(hub, f"m{number}")
            hub.group_add(f"g{number}", member.name)
            hub.group_send(f"g{number}", {"n": 1})
            assert len(hub._rosters) == 1
            hub.detach(member)
        assert hub._rosters == {}

    asyncio.run(main())


@given(
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from(["add", "discard", "poke"]), _groups, _names),
            st.tuples(st.sampled_from(["attach", "detach", "read", "stop reading", "detour"]), _names),
            st.tuples(st.sampled_from(["send", "broadcast"]), _groups),
            st.tuples(st.just("flush")),
        ),
        max_size=40,
    )
)
def test_a_roster_is_what_a_fresh_look_would_find(steps: list[tuple[str, ...]]) -> None:
    async def main() -> None:
        hub, of = new_hub(clock=Clock()), TogetherWritten()
        members: dict[str, Member] = {}
        readers: dict[str, asyncio.Task[Message]] = {}
        for action, *names in steps:
            name = names[-1] if names else ""
            if action == "add":
                hub.group_add(*names)
            elif action == "discard":
                hub.group_discard(*names)
            elif action == "poke":
                hub.groups.get(names[0], {}).pop(name, None)
            elif action == "attach":
                inbox = Inbox(asyncio.get_running_loop())
                members[name] = Member(name, inbox, connection=Company(inbox, of))
                hub.attach(members[name])
            elif action == "detach" and name in members:
                hub.detach(members.pop(name))
            elif action == "detour" and name in members:
                members[name].detour()
            elif action == "read" and name not in readers:
                readers[name] = asyncio.ensure_future(hub.receive(name))
                await asyncio.sleep(0)
            elif action == "stop reading" and name in readers:
                reader = readers.pop(name)
                reader.cancel()
                await asyncio.wait([reader])
            elif action == "send":
                hub.group_send(name, {"n": 1})
            elif action == "broadcast":
                hub.group_broadcast(name, Payload("a"))
            elif action == "flush":
                hub.flush()
            for group in ("g", "h"):
                targets = {name: hub.channels.get(name) for name in hub.groups.get(group, ())}
                found = {target for target in targets.values() if type(target) is Member}
                roster = hub._roster(group)
                assert (roster is None) == (not targets)
                if roster is not None:
                    assert set(roster.members) == found
                    assert set(roster.names) == {one for one, target in targets.items() if target not in found}
                    direct = roster.members[: len(roster._recipients or ())]
                    assert [member.connection for member in direct] == list(roster._recipients or ())
                    assert set(direct) == {one for one in found if one.connection is not None}
        for reader in readers.values():
            reader.cancel()
        await asyncio.gather(*readers.values(), return_exceptions=True)

    asyncio.run(main())


# Threads ------------------------------------------------------------------------------------------------------


@on_each_loop
def test_readers_in_other_loops_get_every_message_once(new_loop: LoopFactory) -> None:
    hub = new_hub(capacity=10_000)

    async def read(count: int) -> list[int]:
        return [(await hub.receive("c"))["n"] for _ in range(count)]

    with LoopThread(new_loop) as one, LoopThread(new_loop) as two:
        readers = [loop.submit(read(250)) for loop in (one, two) for _ in range(2)]
        for number in range(1000):
            hub.send("c", {"n": number})
        got = [number for reader in readers for number in reader.result(timeout=10)]

    assert Counter(got) == Counter(range(1000))
    assert hub.channels == {}


@on_each_loop
def test_a_group_reaches_members_of_several_loops(new_loop: LoopFactory) -> None:
    hub = new_hub()

    async def member(name: str) -> Member:
        hub.group_add("g", name)
        return new_member(hub, name)

    async def next_item(of: Member) -> Any:
        return await of.inbox.get()

    with LoopThread(new_loop) as one, LoopThread(new_loop) as two:
        first, second = one.call(member("a")), two.call(member("b"))

        hub.group_send("g", {"n": 1})

        assert one.call(next_item(first)) == {"n": 1}
        assert two.call(next_item(second)) == {"n": 1}


def test_a_reader_whose_loop_was_closed_leaves_the_message_there() -> None:
    hub = new_hub()
    loop = asyncio.new_event_loop()
    queue = hub.queue("c")
    waiter = loop.create_task(queue.get())
    loop.run_until_complete(passes())
    loop.close()

    hub.send("c", {"n": 1})

    assert queue.get_nowait()[1] == {"n": 1}
    waiter._log_destroy_pending = False  # its loop is gone on purpose
    del waiter


# Which layers -------------------------------------------------------------------------------------------------


@delivers_through_hub
class OwnLayer:
    def __init__(self) -> None:
        self.hub = new_hub()

    def send(self) -> None: ...
    def receive(self) -> None: ...
    def new_channel(self) -> None: ...
    def group_add(self) -> None: ...
    def group_discard(self) -> None: ...
    def group_send(self) -> None: ...


def test_a_layer_of_ours_is_reached_through_its_hub() -> None:
    layer = OwnLayer()

    assert hub_of(layer) is layer.hub


def test_a_subclass_that_leaves_delivery_alone_is_too() -> None:
    class Named(OwnLayer):
        def flush(self) -> None: ...

    layer = Named()

    assert hub_of(layer) is layer.hub


@pytest.mark.parametrize("name", ["send", "receive", "new_channel", "group_add", "group_discard", "group_send"])
def test_a_subclass_that_changes_delivery_is_asked(name: str) -> None:
    changed = type("Changed", (OwnLayer,), {name: lambda self: None})

    assert hub_of(changed()) is None


def test_foreign_layers_and_no_layer_have_no_hub() -> None:
    assert hub_of(object()) is None
    assert hub_of(None) is None


def test_a_reader_of_a_closed_loop_does_not_keep_the_living_ones_asleep() -> None:
    hub = new_hub()
    closed = asyncio.new_event_loop()
    lost = closed.create_task(hub.receive("c"))
    closed.run_until_complete(passes())
    closed.close()

    async def living() -> Message:
        reader = asyncio.ensure_future(hub.receive("c"))
        await passes()
        hub.send("c", {"type": "a"})
        async with asyncio.timeout(1):
            return await reader

    assert asyncio.run(living()) == {"type": "a"}
    lost.get_coro().close()  # type: ignore[union-attr]  # it cannot be awaited any more


async def test_what_has_expired_is_not_delivered_to_a_member_that_comes_late() -> None:
    clock = Clock()
    hub = new_hub(expiry=60, clock=clock)
    hub.send("m", {"type": "old"})
    clock.now += 61

    member = new_member(hub)

    assert waiting(member) == []


async def test_a_member_that_was_attached_meanwhile_gets_what_was_meant_for_a_queue() -> None:
    hub = new_hub()
    member = new_member(hub)

    # As from another thread that had looked before the member came.
    assert hub._enqueue("m", {"type": "raced"})
    hub.send("m", {"type": "next"})

    assert waiting(member) == [{"type": "raced"}, {"type": "next"}]
    assert hub.channels["m"] is member
