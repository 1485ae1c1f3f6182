"""`fairway.delivery`: payloads, the two lanes of an inbox, members, connections and pumps."""

from __future__ import annotations

import asyncio
import functools
import threading
from sys import getsizeof

import pytest
from tests.fairway.loops import passes

from fairway.delivery import (
    Connection,
    Inbox,
    Member,
    Payload,
    Pump,
    Reader,
    SlowPolicy,
    SourceFailed,
    connection_of,
    reader_of,
)

DEADLINE = 5


class Encoding:
    def __init__(self):
        self.calls = 0

    def encode_text(self, text):
        self.calls += 1
        return b"t" + text.encode()

    def encode_bytes(self, data):
        self.calls += 1
        return b"b" + data


class Reading:
    """A source that counts what the inbox tells it."""

    def __init__(self):
        self.resumed = 0
        self.parked = 0

    def resume_reading(self):
        self.resumed += 1

    def parking(self):
        self.parked += 1


class Socket(Connection):
    def __init__(self):
        self.is_open = True
        self.written = []

    async def receive(self):
        return {"type": "websocket.disconnect"}

    async def send(self, message):
        self.written.append(message)

    def broadcast(self, payload):
        self.written.append(payload)


def take_all(inbox):
    items = []
    while (item := inbox.take_nowait()) is not None:
        items.append(item)
    return items


@pytest.fixture
async def inbox():
    return Inbox(asyncio.get_running_loop(), Reading(), max_messages=8, max_size=2000)


async def waiting(inbox):
    """A task that waits in `get`."""
    task = asyncio.ensure_future(inbox.get())
    await passes()
    assert inbox.parked
    return task


async def end(task):
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


# Payload --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [(), ("a", b"a")])
def test_a_payload_has_exactly_one_of_text_and_bytes(arguments):
    with pytest.raises(ValueError, match="a payload has either text or bytes: pass one of them"):
        Payload(*arguments)


@pytest.mark.parametrize(("payload", "form"), [(Payload("é"), b"t\xc3\xa9"), (Payload(data=b"\0"), b"b\0")])
def test_a_payload_is_encoded_once_for_each_encoder(payload, form):
    first, second = Encoding(), Encoding()
    made = payload.form(first)
    assert made == form
    assert payload.form(first) is made
    assert payload.form(second) == form
    assert (first.calls, second.calls) == (1, 1)


def test_empty_text_and_empty_bytes_are_payloads():
    assert Payload("").as_event() == {"text": ""}
    assert Payload(data=b"").as_message() == {"type": "fairway.broadcast", "bytes": b""}


# Inbox: lanes ---------------------------------------------------------------------------------------------------


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


# Member ---------------------------------------------------------------------------------------------------------


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


async def test_a_closed_member_takes_nothing_and_counts_nothing(inbox):
    member = Member("a", inbox, connection=Socket())
    member.close()
    assert not member.deliver({"type": "a"})
    assert not member.broadcast(Payload("a"))
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
    socket = Socket()
    member = Member("a", inbox, connection=socket)
    task = await waiting(inbox)
    payload = Payload("a")
    assert member.broadcast(payload)
    assert socket.written == [payload]
    assert inbox.parked
    await end(task)


async def test_a_broadcast_takes_its_place_in_the_inbox_while_the_consumer_is_busy(inbox):
    socket = Socket()
    member = Member("a", inbox, connection=socket)
    payload = Payload("a")
    member.deliver({"type": "earlier"})
    assert member.broadcast(payload)
    member.deliver({"type": "later"})
    assert socket.written == []
    assert take_all(inbox) == [{"type": "earlier"}, payload, {"type": "later"}]


async def test_a_broadcast_does_not_overtake_an_event_that_was_just_handed_over(inbox):
    socket = Socket()
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
    socket = Socket()
    socket.is_open = False
    member = Member("a", inbox, connection=socket if reason == "closing" else None)
    task = await waiting(inbox)
    payload = Payload("a")
    assert member.broadcast(payload)
    assert await task is payload
    assert socket.written == []


async def test_a_broadcast_from_another_thread_goes_to_the_inbox(inbox):
    socket = Socket()
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


# reader_of, connection_of ---------------------------------------------------------------------------------------


def test_the_bound_methods_of_a_connection_lead_to_it():
    socket = Socket()
    assert reader_of(socket.receive) is socket
    assert connection_of(socket.send) is socket


def test_what_is_only_read_from_is_no_connection():
    class Instance(Reader):
        async def receive(self):
            return {"type": "work"}

        async def send(self, message): ...

    instance = Instance()
    assert reader_of(instance.receive) is instance
    assert connection_of(instance.send) is None


def test_nothing_else_leads_to_a_connection():
    socket = Socket()

    @functools.wraps(socket.send)
    async def wrapper(message):
        await socket.send(message)

    class Other:
        async def send(self, message): ...

    wrapper.__self__ = socket
    others = [wrapper, functools.partial(socket.send), socket.receive, socket.broadcast, Other().send, print]
    assert [connection_of(other) for other in others] == [None] * len(others)


# Pump -----------------------------------------------------------------------------------------------------------


class Messages:
    """A source that gives its messages one by one; an exception is raised; at the end it waits."""

    def __init__(self, *messages):
        self.messages = list(messages)
        self.calls = 0
        self.cleaned_up = asyncio.Event()

    async def __call__(self):
        self.calls += 1
        if not self.messages:
            try:
                await asyncio.Event().wait()
            finally:
                self.cleaned_up.set()
        message = self.messages.pop(0)
        if isinstance(message, BaseException):
            raise message
        return message


@pytest.mark.parametrize("for_layer", [False, True])
async def test_a_pump_fetches_the_next_message_only_after_the_last_was_dispatched(inbox, for_layer):
    source = Messages({"type": "a"}, {"type": "b"})
    pump = Pump(source, inbox, for_layer)
    async with asyncio.timeout(DEADLINE):
        assert await inbox.get() == {"type": "a"}
        task = await waiting(inbox)
        assert source.calls == 1
        pump.proceed_if_taken()
        assert await task == {"type": "b"}
        assert source.calls == 2
        await pump.stop()


@pytest.mark.parametrize("for_layer", [False, True])
async def test_a_pump_does_not_go_on_while_its_message_waits(inbox, for_layer):
    source = Messages({"type": "a"}, {"type": "b"})
    pump = Pump(source, inbox, for_layer)
    async with asyncio.timeout(DEADLINE):
        await passes()
        assert inbox.client_waiting or inbox.layer_size
        pump.proceed_if_taken()  # something of another source was dispatched
        await asyncio.sleep(0)
        assert source.calls == 1
        await pump.stop()


@pytest.mark.parametrize("for_layer", [False, True])
@pytest.mark.parametrize("consumer", ["waits", "is busy"])
async def test_the_error_of_a_source_reaches_the_inbox(inbox, for_layer, consumer):
    error = ValueError("broken")
    task = await waiting(inbox) if consumer == "waits" else None
    pump = Pump(Messages(error), inbox, for_layer)
    async with asyncio.timeout(DEADLINE):
        await asyncio.wait([pump._task])
        item = await (task or inbox.get())
    assert type(item) is SourceFailed
    assert item.error is error
    assert pump._task.exception() is None


@pytest.mark.parametrize("kind", ["websocket.disconnect", "http.disconnect"])
async def test_a_pump_ends_after_a_disconnect(inbox, kind):
    source = Messages({"type": kind}, {"type": "never"})
    pump = Pump(source, inbox)
    async with asyncio.timeout(DEADLINE):
        assert await inbox.get() == {"type": kind}
        pump.proceed_if_taken()
        await asyncio.wait([pump._task])
        await pump.stop()
    assert source.calls == 1


async def test_stopping_a_pump_lets_its_source_clean_up(inbox):
    source = Messages()
    pump = Pump(source, inbox)
    async with asyncio.timeout(DEADLINE):
        await passes()
        assert source.calls == 1
        await pump.stop()
    assert source.cleaned_up.is_set()
    assert inbox.take_nowait() is None


# Payloads that may be dropped --------------------------------------------------------------------------------------


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
