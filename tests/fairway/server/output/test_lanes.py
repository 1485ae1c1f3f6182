"""What is written to many at once, past their transports; and that a TLS socket never sends clear text."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
import trustme

from fairway.delivery import NEXT_PASS, Inbox, Payload
from fairway.protocols.websocket.frames import PLAIN
from fairway.server.output.batch import Batch
from fairway.server.output.fanout import FEW
from fairway.server.output.lanes import (
    CHUNK_BYTES,
    RECORD_BYTES,
    SOCKETS,
    STREAMS,
    Sockets,
    TlsSocket,
    lane_of,
    send_all,
    send_now,
)
from fairway.server.output.outbox import Outbox

SECRET = b"attack at dawn"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    one.setblocking(False)
    other.setblocking(False)
    with one, other:
        yield one, other


class Line:
    """A TLS connection in one thread: `server` is ours, and everything that it sends is in `wire` as it was sent."""

    def __init__(self, authority: trustme.CA) -> None:
        contexts = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        authority.issue_cert("localhost").configure_cert(contexts[0])
        authority.configure_trust(contexts[1])
        contexts[0].sslsocket_class = TlsSocket
        ours, self.relay = socket.socketpair()
        for one in (ours, self.relay):
            one.setblocking(False)
        self.wire = b""
        self.server = contexts[0].wrap_socket(ours, server_side=True, do_handshake_on_connect=False)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = contexts[1].wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")
        steps: list[Callable[[], object]] = [self.client.do_handshake, self.server.do_handshake]
        while steps:
            for step in list(steps):
                with suppress(ssl.SSLWantReadError):
                    step()
                    steps.remove(step)
                self.carry()
        self.wire = b""

    def carry(self) -> None:
        """Bring to either end what the other has sent."""
        if sent := self._outgoing.read():
            self.relay.send(sent)
        with suppress(BlockingIOError):
            while data := self.relay.recv(1 << 16):
                self.wire += data
                self._incoming.write(data)

    def got(self) -> bytes:
        """What the client has decrypted since it was last asked."""
        self.carry()
        data = b""
        with suppress(ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            while piece := self.client.read(1 << 16):
                data += piece
        return data

    def be_narrow(self) -> None:
        """Take a few kilobytes at a time, the kernel's least."""
        self.server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)

    def close(self) -> None:
        self.server.close()
        self.relay.close()


@pytest.fixture
def line(authority: trustme.CA) -> Iterator[Line]:
    line = Line(authority)
    yield line
    line.close()


# Sockets ------------------------------------------------------------------------------------------------------------


def test_each_socket_takes_what_it_can(pair: tuple[socket.socket, socket.socket]) -> None:
    one, other = pair
    full, _unread = socket.socketpair()
    with full, _unread:
        full.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                full.send(bytes(65536))
        assert SOCKETS.write([one, full, one], b"abc") == [3, 0, 3]
    assert other.recv(100) == b"abcabc"
    assert SOCKETS.write([full, one], b"closed") == [0, 6]


def test_each_socket_can_get_a_piece_of_its_own(pair: tuple[socket.socket, socket.socket]) -> None:
    one, other = pair
    closed = socket.socket()
    closed.close()
    lane = lane_of(one)
    assert isinstance(lane, Sockets)
    assert lane.write_each([one, closed, other, one], [b"ab", b"lost", b"cde", b"f"]) == [2, 0, 3, 1]
    assert (other.recv(100), one.recv(100)) == (b"abf", b"cde")


def test_the_lane_is_that_of_the_kind(line: Line) -> None:
    assert lane_of(socket.socket) is None, "the class itself is no endpoint"
    assert lane_of(None) is None
    with socket.socket() as plain:
        assert lane_of(plain) is SOCKETS
    assert lane_of(line.server) is TlsSocket.lane
    assert TlsSocket.lane is not SOCKETS


def test_an_ordinary_tls_socket_has_no_lane(authority: trustme.CA) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    plain, _other = socket.socketpair()
    with _other, context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False) as endpoint:
        assert lane_of(endpoint) is None


# TLS ----------------------------------------------------------------------------------------------------------------


def test_what_a_tls_lane_writes_is_encrypted(line: Line) -> None:
    assert TlsSocket.lane.write([line.server, line.server], SECRET) == [len(SECRET)] * 2
    assert line.got() == SECRET * 2
    assert SECRET not in line.wire


def test_a_write_is_one_record(line: Line) -> None:
    assert line.server.send(bytes(3 * RECORD_BYTES)) == RECORD_BYTES
    assert TlsSocket.lane.write([line.server], bytes(RECORD_BYTES + 1)) == [RECORD_BYTES]
    assert TlsSocket.lane.write([line.server], bytes(RECORD_BYTES)) == [RECORD_BYTES]
    assert line.got() == bytes(3 * RECORD_BYTES)


def end_by_unwrap(line: Line) -> None:
    line.client.write(b"x")
    line.carry()
    with suppress(ssl.SSLWantReadError):
        line.client.unwrap()
    line.carry()
    assert line.server.recv(1) == b"x"
    line.server.unwrap()


def end_by_shutdown(line: Line) -> None:
    line.server.shutdown(socket.SHUT_RD)


def end_by_close(line: Line) -> None:
    line.server.close()


@pytest.mark.parametrize("end", [end_by_unwrap, end_by_shutdown, end_by_close])
def test_when_its_tls_has_ended_a_socket_sends_nothing(line: Line, end: Callable[[Line], None]) -> None:
    end(line)
    line.carry()
    line.wire = b""
    assert TlsSocket.lane.write([line.server], SECRET) == [0]
    with pytest.raises(ConnectionAbortedError, match="the TLS of this socket has ended"):
        line.server.send(SECRET)
    with suppress(OSError):
        line.carry()
    assert line.wire == b""


class RecordTransport(asyncio.Transport):
    """Sends on a TLS socket record by record, and first of all what that has refused."""

    def __init__(self, endpoint: socket.socket) -> None:
        super().__init__()
        self.endpoint = endpoint
        self.kept = b""
        self.outbox: Outbox

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return len(self.kept)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.kept, "it was asked not to write more"
        self.kept = bytes(data)
        self.pump()
        if self.kept:
            self.outbox.pause_writing()

    def pump(self) -> None:
        with suppress(ssl.SSLWantWriteError):
            while self.kept:
                self.kept = self.kept[self.endpoint.send(self.kept) :]


@pytest.mark.parametrize("sizes", [[10] * 20, [20_000], [RECORD_BYTES] * 3, [60_000, 5, 60_000], [200_000, 1]])
async def test_an_outbox_writes_records_and_repeats_those_that_were_refused(line: Line, sizes: list[int]) -> None:
    line.be_narrow()
    transport = RecordTransport(line.server)
    outbox = transport.outbox = Outbox(transport, Batch(asyncio.get_running_loop()), 65536, 1 << 20, line.server)
    assert outbox.endpoint is line.server
    frames = [bytes([65 + number]) * size for number, size in enumerate(sizes)]
    got = b""
    for frame in frames:
        outbox.append(frame)
        outbox.flush()
    for _ in range(1000):
        got += line.got()
        if transport.kept:
            transport.pump()
            if not transport.kept:
                outbox.resume_writing()
        elif outbox.is_empty:
            break
    assert got + line.got() == b"".join(frames)
    assert not any(frame[:100] in line.wire for frame in frames if len(frame) >= 100)


class Member:
    """A connection whose consumer waits."""

    is_open = True
    encoder = PLAIN

    def __init__(self, batch: Batch, endpoint: socket.socket) -> None:
        transport = RecordTransport(endpoint)
        self.outbox = transport.outbox = Outbox(transport, batch, 65536, 1 << 20, endpoint)
        self.inbox = Inbox(asyncio.get_running_loop())
        self.inbox.wait()

    def check_bound(self) -> None:
        raise AssertionError("nobody is slow here")

    def broadcast(self, payload: Payload) -> None:
        self.outbox.append(payload.form(PLAIN), is_broadcast=True)


@pytest.mark.slow
@pytest.mark.parametrize("size", [100, 20_000])
async def test_a_sweep_encrypts_what_it_writes_to_tls_sockets(authority: trustme.CA, size: int) -> None:
    batch = Batch(asyncio.get_running_loop())
    lines = [Line(authority) for _ in range(FEW)]
    pairs = [socket.socketpair() for _ in range(FEW)]
    members = []
    for line, (plain, _) in zip(lines, pairs, strict=True):
        line.be_narrow()
        members += [Member(batch, line.server), Member(batch, plain)]
    recipients = batch.fanout.recipients_of(batch.fanout.in_order(members))
    assert [(part.end, part.lane) for part in recipients.parts] == [(FEW, TlsSocket.lane), (2 * FEW, SOCKETS)]
    texts = [SECRET.decode() * (size // len(SECRET)), SECRET.decode()]
    for text in texts:
        assert batch.fanout.broadcast(recipients, Payload(text)) == []
    assert batch.fanout.sweep is not None
    got = [b"" for _ in lines]
    whole = b"".join(map(PLAIN.encode_text, texts))
    async with asyncio.timeout(10):
        while batch.fanout.is_busy or any(some != whole for some in got):
            await NEXT_PASS
            for index, line in enumerate(lines):
                got[index] += line.got()
                transport = members[2 * index].outbox.transport
                assert isinstance(transport, RecordTransport)
                if transport.kept:
                    transport.pump()
                    if not transport.kept:
                        transport.outbox.resume_writing()
    assert not any(SECRET in line.wire for line in lines)
    for line, (plain, peer) in zip(lines, pairs, strict=True):
        assert peer.recv(1 << 16) == whole
        line.close()
        plain.close()
        peer.close()


# Streams ------------------------------------------------------------------------------------------------------------


class FakeSocket:
    """Takes `room` bytes at a time."""

    lane: Sockets

    def __init__(self, room: int, log: list[FakeSocket]) -> None:
        self.room = room
        self.writes: list[bytes] = []
        self._log = log

    def send(self, data: bytes) -> int:
        self._log.append(self)
        if not self.room:
            raise BlockingIOError
        self.writes.append(data[: self.room])
        return len(self.writes[-1])


class OtherSocket(FakeSocket):
    """Of another kind, as a TLS socket is."""


FakeSocket.lane = Sockets(FakeSocket.send)
OtherSocket.lane = Sockets(OtherSocket.send)


class FakeCarrier:
    """The outbox of a connection with nothing in it. `log` gets the socket at each write, and None at each claim."""

    frames = None

    def __init__(self, room: int = 1 << 20, kind: type[FakeSocket] = FakeSocket, log: Any = None) -> None:
        self.blocked = False
        self.log = [] if log is None else log
        self.socket = kind(room, self.log)
        self.endpoint: FakeSocket | None = self.socket
        self.left: list[bytes] = []
        self.appended: list[bytes] = []
        self.scheduler: Any = self
        self.written = 0

    @property
    def writes(self) -> list[bytes]:
        return self.socket.writes

    def write_rest(self, data: bytes, sent: int) -> None:
        self.left.append(data[sent:])

    def append(self, frame: bytes) -> bool:
        self.appended.append(frame)
        return False


class FakeStream:
    """Takes as much as its window is."""

    lane = STREAMS

    def __init__(self, carrier: FakeCarrier, number: int, window: int = 100) -> None:
        self.carrier = carrier
        self._number = number
        self._window = window

    def claim(self, size: int) -> int:
        self.carrier.log.append(None)
        if size > self._window:
            return 0
        self._window -= size
        return self._number


def frame(number: int, data: bytes = b"abc") -> bytes:
    return bytes((0, 0, len(data), 0, 0, 0, 0, 0, number)) + data


def test_streams_of_one_connection_share_a_write() -> None:
    one, other = FakeCarrier(), FakeCarrier()
    streams = [FakeStream(one, 1), FakeStream(one, 3), FakeStream(other, 5)]
    assert [lane_of(stream) for stream in streams] == [STREAMS] * 3
    assert STREAMS.write(streams, b"abc") == [3, 3, 3]
    assert (one.writes, other.writes) == ([frame(1) + frame(3)], [frame(5)])
    assert one.written == 36, "the connections of a loop have one scheduler"


def test_streams_of_one_connection_share_a_write_even_if_they_are_no_neighbours() -> None:
    one, other = FakeCarrier(room=20), FakeCarrier()
    assert STREAMS.write([FakeStream(one, 1), FakeStream(other, 1), FakeStream(one, 3)], b"abc") == [3, 3, 3]
    assert (one.writes, one.left) == ([(frame(1) + frame(3))[:20]], [frame(3)[-4:]])
    assert (other.writes, other.left) == ([frame(1)], [])


def test_streams_of_the_same_number_are_sent_the_same_bytes() -> None:
    carriers = [FakeCarrier() for _ in range(4)]
    streams = [FakeStream(carrier, number) for carrier, number in zip(carriers, (1, 3, 1, 3), strict=True)]
    assert STREAMS.write(streams, b"abc") == [3] * 4
    assert [carrier.writes for carrier in carriers] == [[frame(1)], [frame(3)]] * 2
    assert carriers[0].writes[0] is carriers[2].writes[0], "they were joined twice"


def test_nothing_is_sent_before_all_streams_were_looked_at() -> None:
    log: list[FakeSocket | None] = []
    carriers = [FakeCarrier(log=log) for _ in range(3)]
    STREAMS.write([FakeStream(carrier, 1) for carrier in carriers], b"abc")
    assert log == [None, None, None, *[carrier.socket for carrier in carriers]]


def test_a_stream_with_a_small_window_takes_nothing_and_holds_up_nobody() -> None:
    carrier, other = FakeCarrier(), FakeCarrier()
    streams = [FakeStream(carrier, 1), FakeStream(carrier, 3, window=2), FakeStream(other, 3, window=0)]
    assert STREAMS.write(streams, b"abc") == [3, 0, 0]
    assert (carrier.writes, other.writes) == ([frame(1)], [])
    assert STREAMS.write(streams[1:], b"abc") == [0, 0]


def test_what_the_connection_does_not_take_at_once_is_its_transports() -> None:
    narrow, full, wide = FakeCarrier(room=10), FakeCarrier(room=0), FakeCarrier()
    assert STREAMS.write([FakeStream(narrow, 1), FakeStream(full, 3), FakeStream(wide, 5)], b"abc") == [3, 3, 3]
    assert (narrow.writes, narrow.left) == ([frame(1)[:10]], [b"bc"])
    assert (full.writes, full.left) == ([], [frame(3)])
    assert (wide.writes, wide.left) == ([frame(5)], [])


def test_connections_of_several_kinds_are_written_to_as_each_kind_is() -> None:
    plain, other, last = FakeCarrier(room=10), FakeCarrier(room=11, kind=OtherSocket), FakeCarrier()
    assert STREAMS.write([FakeStream(one, 1) for one in (plain, other, last)], b"abc") == [3, 3, 3]
    assert [one.writes for one in (plain, other, last)] == [[frame(1)[:10]], [frame(1)[:11]], [frame(1)]]
    assert [one.left for one in (plain, other, last)] == [[b"bc"], [b"c"], []]
    assert [one.written for one in (plain, other, last)] == [12, 12, 12]


@pytest.mark.parametrize("change", [{"frames": b"before"}, {"blocked": True}, {"endpoint": None}])
def test_nothing_passes_by_a_connection_that_has_something_to_send(change: dict[str, object]) -> None:
    carrier, other = FakeCarrier(), FakeCarrier()
    for name, value in change.items():
        setattr(carrier, name, value)
    assert STREAMS.write([FakeStream(carrier, 1)], b"abc") == [3]
    assert (carrier.writes, carrier.appended) == ([], [frame(1)])
    assert STREAMS.write([FakeStream(other, 1), FakeStream(carrier, 3)], b"abc") == [3, 3]
    assert (carrier.writes, carrier.appended) == ([], [frame(1), frame(3)])
    assert (other.writes, other.appended) == ([frame(1)], [])


def test_no_more_than_a_chunk_is_sent_at_once() -> None:
    carrier, other = FakeCarrier(), FakeCarrier()
    send_now(carrier, bytes(CHUNK_BYTES))
    send_now(carrier, bytes(CHUNK_BYTES + 1))
    assert ([len(data) for data in carrier.writes], carrier.appended) == ([CHUNK_BYTES], [bytes(CHUNK_BYTES + 1)])
    send_all([carrier, other], [bytes(CHUNK_BYTES + 1), b"x"])
    assert (len(carrier.writes), len(carrier.appended), other.writes) == (1, 2, [b"x"])
