"""`Member`: a consumer as channel layers see it, from its own thread and from others."""

from __future__ import annotations

import asyncio
import threading

import pytest
from tests.fairway.delivery.doubles import FakeConnection, end, take_all, waiting

from fairway.delivery import Inbox, Member, Payload, SlowPolicy

DEADLINE = 20


def in_thread(call):
    answers = []
    thread = threading.Thread(target=lambda: answers.append(call()))
    thread.start()
    thread.join(DEADLINE)
    return answers[0]


async def test_a_member_counts_what_it_had_to_drop(inbox):
    member = Member("a", inbox, capacity=2)
    assert [member.deliver({"type": name}) for name in "abc"] == [True, True, False]
    assert member.dropped == 1


async def test_what_was_missed_leaves_later_ones_their_room(inbox):
    member = Member("a", inbox, capacity=2)
    member.catch_up([{"type": "missed"}] * 10)
    assert [member.deliver({"type": name}) for name in "abc"] == [True, True, False]
    assert len(take_all(inbox)) == 12
    assert [member.deliver_missed({"type": "missed"}) for _ in range(5)] == [True] * 5
    assert member.broadcast(Payload("missed"), was_missed=True)
    assert [member.broadcast(Payload(text)) for text in "abc"] == [True, True, False]
    assert not member.deliver_missed({"type": "missed"}), "it is behind with live ones"
    assert (len(take_all(inbox)), member.dropped) == (8, 3)


async def test_a_closed_member_takes_nothing_and_counts_nothing(inbox):
    member = Member("a", inbox, connection=FakeConnection())
    member.close()
    assert not member.deliver({"type": "a"})
    assert not member.broadcast(Payload("a"))
    assert not member.deliver_missed({"type": "a"})
    member.catch_up([{"type": "a"}])
    assert (member.dropped, member.connection, inbox.layer_size) == (0, None, 0)


async def test_a_member_is_reached_from_another_thread_in_order(inbox):
    member = Member("a", inbox, capacity=2)
    task = await waiting(inbox)
    assert in_thread(lambda: [member.deliver({"type": str(number)}) for number in range(4)]) == [True] * 4
    assert inbox.parked  # the hand-over is the loop's
    async with asyncio.timeout(DEADLINE):
        assert await task == {"type": "0"}
    assert take_all(inbox) == [{"type": "1"}, {"type": "2"}]
    assert member.dropped == 1


def test_a_member_whose_loop_is_closed_closes_silently():
    loop = asyncio.new_event_loop()
    member = Member("a", Inbox(loop))
    loop.close()
    assert not member.deliver({"type": "a"})
    assert member.closed
    assert member.dropped == 0
    assert not member.deliver({"type": "a"})


async def test_a_broadcast_is_written_to_the_socket_of_a_parked_consumer(inbox):
    socket = FakeConnection()
    member = Member("a", inbox, connection=socket)
    task = await waiting(inbox)
    payload = Payload("a")
    assert member.broadcast(payload)
    assert socket.written == [payload]
    assert inbox.parked
    await end(task)


async def test_a_broadcast_takes_its_place_in_the_inbox_while_the_consumer_is_busy(inbox):
    socket = FakeConnection()
    member = Member("a", inbox, connection=socket)
    payload = Payload("a")
    member.deliver({"type": "earlier"})
    assert member.broadcast(payload)
    member.deliver({"type": "later"})
    assert socket.written == []
    assert take_all(inbox) == [{"type": "earlier"}, payload, {"type": "later"}]


async def test_a_broadcast_does_not_overtake_an_event_that_was_just_handed_over(inbox):
    socket = FakeConnection()
    member = Member("a", inbox, connection=socket)
    task = await waiting(inbox)
    member.deliver({"type": "earlier"})
    payload = Payload("a")
    member.broadcast(payload)
    assert socket.written == []
    assert await task == {"type": "earlier"}
    assert take_all(inbox) == [payload]


@pytest.mark.parametrize("reason", ["closing", "no connection"])
async def test_a_broadcast_goes_to_the_inbox_without_an_open_connection(inbox, reason):
    socket = FakeConnection()
    socket.is_open = False
    member = Member("a", inbox, connection=socket if reason == "closing" else None)
    task = await waiting(inbox)
    payload = Payload("a")
    assert member.broadcast(payload)
    assert await task is payload
    assert socket.written == []


async def test_a_broadcast_from_another_thread_goes_to_the_inbox(inbox):
    socket = FakeConnection()
    member = Member("a", inbox, connection=socket)
    task = await waiting(inbox)
    payload = Payload("a")
    assert in_thread(lambda: member.broadcast(payload))
    assert socket.written == []
    async with asyncio.timeout(DEADLINE):
        assert await task is payload


async def test_a_member_looks_like_a_queue(inbox):
    member = Member("a", inbox, capacity=1)
    assert (member.empty(), member.full(), member.qsize()) == (True, False, 0)
    member.put_nowait((0.0, {"type": "a"}))
    assert (member.empty(), member.full(), member.qsize()) == (False, True, 1)
    with pytest.raises(asyncio.QueueFull):
        member.put_nowait((0.0, {"type": "b"}))
    assert take_all(inbox) == [{"type": "a"}]


# Payloads that may be dropped ----------------------------------------------------------------------------------------


def _full_member(*payloads: Payload) -> Member:
    member = Member("specific.!a", Inbox(asyncio.get_running_loop()), capacity=3)
    for payload in payloads:
        member.broadcast(payload)
    return member


def _texts(member: Member) -> list[str]:
    found = []
    while (item := member.inbox.take_nowait()) is not None:
        found.append(item["type"] if isinstance(item, dict) else item.text)
    return found


async def test_a_full_inbox_refuses_a_payload_that_must_not_be_dropped():
    member = _full_member(*(Payload(str(number)) for number in range(4)))
    assert (_texts(member), member.dropped) == (["0", "1", "2"], 1)


async def test_the_oldest_payload_makes_room_in_a_full_inbox():
    member = _full_member(*(Payload(str(number), policy=SlowPolicy.DROP_OLDEST) for number in range(5)))
    assert (_texts(member), member.dropped) == (["2", "3", "4"], 2)


async def test_only_the_latest_payload_of_a_group_stays_in_an_inbox():
    latest = SlowPolicy.KEEP_LATEST
    member = _full_member(*(Payload(f"{group}{n}", policy=latest, group=group) for n in range(3) for group in "ab"))
    assert (_texts(member), member.dropped) == (["a2", "b2"], 4)


async def test_events_make_no_room_for_payloads():
    member = _full_member()
    for _ in range(3):
        assert member.deliver({"type": "event"})
    assert not member.broadcast(Payload("late", policy=SlowPolicy.DROP_OLDEST))
    assert (_texts(member), member.dropped) == (["event"] * 3, 1)
