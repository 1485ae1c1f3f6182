"""`Hub`: who gets what, isolated from whom, how much of it waits, and when it is forgotten."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import weakref

import pytest
from tests.fairway.layers.doubles import FakeConnection, new_hub, new_member, waiting
from tests.fairway.loops import LoopFactory, on_each_loop, passes, run

from fairway.delivery import Message, Payload, process_statistics
from fairway.layers.hub import Hub

# Channels -----------------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("value", [1, [1]], ids=["flat", "deep"])
async def test_what_one_reader_of_a_group_changes_no_other_sees(value: object) -> None:
    hub = new_hub()
    hub.group_add("g", "a")
    hub.group_add("g", "b")
    message = {"type": "x", "value": value}
    hub.group_send("g", message)
    message["value"] = "changed by the sender"
    first = await hub.receive("a")
    first["value"] = "changed by a reader"

    assert await hub.receive("b") == {"type": "x", "value": value}


async def test_the_names_of_a_group_are_looked_up_once_for_many_messages() -> None:
    hub = new_hub()
    hub.group_add("g", "a")
    hub.group_send("g", {"n": 1})
    roster = hub.memberships.roster("g")
    hub.group_send("g", {"n": 2})
    assert hub.memberships.roster("g") is roster
    assert [await hub.receive("a"), await hub.receive("a")] == [{"n": 1}, {"n": 2}]

    member = new_member(hub, "a")
    hub.group_send("g", {"n": 3})

    assert hub.memberships.roster("g") is not roster
    assert waiting(member) == [{"n": 3}]


async def test_a_member_is_found_again_after_somebody_has_read_its_channel() -> None:
    hub = new_hub()
    member = new_member(hub, "a")
    hub.group_add("g", "a")
    reader = asyncio.ensure_future(hub.receive("a"))
    await asyncio.sleep(0)
    hub.group_send("g", {"n": 1})
    assert await reader == {"n": 1}
    hub.group_send("g", {"n": 2})

    roster = hub.memberships.roster("g")
    assert roster is not None
    assert (list(roster.members), list(roster.names)) == ([member], [])
    assert waiting(member) == [{"n": 2}]


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


# Members ------------------------------------------------------------------------------------------------------------


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


# Groups -------------------------------------------------------------------------------------------------------------


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


async def test_a_broadcast_gives_all_members_the_same_payload() -> None:
    hub = new_hub()
    fast = new_member(hub, "fast")
    fast.connection = connection = FakeConnection(fast.inbox)
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


async def test_what_is_here_and_what_was_dropped_is_a_frozen_record() -> None:
    hub = new_hub(capacity=1)
    new_member(hub, "m")
    for group, name in ("gm", "hm", "hn"):
        hub.group_add(group, name)
    for _ in range(2):
        hub.group_send("g", {"n": 1})
        hub.send("c", {"n": 1})
    gc.collect()  # hubs of other tests, which would go meanwhile
    before = process_statistics().counters["layers"]

    record = hub.statistics()
    hub.send("c", {"n": 2})

    assert record == {
        "channels": 2, "groups": 2, "memberships": 3, "rosters": 1, "expiry_notes": 4, "dropped_messages": 1,
    }  # fmt: skip
    assert hub.statistics()["dropped_messages"] == 2
    assert process_statistics().counters["layers"]["dropped_messages"] - before["dropped_messages"] == 1


def test_a_hub_is_counted_as_long_as_it_lives() -> None:
    hub = new_hub()
    hub.group_add("g", "c")
    gone = weakref.ref(hub)

    del hub
    gc.collect()

    assert gone() is None
