"""Reads the content of a request, which has a known length or comes in chunks.

Both classes have one method, `receive(data, pieces)`. It appends the content in `data` to `pieces`, and returns what is
left of `data`: the bytes behind the content if that `is_complete`, otherwise what was too much to take at once. If all
of `data` is content, it is not copied. Trailers are checked like header fields, and then dropped.
"""

from __future__ import annotations

import enum
import re

from fairway.protocols.http1.errors import RemoteProtocolError
from fairway.protocols.http1.fields import parse_line
from fairway.protocols.http1.lines import LineReader

# Limits of chunk sizes and chunk extensions. 16 digits are 64 bits. The others bound what the server has to read
# without getting content (as in CVE-2023-39326): for each line, and for a whole body, which may also have a sixteenth
# of its content in extensions.
MAX_CHUNK_SIZE_DIGITS = 16
MAX_CHUNK_LINE_BYTES = 1024
MAX_EXTENSION_BYTES = 16384
_EXTENSION_SHARE = 16

# How many chunks are taken at once. A peer may send chunks of one byte, and the caller has others to serve: this is
# an eighth of a millisecond. A line that is read by itself counts as several of them, because it takes as long.
CHUNKS_AT_ONCE = 256
_CHUNKS_PER_LINE = 4

# The bad white space (BWS) of RFC 9112 section 7.1.1 is refused: no sender may send it, and implementations disagree
# about its meaning.
_CHUNK_LINE = re.compile(
    rb"([0-9A-Fa-f]+)"
    rb"((?:;[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
    rb"(?:=(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
    rb'|"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*"))?)*)'
)

_PLAIN_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,%d})\r\n" % MAX_CHUNK_SIZE_DIGITS)

_LONG_CHUNK_LINE = (400, "chunk extensions are too long: RFC 9112 section 7.1.1")
_NO_CHUNK_END = (400, "chunk data is not followed by CRLF: RFC 9112 section 7.1")
_TOO_LARGE_TRAILERS = (431, "trailer section is too large: RFC 6585 section 5")


class LengthBody:
    """Content of a known length (RFC 9112 section 6.2)."""

    __slots__ = ("_remaining",)

    def __init__(self, length: int) -> None:
        self._remaining = length

    @property
    def is_complete(self) -> bool:
        """Whether all of the content has been taken."""
        return not self._remaining

    def receive(self, data: bytes, pieces: list[bytes]) -> bytes:
        """Take the content in `data`. Return the bytes behind it."""
        remaining = self._remaining
        if len(data) < remaining:
            self._remaining = remaining - len(data)
            pieces.append(data)
            return b""
        self._remaining = 0
        pieces.append(data[:remaining])
        return data[remaining:]


class ChunkState(enum.Enum):
    """What the next byte of a chunked body belongs to."""

    SIZE = enum.auto()
    DATA = enum.auto()
    DATA_END = enum.auto()
    TRAILERS = enum.auto()
    END = enum.auto()


# Globals, because CPython 3.11 takes 0.1 µs to look up an enum member in its class.
_SIZE, _DATA, _DATA_END, _TRAILERS, _END = ChunkState


class ChunkedBody:
    """Content in chunks (RFC 9112 section 7.1)."""

    __slots__ = (
        "_extension_bytes",
        "_lines",
        "_max_trailer_bytes",
        "_max_trailer_count",
        "_remaining",
        "_size",
        "_state",
        "_trailer_bytes",
        "_trailer_count",
    )

    def __init__(self, max_trailer_bytes: int, max_trailer_count: int) -> None:
        self._max_trailer_bytes = max_trailer_bytes
        self._max_trailer_count = max_trailer_count
        self._state = _SIZE
        self._lines = LineReader()
        self._remaining = 0
        self._size = 0
        self._extension_bytes = 0
        self._trailer_bytes = 0
        self._trailer_count = 0

    @property
    def is_complete(self) -> bool:
        """Whether all of the content has been taken, with its trailers."""
        return self._state is _END

    def receive(self, data: bytes, pieces: list[bytes]) -> bytes:
        """Take the content in `data`, but not much more than `CHUNKS_AT_ONCE` chunks. Return the rest of `data`: give
        it again, and more behind it, unless the content `is_complete`.

        Raises `RemoteProtocolError`. Then `pieces` holds the content before the fault.
        """
        position, room = 0, CHUNKS_AT_ONCE
        while position < len(data) and room > 0 and self._state is not _END:
            if self._state is _DATA:
                position = self._take_data(data, position, pieces)
                continue
            if self._state is _SIZE and self._lines.is_empty:
                taken = len(pieces)
                position = self._take_whole_chunks(data, position, pieces, taken + room)
                room -= len(pieces) - taken
                if position == len(data) or not room:
                    break
            line, position = self._take_line(data, position)
            room -= _CHUNKS_PER_LINE
            if line is None:
                break
            if self._state is _SIZE:
                self._begin_chunk(line)
            elif self._state is _DATA_END:
                self._state = _SIZE
            elif line:
                self._check_trailer(line)
            else:
                self._state = _END
        return data[position:]

    def _take_whole_chunks(self, data: bytes, position: int, pieces: list[bytes], most: int) -> int:
        """Take chunks that are complete and have no extensions, until there are `most` pieces. Stop at the first chunk
        that is different or malformed.

        This reads bodies of tiny chunks, which a peer may send to use up time, seven times as fast: 0.4 µs a chunk.
        """
        while len(pieces) < most and (match := _PLAIN_CHUNK_LINE.match(data, position)) is not None:
            start = match.end()
            size = int(match[1], 16)
            end = start + size
            if not size or data[end : end + 2] != b"\r\n":
                break
            pieces.append(data[start:end])
            self._size += size
            position = end + 2
        return position

    def _take_data(self, data: bytes, position: int, pieces: list[bytes]) -> int:
        end = position + self._remaining
        if end > len(data):
            end = len(data)
        else:
            self._state = _DATA_END
        # A slice of the whole is the object itself, not a copy.
        pieces.append(data[position:end])
        self._remaining -= end - position
        return end

    def _take_line(self, data: bytes, position: int) -> tuple[bytes | None, int]:
        if self._state is _SIZE:
            return self._lines.take(data, position, MAX_CHUNK_LINE_BYTES, _LONG_CHUNK_LINE)
        if self._state is _DATA_END:
            return self._lines.take(data, position, 0, _NO_CHUNK_END)
        limit = self._max_trailer_bytes - self._trailer_bytes - 2
        return self._lines.take(data, position, limit, _TOO_LARGE_TRAILERS)

    def _begin_chunk(self, line: bytes) -> None:
        match = _CHUNK_LINE.fullmatch(line)
        if match is None:
            raise RemoteProtocolError(400, "malformed chunk size or extension: RFC 9112 section 7.1")
        digits, extensions = match.groups()
        if len(digits) > MAX_CHUNK_SIZE_DIGITS:
            raise RemoteProtocolError(400, "chunk size has too many digits: RFC 9112 section 7.1")
        self._extension_bytes += len(extensions)
        if self._extension_bytes > MAX_EXTENSION_BYTES + self._size // _EXTENSION_SHARE:
            raise RemoteProtocolError(*_LONG_CHUNK_LINE)
        self._remaining = int(digits, 16)
        self._size += self._remaining
        self._state = _DATA if self._remaining else _TRAILERS

    def _check_trailer(self, line: bytes) -> None:
        self._trailer_bytes += len(line) + 2
        self._trailer_count += 1
        if self._trailer_count > self._max_trailer_count:
            raise RemoteProtocolError(431, "too many trailer fields: RFC 6585 section 5")
        parse_line(line)
