"""Splits a byte stream, which arrives in pieces of any size, into lines.

It reads heads that arrive in several pieces, chunk sizes and trailers. Each byte is examined once, however small the
pieces are. The caller's limit bounds the length of an incomplete line. A forbidden byte is reported at once, not at the
end of the line. So a peer that ends its lines with a bare LF, or speaks TLS to a plain port, gets its answer at once.
"""

from __future__ import annotations

import re

from fairway.protocols.http1.errors import RemoteProtocolError

# All bytes that end a line or are forbidden in it: RFC 9110 section 5.5 forbids control characters except HTAB. 0x85 is
# obs-text in the RFC, but a line break for software that splits text as Unicode (CVE-2026-44546).
_STOP = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f\x85]")
_CR = 0x0D
_LF = 0x0A


class LineReader:
    """Holds the incomplete line between two pieces of input."""

    __slots__ = ("_held", "_seen_cr")

    def __init__(self) -> None:
        self._held = bytearray()
        self._seen_cr = False

    @property
    def is_empty(self) -> bool:
        """Whether no incomplete line is held."""
        return not self._held and not self._seen_cr

    @property
    def length(self) -> int:
        """The length of the incomplete line, as far as it has arrived."""
        return len(self._held)

    @property
    def held(self) -> bytes:
        """The incomplete line, as far as it has arrived."""
        return bytes(self._held)

    def take(self, data: bytes, start: int, limit: int, overflow: tuple[int, str]) -> tuple[bytes | None, int]:
        """Return the next line without its CRLF, and the position in `data` behind it. Begin at `start`.

        `start` must be less than `len(data)`. The line is None if it continues in the next piece. Raises
        `RemoteProtocolError` for a forbidden byte, and with `overflow`, a status and a reason, for a line of more than
        `limit` bytes.
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
