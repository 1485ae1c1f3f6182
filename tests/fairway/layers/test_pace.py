"""`Pace`: large groups are served in slices and in order, and a sender lets the members have their turn."""

from __future__ import annotations

import asyncio

import pytest
from tests.fairway.layers.doubles import FakeConnection, new_hub, new_member, waiting

from fairway.delivery import WAKES_PER_PASS, Member, Payload
from fairway.layers.hub import Hub
from fairway.layers.pace import AHEAD, NAMES, SLICE

# Slices -------------------------------------------------------------------------------------------------------------


def large_group(hub: Hub, count: int) -> list[Member]:
    members = [new_member(hub, f"m{number}") for number in range(count)]
    for member in members:
        hub.group_add("g", member.name)
    return members


async def test_a_large_group_is_served_in_slices() -> None:
    hub = new_hub()
    members = large_group(hub, 2 * SLICE + 1)

    done = hub.group_broadcast("g", Payload("a"))

    assert done is not None
    served = [sum(bool(member.inbox.layer_size) for member in members)]
    while not done.done():
        await asyncio.sleep(0)
        served.append(sum(bool(member.inbox.layer_size) for member in members))
    assert sorted(set(served)) == [SLICE, 2 * SLICE, 2 * SLICE + 1]


async def test_messages_of_a_group_keep_their_order_although_they_are_sliced() -> None:
    hub = new_hub()
    members = large_group(hub, SLICE + 1)
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
    assert not hub._pace.needs_slices("g", asyncio.get_running_loop(), 1, 0)


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
    members = large_group(hub, SLICE + 1)

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
    large_group(hub, SLICE + 1)
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
    members = large_group(hub, 2 * SLICE)

    class Broken(FakeConnection):
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


# The sender's pace --------------------------------------------------------------------------------------------------


async def test_a_sender_is_asked_to_wait_when_it_is_far_ahead_of_the_members() -> None:
    hub = new_hub()
    large_group(hub, 1000)

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
    large_group(hub, 1000)

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
