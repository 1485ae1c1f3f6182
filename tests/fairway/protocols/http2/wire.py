"""A client's frames, and feeding them to a protocol whole, byte by byte and in any pieces, for the same events."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Any

from fairway.protocols.http2 import (
    PREFACE,
    DataReceived,
    ErrorCode,
    Event,
    Http2Limits,
    Http2Protocol,
    RequestReceived,
    Stream,
    Terminated,
)
from fairway.protocols.http2.hpack.encoder import encode

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED, HAS_PRIORITY = 1, 1, 4, 8, 32

GET = ((b":method", b"GET"), (b":scheme", b"https"), (b":path", b"/"), (b":authority", b"example.org"))
POST = ((b":method", b"POST"), *GET[1:])
WEBSOCKET = ((b":method", b"CONNECT"), (b":protocol", b"websocket"), *GET[1:], (b"sec-websocket-version", b"13"))


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    return struct.pack(">IBI", len(payload) << 8 | kind, flags, stream) + payload


def settings(*pairs: tuple[int, int]) -> bytes:
    return frame(SETTINGS, payload=b"".join(struct.pack(">HI", *pair) for pair in pairs))


HELLO = PREFACE + settings()
"""What every client begins with."""


def headers(stream: int, fields: Iterable[tuple[bytes, bytes]] = GET, flags: int = END_STREAM | END_HEADERS) -> bytes:
    return frame(HEADERS, flags, stream, encode(fields))


def post(stream: int, *fields: tuple[bytes, bytes]) -> bytes:
    """The head of a request that has content."""
    return headers(stream, (*POST, *fields), END_HEADERS)


def data(stream: int, content: bytes, flags: int = 0) -> bytes:
    return frame(DATA, flags, stream, content)


def rst_stream(stream: int, code: int = ErrorCode.CANCEL) -> bytes:
    return frame(RST_STREAM, 0, stream, struct.pack(">I", code))


def window_update(stream: int, increment: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", increment))


def frames(data: bytes) -> list[tuple[int, int, int, bytes]]:
    """What we have sent, as type, flags, stream and payload."""
    found = []
    while data:
        first, flags, stream = struct.unpack_from(">IBI", data)
        end = 9 + (first >> 8)
        assert len(data) >= end, "the last frame is not whole"
        found.append((first & 0xFF, flags, stream, data[9:end]))
        data = data[end:]
    return found


def started(now: float = 0.0, **limits: Any) -> Http2Protocol:
    """A protocol that has exchanged settings."""
    protocol = Http2Protocol(Http2Limits(**limits), now)
    assert protocol.receive_data(HELLO + frame(SETTINGS, ACK), now) == []
    protocol.data_to_send()
    return protocol


def opened(sample: bytes, **limits: Any) -> tuple[Http2Protocol, Stream]:
    """A protocol, and the stream of the request that it has been given."""
    protocol = started(**limits)
    (event,) = protocol.receive_data(sample, 0.0)
    assert isinstance(event, RequestReceived), event
    protocol.data_to_send()
    return protocol, event.stream


def described(event: Event) -> tuple[Any, ...]:
    """An event, with the number of the stream in its place, so that it can be compared with that of another run."""
    return (type(event).__name__, *(part.number if isinstance(part, Stream) else part for part in event))


def merged(events: Iterable[Event]) -> list[tuple[Any, ...]]:
    return [described(event) for event in events]


def feed(pieces: Iterable[bytes], now: float = 0.0, **limits: Any) -> tuple[list[tuple[Any, ...]], bytes]:
    """The events, and what was said to the peer."""
    protocol = Http2Protocol(Http2Limits(**limits), now)
    protocol.data_to_send()
    events: list[Event] = []
    said = b""
    for piece in pieces:
        events += protocol.receive_data(piece, now)
        while protocol.is_parted:
            events += protocol.receive_data(b"", now)
        said += protocol.data_to_send()
    assert all(event.data or event.ended for event in events if isinstance(event, DataReceived)), "an empty piece"
    assert Terminated not in [type(event) for event in events[:-1]], "something was reported after the end"
    return merged(events), said


def receive(sample: bytes, **limits: Any) -> tuple[list[tuple[Any, ...]], list[tuple[int, int, int, bytes]]]:
    """The events of a sample behind the client's greeting, and what we answer: the same however it is cut."""
    whole = feed([HELLO + sample], **limits)
    by_byte = feed([bytes((byte,)) for byte in HELLO + sample], **limits)
    assert by_byte == whole, "byte by byte gives other events than the whole"
    if whole[0] and whole[0][-1][0] == "Terminated":
        assert feed([HELLO + sample + headers(99)], **limits) == whole, "bytes behind the end change the events"
    return whole[0], frames(whole[1])[1:]


def refused(sample: bytes, **limits: Any) -> tuple[ErrorCode, str]:
    """Code and reason of the connection's end, which must be the only thing that comes of a sample."""
    events, answer = receive(sample, **limits)
    assert len(events) == 1, events
    name, code, reason = events[0]
    assert name == "Terminated"
    assert answer[-1][0] == GOAWAY
    assert answer[-1][3][4:] == struct.pack(">I", code) + reason.encode()
    return code, reason


def reset(sample: bytes, stream: int = 1, **limits: Any) -> tuple[ErrorCode, str]:
    """Code and reason of the reset of a stream, behind which the next one is served."""
    events, answer = receive(sample, **limits)
    name, number, code, reason = events[-1]
    assert (name, number) == ("StreamReset", stream)
    assert (RST_STREAM, 0, stream, struct.pack(">I", code)) in answer
    then = receive(sample + headers(stream + 2), **limits)[0]
    assert then[:-1] == events
    assert then[-1][:2] == ("RequestReceived", stream + 2), "a fault of one stream is felt by the next"
    return code, reason


def content(events: Sequence[tuple[Any, ...]]) -> bytes:
    return b"".join(event[2] for event in events if event[0] == "DataReceived")
