"""Cuts lines out of a byte stream that arrives in pieces of any size.

Used wherever HTTP/1.1 is made of lines: a head that did not arrive whole, chunk sizes, trailers. Every byte is
looked at once, however small the pieces are, and a line that is not finished is bounded by the caller's limit.
The first forbidden byte is reported at once and not at the end of the line, so a peer that ends its lines with
a bare LF, or speaks TLS to a plain port, is answered and not waited for.
"""

from __future__ import annotations

import re

from fairway.protocols.http1.errors import RemoteProtocolError

# All bytes that end a line or may not be in one: RFC 9110 section 5.5 forbids control characters except HTAB.
# 0x85 is obs-text by the RFC, but a line break to software that splits text as Unicode (CVE-2026-44546).
_STOP = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f\x85]")
_CR = 0x0D
_LF = 0x0A


class LineReader:
    """The unfinished line between two pieces of input."""

    __slots__ = ("_held", "_seen_cr")

    def __init__(self) -> None:
        self._held = bytearray()
        self._seen_cr = False

    @property
    def is_empty(self) -> bool:
        """Whether no unfinished line is held."""
        return not self._held and not self._seen_cr

    @property
    def held(self) -> bytes:
        """The unfinished line, as far as it has come."""
        return bytes(self._held)

    def take(self, data: bytes, start: int, limit: int, overflow: tuple[int, str]) -> tuple[bytes | None, int]:
        """Return the line that ends in `data` at or behind `start`, without its CRLF, and where it ends.

        `start` must be less than `len(data)`. The line is `None` if it goes on in the next piece. A line of
        more than `limit` bytes fails with `overflow`, a status and a reason.
        """
        held = self._held
        if self._seen_cr:
            if data[start] != _LF:
                raise _bare_cr()
            self._seen_cr = False
            line = bytes(held)
            held.clear()
            return line, start + 1
        stop = _STOP.search(data, start)
        end = len(data) if stop is None else stop.start()
        if len(held) + end - start > limit:
            raise RemoteProtocolError(*overflow)
        if stop is None:
            held += data[start:]
            return None, end
        if data[end] != _CR:
            raise _forbidden(data[end])
        if end + 1 == len(data):
            held += data[start:end]
            self._seen_cr = True
            return None, end + 1
        if data[end + 1] != _LF:
            raise _bare_cr()
        line = data[start:end]
        if held:
            line = bytes(held) + line
            held.clear()
        return line, end + 2


def _bare_cr() -> RemoteProtocolError:
    return RemoteProtocolError(400, "carriage return without line feed: RFC 9112 section 2.2")


def _forbidden(byte: int) -> RemoteProtocolError:
    if byte == _LF:
        return RemoteProtocolError(400, "line feed without carriage return: RFC 9112 section 2.2")
    return RemoteProtocolError(400, f"control character 0x{byte:02x}: RFC 9110 section 5.5")
