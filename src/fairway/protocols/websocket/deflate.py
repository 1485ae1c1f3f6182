"""permessage-deflate (RFC 7692) that shares: no context takeover in either direction.

So a compressed message is the same bytes for every client that negotiated the same window, it is made once for all of
them, and no compressor or inflate window is kept per connection. Small messages stay uncompressed (section 6 leaves
that to the sender). Pure: negotiation, compression and decompression are functions of their arguments.
"""

from __future__ import annotations

import zlib
from functools import lru_cache
from math import inf

from fairway.protocols.websocket.frames import BINARY, FIN, RSV1, TEXT, binary_frame, header, text_frame

EXTENSION = "permessage-deflate"

# A longer message is sent as it is. Compressing takes 10 to 50 ms for each MiB, and everybody else waits for it.
MAX_DEFLATED_BYTES = 1 << 20

# A window of 4 KiB costs little time and memory and loses little on messages of a few KiB; it fits every client's
# window.
WINDOW_BITS = 12
_MIN_WINDOW_BITS = 9  # zlib cannot write a raw stream with a window of 8 bits
_TAIL = b"\x00\x00\xff\xff"
_FINAL_BLOCK = b"\x01\x00\x00\xff\xff"


class InflateError(Exception):
    """The compressed data is not a valid DEFLATE stream."""


class TooLarge(Exception):
    """The message would be longer than allowed after decompression."""


class Inflation:
    """How many bytes may be inflated for now, by one decoder or by many; a message that is begun is finished.

    Inflating takes up to 10 ms for a MiB that was 1 KiB on the wire, so whoever decodes for many shares one among them
    and refills it from time to time.
    """

    __slots__ = ("left",)

    def __init__(self, left: float = inf) -> None:
        self.left = left

    def spend(self, size: int) -> None:
        """So many bytes have been inflated."""
        self.left -= size


class DeflateEncoder:
    """Messages as single frames, compressed from `min_bytes` up to `MAX_DEFLATED_BYTES` where that makes them
    shorter."""

    __slots__ = ("level", "min_bytes", "window_bits")

    def __init__(self, level: int, min_bytes: int, window_bits: int) -> None:
        self.level = level
        self.min_bytes = min_bytes
        self.window_bits = window_bits

    def encode_text(self, text: str) -> bytes:
        data = text.encode()
        if self.min_bytes <= len(data) <= MAX_DEFLATED_BYTES:
            small = self._deflate(data)
            if len(small) < len(data):
                return header(FIN | RSV1 | TEXT, len(small)) + small
        return text_frame(data)

    def encode_bytes(self, data: bytes) -> bytes:
        if self.min_bytes <= len(data) <= MAX_DEFLATED_BYTES:
            small = self._deflate(data)
            if len(small) < len(data):
                return header(FIN | RSV1 | BINARY, len(small)) + small
        return binary_frame(data)

    def _deflate(self, data: bytes) -> bytes:
        compressor = zlib.compressobj(self.level, zlib.DEFLATED, -self.window_bits, self.window_bits - 7)
        return compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH)[: -len(_TAIL)]


@lru_cache(maxsize=64)
def encoder(level: int, min_bytes: int, window_bits: int = WINDOW_BITS) -> DeflateEncoder:
    """The one encoder for these parameters: sharing it is what lets payloads be compressed once."""
    return DeflateEncoder(level, min_bytes, window_bits)


def inflate(data: bytes, max_bytes: int) -> bytes:
    """The decompressed message; never holds more than `max_bytes` + 1 of it (a compression bomb ends there)."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        message = inflater.decompress(data + _TAIL, max_bytes + 1)
    except zlib.error as error:
        raise InflateError(str(error)) from None
    if len(message) > max_bytes or inflater.unconsumed_tail:
        raise TooLarge
    if inflater.unused_data not in (b"", _TAIL, b"\x00" + _TAIL):
        # A final block is allowed (section 7.2.3.4, with an empty block behind it), but must end the message.
        raise InflateError("data behind the final block")
    if data and not inflater.eof and not _ends_with_a_block(inflater):
        raise InflateError("the data ends inside a block")
    return message


def _ends_with_a_block(inflater: zlib._Decompress) -> bool:
    """Whether the data so far was cut at the end of a block: only there a final empty block can be read."""
    try:
        return not inflater.decompress(_FINAL_BLOCK) and inflater.eof
    except zlib.error:
        return False


def negotiate(offers: list[tuple[str, dict[str, str | None]]]) -> tuple[str, int] | None:
    """The answer to the first acceptable offer, as the value of Sec-WebSocket-Extensions, and our window bits.

    An offer with an unknown, repeated or malformed parameter is declined (RFC 7692 section 7.1), the next one is
    looked at; None: go on without compression.
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
            # Without context takeover and with an inflate window of 32 KiB any window of the client is fine.
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
