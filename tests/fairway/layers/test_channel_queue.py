"""`ChannelQueue`: it looks like a queue, and readers whose event loop is gone take nothing with them."""

from __future__ import annotations

import asyncio

import pytest
from tests.fairway.layers.doubles import new_hub
from tests.fairway.loops import passes

from fairway.delivery import Message
from fairway.layers.channel_queue import ChannelQueue


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


def test_what_waits_can_be_looked_at_and_goes_on_waiting() -> None:
    queue = ChannelQueue(maxsize=0)
    queue.put_nowait((5.0, {"n": 1}))
    queue.put_nowait((6.0, {"n": 2}))

    assert queue.messages() == [{"n": 1}, {"n": 2}]
    assert (queue.take(), queue.take(), queue.take()) == ({"n": 1}, {"n": 2}, None)


def test_what_has_expired_is_dropped_and_nothing_else() -> None:
    queue = ChannelQueue(maxsize=0)
    for expires_at in (5.0, 6.0, 7.0):
        queue.put_nowait((expires_at, {"n": expires_at}))

    assert queue.drop_expired(6.5) == 2
    assert queue.messages() == [{"n": 7.0}]
    assert queue.drop_expired(6.5) == 0


def test_a_queue_without_a_bound_is_never_full() -> None:
    queue = ChannelQueue(maxsize=0)
    for number in range(1000):
        queue.put_nowait((0.0, {"n": number}))

    assert not queue.full()


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
        async with asyncio.timeout(20):
            return await reader

    assert asyncio.run(living()) == {"type": "a"}
    lost.get_coro().close()  # type: ignore[union-attr]  # it cannot be awaited any more
