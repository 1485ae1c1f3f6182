"""A stream as a transport: what it sends and when it holds, what it gives back to the peer, and how it ends."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fairway.protocols.http2.wire import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    RST_STREAM,
    WEBSOCKET,
    WINDOW_UPDATE,
    data,
    frames,
    headers,
    rst_stream,
    settings,
    started,
    window_update,
)

from fairway.delivery import NEXT_PASS
from fairway.protocols.http2 import DataReceived, ErrorCode, RequestReceived, StreamReset, WindowOpened
from fairway.server.admission import Admission
from fairway.server.context import Counters
from fairway.server.http2.output import FRAME_BYTES, StreamWriter
from fairway.server.http2.transport import StreamTransport
from fairway.server.limits import Limits
from fairway.server.output.batch import Batch
from fairway.server.output.lanes import STREAMS, lane_of
from fairway.server.output.outbox import Outbox

INITIAL_WINDOW_SIZE = 4
LINGER = 5.0


class Socket(asyncio.Transport):
    """Takes everything, or nothing more when it is `full`; is its own endpoint's transport."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.writes = 0
        self.held = b""
        self.full = False
        self.outbox: Outbox

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return len(self.held)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.held, "it was asked not to write more"
        if self.full:
            self.held = bytes(data)
            self.outbox.pause_writing()
        else:
            self.writes += 1
            self.sent += data


class Speaker:
    """The protocol of one stream: notes what it is told."""

    def __init__(self, line: Line, transport: StreamTransport) -> None:
        self._line = line
        self.transport = transport
        self.told: list[Any] = []
        self.got = b""
        self.keeps_open = False
        self.pauses_after: int | None = None

    def data_received(self, data: bytes) -> None:
        self.got += data
        if self.pauses_after is not None and len(self.got) >= self.pauses_after:
            self.transport.pause_reading()

    def eof_received(self) -> bool:
        self.told.append("eof")
        return self.keeps_open

    def peer_has_left(self, is_reset: bool) -> None:
        self.told.append("left, reset" if is_reset else "left")

    def pause_writing(self) -> None:
        self.told.append("pause")

    def resume_writing(self) -> None:
        self.told.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        assert exc is None
        self.told.append("lost")


class Line:
    """A connection of HTTP/2 whose streams are transports, and its peer. (`fairway.server.http2.transport.Carrying`)"""

    def __init__(self, window: int | None = None) -> None:
        self.now = 100.0
        loop = asyncio.get_running_loop()
        self.websockets = 0
        self.admission = Admission((), Limits(), (), Counters(), self.fault)
        self.context: Any = SimpleNamespace(
            loop=loop, touch=lambda: self.now, linger_seconds=LINGER, admission=self.admission
        )
        self.socket = Socket()
        self.batch = batch = Batch(loop)
        self.outbox: Any = Outbox(self.socket, batch, 65536, 1 << 22)
        self.outbox.scheduler = batch.carriers
        self.socket.outbox = self.outbox
        self.protocol = started()
        self.writer = StreamWriter(self.outbox, self.protocol, 1 << 20)
        self.ended = 0
        self.deadlines: list[float] = []
        if window is not None:
            self.receive(settings((INITIAL_WINDOW_SIZE, window)))
            self.said()

    def fault(self, kind: str, scope: object, text: str) -> None:
        raise AssertionError("nobody is refused")

    def stream_ended(self) -> None:
        self.ended += 1

    def schedule(self, deadline: float) -> None:
        self.deadlines.append(deadline)

    def receive(self, sample: bytes) -> None:
        events = self.protocol.receive_data(sample, self.now)
        if answer := self.protocol.data_to_send():
            self.outbox.append(answer)
        for event in events:
            if isinstance(event, DataReceived):
                if event.stream.owner is not None:
                    event.stream.owner.data_received(event.data, event.ended)
            elif isinstance(event, StreamReset):
                event.stream.owner.lost()
            elif isinstance(event, WindowOpened):
                self.writer.go_on(self.now)
            else:
                assert isinstance(event, RequestReceived), event
                self.last = event.stream

    def open(self, accepted: bool = True) -> Speaker:
        number = self.protocol.numbers.highest + 2 if self.protocol.numbers.highest else 1
        self.receive(headers(number, WEBSOCKET, END_HEADERS))
        transport = StreamTransport(self, self.last)
        speaker = Speaker(self, transport)
        transport.set_protocol(speaker)  # type: ignore[arg-type]
        if accepted:
            self.outbox.append(self.last.send_response(200, []))
            self.said()
        return speaker

    def said(self) -> list[tuple[int, int, int, bytes]]:
        """The frames that have been sent since the last time."""
        self.outbox.flush()
        sent, self.socket.sent = self.socket.sent, b""
        return frames(sent)

    def clear(self) -> None:
        """The socket takes what it has held, and everything from now on."""
        self.socket.full = False
        held, self.socket.held = self.socket.held, b""
        self.socket.sent += held
        self.outbox.resume_writing()
        self.writer.go_on(self.now)


@pytest.fixture
async def line() -> Line:
    return Line()


# Out ----------------------------------------------------------------------------------------------------------------


async def test_what_fits_is_one_frame_of_the_connection(line: Line) -> None:
    one, other = line.open(), line.open()
    assert (one.transport.send(b"abc"), other.transport.send(b"de")) == (3, 2)
    assert line.said() == [(DATA, 0, 1, b"abc"), (DATA, 0, 3, b"de")]
    assert (line.socket.writes, line.protocol.window) == (3, 65535 - 5), "two heads had been written before"
    assert lane_of(one.transport) is STREAMS


async def test_what_many_get_is_claimed_from_both_windows() -> None:
    line = Line(window=10)
    one, other = line.open(), line.open()
    assert one.transport.claim(7) == 1
    assert other.transport.claim(7) == 3
    assert line.protocol.window == 65535 - 14
    assert one.transport.claim(4) == 0, "of the stream's window 3 are left"
    assert one.transport.claim(3) == 1
    assert (one.transport.claim(1), line.protocol.window) == (0, 65535 - 17)


async def test_what_does_not_fit_into_a_frame_or_a_window_is_for_write(line: Line) -> None:
    one, other = line.open(), line.open()
    assert one.transport.send(bytes(FRAME_BYTES + 1)) == 0
    for _ in range(3):
        assert one.transport.send(bytes(FRAME_BYTES)) == FRAME_BYTES
    assert one.transport.send(bytes(FRAME_BYTES)) == 0, "of the window one byte less is left"
    assert other.transport.send(bytes(FRAME_BYTES)) == 0, "so it is of the connection's"
    assert other.transport.send(bytes(FRAME_BYTES - 1)) == FRAME_BYTES - 1
    assert (one.transport.send(b"x"), other.transport.send(b"x")) == (0, 0)


async def test_what_a_window_does_not_take_is_held_until_it_opens() -> None:
    line = Line(window=10)
    one = line.open()
    one.transport.write(b"0123456789abcdef")
    assert line.said() == [(DATA, 0, 1, b"0123456789")]
    assert (one.transport.get_write_buffer_size(), one.told) == (6, ["pause"])
    line.receive(window_update(1, 2))
    assert (one.transport.get_write_buffer_size(), one.told) == (4, ["pause"])
    line.receive(window_update(1, 100))
    assert (one.transport.get_write_buffer_size(), one.told) == (0, ["pause", "resume"])
    assert b"".join(frame[3] for frame in line.said()) == b"abcdef"
    assert line.writer.waiting == {}


async def test_windows_of_one_byte_bring_all_of_it() -> None:
    line = Line(window=0)
    one = line.open()
    one.transport.write(b"0123456789")
    for byte in b"0123456789":
        line.receive(window_update(1, 1))
        assert line.said() == [(DATA, 0, 1, bytes((byte,)))]
    assert one.told == ["pause", "resume"]


async def test_one_that_waits_for_its_window_stops_no_other() -> None:
    line = Line(window=0)
    many = [line.open() for _ in range(100)]
    for one in many:
        one.transport.write(b"message")
    for one in many[1:]:
        line.receive(window_update(one.transport._stream.number, 7))
        assert one.told == ["pause", "resume"]
    assert many[0].told == ["pause"]
    assert sorted(frame[2] for frame in line.said()) == list(range(3, 201, 2))


async def test_one_whose_window_is_open_knows_when_others_had_their_turn() -> None:
    line = Line(window=1000)
    one, other = line.open(), line.open()
    line.protocol.window = 0
    one.transport.write(bytes(500))
    other.transport.write(bytes(1500))
    line.now += 7.0
    line.protocol.window = 500
    line.writer.go_on(line.now)
    assert [frame[2] for frame in line.said() if frame[0] == DATA] == [1]
    assert other.transport.get_extra_info("moved_at") == line.now
    line.protocol.window = 5000
    line.writer.go_on(line.now + 1.0)
    # Now it is its own window that it waits for.
    assert other.told == ["pause"]
    assert other.transport.get_extra_info("moved_at") == 0.0


async def test_a_socket_that_is_full_makes_streams_wait_for_their_turn(line: Line) -> None:
    one, other = line.open(), line.open()
    line.socket.full = True
    line.outbox.append(b"")
    one.transport.write(b"x")
    line.outbox.flush()
    assert line.outbox.blocked
    assert (one.transport.claim(1), other.transport.claim(1)) == (0, 0)
    one.transport.write(bytes(60_000))
    other.transport.write(bytes(5_535))
    assert other.told == ["pause"], "the window of the connection is used up"
    line.clear()
    line.receive(window_update(0, 1))
    assert other.told == ["pause", "resume"]
    sent = b"".join(frame[3] for frame in line.said() if frame[2] == 3)
    assert sent == bytes(5_535)


# In -----------------------------------------------------------------------------------------------------------------


async def test_what_is_read_is_given_back_half_a_window_at_a_time(line: Line) -> None:
    one = line.open()
    line.receive(data(1, bytes(FRAME_BYTES)))
    assert line.said() == []
    line.receive(data(1, bytes(FRAME_BYTES)))
    assert [frame[:3] for frame in line.said()] == [(WINDOW_UPDATE, 0, 1)]
    assert len(one.got) == 2 * FRAME_BYTES


async def test_what_comes_together_with_the_handshake_is_given_back(line: Line) -> None:
    line.receive(headers(1, WEBSOCKET, END_HEADERS) + data(1, bytes(FRAME_BYTES)) * 2)
    stream = line.last
    assert (line.said(), stream.unread) == ([], 2 * FRAME_BYTES)
    StreamTransport(line, stream)
    assert [frame[:3] for frame in line.said()] == [(WINDOW_UPDATE, 0, 1)]
    assert stream.unread == 0


async def test_what_is_not_read_is_kept_and_not_given_back(line: Line) -> None:
    slow, other = line.open(), line.open()
    slow.transport.pause_reading()
    for _ in range(2):
        line.receive(data(1, b"x" * FRAME_BYTES) + data(3, b"y" * FRAME_BYTES))
    assert (slow.got, len(other.got)) == (b"", 2 * FRAME_BYTES)
    assert [frame[:3] for frame in line.said()] == [(WINDOW_UPDATE, 0, 3)]
    slow.transport.resume_reading()
    assert slow.got == b"x" * 2 * FRAME_BYTES
    assert [frame[:3] for frame in line.said()] == [(WINDOW_UPDATE, 0, 1)]


async def test_what_comes_behind_what_made_the_reading_stop_is_given_back_when_it_goes_on(line: Line) -> None:
    one = line.open()
    one.pauses_after = FRAME_BYTES
    line.receive(data(1, bytes(FRAME_BYTES)))
    line.receive(data(1, bytes(FRAME_BYTES)))
    assert (len(one.got), line.said(), one.transport._stream.unread) == (FRAME_BYTES, [], FRAME_BYTES)
    one.transport.resume_reading()
    assert (len(one.got), line.said()) == (2 * FRAME_BYTES, []), "it stopped again"
    one.pauses_after = None
    one.transport.resume_reading()
    assert one.transport._stream.unread == 0
    assert [frame[:3] for frame in line.said()] == [(WINDOW_UPDATE, 0, 1)]


async def test_who_does_not_read_is_told_that_the_peer_has_left(line: Line) -> None:
    one = line.open()
    one.keeps_open = True
    one.transport.pause_reading()
    line.receive(data(1, b"last words", END_STREAM))
    assert (one.got, one.told) == (b"", ["left"])
    one.transport.resume_reading()
    assert (one.got, one.told) == (b"last words", ["left", "eof"])


# Ends ---------------------------------------------------------------------------------------------------------------


async def test_both_sides_end_in_either_order(line: Line) -> None:
    first, second = line.open(), line.open()
    first.keeps_open = True
    line.receive(data(1, b"", END_STREAM))
    first.transport.write(b"answer")
    first.transport.write_eof()
    second.transport.write_eof()
    assert line.said() == [(DATA, 0, 1, b"answer"), (DATA, END_STREAM, 1, b""), (DATA, END_STREAM, 3, b"")]
    line.receive(data(3, b"still heard"))
    line.receive(data(3, b"", END_STREAM))
    assert second.got == b"still heard"
    first.transport.close()
    assert (first.told, second.told) == (["eof"], ["eof"])
    await NEXT_PASS
    assert (first.told, second.told) == (["eof", "lost"], ["eof", "lost"])
    assert (line.ended, line.protocol.streams, line.said()) == (2, {}, [])


async def test_the_end_of_our_side_follows_what_is_held() -> None:
    line = Line(window=3)
    one, other = line.open(), line.open()
    one.transport.write(b"abcdef")
    one.transport.write_eof()
    other.transport.write(b"uvwxyz")
    other.transport.close()
    assert line.said() == [(DATA, 0, 1, b"abc"), (DATA, 0, 3, b"uvw")]
    line.receive(window_update(1, 3) + window_update(3, 3))
    assert line.said() == [
        (DATA, 0, 1, b"def"),
        (DATA, END_STREAM, 1, b""),
        (DATA, 0, 3, b"xyz"),
        (DATA, END_STREAM, 3, b""),
    ]
    await NEXT_PASS
    assert other.told[-1] == "lost"


async def test_after_a_close_the_peer_has_its_time_to_end_its_side(line: Line) -> None:
    polite, silent = line.open(), line.open()
    for one in (polite, silent):
        one.transport.close()
    assert line.deadlines == [105.0, 105.0]
    await NEXT_PASS
    assert (polite.told, silent.told) == (["lost"], ["lost"])
    line.receive(data(1, b"too late") + data(1, b"", END_STREAM) + data(3, bytes(FRAME_BYTES)))
    assert line.said() == [(DATA, END_STREAM, 1, b""), (DATA, END_STREAM, 3, b"")]
    assert (polite.got, list(line.protocol.streams)) == (b"", [3])
    assert silent.transport.handle_deadline(104.0) == 105.0
    assert silent.transport.handle_deadline(105.0) is None
    assert line.said() == [(RST_STREAM, 0, 3, bytes(4))]
    assert (line.ended, line.protocol.streams) == (2, {})


async def test_closing_before_an_answer_resets(line: Line) -> None:
    one = line.open(accepted=False)
    line.receive(data(1, b"", END_STREAM))
    assert [frame for frame in line.said() if frame[0] not in (HEADERS,)] == [
        (RST_STREAM, 0, 1, ErrorCode.CANCEL.to_bytes(4, "big"))
    ]
    await NEXT_PASS
    assert one.told == ["eof", "lost"]


async def test_aborting_resets_and_forgets_what_is_held() -> None:
    line = Line(window=1)
    one = line.open()
    one.transport.write(b"abc")
    one.transport.abort()
    one.transport.abort()
    assert one.told == ["pause"]
    assert one.transport.is_closing()
    await NEXT_PASS
    assert one.told == ["pause", "lost"]
    assert line.said() == [(DATA, 0, 1, b"a"), (RST_STREAM, 0, 1, ErrorCode.CANCEL.to_bytes(4, "big"))]
    assert (line.writer.waiting, line.ended, one.transport.get_write_buffer_size()) == ({}, 1, 0)


async def test_a_reset_of_the_peer_is_told_once_and_everything_is_harmless_after_it() -> None:
    line = Line(window=1)
    one = line.open()
    one.transport.write(b"abc")
    one.transport.pause_reading()
    line.receive(data(1, b"unread") + rst_stream(1))
    assert one.told == ["pause"]
    one.transport.write(b"more")
    one.transport.resume_reading()
    one.transport.write_eof()
    one.transport.close()
    one.transport.abort()
    assert (one.transport.send(b"x"), one.transport.claim(1)) == (0, 0)
    await NEXT_PASS
    await NEXT_PASS
    assert (one.told, one.got) == (["pause", "lost"], b"")
    assert line.said() == [(DATA, 0, 1, b"a")]
    assert line.writer.waiting == {}


async def test_a_connection_whose_peer_can_say_nothing_more_has_no_websockets(line: Line) -> None:
    one = line.open()
    one.transport.expect_end()
    await NEXT_PASS
    assert one.told == ["lost"]


STEPS = st.one_of(
    *[st.tuples(st.just("write"), st.integers(0, 2), st.integers(1, 40_000))] * 3,
    st.tuples(st.just("window"), st.integers(0, 2), st.integers(1, 70_000)),
    st.tuples(st.just("connection window"), st.just(0), st.integers(1, 70_000)),
    *[st.tuples(st.just(name), st.just(0), st.just(0)) for name in ("full", "clear")],
    st.tuples(st.just("data"), st.integers(0, 2), st.integers(0, 9_000)),
    *[
        st.tuples(st.just(name), st.integers(0, 2), st.just(0))
        for name in ("pause", "go on", "end", "eof", "close", "abort", "reset")
    ],
)


@given(st.lists(STEPS, max_size=60))
def test_whatever_happens_bytes_keep_their_order_and_the_end_is_told_once(steps: list[tuple[str, int, int]]) -> None:
    async def run() -> None:
        line = Line(window=1000)
        speakers = [line.open() for _ in range(3)]
        wrote, heard, said = [b""] * 3, [b""] * 3, [b""] * 3
        ended_by_peer = [False] * 3

        def collect() -> None:
            for kind, _, number, payload in line.said():
                if kind == DATA:
                    heard[number // 2] += payload

        for count, (kind, which, size) in enumerate(steps):
            one, number = speakers[which], 2 * which + 1
            transport, stream = one.transport, line.protocol.streams.get(number)
            if kind == "write" and not (transport.get_write_buffer_size() or transport._is_ending):
                piece = bytes([count % 256]) * size
                if not transport.is_closing():
                    wrote[which] += piece
                sent = transport.send(piece)
                if sent < size:
                    transport.write(piece[sent:])
            elif kind == "window" and stream is not None:
                line.receive(window_update(number, size))
            elif kind == "connection window":
                line.receive(window_update(0, size))
            elif kind == "full":
                line.socket.full = True
            elif kind == "clear" and line.outbox.blocked:
                line.clear()
            elif kind == "data" and stream is not None and stream.inbound >= size and not ended_by_peer[which]:
                piece = bytes([count % 256]) * size
                said[which] += piece
                line.receive(data(number, piece))
            elif kind == "end" and stream is not None and not ended_by_peer[which]:
                ended_by_peer[which] = True
                line.receive(data(number, b"", END_STREAM))
            elif kind == "reset" and stream is not None:
                line.receive(rst_stream(number))
            elif kind == "pause":
                transport.pause_reading()
            elif kind == "go on":
                transport.resume_reading()
            elif kind in ("close", "abort"):
                getattr(transport, kind)()
            elif kind == "eof":
                transport.write_eof()
            if not line.outbox.blocked:
                collect()
            assert line.protocol.window >= 0
            await NEXT_PASS
        line.socket.full = False
        if line.outbox.blocked:
            line.clear()
        line.receive(window_update(0, 1 << 24))
        for number in list(line.protocol.streams):
            line.receive(window_update(number, 1 << 22))
        collect()
        await NEXT_PASS
        for which, one in enumerate(speakers):
            assert said[which].startswith(one.got)
            assert wrote[which].startswith(heard[which])
            assert one.told.count("lost") <= 1
            assert one.told.count("eof") <= 1
            if not one.transport.is_closing():
                assert heard[which] == wrote[which]
                assert one.told.count("pause") == one.told.count("resume")

    asyncio.run(run())
