"""Decodes field blocks (RFC 7541 sections 3 and 6), with a dynamic table for each connection.

Decoding yields entries (`fairway.protocols.http2.fields`). Regular fields go straight into the headers.

A block that is too large is decoded all the same, up to `most`, because the next block refers to the table that this
one leaves behind. The table is bounded by its capacity, against which each field counts 32 bytes more than its length.
In Python objects, the most that fits into 4,096 bytes takes about 30 KB. Connections share the entries of fields that
many clients send.
"""

from __future__ import annotations

from fairway.protocols.http.fields import KNOWN_NAMES, SHARED_NAMES
from fairway.protocols.http.request import Headers
from fairway.protocols.http2.fields import COOKIE, FIRST_PSEUDO, LATE_PSEUDO, MALFORMED, Entry, make_entry
from fairway.protocols.http2.hpack import huffman
from fairway.protocols.http2.hpack.tables import STATIC_TABLE

DEFAULT_CAPACITY = 4096
"""The capacity of a table if no SETTINGS frame says otherwise (RFC 9113 section 6.5.2)."""

# RFC 7541 section 5.1 asks for a limit. Nothing legitimate needs an integer of more than 28 bits.
_MAX_INTEGER_BITS = 28

# At most two: to the smallest capacity since the last block, and to the current one (section 4.2).
_MAX_CHANGES = 2

# Index 0 stands for nothing. It is refused where it occurs.
_STATIC: list[Entry] = [make_entry(b"", b""), *(make_entry(name, value) for name, value in STATIC_TABLE)]
_LAST_STATIC = len(STATIC_TABLE)

# Entries that many connections share: by name, and then by the value as encoded in a block, length included.
# Both number and size are bounded. When a name has too many entries, all entries of that name are forgotten.
_MAX_SHARED_BYTES = 256
_MAX_SHARED = 64
_MAX_PATHS = 512
_MAX_PATH_BYTES = 128
_shared: dict[bytes, dict[bytes, Entry]] = {
    name: {} for name in (*SHARED_NAMES, b":authority", b":method", b":path", b":scheme")
}
# Well-known names by their encoded form. Only forms that are no longer than the plain one are kept: one or two each.
_shared_names: dict[bytes, bytes] = {}

_CUT_OFF = "a string beyond the end of its block: RFC 7541 section 5.2"


class CompressionError(Exception):
    """The block cannot be decoded, so the tables of the two sides may differ from now on (RFC 9113 section 4.3)."""


class FieldsTooLarge(Exception):
    """The fields are so much larger than allowed that decoding was given up."""


class Decoder:
    """The peer's table. It must not be used again after an exception."""

    __slots__ = ("_capacity", "_dynamic", "_limit", "_must_shrink", "size", "version")

    size: int
    """The size of the table, as RFC 7541 section 4.1 counts."""

    version: int
    """Changes with the table and its limit. Until then, a block that has not changed it means the same again."""

    def __init__(self) -> None:
        self._capacity = self._limit = DEFAULT_CAPACITY
        self._must_shrink = False
        self.size = 0
        self.version = 0
        # The newest entry comes last: index 62 is the last entry, 63 the one before it.
        self._dynamic: list[Entry] = []

    def set_limit(self, limit: int) -> None:
        """The peer has acknowledged our SETTINGS_HEADER_TABLE_SIZE.

        If its table is larger than that, its next block must begin with a smaller capacity (RFC 7541 section 4.2).
        """
        self._limit = limit
        self._must_shrink = self._capacity > limit
        self.version += 1

    def decode(self, block: bytes, headers: Headers, special: list[Entry], most: int) -> int:
        """Decode a whole block: regular fields into `headers`, entries of all others into `special`. Return the size.

        Both lists keep the order of the block. A pseudo-header field behind a regular field adds a malformed entry.
        Raises `CompressionError` if the block cannot be decoded, and `FieldsTooLarge` if the size is above `most`.
        """
        dynamic = self._dynamic
        size = position = changes = 0
        end = len(block)
        if self._must_shrink and not (end and 0x20 <= block[0] < 0x40):
            raise CompressionError("the table was not made smaller: RFC 7541 section 4.2")
        try:
            while position < end:
                byte = block[position]
                position += 1
                if byte >= 0x80:  # an indexed field: section 6.1
                    index = byte & 0x7F
                    if index == 0x7F:
                        index, position = _integer(block, position, index)
                    if index > _LAST_STATIC:
                        entry = dynamic[_LAST_STATIC - index]
                    elif index:
                        entry = _STATIC[index]
                    else:
                        raise CompressionError("index 0: RFC 7541 section 6.1")
                elif byte >= 0x40:  # a literal that enters the table: section 6.2.1
                    entry, position = self._literal(block, position, byte & 0x3F, 0x3F)
                    self._insert(entry)
                elif byte >= 0x20:  # another capacity: section 6.3
                    capacity, position = _integer(block, position, 0x1F) if byte == 0x3F else (byte & 0x1F, position)
                    changes += 1
                    if size or changes > _MAX_CHANGES:
                        raise CompressionError("a change of the table behind a field, or a third: RFC 7541 section 4.2")
                    self._resize(capacity)
                    continue
                else:  # a literal that does not: sections 6.2.2 and 6.2.3
                    entry, position = self._literal(block, position, byte & 0x0F, 0x0F)
                kind, field, field_size, _ = entry
                size += field_size
                if size > most:  # before the next field is looked at, of whatever kind this one is
                    raise FieldsTooLarge
                if not kind:
                    headers.append(field)
                    continue
                special.append(entry)
                if kind < COOKIE:
                    headers.append(field)
                elif headers and FIRST_PSEUDO <= kind < MALFORMED:
                    special.append(LATE_PSEUDO)
        except IndexError:
            reason = "an index beyond the table, or a block that ends too early: RFC 7541 section 2.3.3"
            raise CompressionError(reason) from None
        return size

    def _literal(self, block: bytes, position: int, index: int, mask: int) -> tuple[Entry, int]:
        if index == mask:
            index, position = _integer(block, position, index)
        if index > _LAST_STATIC:
            name = self._dynamic[_LAST_STATIC - index][1][0]
        elif index:
            name = _STATIC[index][1][0]
        else:
            begin = position
            position = _end_of_string(block, position)
            raw = block[begin:position]
            known_name = _shared_names.get(raw)
            name = _name(raw) if known_name is None else known_name
        begin = position
        # `_end_of_string`, inlined for the usual case.
        length = block[position] & 0x7F
        position = position + 1 + length if length != 0x7F else _end_of_string(block, position)
        if position > len(block):
            raise CompressionError(_CUT_OFF)
        raw = block[begin:position]
        known = _shared.get(name)
        if known is None:
            entry = make_entry(name, _text(raw))
        else:
            shared = known.get(raw)
            if shared is not None:
                return shared, position
            entry = make_entry(name, _text(raw))
            _share(known, raw, entry)
        return entry, position

    def _insert(self, entry: Entry) -> None:
        self._dynamic.append(entry)
        self.size += entry[2]
        self.version += 1
        if self.size > self._capacity:
            self._evict()

    def _resize(self, capacity: int) -> None:
        if capacity > self._limit:
            raise CompressionError("a table larger than allowed: RFC 7541 section 6.3")
        self._must_shrink = False
        self._capacity = capacity
        self.version += 1
        self._evict()

    def _evict(self) -> None:
        # An entry that is larger than the table leaves the table empty: section 4.4.
        count = 0
        while self.size > self._capacity:
            self.size -= self._dynamic[count][2]
            count += 1
        del self._dynamic[:count]


def _integer(block: bytes, position: int, value: int) -> tuple[int, int]:
    """Read on after a full prefix `value` (RFC 7541 section 5.1). Returns the integer, and the position behind it."""
    for shift in range(0, _MAX_INTEGER_BITS + 1, 7):
        byte = block[position]
        position += 1
        value += (byte & 0x7F) << shift
        if byte < 0x80:
            break
    if byte >= 0x80 or value >= 1 << _MAX_INTEGER_BITS:
        raise CompressionError("an integer that is too large: RFC 7541 section 5.1")
    return value, position


def _end_of_string(block: bytes, position: int) -> int:
    length = block[position] & 0x7F
    position += 1
    if length == 0x7F:
        length, position = _integer(block, position, length)
    if position + length > len(block):
        raise CompressionError(_CUT_OFF)
    return position + length


def _text(raw: bytes) -> bytes:
    """The text of an encoded string, which begins with its length (RFC 7541 section 5.2)."""
    begin = 1 if raw[0] & 0x7F != 0x7F else _integer(raw, 1, 0x7F)[1]
    if not raw[0] & 0x80:
        return raw[begin:]
    try:
        return huffman.decode(raw[begin:])
    except ValueError as error:
        raise CompressionError(f"{error}: RFC 7541 section 5.2") from None


def _name(raw: bytes) -> bytes:
    text = _text(raw)
    name = KNOWN_NAMES.get(text)
    if name != text:
        return text
    if len(raw) <= len(name) + 1:
        _shared_names[raw] = name
    return name


def _share(known: dict[bytes, Entry], raw: bytes, entry: Entry) -> None:
    if len(raw) > _MAX_SHARED_BYTES:
        return
    most = _MAX_SHARED
    name, value = entry[1]
    if name == b":path":
        # The same query seldom comes twice, and it may hold a secret.
        if len(value) > _MAX_PATH_BYTES or b"?" in value:
            return
        most = _MAX_PATHS
    if len(known) >= most:
        known.clear()
    known[raw] = entry
