"""The peer's field blocks: joined from their frames, decoded, and turned into requests.

A browser often sends the same block for many requests, and it means the same while the table has not changed. So the
last request is kept, and an equal block costs one comparison and a copy of the headers.
"""

from __future__ import annotations

from typing import Any, NoReturn

from fairway.protocols.http.request import Headers
from fairway.protocols.http2.errors import ConnectionFault, ErrorCode
from fairway.protocols.http2.events import RequestHead
from fairway.protocols.http2.fields import Entry
from fairway.protocols.http2.hpack.decoder import CompressionError, Decoder, FieldsTooLarge
from fairway.protocols.http2.limits import Http2Limits
from fairway.protocols.http2.request import Refused, check_trailers, make_head

_new_tuple = tuple.__new__

_NO_HEADERS: Headers = []

# Keeping a request keeps its fields alive, so large ones are not kept.
_MAX_KEPT_BYTES = 4096


class PartialBlock:
    """A field block without END_HEADERS so far: the next frame must be its CONTINUATION (RFC 9113 section 6.10)."""

    __slots__ = ("_parts", "ended", "is_circular", "number")

    def __init__(self, number: int, ended: bool, is_circular: bool, fragment: bytes) -> None:
        self.number = number
        self.ended = ended
        self.is_circular = is_circular
        self._parts = [fragment]

    def add(self, fragment: bytes, most: int) -> None:
        # Frames are counted, not bytes, because empty frames without end would cost us too.
        if len(self._parts) > most:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too many CONTINUATIONs: RFC 9113 section 10.5")
        self._parts.append(fragment)

    @property
    def size(self) -> int:
        """How many bytes have arrived."""
        return sum(map(len, self._parts))

    def whole(self) -> bytes:
        return b"".join(self._parts)


class HeadReader:
    """Decodes every block in the order of arrival, wanted or not, because each may refer to those before it."""

    __slots__ = ("_block", "_fixed", "_headers", "_limits", "_version", "decoder", "partial")

    partial: PartialBlock | None

    def __init__(self, limits: Http2Limits) -> None:
        self._limits = limits
        self.decoder = Decoder()
        self.partial = None
        self._block = b""  # the last request's block, and the table's version at that time; -1 is never a version
        self._version = -1
        self._fixed: tuple[Any, ...] = ()
        self._headers = _NO_HEADERS

    def read(self, block: bytes, ended: bool) -> RequestHead | Refused:
        """Make a block's request. Raises `StreamFault` if it is malformed, `ConnectionFault` if it is undecodable."""
        decoder = self.decoder
        if block == self._block and ended and decoder.version == self._version:
            # Not `RequestHead(...)`, which would take twice as long.
            return _new_tuple(RequestHead, (*self._fixed, self._headers[:]))
        version = decoder.version
        headers: Headers = []
        special: list[Entry] = []
        size = self._decode(block, headers, special)
        head = make_head(headers, special, size, ended, self._limits)
        if ended and decoder.version == version and size <= _MAX_KEPT_BYTES and type(head) is RequestHead:
            self._block = block
            self._version = version
            self._fixed = head[:-1]
            self._headers = headers[:]
        return head

    def skip(self, block: bytes) -> None:
        """Decode a block that is of no interest."""
        self._decode(block, [], [])

    def check_trailers(self, block: bytes) -> None:
        headers: Headers = []
        special: list[Entry] = []
        size = self._decode(block, headers, special)
        check_trailers(headers, special, size, self._limits)

    def _decode(self, block: bytes, headers: Headers, special: list[Entry]) -> int:
        try:
            return self.decoder.decode(block, headers, special, 2 * self._limits.max_header_bytes)
        except CompressionError as error:
            self._fail(ErrorCode.COMPRESSION_ERROR, str(error))
        except FieldsTooLarge:
            self._fail(ErrorCode.ENHANCE_YOUR_CALM, "fields more than twice too large: RFC 9113 section 10.5.1")

    def _fail(self, code: ErrorCode, reason: str) -> NoReturn:
        raise ConnectionFault(code, reason) from None
