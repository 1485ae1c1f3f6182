"""Encodes WebSocket frames as a server sends them (RFC 6455 section 5), and defines the close codes.

These are pure functions from payload to bytes. The frames are not masked, because a server must not mask them (section
5.1). Decoding is in `decoder`.
"""

from __future__ import annotations

from struct import Struct

from fairway.protocols.text import utf8

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

FIN = 0x80
RSV1 = 0x40

NORMAL_CLOSURE = 1000
GOING_AWAY = 1001
PROTOCOL_ERROR = 1002
UNSUPPORTED_DATA = 1003
NO_STATUS_RECEIVED = 1005
ABNORMAL_CLOSURE = 1006
INVALID_DATA = 1007
POLICY_VIOLATION = 1008
MESSAGE_TOO_BIG = 1009
INTERNAL_ERROR = 1011
SERVICE_RESTART = 1012
TRY_AGAIN_LATER = 1013

# Longer messages are framed in a step of their own. Copying a megabyte to fresh memory takes a millisecond.
FRAMED_AT_ONCE = 1 << 18

MAX_CONTROL_PAYLOAD = 125  # RFC 6455 section 5.5
MAX_REASON_BYTES = MAX_CONTROL_PAYLOAD - 2

_LENGTH_16 = Struct("!BBH").pack
_LENGTH_64 = Struct("!BBQ").pack

# The headers of small frames. Looking one up takes a third of the time to make it.
_SMALL = {
    first: [bytes((first, length)) for length in range(126)]
    for first in (FIN | TEXT, FIN | BINARY, FIN | RSV1 | TEXT, FIN | RSV1 | BINARY)
}
_SMALL_TEXT = _SMALL[FIN | TEXT]


def header(first: int, length: int) -> bytes:
    """The header of an unmasked frame. `first` is its first byte: FIN, the reserved bits and the opcode."""
    if length < 126:
        return bytes((first, length))
    if length < 0x10000:
        return _LENGTH_16(first, 126, length)
    return _LENGTH_64(first, 127, length)


def text_frame(data: bytes) -> bytes:
    """A complete text message, from its UTF-8 bytes."""
    if len(data) < 126:
        return _SMALL_TEXT[len(data)] + data
    return header(FIN | TEXT, len(data)) + data


def binary_frame(data: bytes) -> bytes:
    """A complete binary message."""
    return header(FIN | BINARY, len(data)) + data


def is_valid_close_code(code: int) -> bool:
    """Whether a code may stand in a Close frame (RFC 6455 section 7.4, and the IANA registry)."""
    return 3000 <= code <= 4999 or (1000 <= code <= 1014 and code not in (1004, 1005, 1006))


def close_frame(code: int | None, reason: str = "") -> bytes:
    """A Close frame. A reason of more than 123 bytes of UTF-8 is cut between two characters.

    Without a code, or with 1005, the frame has neither code nor reason.
    """
    if code is None or code == NO_STATUS_RECEIVED:
        return header(FIN | CLOSE, 0)
    text = reason.encode("utf-8", "replace")
    if len(text) > MAX_REASON_BYTES:
        text = text[:MAX_REASON_BYTES].decode("utf-8", "ignore").encode()
    return header(FIN | CLOSE, 2 + len(text)) + code.to_bytes(2, "big") + text


def ping_frame(data: bytes = b"") -> bytes:
    return header(FIN | PING, len(data)) + data


def pong_frame(data: bytes) -> bytes:
    return header(FIN | PONG, len(data)) + data


class Framing:
    """One long message whose frame is made later, since that copies it. (`fairway.delivery.Unfinished`)"""

    __slots__ = ("_data", "_opcode")

    shrinks = False

    def __init__(self, opcode: int, data: bytes) -> None:
        self._opcode = opcode
        self._data = data

    def __len__(self) -> int:
        return len(self._data)

    def go_on(self, most: int) -> bytes:
        """The frame, all at once."""
        return header(FIN | self._opcode, len(self._data)) + self._data


class PlainEncoder:
    """Encodes messages as single uncompressed frames."""

    __slots__ = ()

    def encode_text(self, text: str) -> bytes:
        try:
            return text_frame(text.encode())
        except UnicodeEncodeError:
            return text_frame(utf8(text))  # not for all: a call takes a fifth as long as the rest

    def encode_bytes(self, data: bytes) -> bytes:
        return binary_frame(data)

    def begin_text(self, text: str) -> bytes | Framing:
        try:
            data = text.encode()
        except UnicodeEncodeError:
            data = utf8(text)
        size = len(data)
        if size < 126:  # as in `text_frame`, but without its call
            return _SMALL_TEXT[size] + data
        return text_frame(data) if size <= FRAMED_AT_ONCE else Framing(TEXT, data)

    def begin_bytes(self, data: bytes) -> bytes | Framing:
        return binary_frame(data) if len(data) <= FRAMED_AT_ONCE else Framing(BINARY, data)


PLAIN = PlainEncoder()
