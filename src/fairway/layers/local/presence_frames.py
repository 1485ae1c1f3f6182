"""What processes say to their broker about presence, and its answers: leases, and who is present. Pure.

Each function makes the frame of an operation (`protocol.py`), and its twin `read_...` reads the body.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping

from fairway.layers.backplane import Departed, Present
from fairway.layers.local.fields import NUMBER, ProtocolError, name_at, plausible, short, unpacked
from fairway.layers.local.protocol import Answer, Ask, frame

_RENEW = struct.Struct("!Iddd??")
_TERM = struct.Struct("!I")


def renew(process: str, term: int, ttl: float, linger: float, swept_within: float, begins: bool, judges: bool) -> bytes:
    """Renew the lease of a term, or begin one. If the connection ends, the lease does so `linger` seconds later.

    Who `judges` is told of processes that have departed, and sweeps each within some seconds.
    """
    return frame(Ask.RENEW, process, _RENEW.pack(term, ttl, linger, swept_within, begins, judges))


def read_renew(body: bytes) -> tuple[int, float, float, float, bool, bool]:
    """Term, duration, linger, the time to sweep others; whether the term begins, and whether it judges others."""
    term, ttl, linger, swept_within, begins, judges = unpacked(_RENEW, body, whole=True)
    return term, plausible(ttl), plausible(linger), plausible(swept_within), begins, judges


def renewed(stood: bool, departed: Iterable[Departed]) -> bytes:
    rows = (short(one.process) + _TERM.pack(one.term) for one in departed)
    return frame(Answer.RENEWED, body=bytes([stood]) + b"".join(rows))


def read_renewed(body: bytes) -> tuple[bool, list[Departed]]:
    """Whether the lease stood, and who has departed."""
    if not body:
        raise ProtocolError("an empty body")
    departed, position = [], 1
    while position < len(body):
        process, position = name_at(body, position)
        (term,) = unpacked(_TERM, body[position : position + _TERM.size])
        departed.append(Departed(process, term))
        position += _TERM.size
    return bool(body[0]), departed


def enter(subject: str, term: int, entries: Mapping[str, bytes]) -> bytes:
    """Raises ValueError if that is too much for one frame."""
    return frame(Ask.ENTER, subject, _TERM.pack(term) + _entries(entries))


def read_enter(body: bytes) -> tuple[int, dict[str, bytes]]:
    """The term, and who is present."""
    return unpacked(_TERM, body)[0], _read_entries(body, _TERM.size, len(body))


def depart(subject: str, term: int, keys: Iterable[str]) -> bytes:
    return frame(Ask.DEPART, subject, _TERM.pack(term) + b"".join(map(short, keys)))


def read_depart(body: bytes) -> tuple[int, list[str]]:
    """The term, and who is not present any more."""
    keys, position = [], _TERM.size
    while position < len(body):
        key, position = name_at(body, position)
        keys.append(key)
    return unpacked(_TERM, body)[0], keys


def sweep(process: str, term: int) -> bytes:
    return frame(Ask.SWEEP, process, _TERM.pack(term))


def read_sweep(body: bytes) -> int:
    """The term to sweep."""
    term: int = unpacked(_TERM, body, whole=True)[0]
    return term


def listed(present: Iterable[Present]) -> bytes:
    """Raises ValueError if that is too much for one frame."""
    rows = []
    for one in present:
        entries = _entries(one.entries)
        rows.append(short(one.process) + _TERM.pack(one.term) + NUMBER.pack(len(entries)) + entries)
    return frame(Answer.LISTED, body=b"".join(rows))


def read_listed(body: bytes) -> list[Present]:
    """Who is present in which process."""
    found, position = [], 0
    while position < len(body):
        process, position = name_at(body, position)
        (term,) = unpacked(_TERM, body[position : position + _TERM.size])
        (length,) = unpacked(NUMBER, body[position + _TERM.size : position + _TERM.size + NUMBER.size])
        begin = position + _TERM.size + NUMBER.size
        position = begin + length
        found.append(Present(process, term, _read_entries(body, begin, position)))
    return found


def _entries(entries: Mapping[str, bytes]) -> bytes:
    return b"".join(short(key) + NUMBER.pack(len(data)) + data for key, data in entries.items())


def _read_entries(body: bytes, position: int, end: int) -> dict[str, bytes]:
    if end > len(body):
        raise ProtocolError("entries that are cut off")
    entries = {}
    while position < end:
        key, position = name_at(body, position)
        (length,) = unpacked(NUMBER, body[position : position + NUMBER.size])
        position += NUMBER.size
        if position + length > end:
            raise ProtocolError("an entry that is cut off")
        entries[key] = body[position : position + length]
        position += length
    return entries
