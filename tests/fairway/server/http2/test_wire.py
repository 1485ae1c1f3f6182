"""A frame of a stream goes on at once, or waits for whatever has to come before it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from tests.fairway.server.http2.test_transport import DATA, Line, window_update

from fairway.server.http2.transport import StreamTransport
from fairway.server.http2.wire import StreamWire
from fairway.server.limits import Limits


def wire_of(line: Line, transport: StreamTransport) -> StreamWire:
    paused = SimpleNamespace(discard=lambda owner: None)
    host: Any = SimpleNamespace(batch=line.batch, limits=Limits(), paused=paused, touch=lambda: line.now)
    wire = StreamWire(transport, host, None, transport)

    class Owner:
        pause_writing, resume_writing = wire.pause_writing, wire.resume_writing

        @staticmethod
        def schedule(deadline: float) -> None: ...

    wire.owner = Owner  # type: ignore[assignment]
    transport.set_protocol(Owner)  # type: ignore[arg-type]
    return wire


@pytest.fixture
async def line() -> Line:
    return Line()


async def test_a_frame_goes_on_at_once_and_is_written_with_others(line: Line) -> None:
    one, other = (wire_of(line, line.open().transport) for _ in range(2))
    line.socket.writes = 0
    assert [one.append(b"first"), other.append(b"second"), one.append(b"third")] == [False] * 3
    assert (one.size, other.size, line.socket.writes) == (0, 0, 0)
    line.batch.flush()
    assert line.socket.writes == 1
    assert line.said() == [(DATA, 0, 1, b"first"), (DATA, 0, 3, b"second"), (DATA, 0, 1, b"third")]


async def test_whoever_fills_a_chunk_of_the_connection_is_told(line: Line) -> None:
    line.receive(window_update(0, 1 << 20))
    wires = [wire_of(line, line.open().transport) for _ in range(5)]
    assert [wire.append(bytes(16000)) for wire in wires] == [False, False, False, False, True]


@pytest.mark.parametrize("first", [b"12345678901", "droppable", "broadcast"])
async def test_nothing_overtakes_what_waits(first: Any) -> None:
    line = Line(window=10)
    wire = wire_of(line, line.open().transport)
    if first == "droppable":
        wire.append_droppable(b"x", "group")
    else:
        wire.append(b"x" if first == "broadcast" else first, first == "broadcast")
    assert wire.size > 0
    wire.append(b"second")
    line.batch.flush()
    wire.append(b"third")
    line.batch.flush()
    line.receive(window_update(1, 100))
    line.batch.flush()
    length = len(first) if isinstance(first, bytes) else 1
    assert b"".join(frame[3] for frame in line.said())[length:] == b"secondthird"
    assert (wire.size, wire.blocked) == (0, False)


async def test_nothing_overtakes_what_a_sweep_owes(line: Line) -> None:
    wire = wire_of(line, line.open().transport)
    fanout = line.batch.fanout

    class Owing:
        recipients = SimpleNamespace(indices={wire: 0})

        @staticmethod
        def bring_forward(index: int) -> None:
            fanout.sweep = None
            wire.append(b"owed", is_broadcast=True)

    fanout.sweep = Owing  # type: ignore[assignment]
    wire.append(b"second")
    line.batch.flush()
    assert line.said() == [(DATA, 0, 1, b"owedsecond")]


async def test_behind_the_last_frame_nothing_is_passed_by(line: Line) -> None:
    wire = wire_of(line, line.open().transport)
    wire.write_through_transport()
    wire.append(b"close")
    assert wire.size == 5
    wire.flush()
    assert line.said() == [(DATA, 0, 1, b"close")]
    assert wire.lost() == 0
    wire.append(b"nobody gets this")
    assert line.said() == []
