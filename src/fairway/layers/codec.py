"""Messages as bytes, for backplanes: one byte for the kind, then MessagePack.

A message arrives as it was sent, just as the in-memory layer would deliver it. Dates and times, UUIDs, decimals, sets
and large integers travel as extension types. Subclasses of `str` (`SafeString`, lazy translations, `TextChoices`)
arrive as plain `str`, subclasses of other built-in types as those types, and tuples as lists. Anything else raises a
TypeError that names its place in the message.

The first byte holds the format's version in its upper half. Processes of different releases may share a backplane; a
message that a process cannot read is dropped and counted (`Undecodable`).

With keys, all of it is encrypted (`encryption.py`) for its *place*: the subject or queue that it is sent to.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import functools
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import ormsgpack

from fairway.layers.encryption import MARK, Encryption
from fairway.layers.errors import MessageTooLarge, Undecodable

VERSION = 1


class Kind(enum.IntEnum):
    """What a message is for."""

    EVENT = 0
    """The event of a `group_send`, or one in a queue."""
    BROADCAST = 1
    """[text or None, bytes or None, [excluded channel names]]"""
    DIRECT = 2
    """[channel name, event]"""
    JOIN = 3
    """[group, channel name, process that asks, ticket]"""
    LEAVE = 4
    """Like JOIN."""
    DONE = 5
    """[ticket]: a JOIN or LEAVE has been carried out. [ticket, why]: it has not."""
    FLUSH = 6
    """[]: forget all groups and messages."""
    FOLLOW = 7
    """[group, queue, seconds]: messages to the group also go to the queue."""
    UNFOLLOW = 8
    """[group, queue]"""
    ROUND = 9
    """[number]: goes from a process to itself, to measure how long that takes."""
    BROADCAST_JSON = 10
    """Like BROADCAST, with the text of a JSON object. If it is kept, its position is written into the text."""
    PRESENCE = 12
    """[process, term, since, number, {id: [person, data]}, [id]]: changes of who is present in a group."""
    DEPARTED = 13
    """[process, term]: nobody of this process is present any more."""
    ENTRY = 14
    """[person, data]: one who is present, in the store."""


EVENT: Final = Kind.EVENT
"""For code that runs with every message: before Python 3.12 the attribute of an enumeration is slow to look up."""

_OPTIONS = (
    ormsgpack.OPT_NON_STR_KEYS
    | ormsgpack.OPT_PASSTHROUGH_DATETIME
    | ormsgpack.OPT_PASSTHROUGH_UUID
    | ormsgpack.OPT_PASSTHROUGH_DATACLASS
    | ormsgpack.OPT_PASSTHROUGH_BIG_INT
)
_READING = ormsgpack.OPT_NON_STR_KEYS
_LONG = 8192  # bytes: for longer messages a view costs less than a copy

_FIRST_BYTES = {kind: bytes([VERSION << 4 | kind]) for kind in Kind}
_KINDS = {VERSION << 4 | kind: kind for kind in Kind}

# Number on the wire, type, how to write it, how to read it. The first match counts: a datetime is also a date.
_EXTENSIONS: tuple[tuple[int, type, Callable[[Any], str], Callable[[str], Any]], ...] = (
    (1, datetime.datetime, datetime.datetime.isoformat, datetime.datetime.fromisoformat),
    (2, datetime.date, datetime.date.isoformat, datetime.date.fromisoformat),
    (3, datetime.time, datetime.time.isoformat, datetime.time.fromisoformat),
    (
        4,
        datetime.timedelta,
        lambda delta: f"{delta.days} {delta.seconds} {delta.microseconds}",
        lambda text: datetime.timedelta(*map(int, text.split(" "))),
    ),
    (5, uuid.UUID, str, uuid.UUID),
    (6, decimal.Decimal, str, decimal.Decimal),
    (7, int, hex, lambda text: int(text, 16)),
)
_READERS = {number: read for number, _, _, read in _EXTENSIONS}
_SET, _FROZENSET = 8, 9
_DEEPEST = 3
"""How many sets may be within each other. Each is read on its own, so ormsgpack's bound of the depth is not enough."""

# Types whose subclasses are written as the type itself.
_PLAIN = (float, bytes)


def place_of_queue(queue: str) -> str:
    """The place of a queue's messages. No subject has a name like it."""
    return f"queue {queue}"


class Codec:
    """Writes and reads messages of at most `max_size` bytes. Any thread may call it."""

    __slots__ = ("encryption", "max_size")

    def __init__(self, max_size: int, encryption: Encryption | None = None) -> None:
        self.max_size = max_size
        self.encryption = encryption

    def encode(self, kind: Kind, body: Any, place: str) -> bytes:
        """The bytes of a message. Raises TypeError if it cannot be sent, `MessageTooLarge` if it is too large."""
        data = _pack(kind, body)
        if self.encryption is not None:
            data = self.encryption.seal(data, place)
        return self._within_bounds(data)

    def _within_bounds(self, data: bytes) -> bytes:
        if len(data) > self.max_size:
            raise MessageTooLarge(
                f"the message takes {len(data):,} bytes, and a channel layer carries {self.max_size:,}: send less, or "
                "a reference to it, or raise max_message_size in its CONFIG"
            )
        return data

    def decode(self, data: bytes, place: str) -> tuple[Kind, Any]:
        """The kind of a message and its body. Raises `Undecodable` for anything that `encode` did not make."""
        if len(data) > self.max_size:
            raise Undecodable(f"it takes more than {self.max_size:,} bytes, which is max_message_size in this process")
        if self.encryption is not None:
            data = self.encryption.open(data, place)
        return _unpack(data)

    def reopened(self, message: dict[str, Any]) -> dict[str, Any]:
        """The message as it would arrive in another process."""
        decoded: dict[str, Any] = _unpack(self._within_bounds(_pack(Kind.EVENT, message)))[1]
        return decoded

    def freeze(self, value: Any) -> bytes:
        """The bytes of a value that travels inside a message. Raises TypeError if it cannot be sent."""
        return _pack(Kind.ENTRY, value)

    def thaw(self, data: bytes) -> Any:
        """The value again. Raises `Undecodable` for anything that `freeze` did not make."""
        return _unpack(data)[1]


def _pack(kind: Kind, body: Any) -> bytes:
    try:
        return _FIRST_BYTES[kind] + ormsgpack.packb(body, default=_extended, option=_OPTIONS)
    except (TypeError, ValueError) as error:
        raise TypeError(_complaint(body, kind, error) or f"the message cannot be sent: {error}") from error


def _unpack(data: bytes) -> tuple[Kind, Any]:
    kind = _KINDS.get(data[0]) if data else None
    if kind is None:
        raise Undecodable(_why_unknown(data))
    try:
        rest = data[1:] if len(data) < _LONG else memoryview(data)[1:]
        body = ormsgpack.unpackb(rest, ext_hook=_restored, option=_READING)
    except Exception as error:  # of any type: the bytes may come from anybody
        raise Undecodable(f"the message cannot be read: {error}") from error
    if kind is EVENT and type(body) is not dict:
        raise Undecodable("the message is not an event")
    return kind, body


def _why_unknown(data: bytes) -> str:
    if data.startswith(MARK):
        return "it is encrypted, and this process has no symmetric_encryption_keys"
    version = data[0] >> 4 if data else 0
    return f"the message is of version {version}, and this release of Fairway reads {VERSION}"


def _extended(value: Any, depth: int = 0) -> Any:
    """What to write for a value that MessagePack has no type for. (ormsgpack's `default`)"""
    for number, kind, write, _ in _EXTENSIONS:
        if isinstance(value, kind):
            return ormsgpack.Ext(number, write(value).encode())
    if isinstance(value, set | frozenset) and depth < _DEEPEST:
        number = _SET if isinstance(value, set) else _FROZENSET
        default = functools.partial(_extended, depth=depth + 1)
        return ormsgpack.Ext(number, ormsgpack.packb(list(value), default=default, option=_OPTIONS))
    if isinstance(value, tuple):
        return list(value)
    for plain in _PLAIN:
        if isinstance(value, plain):
            return plain(value)  # type: ignore[arg-type]
    if _is_lazy(value):
        return str(value)
    raise TypeError(f"a {type(value).__qualname__} cannot be sent")


def _restored(number: int, data: bytes, depth: int = 0) -> Any:
    """The value of an extension type. (ormsgpack's `ext_hook`)"""
    if number in (_SET, _FROZENSET) and depth < _DEEPEST:
        items = ormsgpack.unpackb(data, ext_hook=functools.partial(_restored, depth=depth + 1), option=_READING)
        return set(items) if number == _SET else frozenset(items)
    return _READERS[number](bytes(data).decode("ascii"))


def _is_lazy(value: object) -> bool:
    """Whether it is one of Django's lazy translations."""
    functional = sys.modules.get("django.utils.functional")
    return functional is not None and isinstance(value, functional.Promise)


def _complaint(body: Any, kind: Kind, error: Exception) -> str | None:
    """One sentence about the part of the message that cannot be sent, and where it is. None if that is not found soon:
    a message of a client may have half a million parts.
    """
    place = "event" if kind in (Kind.EVENT, Kind.DIRECT) else "message"
    if "ecursion" in str(error):
        return f"{place}: it cannot be sent, because it is nested too deeply, or contains itself"
    message = body[1] if kind is Kind.DIRECT else body
    try:
        found = _culprit(message, place, 32, iter(range(_MOST_LOOKED_AT)))
    except _TooMany:
        return None
    if found is None:
        return None
    where, value = found
    if isinstance(value, Mapping):
        return f"{where}: a key of it cannot be sent; use text, or numbers of at most 64 bits"
    if isinstance(value, str):
        return f"{where}: a text with lone surrogates cannot be sent; write it with errors='replace'"
    return f"{where}: a {type(value).__qualname__} cannot be sent; send its pk, or the plain values that matter"


_MOST_LOOKED_AT = 1000


class _TooMany(Exception):
    """Enough parts of a message have been looked at."""


def _culprit(value: Any, place: str, depth: int, looks: Iterator[int]) -> tuple[str, Any] | None:
    if next(looks, None) is None:
        raise _TooMany
    if not depth:
        return None
    if isinstance(value, Mapping) or type(value) in (list, tuple, set, frozenset):
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, item in items:
            found = _culprit(item, f"{place}[{key!r}]", depth - 1, looks)
            if found is not None:
                return found
    try:
        ormsgpack.packb(value, default=_extended, option=_OPTIONS)
    except (TypeError, ValueError):
        return place, value
    return None
