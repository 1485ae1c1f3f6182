"""How streams share windows and socket: what goes at once, what waits, and in which turn it goes on."""

from __future__ import annotations

import asyncio
import tracemalloc

import pytest
from tests.fairway.server.http2.line import DATA, END_STREAM, PREFACE, SETTINGS, ask, frame, frames_of, window

from fairway.protocols.http2 import Http2Limits, Http2Protocol, RequestReceived, Stream
from fairway.server.http2.output import FRAME_BYTES, StreamOutput, StreamWriter


class Outbox:
    """Keeps what it is given; takes it at once unless it is `blocked`."""

    def __init__(self) -> None:
        self.data = b""
        self.size = 0
        self.blocked = False

    def append(self, frame: bytes) -> bool:
        self.data += frame
        self.size += len(frame)
        if self.blocked or self.size < 65536:
            return False
        self.size = 0
        return True


class Shared:
    """Streams whose responses have begun."""

    def __init__(self, count: int, stream_window: int, connection_window: int = 65535, most: int = 1 << 20) -> None:
        self.protocol = Http2Protocol(Http2Limits(), 0.0)
        setting = b"\0\4" + stream_window.to_bytes(4, "big")
        data = PREFACE + frame(SETTINGS, 0, 0, setting) + b"".join(ask(1 + 2 * number) for number in range(count))
        if connection_window > 65535:
            data += window(0, connection_window - 65535)
        events = self.protocol.receive_data(data, 0.0)
        self.streams: list[Stream] = [event.stream for event in events if isinstance(event, RequestReceived)]
        self.outbox = Outbox()
        self.writer = StreamWriter(self.outbox, self.protocol, most)  # type: ignore[arg-type]
        for stream in self.streams:
            stream.send_response(200, [])

    def open(self, stream: int, increment: int) -> None:
        self.protocol.receive_data(window(stream, increment), 0.0)

    @property
    def sent(self) -> list[tuple[int, int]]:
        """Of each frame its stream and size; with its end as a negative number if it is the last."""
        frames = [(number, len(payload)) for kind, _, number, payload in frames_of(self.outbox.data) if kind == DATA]
        self.outbox.data = b""
        return frames


class Waiting:
    def __init__(self, shared: Shared, stream: Stream, data: bytes) -> None:
        self.output = StreamOutput(shared.writer, stream, 1000, 0.0)
        self.output.append(data, True)
        self.shared = shared
        shared.writer.waiting[self] = None

    def go_on(self, now: float) -> bool:
        return self.output.go_on(now)


def test_what_fits_goes_at_once_in_frames_that_every_peer_takes() -> None:
    shared = Shared(1, 65535)
    assert shared.writer.send(shared.streams[0], memoryview(bytes(40_000)), True) == (40_000, False)
    frames = frames_of(shared.outbox.data)
    assert [(flags, len(payload)) for _, flags, _, payload in frames] == [
        (0, FRAME_BYTES),
        (0, FRAME_BYTES),
        (END_STREAM, 40_000 - 2 * FRAME_BYTES),
    ]


@pytest.mark.parametrize(("stream_window", "connection_window"), [(1000, 65535), (1 << 20, 65535)])
def test_a_window_bounds_what_goes(stream_window: int, connection_window: int) -> None:
    shared = Shared(1, stream_window, connection_window)
    sent, _ = shared.writer.send(shared.streams[0], memoryview(bytes(100_000)), True)
    assert sent == min(stream_window, connection_window)
    assert shared.writer.send(shared.streams[0], memoryview(b"x"), True) == (0, False)


def test_the_end_alone_needs_no_window() -> None:
    shared = Shared(1, 0)
    shared.writer.send(shared.streams[0], memoryview(b""), True)
    assert [(flags, payload) for _, flags, _, payload in frames_of(shared.outbox.data)] == [(END_STREAM, b"")]


def test_a_socket_that_takes_nothing_bounds_what_is_framed() -> None:
    shared = Shared(1, 1 << 20, 1 << 20)
    shared.outbox.blocked = True
    sent, _ = shared.writer.send(shared.streams[0], memoryview(bytes(1 << 20)), True)
    assert 65536 <= sent <= 2 * 65536
    assert shared.writer.send(shared.streams[0], memoryview(b"x"), True) == (0, False)


def test_those_that_wait_go_on_in_turn_a_frame_each() -> None:
    shared = Shared(3, 1 << 20)
    shared.protocol.window = 0
    for stream in shared.streams:
        Waiting(shared, stream, bytes(3 * FRAME_BYTES))
    shared.protocol.window = 5 * FRAME_BYTES
    shared.writer.go_on(1.0)
    assert shared.sent == [(number, FRAME_BYTES) for number in (1, 3, 5, 1, 3)]


def test_a_stream_whose_window_is_closed_is_passed_over() -> None:
    shared = Shared(2, 100)
    for stream in shared.streams:
        Waiting(shared, stream, bytes(1000))
    shared.writer.go_on(1.0)
    assert shared.sent == [(1, 100), (3, 100)]
    shared.open(3, 5000)
    shared.writer.go_on(2.0)
    assert shared.sent == [(3, 900)]
    assert [waiting.output.is_complete for waiting in shared.writer.waiting] == [False, True]  # type: ignore[attr-defined]
    assert [waiting.output.stalled_at for waiting in shared.writer.waiting] == [1.0, 2.0]  # type: ignore[attr-defined]


async def test_who_waits_is_woken_below_the_mark_and_when_the_stream_is_gone() -> None:
    shared = Shared(1, 0)
    output = StreamOutput(shared.writer, shared.streams[0], 1000, 0.0)
    output.append(bytes(1500), False)
    first = asyncio.ensure_future(output.drained())
    await asyncio.sleep(0)
    shared.open(1, 400)
    output.go_on(1.0)
    await asyncio.sleep(0)
    assert (first.done(), output.size) == (False, 1100)
    shared.open(1, 400)
    output.go_on(1.0)
    await asyncio.sleep(0)
    await asyncio.wait_for(first, 1.0)
    output.append(bytes(1500), True)
    second = asyncio.ensure_future(output.drained())
    await asyncio.sleep(0)
    output.end_waiting()
    await asyncio.wait_for(second, 1.0)
    assert output.size == shared.writer.held == 0


async def test_while_the_connection_is_full_every_sender_waits_until_there_is_room() -> None:
    shared = Shared(5, 0, most=1000)
    *others, last = (StreamOutput(shared.writer, stream, 5000, 0.0) for stream in shared.streams)
    for output in others:
        output.append(bytes(200), False)
    assert (shared.writer.is_full, others[0].high_water) == (False, 5000)
    for output in others:
        output.append(bytes(50), False)
    assert (shared.writer.held, shared.writer.is_full) == (1000, True)
    waits = [asyncio.ensure_future(output.drained()) for output in (*others, last)]
    await asyncio.sleep(0)
    assert last.is_awaited
    shared.open(1, 1)
    others[0].go_on(1.0)
    await asyncio.gather(*waits)
    assert (shared.writer.held, last.is_idle, last.is_awaited) == (999, True, False)


def test_few_do_not_make_a_connection_full() -> None:
    """However large the pieces of their applications are."""
    shared = Shared(4, 0, most=1000)
    outputs = [StreamOutput(shared.writer, stream, 5000, 0.0) for stream in shared.streams]
    for output in outputs[:3]:
        output.append(bytes(5000), False)
    assert (shared.writer.held, shared.writer.is_full) == (15_000, False)
    outputs[3].append(bytes(5000), False)
    assert shared.writer.is_full
    shared.open(1, 4700)
    outputs[0].go_on(1.0)
    assert shared.writer.is_full
    shared.open(1, 100)
    outputs[0].go_on(1.0)
    assert not shared.writer.is_full
    for output in outputs:
        output.end_waiting()
    assert shared.writer.held == 0


async def test_who_wakes_too_late_for_the_room_waits_again() -> None:
    shared = Shared(5, 0, most=1000)
    *others, last = (StreamOutput(shared.writer, stream, 5000, 0.0) for stream in shared.streams)
    for output in others:
        output.append(bytes(250), False)
    waits = asyncio.ensure_future(last.drained())
    await asyncio.sleep(0)
    shared.open(1, 200)
    others[0].go_on(1.0)
    others[0].append(bytes(200), False)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not waits.done()
    others[0].end_waiting()
    await asyncio.wait_for(waits, 1.0)


def test_nothing_is_left_of_a_body_but_its_end_and_its_trailers() -> None:
    shared = Shared(1, 10)
    output = StreamOutput(shared.writer, shared.streams[0], 1000, 0.0)
    output.append(b"0123456789", False)
    output.append(b"", False)
    assert not output.go_on(0.0)
    assert not output.is_complete
    output.end(b"")
    assert output.is_complete
    output.go_on(0.0)
    assert frames_of(shared.outbox.data)[-1][1] == END_STREAM


def test_short_pieces_that_wait_take_little_more_memory_than_their_content_and_go_together() -> None:
    shared = Shared(1, 0)
    output = StreamOutput(shared.writer, shared.streams[0], 1000, 0.0)
    tracemalloc.start()
    try:
        for number in range(2000):
            output.append(b"%04d" % number, number == 1999)
        assert tracemalloc.get_traced_memory()[0] < 50_000
    finally:
        tracemalloc.stop()
    assert output.size == 8000
    shared.open(1, 60_000)
    while output.go_on(1.0):
        pass
    frames = [(flags, payload) for kind, flags, _, payload in frames_of(shared.outbox.data) if kind == DATA]
    assert b"".join(payload for _, payload in frames) == b"".join(b"%04d" % number for number in range(2000))
    assert (len(frames), frames[-1][0]) == (8, END_STREAM)
