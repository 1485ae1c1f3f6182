"""What waits for one socket: order, backpressure, chunks."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fairway.server.output.frames import frames_of

from fairway.delivery import NEXT_PASS
from fairway.server.output.batch import Batch
from fairway.server.output.lanes import CHUNK_BYTES
from fairway.server.output.outbox import Outbox

HIGH_WATER = 1000
DEADLINE = 20


class Transport(asyncio.Transport):
    """A socket that takes `room` bytes in all; the rest of a write stays with it, as in a real transport."""

    def __init__(self, room: int = 1 << 40) -> None:
        self.writes: list[bytes] = []
        self.room = room
        self.left = 0
        self.outbox: Outbox
        self.limits: int | None = None

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.limits = high

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.left, "it was asked not to write more"
        self.writes.append(bytes(data))
        self.room -= len(data)
        if self.room < 0:
            self.left, self.room = -self.room, 0
            self.outbox.pause_writing()

    def get_write_buffer_size(self) -> int:
        return self.left

    def take(self, size: int = 1 << 40) -> None:
        """The peer reads so many bytes."""
        taken = min(size, self.left)
        self.left -= taken
        self.room += size - taken
        if taken and not self.left:
            self.outbox.resume_writing()


@pytest.fixture
async def batch() -> Batch:
    return Batch(asyncio.get_running_loop())


def outbox_of(batch: Batch, transport: Transport, high_water: int = HIGH_WATER) -> Outbox:
    transport.outbox = Outbox(transport, batch, high_water, bound=1 << 20)
    return transport.outbox


async def next_pass() -> None:
    await NEXT_PASS


async def test_frames_of_one_pass_are_one_write(batch: Batch) -> None:
    transport = Transport()
    outbox = outbox_of(batch, transport)
    assert transport.limits == 0
    assert not outbox.append(b"one ")
    assert not outbox.append(b"two")
    assert (transport.writes, outbox.size) == ([], 7)
    await next_pass()
    assert (transport.writes, outbox.size) == ([b"one two"], 0)
    assert outbox.is_empty
    assert batch.written == 7


async def test_a_lone_frame_is_handed_on_without_a_copy(batch: Batch) -> None:
    written: list[bytes] = []

    class Keeping(Transport):
        def write(self, data: bytes | bytearray | memoryview) -> None:
            written.append(data)  # type: ignore[arg-type]

    outbox = outbox_of(batch, Keeping())
    frame = b"shared by many"
    outbox.append(frame)
    await next_pass()
    assert written[0] is frame


async def test_a_full_chunk_does_not_wait_for_the_end_of_the_pass(batch: Batch) -> None:
    transport = Transport()
    outbox = outbox_of(batch, transport)
    outbox.append(b"a")
    assert outbox.append(bytes(CHUNK_BYTES))
    assert sum(map(len, transport.writes)) == CHUNK_BYTES + 1


async def test_what_the_socket_does_not_take_stays_here(batch: Batch) -> None:
    transport = Transport(room=10)
    outbox = outbox_of(batch, transport)
    outbox.append(b"x" * 20)
    await next_pass()
    outbox.append(b"y" * 30)
    await next_pass()
    assert (outbox.blocked, outbox.size, transport.left) == (True, 30, 10)
    assert not outbox.is_empty
    transport.take()
    assert b"".join(transport.writes) == b"x" * 20 + b"y" * 30
    assert outbox.is_empty


async def test_who_waits_goes_on_when_there_is_room(batch: Batch) -> None:
    transport = Transport(room=0)
    outbox = outbox_of(batch, transport)
    outbox.append(b"x")
    await next_pass()
    outbox.append(bytes(HIGH_WATER))
    assert outbox.size >= outbox.high_water
    waiting = [asyncio.ensure_future(_await(outbox)) for _ in range(2)]
    await next_pass()
    assert not any(task.done() for task in waiting)
    transport.take()
    await asyncio.wait_for(asyncio.gather(*waiting), DEADLINE)


async def test_who_waits_for_something_that_was_taken_at_once_goes_on(batch: Batch) -> None:
    outbox = outbox_of(batch, Transport())
    outbox.append(bytes(5 * CHUNK_BYTES))
    assert outbox.size >= outbox.high_water
    await asyncio.wait_for(_await(outbox), DEADLINE)


async def test_closing_wakes_who_waits_and_counts_what_is_lost(batch: Batch) -> None:
    transport = Transport(room=0)
    outbox = outbox_of(batch, transport)
    outbox.append(b"x")
    await next_pass()
    outbox.append(bytes(HIGH_WATER))
    outbox.append(b"y")
    waiting = asyncio.ensure_future(_await(outbox))
    await next_pass()
    assert outbox.lost() == 2
    await asyncio.wait_for(waiting, DEADLINE)
    outbox.flush()
    assert outbox.lost() == 0


async def test_a_wait_that_is_cancelled_loses_nothing(batch: Batch) -> None:
    transport = Transport(room=0)
    outbox = outbox_of(batch, transport)
    outbox.append(b"x")
    await next_pass()
    outbox.append(b"y" * HIGH_WATER)
    waiting = asyncio.ensure_future(_await(outbox))
    await next_pass()
    waiting.cancel()
    transport.take()
    assert transport.writes == [b"x", b"y" * HIGH_WATER]


async def test_what_the_socket_leaves_of_a_long_frame_is_counted(batch: Batch) -> None:
    transport = Transport(room=10)
    outbox = outbox_of(batch, transport)
    outbox.append(bytes(10 * CHUNK_BYTES))
    await next_pass()
    assert (transport.left, outbox.size) == (CHUNK_BYTES - 10, 9 * CHUNK_BYTES)
    transport.take()
    assert sum(map(len, transport.writes)) == 10 * CHUNK_BYTES


# Frames that need not be sent --------------------------------------------------------------------------------------


async def blocked_outbox(batch: Batch) -> tuple[Outbox, Transport]:
    """One whose socket has taken nothing of `first`."""
    transport = Transport(room=0)
    outbox = outbox_of(batch, transport)
    outbox.append(b"first ")
    await next_pass()
    assert outbox.blocked
    return outbox, transport


def add_droppable(outbox: Outbox, frame: bytes, key: str, bound: int, only_latest: bool) -> int:
    outbox.bound = bound
    dropped = outbox.make_room(len(frame), key, only_latest)
    outbox.append_droppable(frame, key)
    return dropped


async def test_what_waits_is_what_is_behind_the_first_message(batch: Batch) -> None:
    outbox, _ = await blocked_outbox(batch)
    outbox.append(b"second ")
    assert (outbox.size, outbox.waiting) == (7, 0)
    outbox.append(b"third ")
    assert (outbox.size, outbox.waiting) == (13, 6)


async def test_a_first_message_of_any_length_is_not_held_against_a_client(batch: Batch) -> None:
    outbox, _ = await blocked_outbox(batch)
    outbox.bound = 10
    outbox.append(bytes(11))
    assert not outbox.is_over_bound
    outbox.append(bytes(10))
    assert not outbox.is_over_bound
    outbox.append(bytes(1))
    assert outbox.is_over_bound
    outbox.lost()
    assert not outbox.is_over_bound


async def test_what_has_begun_is_all_that_is_left_when_the_waiting_is_dropped(batch: Batch) -> None:
    transport = Transport(room=10)
    outbox = outbox_of(batch, transport)
    outbox.append(bytes(3 * CHUNK_BYTES))
    await next_pass()
    outbox.append(b"second")
    outbox.append_droppable(b"third", "key")
    assert outbox.drop_waiting() == 2
    assert (outbox.size, outbox.waiting) == (2 * CHUNK_BYTES, 0)
    outbox.append(b"last")
    while not outbox.is_empty:
        transport.take()
        await next_pass()
    assert b"".join(transport.writes) == bytes(3 * CHUNK_BYTES) + b"last"


async def test_a_message_that_has_not_begun_is_dropped_whole(batch: Batch) -> None:
    outbox, transport = await blocked_outbox(batch)
    outbox.append(bytes(3 * CHUNK_BYTES))
    assert outbox.drop_waiting() == 1
    outbox.append(b"last")
    transport.take()
    await next_pass()
    assert b"".join(transport.writes) == b"first last"


async def test_nothing_is_dropped_while_the_socket_takes_everything(batch: Batch) -> None:
    transport = Transport()
    outbox = outbox_of(batch, transport)
    for number in range(5):
        assert add_droppable(outbox, b"%d " % number, "prices", bound=3, only_latest=True) == 0
    await next_pass()
    assert transport.writes == [b"0 1 2 3 4 "]


async def test_the_oldest_make_room_for_the_newest(batch: Batch) -> None:
    outbox, transport = await blocked_outbox(batch)
    dropped = [add_droppable(outbox, b"%d " % number, "a", bound=6, only_latest=False) for number in range(5)]
    assert (dropped, outbox.size) == ([0, 0, 0, 1, 1], 6)
    transport.take()
    assert b"".join(transport.writes) == b"first 2 3 4 "
    assert (outbox.is_empty, outbox.size) == (True, 0)


async def test_only_the_latest_of_each_key_waits(batch: Batch) -> None:
    outbox, transport = await blocked_outbox(batch)
    for number in range(3):
        add_droppable(outbox, b"a%d " % number, "a", bound=100, only_latest=True)
        add_droppable(outbox, b"b%d " % number, "b", bound=100, only_latest=True)
    assert outbox.size == 6
    transport.take()
    assert b"".join(transport.writes) == b"first a2 b2 "


async def test_what_was_sent_directly_is_never_dropped(batch: Batch) -> None:
    outbox, transport = await blocked_outbox(batch)
    outbox.append(b"direct ")
    assert add_droppable(outbox, b"x " * 50, "a", bound=10, only_latest=False) == 0
    assert add_droppable(outbox, b"y ", "a", bound=10, only_latest=False) == 1
    outbox.append(b"close")
    transport.take()
    assert b"".join(transport.writes) == b"first direct y close"


async def test_a_frame_that_has_begun_is_finished(batch: Batch) -> None:
    transport = Transport(room=10)
    outbox = outbox_of(batch, transport)
    add_droppable(outbox, b"x" * 3 * CHUNK_BYTES, "a", bound=10, only_latest=False)
    await next_pass()
    assert add_droppable(outbox, b"last", "a", bound=10, only_latest=True) == 0
    transport.take()
    assert b"".join(transport.writes) == b"x" * 3 * CHUNK_BYTES + b"last"


@given(
    st.lists(
        st.one_of(st.tuples(st.sampled_from(["keep", "a", "b"]), st.integers(1, CHUNK_BYTES)), st.just("take")),
        max_size=40,
    ),
    st.booleans(),
)
def test_only_droppable_frames_are_missing_and_they_are_counted(steps: list[object], only_latest: bool) -> None:
    async def run() -> None:
        transport = Transport(room=CHUNK_BYTES)
        outbox = outbox_of(Batch(asyncio.get_running_loop()), transport)
        sent: list[tuple[str, bytes]] = []
        dropped = 0
        for number, step in enumerate(steps):
            if step == "take":
                transport.take(CHUNK_BYTES // 3)
                await next_pass()
                continue
            key, size = step  # type: ignore[misc]
            frame = number.to_bytes(2, "big") + bytes(size)
            sent.append((key, frame))
            if key == "keep":
                outbox.append(frame)
            else:
                dropped += add_droppable(outbox, frame, key, 2 * CHUNK_BYTES, only_latest)
            assert outbox.size == sum(map(len, frames_of(outbox)))
        while not outbox.is_empty:
            await next_pass()
            transport.take()
        arrived = b"".join(transport.writes)
        missing = 0
        for key, frame in sent:
            if arrived.startswith(frame):
                arrived = arrived[len(frame) :]
            else:
                assert key != "keep"
                missing += 1
        assert (arrived, missing) == (b"", dropped)

    asyncio.run(run())


async def _await(outbox: Outbox) -> None:
    await outbox.drained()


@given(st.lists(st.one_of(st.integers(0, 3 * CHUNK_BYTES), st.sampled_from(["take", "flush"])), max_size=30))
def test_bytes_come_out_in_order_whatever_the_socket_takes(steps: list[int | str]) -> None:
    async def run() -> None:
        transport = Transport(room=CHUNK_BYTES)
        batch = Batch(asyncio.get_running_loop())
        outbox = outbox_of(batch, transport)
        expected = []
        for number, step in enumerate(steps):
            if step == "take":
                transport.take(CHUNK_BYTES // 2)
            elif step == "flush":
                await next_pass()
            else:
                expected.append(bytes((number,)) * int(step))
                outbox.append(expected[-1])
            assert outbox.size == sum(map(len, frames_of(outbox)))
        while not outbox.is_empty:
            await next_pass()
            transport.take()
        assert b"".join(transport.writes) == b"".join(expected)
        assert batch.written == sum(map(len, expected))

    asyncio.run(run())
