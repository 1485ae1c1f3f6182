"""A hub that is used from several event loops and threads."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from tests.fairway.layers.doubles import new_hub, new_member, waiting
from tests.fairway.loops import LoopFactory, LoopThread, on_each_loop, run

from fairway.delivery import Member, Payload


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


class CountingLoop(asyncio.SelectorEventLoop):
    """Counts how often another thread has called it."""

    calls = 0

    def call_soon_threadsafe(self, *args: Any, **options: Any) -> Any:
        self.calls += 1
        return super().call_soon_threadsafe(*args, **options)


@pytest.mark.parametrize("was_missed", [False, True])
def test_another_loop_is_called_once_for_each_message_to_a_group(was_missed: bool) -> None:
    hub = new_hub()

    async def connect() -> list[Member]:
        members = [new_member(hub, f"{id(asyncio.get_running_loop())}.{number}") for number in range(50)]
        for member in members:
            hub.group_add("g", member.name)
        return members

    async def take(members: list[Member]) -> list[list[Any]]:
        return [waiting(member) for member in members]

    event, payload = {"n": 1, "list": [1]}, Payload("x")
    loops = [LoopThread(CountingLoop) for _ in range(2)]
    with loops[0], loops[1]:
        members = [loop.call(connect()) for loop in loops]
        before = [loop.loop.calls for loop in loops]  # type: ignore[attr-defined]
        hub.group_send("g", event, was_missed)
        for member in members[0]:
            hub.send(member.name, {"n": 2})
        hub.group_broadcast("g", payload, [members[1][0].name], was_missed)
        event["list"].append("later")  # type: ignore[attr-defined]
        calls = [loop.loop.calls - earlier for loop, earlier in zip(loops, before, strict=True)]  # type: ignore[attr-defined]
        got = [loop.call(take(some)) for loop, some in zip(loops, members, strict=True)]

    first = {"n": 1, "list": [1]}
    assert calls == [2 + 50, 2]
    assert got[0] == [[first, {"n": 2}, payload]] * 50
    assert got[1] == [[first], *[[first, payload]] * 49]
    assert len({id(items[0]["list"]) for some in got for items in some}) == 100


@on_each_loop
def test_a_message_for_other_loops_finds_no_more_room_than_one_of_their_own(new_loop: LoopFactory) -> None:
    hub = new_hub()

    async def connect() -> Member:
        hub.group_add("g", "m")
        return new_member(hub, "m", capacity=2)

    async def take(member: Member) -> tuple[list[Any], int]:
        return waiting(member), member.dropped

    with LoopThread(new_loop) as loop:
        member = loop.call(connect())
        for number in range(3):
            hub.group_send("g", {"n": number})
        for number in range(3):
            hub.group_broadcast("g", Payload(str(number)))
        items, dropped = loop.call(take(member))

    assert (items, dropped) == ([{"n": 0}, {"n": 1}], 4)


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


async def test_a_member_that_was_attached_meanwhile_gets_what_was_meant_for_a_queue() -> None:
    hub = new_hub()
    member = new_member(hub)

    # As from another thread that had looked before the member came.
    assert not hub._enqueue(lambda: {"type": "raced"}, ["m"])
    hub.send("m", {"type": "next"})

    assert waiting(member) == [{"type": "raced"}, {"type": "next"}]
    assert hub.channels["m"] is member
