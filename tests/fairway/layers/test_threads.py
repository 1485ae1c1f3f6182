"""A hub that is used from several event loops and threads."""

from __future__ import annotations

from collections import Counter
from typing import Any

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
