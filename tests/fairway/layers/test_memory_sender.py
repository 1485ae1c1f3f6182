"""Sending over the in-memory layer from threads without an event loop."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.fairway.layers.doubles import waiting
from tests.fairway.loops import LoopFactory, LoopThread, on_each_loop, run

from fairway.delivery import Inbox, Member, Payload, SlowPolicy
from fairway.layers import memory_sender
from fairway.layers.errors import ChannelFull
from fairway.layers.memory import MemoryChannelLayer
from fairway.layers.memory_sender import MemorySender

DEADLINE = 20.0


def soon() -> float:
    return time.monotonic() + DEADLINE


@pytest.fixture
def layer() -> MemoryChannelLayer:
    return MemoryChannelLayer(capacity=3)


@pytest.fixture
def loop() -> Iterator[LoopThread]:
    with LoopThread(asyncio.new_event_loop) as thread:
        yield thread


async def join(layer: MemoryChannelLayer, name: str = "m") -> Member:
    """A member of the group `g`, in the running loop."""
    member = Member(name, Inbox(asyncio.get_running_loop()), layer.capacity)
    layer.hub.attach(member)
    layer.hub.group_add("g", name)
    return member


async def take(member: Member, count: int) -> list[Any]:
    return [await member.inbox.get() for _ in range(count)]


async def taken(member: Member) -> list[Any]:
    """What waits for the member now."""
    return waiting(member)


@on_each_loop
def test_all_of_a_thousand_messages_arrive_in_the_order_of_their_threads(
    layer: MemoryChannelLayer, new_loop: LoopFactory
) -> None:
    """Although a member holds three at most: the threads send no faster than it takes."""
    with LoopThread(new_loop) as loop:
        members = [loop.call(join(layer, name)) for name in ("one", "other")]
        reading = [loop.submit(take(member, 1000)) for member in members]

        def send_some(thread: int) -> None:
            for number in range(500):
                MemorySender(layer).group_send("g", {"type": "x", "from": thread, "number": number}, soon())

        with ThreadPoolExecutor(2) as threads:
            list(threads.map(send_some, range(2)))
        for reader in reading:
            messages = reader.result(DEADLINE)
            for thread in range(2):
                assert [one["number"] for one in messages if one["from"] == thread] == list(range(500))
    assert layer.hub.dropped == 0


def test_a_full_channel_is_said_and_a_full_member_of_a_group_counted(
    layer: MemoryChannelLayer, loop: LoopThread
) -> None:
    loop.call(join(layer))
    for _ in range(layer.capacity):
        MemorySender(layer).send("m", {"type": "x"}, soon())
    with pytest.raises(ChannelFull, match="m"):
        MemorySender(layer).send("m", {"type": "x"}, soon())
    MemorySender(layer).group_send("g", {"type": "x"}, soon())
    assert layer.hub.dropped == 2


def test_a_broadcast_keeps_its_policy_and_leaves_out_who_is_excluded(loop: LoopThread) -> None:
    layer = MemoryChannelLayer(slow_consumers={"g": "keep-latest"})
    one, other = (loop.call(join(layer, name)) for name in ("one", "other"))
    MemorySender(layer).broadcast("g", Payload("hello"), ["other"], soon())
    (payload,) = loop.call(taken(one))
    assert (payload.text, payload.policy, payload.group) == ("hello", SlowPolicy.KEEP_LATEST, "g")
    assert loop.call(taken(other)) == []


def test_members_of_several_loops_are_reached(layer: MemoryChannelLayer, loop: LoopThread) -> None:
    with LoopThread(asyncio.new_event_loop) as another:
        here, there = loop.call(join(layer, "here")), another.call(join(layer, "there"))
        MemorySender(layer).group_send("g", {"type": "x"}, soon())
        assert loop.call(take(here, 1)) == another.call(take(there, 1)) == [{"type": "x"}]


def test_nobody_is_needed_to_send_and_no_thread_is_made(layer: MemoryChannelLayer) -> None:
    before = threading.enumerate()
    MemorySender(layer).group_send("g", {"type": "to nobody"}, soon())
    layer.hub.group_add("g", "archive")
    MemorySender(layer).group_send("g", {"type": "to a queue"}, soon())
    MemorySender(layer).send("archive", {"type": "to it alone"}, soon())
    MemorySender(layer).broadcast("g", Payload("to all"), (), soon())
    with pytest.raises(ChannelFull):
        MemorySender(layer).send("archive", {"type": "x"}, soon())
    assert threading.enumerate() == before
    types = [layer.hub.take("archive") for _ in range(3)]
    assert [one and one["type"] for one in types] == ["to a queue", "to it alone", "fairway.broadcast"]


@on_each_loop
def test_a_loop_that_does_not_run_finds_the_message_later(layer: MemoryChannelLayer, new_loop: LoopFactory) -> None:
    loop = new_loop()
    member = loop.run_until_complete(join(layer))
    MemorySender(layer).group_send("g", {"type": "x"}, soon())
    MemorySender(layer).send("m", {"type": "y"}, soon())
    assert [one["type"] for one in loop.run_until_complete(take(member, 2))] == ["x", "y"]
    loop.close()


def test_members_of_a_closed_loop_are_forgotten(layer: MemoryChannelLayer) -> None:
    run(asyncio.new_event_loop, join(layer))
    MemorySender(layer).group_send("g", {"type": "x"}, soon())
    assert (layer.hub.channels, layer.hub.groups) == ({}, {})


class Block:
    """Holds an event loop up, from its making until `end`."""

    def __init__(self, loop: LoopThread) -> None:
        self._loop = loop
        self._over = threading.Event()
        begun = threading.Event()
        loop.loop.call_soon_threadsafe(lambda: (begun.set(), self._over.wait(DEADLINE)))
        assert begun.wait(DEADLINE)

    def end(self) -> None:
        self._over.set()


def test_a_loop_that_is_held_up_is_given_up_and_the_message_with_it(
    layer: MemoryChannelLayer, loop: LoopThread
) -> None:
    member = loop.call(join(layer))
    block = Block(loop)
    with pytest.raises(TimeoutError, match="the event loop of the receivers has not taken the message in time"):
        MemorySender(layer).group_send("g", {"type": "too late"}, time.monotonic() + 0.05)
    block.end()
    MemorySender(layer).group_send("g", {"type": "in time"}, soon())
    assert loop.call(taken(member)) == [{"type": "in time"}]


def test_a_loop_that_stops_meanwhile_is_not_waited_for(layer: MemoryChannelLayer) -> None:
    with LoopThread(asyncio.new_event_loop) as loop:
        member = loop.call(join(layer))
        block = Block(loop)
        loop.loop.call_soon_threadsafe(loop.loop.stop)
        with ThreadPoolExecutor(1) as threads:
            sent = threads.submit(MemorySender(layer).group_send, "g", {"type": "x"}, soon())
            block.end()
            sent.result(DEADLINE)
        assert loop.loop.run_until_complete(take(member, 1)) == [{"type": "x"}], "when it runs again"


def test_who_is_interrupted_takes_the_message_back(
    layer: MemoryChannelLayer, loop: LoopThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    member = loop.call(join(layer))
    block = Block(loop)

    def interrupted(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(memory_sender.futures, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        MemorySender(layer).group_send("g", {"type": "x"}, soon())
    block.end()
    assert loop.call(taken(member)) == []


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_forked_child_does_not_wait_for_its_parents_loop(layer: MemoryChannelLayer, loop: LoopThread) -> None:
    member = loop.call(join(layer))
    pid = os.fork()
    if not pid:
        status = 1
        try:
            MemorySender(layer).group_send("g", {"type": "of the child"}, soon())
            status = int(bool(layer.hub.groups))
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    MemorySender(layer).group_send("g", {"type": "of the parent"}, soon())
    assert loop.call(taken(member)) == [{"type": "of the parent"}]
