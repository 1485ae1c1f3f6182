"""Encodes field blocks (RFC 7541 section 6) without a dynamic table.

So a block has the same bytes on every connection. It can be kept, and blocks may be sent in any order. There is no
state for each peer, and nobody can learn a secret from how well it compresses (section 7.1). Strings are sent in plain:
the Huffman code would save a fifth of their bytes, but cost more than the rest of the response.
"""

from __future__ import annotations

from collections.abc import Iterable

from fairway.protocols.http.request import Header
from fairway.protocols.http2.hpack.tables import STATIC_TABLE

SHRINK = b"\x20"
"""Says that our table is empty. RFC 7541 section 4.2 requires it at the beginning of a block after the peer has asked
for a smaller table, even though nothing was ever in ours.
"""

# Fields about one person: no intermediary may put them into a table (RFC 7541 section 7.1.3).
SENSITIVE_NAMES = frozenset((b"set-cookie", b"authorization", b"proxy-authorization", b"cookie"))

_NEVER_INDEXED = 0x10
_INDEXES: dict[bytes, int] = {}
_WHOLE: dict[Header, bytes] = {}
for _index, _field in enumerate(STATIC_TABLE, 1):
    _INDEXES.setdefault(_field[0], _index)
    if _field[1]:
        _WHOLE[_field] = bytes((0x80 | _index,))


def _integer(value: int, bits: int, flags: int) -> bytes:
    """An encoded integer (RFC 7541 section 5.1)."""
    mask = (1 << bits) - 1
    if value < mask:
        return bytes((flags | value,))
    data = bytearray((flags | mask,))
    value -= mask
    while value >= 0x80:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    data.append(value)
    return bytes(data)


_LENGTHS = [_integer(length, 7, 0) for length in range(256)]


def _string(text: bytes) -> bytes:
    length = len(text)
    return (_LENGTHS[length] if length < 256 else _integer(length, 7, 0)) + text


def _name(name: bytes) -> bytes:
    flags = _NEVER_INDEXED if name in SENSITIVE_NAMES else 0
    index = _INDEXES.get(name)
    return bytes((flags,)) + _string(name) if index is None else _integer(index, 4, flags)


_NAMES = {name: _name(name) for name in _INDEXES}


def encode(fields: Iterable[Header]) -> bytes:
    """Return the block of these fields. Their names must be in lower case."""
    parts = []
    for field in fields:
        whole = _WHOLE.get(field)
        if whole is None:
            name, value = field
            parts.append((_NAMES.get(name) or _name(name)) + _string(value))
        else:
            parts.append(whole)
    return b"".join(parts)
