"""`Inbox`: two lanes, one waiter."""

from __future__ import annotations

import asyncio
from sys import getsizeof

import pytest
from tests.fairway.delivery.doubles import end, take_all, waiting

from fairway.delivery import LONG_MESSAGE, Payload, SourceFailed

DEADLINE = 20


async def test_lanes_are_taken_in_turn_and_keep_their_order(inbox):
    for number in range(3):
        inbox.put_client(f"c{number}")
        inbox.put_layer({"type": f"l{number}"}, 10)
    taken = [item if isinstance(item, str) else item["type"] for item in take_all(inbox)]
    assert taken == ["c0", "l0", "c1", "l1", "c2", "l2"]


async def test_the_layer_lane_refuses_beyond_its_capacity_and_keeps_what_it_has(inbox):
    assert [inbox.put_layer({"type": name}, 2) for name in "abc"] == [True, True, False]
    assert inbox.layer_size == 2
    assert take_all(inbox) == [{"type": "a"}, {"type": "b"}]


async def test_a_full_layer_lane_refuses_nothing_of_the_client(inbox):
    inbox.put_layer({"type": "a"}, 1)
    inbox.put_client("b")
    assert not inbox.put_layer({"type": "c"}, 1)
    assert take_all(inbox) == ["b", {"type": "a"}]


async def test_the_client_lane_is_full_by_number(inbox):
    for _ in range(7):
        inbox.put_client("x")
    assert not inbox.full
    inbox.put_client("x")
    assert inbox.full


@pytest.mark.parametrize("message", ["", "x" * 1000, "é", "雾" * 50, "🌊" * 50, b"", b"x" * 1000], ids=ascii)
async def test_a_message_counts_as_the_memory_that_it_takes_for_as_long_as_it_waits(inbox, message):
    inbox.put_client(message)
    assert inbox.room == 2000 - getsizeof(message)
    inbox.put_client("second")
    inbox.put_client({"type": "an event"})
    assert inbox.take_nowait() == message
    assert inbox.room == 2000 - getsizeof("second")


async def test_the_client_lane_is_full_by_size(inbox):
    inbox.put_client("x" * (1999 - getsizeof("")))
    inbox.put_client({"type": "websocket.connect"})
    assert not inbox.full
    assert inbox.room == 1
    inbox.put_client(b"")
    assert inbox.full
    assert inbox.room < 0
    take_all(inbox)
    assert not inbox.full
    assert inbox.room == 2000


async def test_a_text_counts_with_the_memory_that_it_takes(inbox):
    inbox.put_client("x" * 600)
    assert not inbox.full
    inbox.put_client("x" * 599 + "🛥")  # one such character makes all of them four bytes wide
    assert inbox.full


async def test_nobody_pauses_for_an_empty_lane(inbox):
    with pytest.raises(AssertionError, match="nobody would resume"):
        inbox.pause()


@pytest.mark.parametrize("message", ["x", "x" * 300])
async def test_reading_goes_on_exactly_once_when_the_lane_is_half_empty(inbox, message):
    for _ in range(8):
        inbox.put_client(message)
    assert inbox.full
    inbox.pause()
    resumed = []
    while inbox.take_nowait() is not None:
        resumed.append(inbox.source.resumed)
    half = 4 if len(message) == 1 else 6  # 2 of 300 characters are the first to take no more than half of 2,000 bytes
    assert resumed == [0] * (half - 1) + [1] * (9 - half)


async def test_reading_that_was_not_paused_is_not_resumed(inbox):
    inbox.put_client("x")
    take_all(inbox)
    assert inbox.source.resumed == 0


async def test_a_disconnect_is_behind_the_messages_of_the_client_but_not_behind_the_layer(inbox):
    for number in range(5):
        inbox.put_layer({"type": f"l{number}"}, 10)
    inbox.put_client("c0")
    inbox.put_client("c1")
    assert inbox.take_nowait() == "c0"  # the layer would be next
    inbox.put_disconnect({"type": "websocket.disconnect"})
    assert inbox.take_nowait() == "c1"
    assert inbox.take_nowait() == {"type": "websocket.disconnect"}
    assert inbox.layer_size == 5


# Inbox: waiting -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("put", ["client", "layer"])
async def test_an_item_is_handed_to_the_waiter(inbox, put):
    task = await waiting(inbox)
    item = {"type": "a"}
    if put == "client":
        inbox.put_client(item)
    else:
        assert inbox.put_layer(item, 1)
    assert not inbox.parked
    async with asyncio.timeout(DEADLINE):
        assert await task is item
    assert inbox.take_nowait() is None


async def test_the_source_learns_that_the_consumer_is_about_to_wait(inbox):
    inbox.put_client("a")
    assert await inbox.get() == "a"
    assert inbox.source.parked == 0
    task = await waiting(inbox)
    assert inbox.source.parked == 1
    await end(task)


async def test_an_inbox_is_parked_only_while_its_consumer_waits(inbox):
    assert not inbox.parked
    task = await waiting(inbox)
    assert inbox.parked
    inbox.put_client("a")
    assert not inbox.parked
    assert await task == "a"
    await end(await waiting(inbox))
    assert not inbox.parked


ITEMS = ["text", b"bytes", {"type": "event"}, Payload("shared"), SourceFailed(ValueError("broken"))]


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: type(item).__name__)
@pytest.mark.parametrize("lane", ["client", "layer"])
async def test_cancelling_between_hand_over_and_step_loses_nothing(inbox, item, lane):
    def put(item):
        if lane == "client":
            inbox.put_client(item)
        else:
            inbox.put_layer(item, 10)

    task = await waiting(inbox)
    put(item)
    put({"type": "later"})
    await end(task)
    assert inbox.take_nowait() is item
    assert inbox.take_nowait() == {"type": "later"}
    assert inbox.take_nowait() is None
    assert not inbox.full


async def test_cancelling_before_anything_came_loses_nothing_that_comes_before_the_step(inbox):
    task = await waiting(inbox)
    task.cancel()
    inbox.put_client("a")
    with pytest.raises(asyncio.CancelledError):
        await task
    assert take_all(inbox) == ["a"]


async def test_an_item_of_any_kind_may_wait_in_either_lane(inbox):
    for item in ITEMS:
        inbox.put_client(item)
        inbox.put_layer(item, 10)
    taken = take_all(inbox)
    assert taken[::2] == taken[1::2] == ITEMS


async def test_a_second_waiter_is_told_to_receive_in_one_task_only(inbox):
    task = await waiting(inbox)
    with pytest.raises(RuntimeError) as caught:
        await inbox.get()
    assert str(caught.value) == "another task is waiting for this connection already: receive in one task only"
    inbox.put_client("for the first")
    assert await task == "for the first"


async def test_clear_forgets_everything_and_the_source(inbox):
    inbox.put_client("x" * 100)
    inbox.put_layer({"type": "a"}, 1)
    inbox.clear()
    assert (inbox.take_nowait(), inbox.source, inbox.layer_size) == (None, None, 0)
    assert not inbox.full
    assert not inbox.client_waiting


class Pieces:
    """As a connection puts in a long text (`fairway.delivery.payload.Unjoined`)."""

    def __init__(self, *pieces: str) -> None:
        self.pieces = pieces

    def __len__(self) -> int:
        return sum(map(len, self.pieces))

    def __sizeof__(self) -> int:
        return sum(map(getsizeof, self.pieces))

    def whole(self) -> str:
        return "".join(self.pieces)


LONG_TEXT = Pieces("a" * LONG_MESSAGE, "🛥")


async def test_a_long_text_is_joined_when_it_is_taken(inbox):
    inbox.put_client("short")
    inbox.put_long(LONG_TEXT)
    inbox.put_client("last")
    assert inbox.client_size == getsizeof("short") + getsizeof(LONG_TEXT) + getsizeof("last")
    assert inbox.take_nowait() == "short"
    assert inbox.take_nowait() == "a" * LONG_MESSAGE + "🛥"
    assert (inbox.take_nowait(), inbox.client_size) == ("last", 0)


async def test_a_waiter_gets_a_long_text_whole(inbox):
    waiter = inbox.wait()
    inbox.put_long(LONG_TEXT)
    assert waiter.result() == "a" * LONG_MESSAGE + "🛥"
    inbox.give_back(waiter)
    assert inbox.take_nowait() == "a" * LONG_MESSAGE + "🛥"
