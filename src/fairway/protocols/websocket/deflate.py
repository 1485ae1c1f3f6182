"""permessage-deflate (RFC 7692) without context takeover in either direction.

Without context takeover, a compressed message has the same bytes for all clients that have negotiated the same window,
so it is compressed once for all of them. Also, no compressor and no inflate window is kept for a connection. Small
messages are not compressed, which section 6 leaves to the sender.

Negotiation, compression and decompression are pure functions.
"""

from __future__ import annotations

import zlib
from functools import lru_cache
from math import inf

from fairway.protocols.text import utf8
from fairway.protocols.websocket.frames import BINARY, FIN, RSV1, TEXT, binary_frame, header, text_frame

EXTENSION = "permessage-deflate"

# Longer messages are not compressed: this would take 10 to 50 ms for each MiB.
MAX_DEFLATED_BYTES = 1 << 20

# Longer messages are compressed piece by piece: this takes 0.8 ms for JSON at level 1.
DEFLATED_AT_ONCE = 1 << 16

# A window of 4 KiB needs little time and memory, and compresses messages of a few KiB nearly as well as a larger one.
WINDOW_BITS = 12
SHORT_MESSAGE = 4096
"""Bytes of a message, before and after compression, up to which it is decompressed in one go."""
_MIN_WINDOW_BITS = 9  # zlib cannot write a raw stream with a window of 8 bits
_TAIL = b"\x00\x00\xff\xff"
# An attacker can fill data with blocks that give nothing, at a tenth of a microsecond for each byte. So a piece takes
# little of it: less than half a millisecond in any case.
_SLICE = 1 << 12
_FINAL_BLOCK = b"\x01\x00\x00\xff\xff"


class InflateError(Exception):
    """The compressed data is not a valid DEFLATE stream."""


class TooLarge(Exception):
    """The message would be longer than allowed after decompression."""


class Inflation:
    """A budget of bytes that one or more decoders may inflate for now. It is checked before each piece of a message.

    One MiB may be 1 KiB on the wire, and takes 2 to 10 ms to inflate. So a server shares one budget among many
    decoders, and refills it from time to time.
    """

    __slots__ = ("left",)

    def __init__(self, left: float = inf) -> None:
        self.left = left

    def spend(self, size: int) -> None:
        """Note that this number of bytes has been inflated."""
        self.left -= size

    def take(self, inflating: Inflating, most: int) -> bytes:
        """The next piece of a message, up to `most` bytes, at the expense of this budget."""
        piece = inflating.take(most)
        self.spend(len(piece))
        return piece

    def take_short(self, data: bytes) -> bytes | None:
        """`inflate_short`, at the expense of this budget."""
        message = inflate_short(data)
        if message is not None:
            self.spend(len(message))
        return message


class Deflating:
    """One message that is compressed piece by piece. Its length is that of the message before, and, from the first
    piece on, that of what has been made, and of the compressor. (`fairway.delivery.Unfinished`)
    """

    __slots__ = ("_compressor", "_data", "_held", "_level", "_opcode", "_pieces", "_position", "_window_bits")

    shrinks = True

    def __init__(self, opcode: int, data: bytes, level: int, window_bits: int) -> None:
        self._opcode = opcode
        self._data = data
        self._level = level
        self._window_bits = window_bits
        self._position = 0
        self._pieces: list[bytes] = []
        self._held = 0
        self._compressor: zlib._Compress | None = None  # many messages may wait, and it takes 40 KB

    def __len__(self) -> int:
        return len(self._data) + self._held

    def go_on(self, most: int) -> bytes | None:
        """Compress up to `most` bytes more. Return the frame once that was all: uncompressed unless that is longer."""
        data, compressor = self._data, self._compressor
        if compressor is None:
            compressor = self._compressor = _compressor(self._level, self._window_bits)
            self._held = compressor_bytes(self._window_bits)
        piece = memoryview(data)[self._position : self._position + most]
        self._position += len(piece)
        made = compressor.compress(piece)
        self._pieces.append(made)
        self._held += len(made)
        if self._position < len(data):
            return None
        self._pieces.append(compressor.flush(zlib.Z_SYNC_FLUSH)[: -len(_TAIL)])
        size = sum(map(len, self._pieces))
        if size < len(data):
            return b"".join((header(FIN | RSV1 | self._opcode, size), *self._pieces))
        return header(FIN | self._opcode, len(data)) + data


class DeflateEncoder:
    """Encodes messages as single frames. Messages from `min_bytes` up to `MAX_DEFLATED_BYTES` are compressed, if that
    makes them shorter.
    """

    __slots__ = ("level", "min_bytes", "window_bits")

    def __init__(self, level: int, min_bytes: int, window_bits: int) -> None:
        self.level = level
        self.min_bytes = min_bytes
        self.window_bits = window_bits

    def encode_text(self, text: str) -> bytes:
        return _whole(self.begin_text(text))

    def encode_bytes(self, data: bytes) -> bytes:
        return _whole(self.begin_bytes(data))

    def begin_text(self, text: str) -> bytes | Deflating:
        data = utf8(text)
        if self.min_bytes <= len(data) <= MAX_DEFLATED_BYTES:
            return self._begin(TEXT, data)
        return text_frame(data)

    def begin_bytes(self, data: bytes) -> bytes | Deflating:
        if self.min_bytes <= len(data) <= MAX_DEFLATED_BYTES:
            return self._begin(BINARY, data)
        return binary_frame(data)

    def _begin(self, opcode: int, data: bytes) -> bytes | Deflating:
        if len(data) > DEFLATED_AT_ONCE:
            return Deflating(opcode, data, self.level, self.window_bits)
        # Nearly all messages are short: for one of 100 bytes, going the way of the long ones would take a third longer.
        compressor = _compressor(self.level, self.window_bits)
        small = compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH)[: -len(_TAIL)]
        if len(small) < len(data):
            return header(FIN | RSV1 | opcode, len(small)) + small
        return header(FIN | opcode, len(data)) + data


def _compressor(level: int, window_bits: int) -> zlib._Compress:
    return zlib.compressobj(level, zlib.DEFLATED, -window_bits, window_bits - 7)


def compressor_bytes(window_bits: int) -> int:
    """Bytes of memory that a compressor takes: two tables that grow with the window (zlib's zconf.h), and itself."""
    return (1 << (window_bits + 2)) + (1 << (window_bits + 2)) + 6500


def _whole(frame: bytes | Deflating) -> bytes:
    while not isinstance(frame, bytes):
        frame = frame.go_on(len(frame)) or frame
    return frame


@lru_cache(maxsize=64)
def encoder(level: int, min_bytes: int, window_bits: int = WINDOW_BITS) -> DeflateEncoder:
    """The encoder for these parameters. Connections share it, so a payload is compressed only once for all of them."""
    return DeflateEncoder(level, min_bytes, window_bits)


def inflate_short(data: bytes) -> bytes | None:
    """Decompress a message of no more than `SHORT_MESSAGE` bytes. None if it is longer: that is for `Inflating`.

    Nearly all messages are short, and this takes half the time of `Inflating` (measured in bench/micro/websocket.py).
    Raises `InflateError` if the message is malformed.
    """
    if len(data) > SHORT_MESSAGE:
        return None
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        message = inflater.decompress(data + _TAIL, SHORT_MESSAGE + 1)
    except zlib.error as error:
        raise InflateError(str(error)) from None
    if len(message) > SHORT_MESSAGE:
        return None
    _check_end(inflater, b"", not data)
    return message


class Inflating:
    """One compressed message that is decompressed piece by piece.

    While `ended` is false, `take` returns the next piece. It raises `TooLarge` once the message has more than
    `max_bytes`, and `InflateError` if it is malformed. A compression bomb is harmless: no more than one byte beyond
    `max_bytes` is decompressed. Until it has ended, the message needs a window of 32 KiB.
    """

    __slots__ = ("_data", "_inflater", "_left", "_position", "ended")

    def __init__(self, data: bytes, max_bytes: int) -> None:
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        self._data = data + _TAIL
        self._position = 0  # up to which the inflater was given the data
        self._left = max_bytes + 1
        self.ended = False

    def take(self, most: int) -> bytes:
        """Decompress up to `most` bytes. Each call gets on with the message, though a piece may be empty."""
        most = min(most, self._left)
        # The inflater returns a copy of what it did not need. So it gets the data in slices: with all at once, the time
        # for a long message would grow with the square of its length.
        given = self._inflater.unconsumed_tail
        if not given:
            given = self._data[self._position : self._position + _SLICE]
            self._position += len(given)
        try:
            piece = self._inflater.decompress(given, most)
        except zlib.error as error:
            raise InflateError(str(error)) from None
        self._left -= len(piece)
        if not self._left:
            raise TooLarge
        if len(piece) < most and (self._inflater.eof or self._position >= len(self._data)):
            _check_end(self._inflater, self._data[self._position :], len(self._data) == len(_TAIL))
            self.ended = True
            self._data = b""
        return piece

    @property
    def held_bytes(self) -> int:
        """How many bytes of compressed data are kept: all of them, until the message has ended."""
        return len(self._data)


def _check_end(inflater: zlib._Decompress, rest: bytes, is_empty: bool) -> None:
    """Check that the message ends where a message may. `rest` was not given to the inflater."""
    if inflater.unused_data + rest not in (b"", _TAIL, b"\x00" + _TAIL):
        # A final block is allowed, with an empty block behind it (section 7.2.3.4), but it must be the last one.
        raise InflateError("data behind the final block")
    if not (is_empty or inflater.eof or _ends_with_a_block(inflater)):
        raise InflateError("the data ends inside a block")


def _ends_with_a_block(inflater: zlib._Decompress) -> bool:
    """Whether the data ends at the end of a block. Only then can a final empty block be read after it."""
    try:
        return not inflater.decompress(_FINAL_BLOCK) and inflater.eof
    except zlib.error:
        return False


def negotiate(offers: list[tuple[str, dict[str, str | None]]]) -> tuple[str, int] | None:
    """Accept the first acceptable offer. Return the value of Sec-WebSocket-Extensions for it, and our window bits.

    Offers with unknown, repeated or malformed parameters are declined (RFC 7692 section 7.1). None if no offer is
    acceptable: then the connection has no compression.
    """
    for name, parameters in offers:
        if name != EXTENSION:
            continue
        bits = _accept(parameters)
        if bits is None:
            continue
        answer = f"{EXTENSION}; server_no_context_takeover; client_no_context_takeover"
        if "server_max_window_bits" in parameters:
            answer += f"; server_max_window_bits={bits}"
        return answer, bits
    return None


def _accept(parameters: dict[str, str | None]) -> int | None:
    bits = WINDOW_BITS
    for name, value in parameters.items():
        if name in ("server_no_context_takeover", "client_no_context_takeover"):
            if value is not None:
                return None
        elif name == "server_max_window_bits":
            wanted = _window_bits(value)
            if wanted is None or wanted < _MIN_WINDOW_BITS:
                return None
            bits = min(bits, wanted)
        elif name == "client_max_window_bits":
            # Without context takeover, and with an inflate window of 32 KiB, the client may use any window.
            if value is not None and _window_bits(value) is None:
                return None
        else:
            return None
    return bits


def _window_bits(value: str | None) -> int | None:
    if value is None or not value.isascii() or not value.isdigit() or value.startswith("0"):
        return None
    bits = int(value) if len(value) <= 2 else 0
    return bits if 8 <= bits <= 15 else None
