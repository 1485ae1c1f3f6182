"""One socket, over a transport of two queues in memory: reading, stalling, finishing, and who is told what."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fairway.server.queue_transport import QueueTransport

from fairway.server import wire as wires
from fairway.server.limits import Limits
from fairway.server.output.batch import Batch
from fairway.server.output.lanes import CHUNK_BYTES
from fairway.server.paused import Paused
from fairway.server.wire import NOTHING_PENDING, Pending, Wire, unacknowledged

STALL, LINGER = 10.0, 3.0


class FakePaused:
    """Remembers who does not read."""

    def __init__(self) -> None:
        self.connections: dict[Any, Any] = {}

    def add(self, connection: Any, transport: Any) -> None:
        self.connections[connection] = transport

    def discard(self, connection: Any) -> None:
        self.connections.pop(connection, None)


class FakeHost:
    linger_seconds = LINGER

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.batch = Batch(self.loop)
        self.limits = Limits(write_stall_timeout=STALL, outbox_high_water=1000, outbox_bytes=100_000)
        self.not_reading = FakePaused()
        self.now = 100.0

    @property
    def paused(self) -> Paused:
        return cast(Paused, self.not_reading)

    def touch(self) -> float:
        return self.now


class FakeOwner(asyncio.Protocol):
    """Passes on what a transport says, and remembers it."""

    def __init__(self) -> None:
        self.wire: Wire
        self.heard: list[bytes] = []
        self.deadlines: list[float] = []
        self.dropped: int | None = None

    def schedule(self, deadline: float) -> None:
        self.deadlines.append(deadline)

    def peer_has_left(self, is_reset: bool) -> None: ...

    def data_received(self, data: bytes) -> None:
        self.heard.append(data)

    def eof_received(self) -> bool:
        self.wire.eof = True
        return True

    def pause_writing(self) -> None:
        self.wire.pause_writing()

    def resume_writing(self) -> None:
        self.wire.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self.dropped = self.wire.lost()


class Line:
    """A wire with everything around it."""

    def __init__(self, room: int = 1 << 40) -> None:
        self.host = FakeHost()
        self.transport = QueueTransport(room)
        self.owner = self.transport.protocol = FakeOwner()
        self.wire = self.owner.wire = Wire(self.transport, self.host, self.owner)

    def write(self, *frames: bytes) -> None:
        for frame in frames:
            self.wire.append(frame)
        self.wire.flush()


async def next_pass() -> None:
    await asyncio.sleep(0)


# Reading -----------------------------------------------------------------------------------------------------------


async def test_what_arrives_while_reading_is_paused_comes_later() -> None:
    line = Line()
    line.transport.send(b"one")
    line.wire.pause_reading()
    line.transport.send(b"two")
    assert (line.owner.heard, line.wire.reading) == ([b"one"], False)
    assert line.host.not_reading.connections == {line.owner: line.transport}
    line.wire.resume_reading()
    assert (line.owner.heard, line.wire.reading) == ([b"one", b"two"], True)
    assert line.host.not_reading.connections == {}


async def test_what_nobody_wants_is_read_at_a_measured_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wires, "DISCARD_PAUSE", 0.0)
    line = Line()
    line.wire.discard()
    assert not line.wire.reading
    for _ in range(3):
        await next_pass()
    assert line.wire.reading


async def test_nothing_is_discarded_from_a_transport_that_closes() -> None:
    line = Line()
    line.wire.abort()
    line.wire.discard()
    assert line.wire.reading


# Stalls ------------------------------------------------------------------------------------------------------------


async def test_a_full_socket_has_to_take_a_byte_now_and_then() -> None:
    line = Line(room=10)
    line.write(bytes(100))
    assert line.owner.deadlines == [line.wire.next_deadline()] == [100.0 + STALL]
    assert not line.wire.handle_deadline(100.0 + STALL - 0.1)
    assert not line.transport.aborted

    line.transport.take(1)
    assert not line.wire.handle_deadline(100.0 + STALL)
    assert (line.wire.next_deadline(), line.transport.aborted) == (100.0 + 2 * STALL, False)

    assert line.wire.handle_deadline(100.0 + 2 * STALL)
    assert (line.wire.next_deadline(), line.transport.aborted) == (None, True)
    assert not line.wire.handle_deadline(100.0 + 3 * STALL), "it is said once"


async def test_one_that_waits_for_its_turn_is_not_stalled_while_others_have_theirs() -> None:
    line = Line(room=10)
    line.write(bytes(100))
    line.transport.get_extra_info = {"moved_at": 100.0 + STALL - 1.0}.get  # type: ignore[method-assign, assignment]
    assert not line.wire.handle_deadline(100.0 + STALL)
    assert (line.wire.next_deadline(), line.transport.aborted) == (100.0 + 2 * STALL, False)
    assert line.wire.handle_deadline(100.0 + 2 * STALL)


async def test_a_socket_that_has_taken_everything_is_not_stalled() -> None:
    line = Line(room=10)
    line.write(bytes(100))
    line.transport.take_all()
    assert line.wire.next_deadline() is None
    assert line.wire.pending is NOTHING_PENDING
    assert not line.wire.handle_deadline(1000.0)
    assert not line.transport.aborted


async def test_a_socket_that_fills_again_while_it_is_written_has_its_time_anew() -> None:
    line = Line(room=0)
    line.write(bytes(CHUNK_BYTES), bytes(CHUNK_BYTES))
    line.host.now += 7.0
    line.transport.take(0)
    line.transport.room = CHUNK_BYTES
    line.transport.take(0)
    assert line.wire.blocked
    assert line.wire.next_deadline() == 107.0 + STALL


# Ends --------------------------------------------------------------------------------------------------------------


async def test_finishing_ends_our_side_and_lets_the_peer_end_its_own() -> None:
    line = Line()
    line.wire.append(b"the last word")
    line.wire.finish()
    assert line.transport.take_all() == b"the last word"
    assert (line.transport.ended, line.transport.closing) == (True, False)
    assert line.owner.deadlines == [line.wire.next_deadline()] == [100.0 + LINGER]
    assert not line.wire.handle_deadline(100.0 + LINGER), "it is not the client's fault"
    assert line.transport.aborted
    await next_pass()
    assert line.owner.dropped == 0


async def test_a_client_that_takes_the_rest_slowly_is_measured_by_its_progress() -> None:
    line = Line(room=10)
    line.write(bytes(100))
    line.wire.finish()
    assert not line.transport.ended
    assert line.wire.next_deadline() == 100.0 + STALL
    line.host.now = 150.0
    assert line.transport.take_all() == bytes(100)
    assert line.transport.ended
    assert line.wire.next_deadline() == 150.0 + LINGER


@pytest.mark.parametrize("room", [10, 1000])
async def test_a_peer_that_has_ended_its_side_is_not_waited_for(room: int) -> None:
    line = Line(room)
    line.transport.end()
    line.write(bytes(100))
    line.wire.finish()
    line.transport.take_all()
    await next_pass()
    assert (line.transport.aborted, line.owner.dropped) == (False, 0)


async def test_finishing_twice_grants_no_more_time() -> None:
    line = Line()
    line.wire.finish()
    line.host.now += 1.0
    line.wire.finish()
    assert line.owner.deadlines == [100.0 + LINGER]


async def test_closing_does_not_wait_for_the_peer() -> None:
    line = Line()
    line.wire.append(b"bye")
    line.wire.close()
    assert line.transport.closing
    assert line.transport.take_all() == b"bye"
    await next_pass()
    assert line.owner.dropped == 0


async def test_closing_loses_nothing_that_a_full_socket_is_still_to_take() -> None:
    line = Line(room=10_000)
    line.write(*[bytes(CHUNK_BYTES)] * 3)
    line.wire.close()
    assert not line.transport.closing
    assert line.transport.take_all() == bytes(3 * CHUNK_BYTES)
    assert line.transport.ended


async def test_aborting_drops_what_is_unsent_and_it_is_counted() -> None:
    line = Line(room=10)
    line.write(bytes(100))
    line.write(b"one", b"two")
    line.wire.abort()
    await next_pass()
    assert line.owner.dropped == 2


async def test_after_the_end_everything_is_harmless() -> None:
    line = Line(room=10)
    line.wire.pause_reading()
    line.write(bytes(100))
    line.wire.lost()
    assert (line.wire.owner, line.wire.pending) == (None, NOTHING_PENDING)
    assert line.host.not_reading.connections == {}
    line.owner.deadlines.clear()
    for act in ("pause_reading", "resume_reading", "discard", "finish", "close", "abort", "flush", "resume_writing"):
        getattr(line.wire, act)()
    assert (line.wire.next_deadline(), line.wire.handle_deadline(1000.0)) == (None, False)
    assert (line.owner.deadlines, line.transport.closing) == ([], False)


async def test_an_upgrade_changes_who_is_told() -> None:
    line = Line(room=10)
    other = FakeOwner()
    other.wire = line.wire
    line.wire.owner = other
    line.transport.set_protocol(other)
    line.write(bytes(100))
    assert (line.owner.deadlines, other.deadlines) == ([], [100.0 + STALL])


@pytest.mark.parametrize("name", Pending.__slots__)
def test_what_all_wires_share_cannot_be_changed(name: str) -> None:
    with pytest.raises(AttributeError, match=rf"object attribute '{name}' is read-only"):
        setattr(NOTHING_PENDING, name, True)


STEPS = st.one_of(
    st.tuples(st.just("append"), st.integers(1, 2 * CHUNK_BYTES)),
    st.tuples(st.just("take"), st.integers(1, CHUNK_BYTES)),
    st.tuples(st.sampled_from(["flush", "pause", "resume", "end", "send"]), st.just(0)),
    st.tuples(st.just("later"), st.integers(1, int(2 * STALL))),
    st.tuples(st.sampled_from(["finish", "close", "abort"]), st.just(0)),
)


@given(st.lists(STEPS, max_size=30))
def test_whatever_happens_bytes_keep_their_order_and_every_wait_has_an_end(steps: list[tuple[str, int]]) -> None:
    async def run() -> None:
        line = Line(room=CHUNK_BYTES // 2)
        written = taken = b""
        is_ending = False
        for number, (kind, size) in enumerate(steps):
            if kind == "append" and not is_ending:
                written += bytes((number,)) * size
                line.wire.append(bytes((number,)) * size)
            elif kind == "take":
                taken += line.transport.take(size)
            elif kind == "flush":
                await next_pass()
            elif kind in ("pause", "resume"):
                getattr(line.wire, f"{kind}_reading")()
            elif kind == "end":
                line.transport.end()
            elif kind == "send":
                line.transport.send(b"x")
            elif kind == "later":
                line.host.now += size
                line.wire.handle_deadline(line.host.now)
            elif kind in ("finish", "close", "abort"):
                is_ending = True
                getattr(line.wire, kind)()
            assert written.startswith(taken)
            waits = line.wire.blocked or (line.transport.ended and not line.transport.closing)
            if not line.wire.is_ending:
                assert (line.wire.next_deadline() is not None) is waits
                assert line.wire.reading is not (line.owner in line.host.not_reading.connections)
        await next_pass()
        taken += line.transport.take_all()
        await next_pass()
        assert written.startswith(taken)
        if not line.transport.aborted:
            assert taken == written

    asyncio.run(run())


def test_what_the_peers_system_has_not_taken_is_known() -> None:
    class OfSocket(QueueTransport):
        def get_extra_info(self, name: str, default: Any = None, /) -> Any:
            return ours if name == "socket" else default

    with socket.create_server(("127.0.0.1", 0)) as listening, socket.socket() as theirs:
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        theirs.connect(listening.getsockname())
        ours, _ = listening.accept()
        with ours:
            ours.setblocking(False)
            assert unacknowledged(OfSocket()) == 0
            sent = 0
            with contextlib.suppress(BlockingIOError):
                while True:
                    sent += ours.send(bytes(65536))
            waiting = unacknowledged(OfSocket())
            assert 0 < waiting < sent
            for _ in range(8):
                theirs.recv(4096)
            assert unacknowledged(OfSocket()) < waiting
        assert unacknowledged(OfSocket()) == 0, "it is closed"
    assert unacknowledged(QueueTransport()) == 0, "there is no socket"
