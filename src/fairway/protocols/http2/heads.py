"""Field blocks of the peer: put together from their frames, decoded, and made a request.

A browser sends the same block for each of many requests, and it means the same as long as the table has not changed. So
the last request is kept, and a block that is equal to its costs a comparison and a copy of the headers.
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

# A request that is kept keeps its fields alive, so a large one is not.
_MAX_KEPT_BYTES = 4096


class PartialBlock:
    """A field block whose END_HEADERS has not come: only its CONTINUATION may come now (RFC 9113 section 6.10)."""

    __slots__ = ("_parts", "ended", "is_circular", "number")

    def __init__(self, number: int, ended: bool, is_circular: bool, fragment: bytes) -> None:
        self.number = number
        self.ended = ended
        self.is_circular = is_circular
        self._parts = [fragment]

    def add(self, fragment: bytes, most: int) -> None:
        # Frames are counted, not bytes: empty ones would cost without end, too.
        if len(self._parts) > most:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too many CONTINUATIONs: RFC 9113 section 10.5")
        self._parts.append(fragment)

    def whole(self) -> bytes:
        return b"".join(self._parts)


class HeadReader:
    """Decodes every block in the order in which they come, wanted or not: each may refer to the ones before it."""

    __slots__ = ("_block", "_fixed", "_headers", "_limits", "_version", "decoder", "partial")

    partial: PartialBlock | None

    def __init__(self, limits: Http2Limits) -> None:
        self._limits = limits
        self.decoder = Decoder()
        self.partial = None
        self._block = b""  # of the last request, and at which version of the table it came: at none yet
        self._version = -1
        self._fixed: tuple[Any, ...] = ()
        self._headers = _NO_HEADERS

    def read(self, block: bytes, ended: bool) -> RequestHead | Refused:
        """Make the request of a block. `StreamFault` if it is malformed, `ConnectionFault` if it cannot be decoded."""
        decoder = self.decoder
        if block == self._block and ended and decoder.version == self._version:
            # Not RequestHead(…): a call in Python would take twice as long.
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
