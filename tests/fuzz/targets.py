"""The protocols under arbitrary input: one function for each, which raises if what always holds does not.

What always holds: nothing that a peer sends raises; the same bytes give the same events however they are cut; what is
kept of them stays within the limits; and what the caller may do in answer is taken. `run.py` gives these functions to a
fuzzer that looks for new paths through the code, `test_targets.py` to Hypothesis.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from fairway.protocols.http1 import BodyReceived, Http1Protocol, RequestFailed
from fairway.protocols.http2 import (
    DataReceived,
    Http2Limits,
    Http2Protocol,
    PlainBlocks,
    RequestReceived,
    Stream,
    Terminated,
    WindowOpened,
)
from fairway.protocols.http2 import (
    RequestFailed as Http2RequestFailed,
)
from fairway.protocols.http2.frames import PREFACE, settings_frame
from fairway.protocols.websocket.decoder import Decoder
from fairway.protocols.websocket.deflate import Inflation
from fairway.protocols.websocket.protocol import Closed, WebSocketProtocol

_BLOCKS = PlainBlocks(())


class _Choices:
    """Decisions out of the first bytes of the input, so that a fuzzer can change them one by one."""

    def __init__(self, data: bytes, count: int) -> None:
        self._bytes = data[:count].ljust(count, b"\0")
        self.rest = data[count:]
        self._next = 0

    def of(self, number: int) -> int:
        choice = self._bytes[self._next % len(self._bytes)]
        self._next += 1
        return choice % number

    def pieces(self, data: bytes) -> list[bytes]:
        """Cut, in pieces of sizes that are chosen: of one byte, few, or many."""
        found = []
        while data:
            size = (1, 3, 9, 10, 64, 1000)[self.of(6)]
            found.append(data[:size])
            data = data[size:]
        return found


# -- HTTP/2

_SMALL = Http2Limits(
    max_streams=3, stream_window=100, max_stream_window=300, connection_window=65535, held_bytes=200,
    max_header_bytes=300, max_header_count=6, max_cookies=3, table_bytes=128, max_continuations=2, patience=40,
)  # fmt: skip
_USUAL = Http2Limits()


def _framed(data: bytes) -> bytes:
    """Frames out of arbitrary bytes: type, flags, stream and length of each are the next four."""
    frames = []
    while len(data) > 4:
        size = data[3] if data[3] < 250 else 16384
        payload = data[4 : 4 + size]
        head = len(payload).to_bytes(3, "big") + bytes((data[0] % 11, data[1], 0, 0, 0, data[2] % 16))
        frames.append(head + payload)
        data = data[4 + size :]
    return b"".join(frames)


def http2(data: bytes) -> None:
    choices = _Choices(data, 8)
    limits = (_SMALL, _USUAL)[choices.of(2)]
    sample = (lambda rest: rest, _framed)[choices.of(2)](choices.rest)
    if choices.of(8):
        sample = PREFACE + settings_frame([]) + sample
    whole = _http2_events([sample], limits)
    assert _http2_events(choices.pieces(sample), limits) == whole, "cut in pieces, it gives other events"
    _serve_http2(choices.pieces(sample), limits, choices)


def _http2_events(pieces: Iterable[bytes], limits: Http2Limits) -> tuple[list[Any], bytes]:
    protocol = Http2Protocol(limits, 0.0)
    events: list[Any] = []
    said = protocol.data_to_send()
    for piece in pieces:
        found = protocol.receive_data(piece, 0.0)
        while protocol.is_parted:
            found += protocol.receive_data(b"", 0.0)
        _check_http2(protocol, limits)
        assert not (events and events[-1][0] is Terminated and found), "something is reported after the end"
        events += [
            (type(event), *[part.number if isinstance(part, Stream) else part for part in event]) for event in found
        ]
        said += protocol.data_to_send()
    return events, said


def _check_http2(protocol: Http2Protocol, limits: Http2Limits) -> None:
    assert len(protocol.streams) <= limits.max_streams
    assert protocol.heads.decoder.size <= max(4096, limits.table_bytes)
    assert protocol.unread == sum(stream.unread for stream in protocol.streams.values())
    assert protocol.unread <= limits.held_bytes + max(65535, limits.connection_window)
    assert protocol.is_closed or 0 <= protocol.inbound <= max(65535, limits.connection_window)
    assert -(2**31) <= protocol.window < 2**31


def _serve_http2(pieces: Iterable[bytes], limits: Http2Limits, choices: _Choices) -> None:
    """Answer what comes in any of the ways in which it can be."""
    protocol = Http2Protocol(limits, 0.0)
    for now, piece in enumerate(pieces):
        streams = [*protocol.streams.values()]
        for event in protocol.receive_data(piece, float(now)):
            protocol.data_to_send()
            if type(event) is RequestReceived:
                _answer(event.stream, choices)
            elif type(event) is Http2RequestFailed:
                event.stream.error_response(event.status, event.reason)
            elif type(event) is DataReceived:
                event.stream.credit(len(event.data) * choices.of(3) // 2)
            elif type(event) is WindowOpened:
                assert event.stream is None or event.stream.window > 0 or not event.stream.is_open
            elif type(event) is Terminated:
                assert not any(stream.is_open for stream in streams)
        for stream in streams[:2]:
            _go_on(stream, choices)
        _check_http2(protocol, limits)


def _answer(stream: Stream, choices: _Choices) -> None:
    if not stream.is_open:
        return  # the same bytes have reset it
    way = choices.of(5)
    if way == 0:
        stream.send_whole(200, (), b"x" * choices.of(200), _BLOCKS)
    elif way == 1:
        stream.send_informational(103, ())
        stream.send_response(200, (), trailers=True)
    elif way == 2:
        stream.send_response(200, ())
    elif way == 3:
        stream.error_response(404, "not found")
    else:
        stream.reset(2)


def _go_on(stream: Stream, choices: _Choices) -> None:
    if not stream.is_open or not stream.response_started:
        stream.reset(8) if not choices.of(4) else None
        return
    size = min(choices.of(200), stream.writable)
    way = choices.of(4)
    if way < 2:
        stream.data(b"x" * size)
    elif way == 2:
        stream.data(b"x" * size, True)
    else:
        stream.end()
    stream.credit(stream.unread)


# -- HTTP/1.1


def http1(data: bytes) -> None:
    choices = _Choices(data, 4)
    limits = (
        {"max_request_line_bytes": 60, "max_header_bytes": 120, "max_header_count": 4, "max_cookies": 2},
        {},
    )[choices.of(2)]
    sample = choices.rest
    assert _http1_events(choices.pieces(sample), limits) == _http1_events([sample], limits), (
        "cut in pieces, it gives other events"
    )


def _http1_events(pieces: Iterable[bytes], limits: dict[str, int]) -> list[Any]:
    protocol = Http1Protocol(**limits)
    events: list[Any] = []
    received = 0
    for piece in pieces:
        received += len(piece)
        found: list[Any] = protocol.receive_data(piece)
        while protocol.is_parted:
            found += protocol.receive_data(b"")
        while protocol.request is not None and not protocol.should_close and not protocol.response_started:
            protocol.send_response(204, [])
            protocol.send_body(b"", False)
            found += protocol.next_request()
        assert protocol.buffered <= received
        for event in found:
            if isinstance(event, BodyReceived) and events and isinstance(events[-1], BodyReceived):
                events[-1] = BodyReceived(events[-1].data + event.data)
            else:
                events.append(event)
    events += protocol.receive_eof()
    assert not any(isinstance(event, RequestFailed) for event in events[:-1]), "something is reported after the end"
    return events


# -- WebSocket

_MOST = 300


def websocket(data: bytes) -> None:
    choices = _Choices(data, 4)
    sample = choices.rest
    with_deflate = choices.of(2) == 1
    if choices.of(2):
        sample = _websocket_frames(sample)
    whole = _websocket_events([sample], with_deflate)
    assert _websocket_events(choices.pieces(sample), with_deflate) == whole, "cut in pieces, it gives other events"


def _websocket_frames(data: bytes) -> bytes:
    """Frames out of arbitrary bytes, masked with zeros: the first byte of each, and its length, are the next two."""
    frames = []
    while len(data) > 2:
        payload = data[2 : 2 + data[1] % 126]
        frames.append(bytes((data[0], 0x80 | len(payload), 0, 0, 0, 0)) + payload)
        data = data[2 + data[1] % 126 :]
    return b"".join(frames)


def _websocket_events(pieces: Iterable[bytes], with_deflate: bool) -> tuple[list[Any], bytes]:
    decoder = Decoder(_MOST, _MOST, 5, Inflation() if with_deflate else None)
    protocol = WebSocketProtocol(decoder, 0.0)
    events: list[Any] = []
    said = b""
    for piece in pieces:
        found = [*protocol.receive_data(piece, 0.0)]
        while decoder.pending:
            found += protocol.receive_data(b"", 0.0)
        events += [(one.code, one.reason, one.fault) if isinstance(one, Closed) else one for one in found]
        said += protocol.data_to_send()
        assert all(len(one) <= _MOST for one in found if isinstance(one, str | bytes))
    return events, said


TARGETS: dict[str, Callable[[bytes], None]] = {"http1": http1, "http2": http2, "websocket": websocket}
