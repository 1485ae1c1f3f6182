"""What is put off within one event loop: writes to sockets, and the waking of consumers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairway.asgi.websocket import WebSocketExchange
from fairway.delivery import LONG_MESSAGE, NEXT_PASS, WAKES_PER_PASS, Inbox, Payload
from fairway.protocols.websocket.frames import PLAIN
from fairway.server.output.batch import (
    ENDINGS_BESIDE_REQUESTS,
    ENDINGS_PER_PASS,
    FEWEST_WAKES,
    FIRST_WRITES,
    LONG_PER_PASS,
    LONG_REST,
    MAX_DIRTY,
    SHORT_ONES_FIRST,
    SHORTEST_STEP_REST,
    STEP_REST,
    WRITES_BESIDE_REQUESTS,
    Batch,
)
from fairway.server.output.outbox import Outbox

DEADLINE = 10


class Transport(asyncio.Transport):
    """A socket that takes everything."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writes.append(bytes(data))


class Socket(WebSocketExchange):
    """As much of a connection as sends."""

    __slots__ = ("transport",)

    def __init__(self, batch: Batch) -> None:
        self.is_open = True
        self.encoder = PLAIN
        self.transport = Transport()
        self.outbox = Outbox(self.transport, batch, high_water=65536, bound=1 << 20)

    @property
    def writes(self) -> list[bytes]:
        return self.transport.writes


class CountingLoop:
    """The event loop; counts what is called soon, and keeps what is called later."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.calls = 0
        self.later: list[tuple[float, Callable[[], object]]] = []

    def call_soon(self, callback: Callable[[], object]) -> None:
        self.calls += 1
        self._loop.call_soon(callback)

    def call_later(self, seconds: float, callback: Callable[..., object], *arguments: object) -> None:
        self.later.append((seconds, partial(callback, *arguments)))

    def create_future(self) -> asyncio.Future[Any]:
        return self._loop.create_future()


@pytest.fixture
async def loop() -> CountingLoop:
    return CountingLoop(asyncio.get_running_loop())


@pytest.fixture
async def batch(loop: CountingLoop) -> Batch:
    return Batch(loop)  # type: ignore[arg-type]


def written(sockets: list[Socket]) -> int:
    return sum(bool(socket.writes) for socket in sockets)


# Outboxes that are flushed into others --------------------------------------------------------------------------------


class Stream(Transport):
    """Writes into the outbox of a connection that carries it."""

    def __init__(self, carrier: Outbox) -> None:
        super().__init__()
        self.carrier = carrier

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.carrier.append(bytes(data))


def carrying(batch: Batch, count: int) -> tuple[Transport, Outbox, list[Outbox]]:
    """A connection and the outboxes of so many streams on it."""
    transport = Transport()
    carrier = Outbox(transport, batch, high_water=65536, bound=1 << 20)
    carrier.scheduler = batch.carriers
    return transport, carrier, [Outbox(Stream(carrier), batch, 65536, 1 << 20) for _ in range(count)]


async def test_what_streams_and_their_connection_say_in_a_pass_is_one_write(batch: Batch) -> None:
    transport, carrier, streams = carrying(batch, 2 * MAX_DIRTY)
    carrier.append(b"first ")
    for number, stream in enumerate(streams):
        stream.append(b"%d " % number)
    assert transport.writes == []
    await NEXT_PASS
    assert transport.writes == [b"first " + b"".join(b"%d " % number for number in range(2 * MAX_DIRTY))]


async def test_a_stream_that_is_alone_is_written_at_once(batch: Batch) -> None:
    transport, _, (stream,) = carrying(batch, 1)
    stream.append(b"echo")
    stream.flush_alone()
    assert transport.writes == [b"echo"]


async def test_the_last_of_those_awake_writes_for_streams_too(batch: Batch) -> None:
    transport, carrier, (one, other) = carrying(batch, 2)
    batch.woken()
    batch.woken()
    one.append(b"a")
    batch.parked()
    assert transport.writes == []
    other.append(b"b")
    batch.parked()
    assert transport.writes == [b"ab"]
    batch.woken()
    carrier.append(b"c")
    batch.parked()
    assert transport.writes == [b"ab", b"c"]


async def test_a_connection_alone_is_written_at_once_unless_a_stream_has_something(batch: Batch) -> None:
    transport, carrier, (stream,) = carrying(batch, 1)
    carrier.append(b"a")
    carrier.flush_alone()
    assert transport.writes == [b"a"]
    carrier.append(b"b")
    stream.append(b"c")
    carrier.flush_alone()
    stream.flush_alone()
    assert transport.writes == [b"a"]
    await NEXT_PASS
    assert transport.writes == [b"a", b"bc"]


async def test_a_crowd_of_connections_is_written_before_the_pass_ends(batch: Batch) -> None:
    made = [carrying(batch, 0) for _ in range(MAX_DIRTY)]
    for _, carrier, _ in made:
        carrier.append(b"x")
    assert [transport.writes for transport, _, _ in made] == [[b"x"]] * MAX_DIRTY


async def test_a_broadcast_to_streams_is_one_write_for_each_connection_and_pass(batch: Batch) -> None:
    transport, _, streams = carrying(batch, FIRST_WRITES)
    for stream in streams:
        stream.append(b"x", is_broadcast=True)
    await NEXT_PASS
    assert transport.writes == [b"x" * FIRST_WRITES]


async def test_what_becomes_dirty_while_others_are_written_is_written_too(batch: Batch) -> None:
    other = Socket(batch)

    class Chatty(Transport):
        def write(self, data: bytes | bytearray | memoryview) -> None:
            super().write(data)
            other.outbox.append(b"me too")

    outbox = Outbox(Chatty(), batch, high_water=65536, bound=1 << 20)
    outbox.append(b"x")
    async with asyncio.timeout(DEADLINE):
        while not other.writes:
            await NEXT_PASS
    assert other.writes == [b"me too"]


# Sockets of single consumers -----------------------------------------------------------------------------------------


async def test_a_crowd_of_dirty_sockets_is_written_before_the_pass_ends(batch: Batch) -> None:
    sockets = [Socket(batch) for _ in range(MAX_DIRTY + 1)]
    for socket in sockets:
        socket.outbox.append(b"x")
    assert [socket.writes for socket in sockets] == [[b"x"]] * MAX_DIRTY + [[]]
    await NEXT_PASS
    assert sockets[-1].writes == [b"x"]


async def test_a_socket_that_is_alone_is_written_when_its_consumer_waits(batch: Batch) -> None:
    socket = Socket(batch)
    socket.outbox.append(b"echo")
    socket.outbox.flush_alone()
    assert socket.writes == [b"echo"]


async def test_a_socket_that_is_not_alone_waits_for_the_end_of_the_pass(batch: Batch) -> None:
    one, other = Socket(batch), Socket(batch)
    one.outbox.append(b"a")
    other.outbox.append(b"b")
    one.outbox.flush_alone()
    assert one.writes == []
    await NEXT_PASS
    assert (one.writes, other.writes) == ([b"a"], [b"b"])


async def test_a_socket_that_was_closed_in_the_same_pass_is_left_out(batch: Batch) -> None:
    closed, other = Socket(batch), Socket(batch)
    closed.outbox.append(b"never")
    other.outbox.append(b"fine")
    closed.outbox.lost()
    await NEXT_PASS
    assert (closed.writes, other.writes) == ([], [b"fine"])


async def test_the_last_of_those_awake_writes_for_all(batch: Batch) -> None:
    one, other = Socket(batch), Socket(batch)
    batch.woken()
    batch.woken()
    one.outbox.append(b"a")
    batch.parked()
    assert one.writes == []
    other.outbox.append(b"b")
    batch.parked()
    assert (one.writes, other.writes) == ([b"a"], [b"b"])


async def test_a_lone_consumer_costs_one_call_of_the_loop(batch: Batch, loop: CountingLoop) -> None:
    inbox, socket = Inbox(asyncio.get_running_loop(), waker=batch), Socket(batch)
    waiter = inbox.wait()

    def consume(_: object) -> None:
        socket.outbox.append(b"echo")
        batch.parked()

    waiter.add_done_callback(consume)
    inbox.put_client("message")
    await NEXT_PASS
    assert (socket.writes, loop.calls) == ([b"echo"], 1)
    await NEXT_PASS
    assert loop.calls == 1


async def test_nobody_waits_for_a_consumer_that_waits_for_something_else(batch: Batch, loop: CountingLoop) -> None:
    socket = Socket(batch)
    batch.woken()  # and never heard of again
    await NEXT_PASS
    await NEXT_PASS
    calls = loop.calls
    batch.woken()
    socket.outbox.append(b"x")
    batch.parked()
    assert socket.writes == [b"x"]
    for _ in range(3):
        await NEXT_PASS
    assert loop.calls == calls + 1


# Sockets of a group --------------------------------------------------------------------------------------------------


async def test_a_broadcast_is_written_in_parts_and_single_messages_go_before(batch: Batch) -> None:
    sockets = [Socket(batch) for _ in range(3 * FIRST_WRITES + 1)]
    bystander = Socket(batch)
    for socket in sockets:
        socket.broadcast(Payload("a"))
    assert written(sockets) == 0
    await NEXT_PASS
    assert written(sockets) == FIRST_WRITES
    bystander.outbox.append(b"x")
    await NEXT_PASS
    assert (written(sockets), bystander.writes) == (3 * FIRST_WRITES, [b"x"])
    await NEXT_PASS
    assert written(sockets) == len(sockets)


async def test_what_comes_before_the_write_shares_it(batch: Batch) -> None:
    sockets = [Socket(batch) for _ in range(FIRST_WRITES + 1)]
    for text in "ab":
        for socket in sockets:
            socket.broadcast(Payload(text))
    sockets[0].send_text("own")
    await NEXT_PASS
    for socket in sockets:
        socket.broadcast(Payload("c"))
    await NEXT_PASS
    assert sockets[0].writes == [b"\x81\x01a\x81\x01b\x81\x03own", b"\x81\x01c"]
    assert sockets[-1].writes == [b"\x81\x01a\x81\x01b\x81\x01c"]


async def test_while_a_request_is_under_way_a_broadcast_leaves_it_shorter_passes() -> None:
    is_asked = True
    batch = Batch(asyncio.get_running_loop(), lambda: is_asked)
    first = FIRST_WRITES + 2 * FIRST_WRITES
    sockets = [Socket(batch) for _ in range(first + 4 * WRITES_BESIDE_REQUESTS)]
    for socket in sockets:
        socket.broadcast(Payload("a"))
    for _ in range(2):
        await NEXT_PASS
    assert written(sockets) == first
    for passes in (1, 2):
        await NEXT_PASS
        assert written(sockets) == first + passes * WRITES_BESIDE_REQUESTS
    is_asked = False
    await NEXT_PASS
    assert written(sockets) == first + 4 * WRITES_BESIDE_REQUESTS


# Consumers of a group ------------------------------------------------------------------------------------------------


def waiting(batch: Batch, count: int) -> tuple[list[Inbox], list[asyncio.Future[object]]]:
    inboxes = [Inbox(asyncio.get_running_loop(), waker=batch) for _ in range(count)]
    return inboxes, [inbox.wait() for inbox in inboxes]


def woken(waiters: list[asyncio.Future[object]]) -> int:
    return sum(waiter.done() for waiter in waiters)


async def test_so_many_consumers_of_a_group_are_woken_in_one_pass(batch: Batch) -> None:
    inboxes, waiters = waiting(batch, 2 * WAKES_PER_PASS + 1)
    for text in "ab":
        for inbox in inboxes:
            assert inbox.put_layer({"n": text}, 2)
    assert woken(waiters) == WAKES_PER_PASS
    assert [inboxes[0].parked, inboxes[-1].parked] == [False, False]
    # Nobody comes back: those woken last are waited for, then forgotten, for the others have to have their turn.
    seen = []
    while woken(waiters) < len(waiters):
        await NEXT_PASS
        seen.append(woken(waiters))
    assert seen == [WAKES_PER_PASS + FEWEST_WAKES, 2 * WAKES_PER_PASS, 2 * WAKES_PER_PASS + 1]
    assert {waiter.result()["n"] for waiter in waiters} == {"a"}  # type: ignore[index]
    assert [inbox.take_nowait() for inbox in inboxes] == [{"n": "b"}] * len(inboxes)


async def test_a_consumer_that_is_yet_to_be_woken_keeps_its_capacity_and_order(batch: Batch) -> None:
    (*_, last), (*_, waiter) = waiting(batch, 1)
    for _ in range(WAKES_PER_PASS):
        batch.woken()
    assert last.put_layer("first", 2)
    assert last.put_layer("second", 2)
    assert not last.put_layer("third", 2)
    assert not waiter.done()
    last.put_client("of the client")  # wakes it: lanes do not wait for each other
    assert waiter.result() == "of the client"
    assert [last.take_nowait() for _ in range(3)] == ["first", "second", None]
    for _ in range(3):
        await NEXT_PASS


async def test_a_consumer_that_has_gone_is_not_woken(batch: Batch) -> None:
    (gone, cancelled, left), waiters = waiting(batch, 3)
    for _ in range(WAKES_PER_PASS):
        batch.woken()
    for inbox in (gone, cancelled, left):
        inbox.put_layer("a", 2)
    gone.clear()
    waiters[1].cancel()
    async with asyncio.timeout(DEADLINE):
        assert await waiters[2] == "a"
    assert not waiters[0].done()
    assert cancelled.take_nowait() == "a"


async def test_those_whose_clients_leave_together_are_woken_over_several_passes(batch: Batch) -> None:
    inboxes, waiters = waiting(batch, 2 * ENDINGS_PER_PASS + 1)
    for inbox in inboxes:
        inbox.put_disconnect({"type": "websocket.disconnect"})
    assert [inbox.parked for inbox in inboxes] == [False] * len(inboxes)
    seen = [woken(waiters)]
    while woken(waiters) < len(waiters):
        await NEXT_PASS
        seen.append(woken(waiters))
    assert seen == [ENDINGS_PER_PASS, 2 * ENDINGS_PER_PASS, 2 * ENDINGS_PER_PASS + 1]
    assert {waiter.result()["type"] for waiter in waiters} == {"websocket.disconnect"}  # type: ignore[index]
    await NEXT_PASS
    (late,), (waiter,) = waiting(batch, 1)
    late.put_disconnect({"type": "websocket.disconnect"})
    assert waiter.done()


async def test_while_a_request_is_under_way_fewer_are_woken_in_each_pass() -> None:
    batch = Batch(asyncio.get_running_loop(), lambda: True)
    inboxes, waiters = waiting(batch, WAKES_PER_PASS + 3 * FEWEST_WAKES)
    for inbox in inboxes:
        assert inbox.put_layer("a", 1)
    seen = [woken(waiters)]
    while woken(waiters) < len(waiters):
        await NEXT_PASS
        seen.append(woken(waiters))
    assert seen == [WAKES_PER_PASS + passes * FEWEST_WAKES for passes in range(4)]


async def test_while_a_request_is_under_way_fewer_are_told_in_each_pass_that_their_clients_have_left() -> None:
    batch = Batch(asyncio.get_running_loop(), lambda: True)
    inboxes, waiters = waiting(batch, 3 * ENDINGS_BESIDE_REQUESTS)
    for inbox in inboxes:
        inbox.put_disconnect({"type": "websocket.disconnect"})
    seen = [woken(waiters)]
    while woken(waiters) < len(waiters):
        await NEXT_PASS
        seen.append(woken(waiters))
    assert seen == [passes * ENDINGS_BESIDE_REQUESTS for passes in (1, 2, 3)]


async def test_a_disconnect_that_is_yet_to_be_told_is_behind_one_message_of_a_layer_at_most(batch: Batch) -> None:
    inboxes, waiters = waiting(batch, ENDINGS_PER_PASS + 1)
    for inbox in inboxes:
        inbox.put_disconnect({"type": "websocket.disconnect"})
    last, waiter = inboxes[-1], waiters[-1]
    for text in "ab":
        assert last.put_layer(text, 5)
    assert waiter.result() == "a"
    assert [last.take_nowait() for _ in range(3)] == [{"type": "websocket.disconnect"}, "b", None]


async def test_a_consumer_that_is_cancelled_before_it_is_told_finds_the_disconnect(batch: Batch) -> None:
    inboxes, waiters = waiting(batch, ENDINGS_PER_PASS + 2)
    for inbox in inboxes:
        inbox.put_disconnect({"type": "websocket.disconnect"})
    inboxes[-2].give_back(waiters[-2])
    inboxes[-1].clear()
    for _ in range(3):
        await NEXT_PASS
    assert not waiters[-2].done()
    assert not waiters[-1].done()
    assert inboxes[-2].take_nowait() == {"type": "websocket.disconnect"}


# Long messages --------------------------------------------------------------------------------------------------------

LONG = "x" * LONG_MESSAGE
ALONE = "x" * LONG_PER_PASS


@pytest.mark.parametrize(("message", "in_a_pass"), [(LONG, LONG_PER_PASS // LONG_MESSAGE), (ALONE, 1)], ids=["a", "b"])
async def test_consumers_with_long_messages_are_woken_over_several_passes(
    batch: Batch, message: str, in_a_pass: int
) -> None:
    inboxes, waiters = waiting(batch, 2 * in_a_pass + 1)
    for inbox in inboxes:
        inbox.put_long(message)
    assert [inbox.parked for inbox in inboxes] == [False] * len(inboxes)
    seen = [woken(waiters)]
    while woken(waiters) < len(waiters):
        await NEXT_PASS
        seen.append(woken(waiters))
    assert seen == [in_a_pass, 2 * in_a_pass, 2 * in_a_pass + 1]
    assert {waiter.result() for waiter in waiters} == {message}
    await NEXT_PASS
    (late,), (waiter,) = waiting(batch, 1)
    late.put_long(message)
    assert waiter.done()


async def test_after_a_very_long_message_others_have_the_loop_before_the_next_one(
    batch: Batch, loop: CountingLoop
) -> None:
    inboxes, waiters = waiting(batch, 3)
    huge = "x" * (1 << 20)
    for inbox in inboxes:
        inbox.put_long(huge)
    for count in (1, 2):
        for _ in range(5):
            await NEXT_PASS
        assert (woken(waiters), len(loop.later)) == (count, count)
        (late,), (waiter,) = waiting(batch, 1)
        late.put_client("short")
        assert waiter.done()
        seconds, end = loop.later[-1]
        assert seconds == pytest.approx(LONG_REST * len(huge))
        end()
    for _ in range(5):
        await NEXT_PASS
    assert (woken(waiters), len(loop.later)) == (3, 2)

    # Nobody waits any more, so nobody rests.
    (alone,), (waiter,) = waiting(batch, 1)
    alone.put_long(huge)
    assert waiter.done()


async def test_a_step_with_a_long_message_follows_at_once_if_nobody_else_has_one(batch: Batch) -> None:
    """Behind one that takes a whole pass, what has arrived meanwhile is read, handled and written first."""
    (alone,), (waiter,) = waiting(batch, 1)
    alone.put_long("x" * (1 << 20))
    assert waiter.done()
    assert batch.rest(LONG_PER_PASS - 1) is NEXT_PASS
    assert batch.rest(LONG_PER_PASS) is SHORT_ONES_FIRST


async def test_steps_with_long_messages_take_turns(batch: Batch, loop: CountingLoop) -> None:
    """One of them in a pass, and a rest behind it. A message that was begun is finished before the next begins."""
    size = 1 << 20
    inboxes, waiters = waiting(batch, 2)
    for inbox in inboxes:
        inbox.put_long("x" * size)
    assert woken(waiters) == 1
    step: Any = batch.rest(size)
    for done in ((False, 1), (True, 1), (True, 2)):
        assert (step.done(), woken(waiters)) == done
        for _ in range(5):
            await NEXT_PASS
        if loop.later:
            loop.later.pop()[1]()
            await NEXT_PASS
            await NEXT_PASS
    assert not loop.later


async def test_nobody_begins_with_a_long_message_while_another_waits_for_its_next_step(loop: CountingLoop) -> None:
    batch = Batch(loop, lambda: True)  # type: ignore[arg-type]
    step: Any = batch.rest(1 << 20)
    assert not batch.may_take_long(1 << 20)
    inboxes, waiters = waiting(batch, 2)
    for inbox in inboxes:
        inbox.put_long("x" * LONG_MESSAGE)
    for _ in range(5):
        await NEXT_PASS
    assert woken(waiters) == 0
    ((_, end_of_rest),) = loop.later
    loop.later.clear()
    end_of_rest()
    assert step.done()
    for _ in range(5):
        await NEXT_PASS
    ((_, end_of_rest),) = loop.later
    end_of_rest()
    for _ in range(5):
        await NEXT_PASS
    assert woken(waiters) == 2


async def test_who_is_cancelled_before_its_next_step_holds_up_nobody(loop: CountingLoop) -> None:
    batch = Batch(loop, lambda: True)  # type: ignore[arg-type]
    step: Any = batch.rest(1 << 20)
    step.cancel()
    (inbox,), (waiter,) = waiting(batch, 1)
    inbox.put_long("x" * LONG_MESSAGE)
    while loop.later:
        loop.later.pop()[1]()
        for _ in range(5):
            await NEXT_PASS
    assert waiter.done()


async def test_others_have_the_loop_around_each_step_while_a_request_is_under_way(loop: CountingLoop) -> None:
    batch = Batch(loop, lambda: True)  # type: ignore[arg-type]
    size = 1 << 20

    async def end_of_rest(expected: float) -> None:
        for _ in range(3):
            await NEXT_PASS
        ((seconds, end),) = loop.later
        assert seconds == pytest.approx(expected)
        loop.later.clear()
        end()

    (inbox,), (waiter,) = waiting(batch, 1)
    inbox.put_long("x" * size)
    assert not waiter.done()
    await end_of_rest(STEP_REST * size)
    assert waiter.done()
    await end_of_rest(LONG_REST * size)
    step: Any = batch.rest(size)
    assert not step.done()
    await end_of_rest(STEP_REST * size)
    assert step.done()
    await end_of_rest(LONG_REST * size)
    assert batch.rest(int(SHORTEST_STEP_REST / STEP_REST) - 1) is SHORT_ONES_FIRST
    for _ in range(3):
        await NEXT_PASS
    assert not loop.later


async def test_what_comes_behind_a_long_message_that_waits_for_its_turn_stays_behind_it(batch: Batch) -> None:
    (first, second), (_, waiter) = waiting(batch, 2)
    first.put_long(ALONE)
    second.put_long(ALONE)
    second.put_client("short")
    second.put_disconnect({"type": "websocket.disconnect"})
    assert not waiter.done()
    async with asyncio.timeout(DEADLINE):
        assert await waiter == ALONE
    assert [second.take_nowait() for _ in range(3)] == ["short", {"type": "websocket.disconnect"}, None]


async def test_an_event_of_a_layer_does_not_wait_for_the_turn_of_a_long_message(batch: Batch) -> None:
    (first, second), (_, waiter) = waiting(batch, 2)
    first.put_long(ALONE)
    second.put_long(ALONE)
    assert second.put_layer("event", 1)
    assert waiter.result() == "event"
    assert second.take_nowait() is None
    async with asyncio.timeout(DEADLINE):
        assert await second.wait() == ALONE


async def test_a_consumer_that_runs_goes_on_with_a_long_message_in_its_turn(batch: Batch) -> None:
    (first,), _ = waiting(batch, 1)
    first.put_long(ALONE)
    second = Inbox(asyncio.get_running_loop(), waker=batch)
    second.put_long(ALONE)
    second.put_client("short")
    assert second.take_nowait() is None
    waiter = second.wait()
    assert (waiter.done(), second.parked) == (False, False)
    async with asyncio.timeout(DEADLINE):
        assert await waiter == ALONE
    assert second.take_nowait() == "short"
    # Nobody else has had one since, so it would go on at once.
    await NEXT_PASS
    await NEXT_PASS
    second.put_long(ALONE)
    second.put_long(ALONE)
    assert [second.take_nowait(), second.take_nowait()] == [ALONE, None]


async def test_short_messages_that_are_many_are_not_put_off(batch: Batch) -> None:
    (first,), _ = waiting(batch, 1)
    first.put_long(ALONE)
    second = Inbox(asyncio.get_running_loop(), waker=batch)
    half = "x" * (LONG_MESSAGE // 2)
    for _ in range(4):
        second.put_client(half)
    assert [second.take_nowait() for _ in range(5)] == [half] * 4 + [None]


async def test_a_consumer_that_is_cancelled_or_gone_before_its_turn_is_not_woken(batch: Batch) -> None:
    (first, cancelled, given_back, gone), waiters = waiting(batch, 4)
    for inbox in (first, cancelled, given_back, gone):
        inbox.put_long(ALONE)
    waiters[1].cancel()
    given_back.give_back(waiters[2])
    gone.clear()
    for _ in range(5):
        await NEXT_PASS
    assert [waiters[2].done(), waiters[3].done()] == [False, False]
    assert [inbox.take_nowait(in_turn=True) for inbox in (cancelled, given_back, gone)] == [ALONE, ALONE, None]


async def test_nobody_puts_long_messages_off_where_nobody_wakes() -> None:
    inbox = Inbox(asyncio.get_running_loop())
    waiter = inbox.wait()
    for _ in range(3):
        inbox.put_long(ALONE)
    assert waiter.result() == ALONE
    assert [inbox.take_nowait() for _ in range(3)] == [ALONE, ALONE, None]


@given(st.lists(st.sampled_from(["send", "client", "long", "pass"]), max_size=60), st.integers(0, WAKES_PER_PASS))
def test_nothing_is_lost_or_reordered_however_consumers_are_woken(steps: list[str], awake: int) -> None:
    async def run() -> None:
        batch = Batch(asyncio.get_running_loop())
        inbox = Inbox(asyncio.get_running_loop(), waker=batch)
        expected: dict[str, list[int]] = {"send": [], "client": []}
        got: dict[str, list[int]] = {"send": [], "client": []}

        async def consume() -> None:
            while (item := await inbox.get()) is not None:
                if isinstance(item, str):
                    got["client"].append(int(item.removeprefix(LONG)))
                    continue
                got[item["lane"]].append(item["n"])
                if item["n"] < 0:
                    return

        for _ in range(awake):
            batch.woken()
        task = asyncio.ensure_future(consume())
        for number, step in enumerate(steps):
            if step == "pass":
                await NEXT_PASS
            elif step == "long":
                inbox.put_long(f"{LONG}{number}")
                expected["client"].append(number)
            else:
                item = {"lane": step, "n": number}
                put = inbox.put_client(item) if step == "client" else inbox.put_layer(item, 100)
                assert put is not False
                expected[step].append(number)
        async with asyncio.timeout(DEADLINE):
            while any(got[lane] != expected[lane] for lane in got):
                await NEXT_PASS
        inbox.put_client({"lane": "client", "n": -1})
        await task

    asyncio.run(run())
