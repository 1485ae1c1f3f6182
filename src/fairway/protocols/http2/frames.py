"""The layout of frames (RFC 9113 sections 4.1 and 6)."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from functools import lru_cache

from fairway.protocols.http2.errors import ConnectionFault, ErrorCode

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client sends first (RFC 9113 section 3.4)."""

# Types (RFC 9113 section 6). All others are ignored (section 5.5).
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)

# Flags.
ACK = END_STREAM = 0x1
END_HEADERS = 0x4
PADDED = 0x8
HAS_PRIORITY = 0x20

# Settings (RFC 9113 section 6.5.2, RFC 8441 section 3, RFC 9218 section 2.1).
HEADER_TABLE_SIZE = 0x1
ENABLE_PUSH = 0x2
MAX_CONCURRENT_STREAMS = 0x3
INITIAL_WINDOW_SIZE = 0x4
MAX_FRAME_SIZE = 0x5
MAX_HEADER_LIST_SIZE = 0x6
ENABLE_CONNECT_PROTOCOL = 0x8
NO_RFC7540_PRIORITIES = 0x9

HEAD_SIZE = 9

LARGEST_FRAME = 16384
"""The largest payload that we send and accept: the size that every peer must accept (RFC 9113 section 4.2)."""

DEFAULT_WINDOW = 65535
LARGEST_WINDOW = 2**31 - 1
HIGHEST_STREAM = 2**31 - 1

_HEAD = struct.Struct(">IBI")
unpack_head = _HEAD.unpack_from
"""Yields length and type in one number, the flags, and the stream with the reserved bit."""

unpack_short_head = struct.Struct(">BHHI").unpack_from
"""Yields the first byte of the length, its other two, type and flags in one number, and the stream."""

pack_head = _HEAD.pack
"""`pack_head(length << 8 | type, flags, stream)`"""

_SETTING = struct.Struct(">HI")
_CODE_IN_FRAME = struct.Struct(">IBII").pack
_GOAWAY = struct.Struct(">IBIII").pack


def settings_frame(settings: Iterable[tuple[int, int]]) -> bytes:
    payload = b"".join([_SETTING.pack(*setting) for setting in settings])
    return pack_head(len(payload) << 8 | SETTINGS, 0, 0) + payload


SETTINGS_ACK = pack_head(SETTINGS, ACK, 0)


def parse_settings(payload: bytes) -> dict[int, int]:
    """Check all settings, and return the last value of each (RFC 9113 section 6.5.2): earlier ones have no effect. Only
    of the size of the table it is the smallest, because our next field block has to say that (RFC 7541 section 4.2).
    """
    if len(payload) % 6:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS that are not pairs: RFC 9113 section 6.5")
    settings: dict[int, int] = {}
    for name, value in _SETTING.iter_unpack(payload):
        if name in (ENABLE_PUSH, ENABLE_CONNECT_PROTOCOL, NO_RFC7540_PRIORITIES) and value > 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a setting that is neither 0 nor 1: RFC 9113 section 6.5.2")
        if name == INITIAL_WINDOW_SIZE and value > LARGEST_WINDOW:
            raise ConnectionFault(
                ErrorCode.FLOW_CONTROL_ERROR, "SETTINGS_INITIAL_WINDOW_SIZE above 2^31-1: RFC 9113 section 6.5.2"
            )
        if name == MAX_FRAME_SIZE and not LARGEST_FRAME <= value < 1 << 24:
            raise ConnectionFault(
                ErrorCode.PROTOCOL_ERROR, "SETTINGS_MAX_FRAME_SIZE out of its range: RFC 9113 section 6.5.2"
            )
        settings[name] = min(value, settings.get(name, value)) if name == HEADER_TABLE_SIZE else value
    return settings


def ping_frame(data: bytes, flags: int = 0) -> bytes:
    """A PING with 8 bytes of data. A `PingAcknowledged` will bring them back."""
    return pack_head(8 << 8 | PING, flags, 0) + data


def goaway_frame(last: int, code: int, debug: bytes = b"") -> bytes:
    return _GOAWAY(8 + len(debug) << 8 | GOAWAY, 0, 0, last, code) + debug


def rst_stream_frame(stream: int, code: int) -> bytes:
    return _CODE_IN_FRAME(4 << 8 | RST_STREAM, 0, stream, code)


@lru_cache(maxsize=1024)
def data_head(stream: int, size: int) -> bytes:
    """The head of one DATA frame with `size` bytes of content, at most 16,384. It is cached, because messages in a row
    often have the same length, and the streams of most connections have the same numbers.
    """
    return pack_head(size << 8 | DATA, 0, stream)


def window_update_frame(stream: int, increment: int) -> bytes:
    return _CODE_IN_FRAME(4 << 8 | WINDOW_UPDATE, 0, stream, increment)


def headers_frames(stream: int, block: bytes, flags: int = 0) -> bytes:
    """A field block in a HEADERS frame, and as many CONTINUATIONs as it needs (RFC 9113 section 4.3)."""
    length = len(block)
    if length <= LARGEST_FRAME:
        return pack_head(length << 8 | HEADERS, flags | END_HEADERS, stream) + block
    kind = HEADERS
    parts: list[bytes] = []
    for begin in range(0, length, LARGEST_FRAME):
        fragment = block[begin : begin + LARGEST_FRAME]
        if begin + LARGEST_FRAME >= length:
            flags |= END_HEADERS
        parts += (pack_head(len(fragment) << 8 | kind, flags, stream), fragment)
        kind, flags = CONTINUATION, 0
    return b"".join(parts)


def data_frames(stream: int, content: bytes | memoryview, flags: int = 0) -> bytes:
    """Content in as few DATA frames as possible. The last frame gets the flags."""
    length = len(content)
    if length <= LARGEST_FRAME:
        return pack_head(length << 8 | DATA, flags, stream) + content
    parts: list[bytes | memoryview] = []
    for begin in range(0, length, LARGEST_FRAME):
        piece = content[begin : begin + LARGEST_FRAME]
        is_last = begin + LARGEST_FRAME >= length
        parts += (pack_head(len(piece) << 8 | DATA, flags if is_last else 0, stream), piece)
    return b"".join(parts)
