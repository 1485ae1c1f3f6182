"""What waits for one socket: order, backpressure, chunks."""

from __future__ import annotations

import asyncio
import socket
import zlib
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fairway.server.output.frames import frames_of

from fairway.delivery import NEXT_PASS, Unfinished
from fairway.protocols.websocket.deflate import WINDOW_BITS, Deflating, compressor_bytes, encoder
from fairway.protocols.websocket.frames import PLAIN, RSV1
from fairway.server.output.batch import Batch
from fairway.server.output.lanes import CHUNK_BYTES
from fairway.server.output.outbox import Outbox
from fairway.server.output.workshop import MADE_PER_PASS, is_making

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


# Frames that are made piece by piece --------------------------------------------------------------------------------

ENCODER = encoder(1, 0)


def long_text(number: int, size: int = 10 * MADE_PER_PASS) -> str:
    return f"{number} and again; ".ljust(size, f"{number}")


def unfinished(text: str) -> Unfinished:
    frame = ENCODER.begin_text(text)
    assert not isinstance(frame, bytes)
    assert len(frame) > CHUNK_BYTES
    return frame


def messages_in(transport: Transport) -> list[str]:
    """What a client reads."""
    data = b"".join(transport.writes)
    messages = []
    while data:
        start, length = 2, data[1]
        if length >= 126:
            start = 4 if length == 126 else 10
            length = int.from_bytes(data[2:start], "big")
        payload = data[start : start + length]
        assert len(payload) == length
        if data[0] & RSV1:
            payload = zlib.decompressobj(-15).decompress(payload + b"\x00\x00\xff\xff")
        messages.append(payload.decode())
        data = data[start + length :]
    return messages


async def until_empty(outbox: Outbox) -> int:
    """Wait until everything is written. Return how many passes that took."""
    passes = 0
    async with asyncio.timeout(DEADLINE):
        while not outbox.is_empty:
            await next_pass()
            passes += 1
    return passes


async def test_a_long_message_is_made_in_several_passes(batch: Batch) -> None:
    transport = Transport()
    outbox = outbox_of(batch, transport)
    outbox.append(unfinished(long_text(1)))
    assert await until_empty(outbox) >= 10
    assert messages_in(transport) == [long_text(1)]
    assert (outbox.size, outbox.blocked, batch.written) == (0, False, sum(map(len, transport.writes)))


async def test_others_are_written_while_a_long_message_is_made(batch: Batch) -> None:
    long, other = outbox_of(batch, Transport()), Transport()
    neighbour = outbox_of(batch, other)
    long.append(unfinished(long_text(1)))
    for number in range(5):
        neighbour.append(b"%d" % number)
        await next_pass()
        await next_pass()
        assert len(other.writes) == number + 1
    assert is_making(long)


async def test_several_long_messages_take_turns(batch: Batch) -> None:
    """The shortest is not made to wait for the others."""
    outboxes = [outbox_of(batch, Transport()) for _ in range(5)]
    for outbox in outboxes[1:]:
        outbox.append(unfinished(long_text(1, 16 * MADE_PER_PASS)))
    outboxes[0].append(unfinished(long_text(2, 3 * MADE_PER_PASS)))
    assert await until_empty(outboxes[0]) < 30
    assert all(is_making(outbox) for outbox in outboxes[1:])


async def test_nothing_overtakes_a_long_message(batch: Batch) -> None:
    transport = Transport()
    outbox = outbox_of(batch, transport)
    texts = ["before", long_text(1), "between", long_text(2), long_text(3), "behind"]
    for text in texts:
        outbox.append(ENCODER.begin_text(text))
        await next_pass()
    await until_empty(outbox)
    assert messages_in(transport) == texts


async def test_nothing_goes_past_an_outbox_whose_first_message_is_being_made(batch: Batch) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        outbox = Outbox(Transport(), batch, HIGH_WATER, bound=1 << 20, endpoint=ours)
        outbox.append(unfinished(long_text(1)))
        await next_pass()
        assert outbox in batch.fanout.indirect
        await until_empty(outbox)
        assert outbox not in batch.fanout.indirect


async def test_nothing_is_made_for_a_client_that_is_behind(batch: Batch) -> None:
    outbox, transport = await blocked_outbox(batch)
    transport.writes.clear()
    outbox.append(unfinished(long_text(1)))
    for _ in range(20):
        await next_pass()
    assert not is_making(outbox)
    transport.take()
    assert is_making(outbox)
    await until_empty(outbox)
    assert messages_in(transport) == [long_text(1)]


async def test_a_message_that_is_being_made_can_be_dropped(batch: Batch) -> None:
    transport = Transport()
    outbox = outbox_of(batch, transport)
    outbox.append(unfinished(long_text(1)))
    await next_pass()
    await next_pass()
    assert is_making(outbox)
    assert (outbox.drop_waiting(), outbox.size, is_making(outbox)) == (1, 0, False)
    outbox.append(ENCODER.begin_text("behind"))
    await until_empty(outbox)
    assert messages_in(transport) == ["behind"]


async def test_a_message_that_is_being_made_is_forgotten_with_its_client(batch: Batch) -> None:
    outbox = outbox_of(batch, Transport())
    frame = unfinished(long_text(1))
    outbox.append(frame)
    await next_pass()
    waiting = asyncio.ensure_future(_await(outbox))
    await next_pass()
    assert outbox.lost() == 1
    await asyncio.wait_for(waiting, DEADLINE)
    for _ in range(20):
        await next_pass()
    assert frame.go_on(0) is None  # nobody has finished it


async def test_who_waits_for_a_long_message_goes_on_when_it_is_written(batch: Batch) -> None:
    transport = Transport()
    outbox = outbox_of(batch, transport)
    outbox.append(unfinished(long_text(1)))
    assert outbox.size >= outbox.high_water
    await asyncio.wait_for(_await(outbox), DEADLINE)
    assert messages_in(transport) == [long_text(1)]


@pytest.mark.parametrize("room", [0, 1 << 40], ids=["later", "at once"])
async def test_a_client_is_not_slow_because_its_messages_are_still_made(batch: Batch, room: int) -> None:
    """Whoever cannot wait may send any number of them in one pass. Compressed, all of them are short."""
    transport = Transport(room)
    outbox = outbox_of(batch, transport)
    texts = [long_text(number, 1_000_000) for number in range(8)]
    for text in texts:
        assert not outbox.is_over_bound
        outbox.append(unfinished(text))
    assert not outbox.is_over_bound
    while not outbox.is_empty:
        await next_pass()
        transport.take()
    assert messages_in(transport) == texts


def unmade(outbox: Outbox) -> int:
    """How many frames are not made yet."""
    assert isinstance(outbox.frames, list)
    return sum(isinstance(piece, Deflating) for piece in outbox.frames)


async def test_however_many_long_messages_wait_few_are_made_in_one_pass(batch: Batch) -> None:
    """Senders that could wait, and did not, have piled them up, and then comes one who cannot."""
    transport = Transport(room=0)
    outbox = outbox_of(batch, transport)
    outbox.append(b"first")
    await next_pass()
    for number in range(30):
        outbox.append(unfinished(long_text(number % 10, 1_000_000)))
    for asked in range(1, 4):
        assert not outbox.is_over_bound
        assert unmade(outbox) == 30 - asked
    for _ in range(30 * 1_000_000 // MADE_PER_PASS + 100):
        before = unmade(outbox)
        await next_pass()
        assert before - 1 <= unmade(outbox) <= before
    # They are short now, and so the client was not slow.
    assert (unmade(outbox), outbox.is_over_bound) == (0, False)


async def test_who_is_slow_is_so_once_it_is_known_how_long_the_messages_are(batch: Batch) -> None:
    transport = Transport(room=0)
    outbox = outbox_of(batch, transport)
    outbox.append(b"first")
    await next_pass()
    noise = Random(1)
    for _ in range(4):
        frame = ENCODER.begin_bytes(noise.randbytes(500_000))
        assert isinstance(frame, Deflating)
        outbox.append(frame)
    assert not outbox.is_over_bound
    async with asyncio.timeout(DEADLINE):
        while not outbox.is_over_bound:
            await next_pass()
    assert unmade(outbox) == 0


async def test_what_is_made_only_later_but_is_as_long_then_counts_at_once(batch: Batch) -> None:
    outbox = outbox_of(batch, Transport(room=0))
    outbox.append(b"first")
    await next_pass()
    for _ in range(4):
        outbox.append(PLAIN.begin_bytes(bytes(500_000)))
    assert outbox.is_over_bound


async def test_what_making_a_message_takes_counts_while_it_is_made(batch: Batch) -> None:
    outbox = outbox_of(batch, Transport())
    text = "".join(map(chr, Random(1).choices(range(32, 127), k=10 * MADE_PER_PASS)))
    outbox.append(unfinished(text))
    outbox.append(unfinished(text))
    assert outbox.size == 2 * len(text)
    sizes = []
    async with asyncio.timeout(DEADLINE):
        while outbox.size >= 2 * len(text):
            await next_pass()
            sizes.append(outbox.size - 2 * len(text))
    assert sizes[1] > compressor_bytes(WINDOW_BITS)
    assert max(sizes) > compressor_bytes(WINDOW_BITS) + len(text) // 2, "what has been compressed counts, too"
    await until_empty(outbox)
    assert outbox.size == 0


async def test_nothing_is_dropped_because_a_message_is_still_made(batch: Batch) -> None:
    transport = Transport()
    outbox = outbox_of(batch, transport)
    outbox.bound = 1 << 20
    long = long_text(1, outbox.bound - 1000)
    outbox.append(unfinished(long))
    await next_pass()
    assert is_making(outbox)
    texts = [f"{number}" * 400 for number in range(9)]
    for text in texts:
        assert add_droppable(outbox, PLAIN.encode_text(text), "a key", outbox.bound, only_latest=False) == 0
    await until_empty(outbox)
    assert messages_in(transport) == [long, *texts]


_steps = st.one_of(
    st.tuples(st.sampled_from(["send", "droppable"]), st.sampled_from([5, 3000, CHUNK_BYTES + 1, 3 * CHUNK_BYTES])),
    st.sampled_from(["take", "pass"]),
)


@given(st.lists(_steps, max_size=25), st.booleans())
def test_long_and_short_messages_arrive_whole_and_in_order(steps: list[Any], only_latest: bool) -> None:
    """Whatever the client takes meanwhile. What may be dropped is missing or whole."""

    async def run() -> None:
        transport = Transport(room=CHUNK_BYTES)
        outbox = outbox_of(Batch(asyncio.get_running_loop()), transport)
        sent: list[tuple[str, str]] = []
        dropped = 0
        for number, step in enumerate(steps):
            if step == "take":
                transport.take(CHUNK_BYTES // 3)
            if step in ("take", "pass"):
                await next_pass()
                continue
            kind, size = step
            # Half of it is noise: so a compressed message may be longer than a chunk, too.
            text = f"{number}:" + "x" * (size // 2) + Random(number).randbytes(size // 4).hex()
            sent.append((kind, text))
            if kind == "send":
                outbox.append(ENCODER.begin_text(text))
            else:
                dropped += add_droppable(outbox, ENCODER.encode_text(text), "a", 2 * CHUNK_BYTES, only_latest)
            assert outbox.size == sum(map(len, frames_of(outbox)))
        while not outbox.is_empty:
            await next_pass()
            transport.take()
        assert outbox.size == 0
        arrived = messages_in(transport)
        missing = [kind for kind, text in sent if text not in arrived]
        assert missing == ["droppable"] * dropped
        assert arrived == [text for _, text in sent if text in arrived]

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
