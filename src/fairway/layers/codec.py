"""Messages as bytes, for backplanes: one byte that says what it is, then MessagePack.

A message arrives as it was sent, and so as the in-memory layer would hand it over: dates and times, UUIDs, decimals,
sets and large integers travel as extension types. Strings that are more than strings (`SafeString`, lazy translations,
`TextChoices`) arrive as plain `str`, other subclasses of built-in types as these, tuples as lists. Anything else is a
TypeError that names the place in the message.

The first byte holds the version of the format in its upper half. Processes of different releases may share a backplane:
what a process cannot read it drops and counts (`Undecodable`).

With keys all of it is encrypted (`encryption.py`), for the *place* that it is sent to: a subject, or a queue.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import sys
import uuid
from collections.abc import Callable, Mapping
from typing import Any

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
    """As JOIN."""
    DONE = 5
    """[ticket]: a JOIN or LEAVE was carried out."""
    FLUSH = 6
    """[]: forget all groups and messages."""
    FOLLOW = 7
    """[group, queue, seconds]: what is sent to the group goes to the queue as well."""
    UNFOLLOW = 8
    """[group, queue]"""


_OPTIONS = (
    ormsgpack.OPT_NON_STR_KEYS
    | ormsgpack.OPT_PASSTHROUGH_DATETIME
    | ormsgpack.OPT_PASSTHROUGH_UUID
    | ormsgpack.OPT_PASSTHROUGH_DATACLASS
    | ormsgpack.OPT_PASSTHROUGH_BIG_INT
)
_FIRST_BYTES = {kind: bytes([VERSION << 4 | kind]) for kind in Kind}
_KINDS = {VERSION << 4 | kind: kind for kind in Kind}

# By number on the wire: a type, how it is written and read. The first that matches; a datetime is a date, too.
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
# Subclasses of what MessagePack has, as which they are written.
_PLAIN = (float, bytes)


def place_of_queue(queue: str) -> str:
    """The place of a queue's messages; no subject is called so."""
    return f"queue {queue}"


class Codec:
    """Writes and reads messages of at most `max_size` bytes, encrypted if there is an `encryption`."""

    __slots__ = ("encryption", "max_size")

    def __init__(self, max_size: int, encryption: Encryption | None = None) -> None:
        self.max_size = max_size
        self.encryption = encryption

    def encode(self, kind: Kind, body: Any, place: str) -> bytes:
        """TypeError for what cannot be sent, `MessageTooLarge` for what is too large to be."""
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
        """What kind of message it is, and its body. `Undecodable` for everything that `encode` does not give."""
        if len(data) > self.max_size:
            raise Undecodable(f"it takes more than {self.max_size:,} bytes, which is max_message_size in this process")
        if self.encryption is not None:
            data = self.encryption.open(data, place)
        return _unpack(data)

    def reopened(self, message: dict[str, Any]) -> dict[str, Any]:
        """A message as it arrives elsewhere, without sending it."""
        decoded: dict[str, Any] = _unpack(self._within_bounds(_pack(Kind.EVENT, message)))[1]
        return decoded


def _pack(kind: Kind, body: Any) -> bytes:
    try:
        return _FIRST_BYTES[kind] + ormsgpack.packb(body, default=_extended, option=_OPTIONS)
    except (TypeError, ValueError) as error:
        raise TypeError(_complaint(body, kind) or f"the message cannot be sent: {error}") from error


def _unpack(data: bytes) -> tuple[Kind, Any]:
    kind = _KINDS.get(data[0]) if data else None
    if kind is None:
        raise Undecodable(_why_unknown(data))
    try:
        body = ormsgpack.unpackb(memoryview(data)[1:], ext_hook=_restored, option=ormsgpack.OPT_NON_STR_KEYS)
    except Exception as error:  # of whatever type: it reads what others have written
        raise Undecodable(f"the message cannot be read: {error}") from error
    if kind is Kind.EVENT and type(body) is not dict:
        raise Undecodable("the message is not an event")
    return kind, body


def _why_unknown(data: bytes) -> str:
    if data.startswith(MARK):
        return "it is encrypted, and this process has no symmetric_encryption_keys"
    version = data[0] >> 4 if data else 0
    return f"the message is of version {version}, and this release of Fairway reads {VERSION}"


def _extended(value: Any) -> Any:
    """What is written in the place of a value that MessagePack does not have. (ormsgpack's `default`)"""
    for number, kind, write, _ in _EXTENSIONS:
        if isinstance(value, kind):
            return ormsgpack.Ext(number, write(value).encode())
    if isinstance(value, set | frozenset):
        number = _SET if isinstance(value, set) else _FROZENSET
        return ormsgpack.Ext(number, ormsgpack.packb(list(value), default=_extended, option=_OPTIONS))
    if isinstance(value, tuple):
        return list(value)
    for plain in _PLAIN:
        if isinstance(value, plain):
            return plain(value)  # type: ignore[arg-type]
    if _is_lazy(value):
        return str(value)
    raise TypeError(f"a {type(value).__qualname__} cannot be sent")


def _restored(number: int, data: bytes) -> Any:
    """What an extension type stands for. (ormsgpack's `ext_hook`)"""
    if number in (_SET, _FROZENSET):
        items = ormsgpack.unpackb(data, ext_hook=_restored, option=ormsgpack.OPT_NON_STR_KEYS)
        return set(items) if number == _SET else frozenset(items)
    return _READERS[number](bytes(data).decode("ascii"))


def _is_lazy(value: object) -> bool:
    """Whether it is a translation of Django's that is yet to be made."""
    functional = sys.modules.get("django.utils.functional")
    return functional is not None and isinstance(value, functional.Promise)


def _complaint(body: Any, kind: Kind) -> str | None:
    """Where in the message stands what cannot be sent, in one sentence."""
    place = "event" if kind in (Kind.EVENT, Kind.DIRECT) else "message"
    message = body[1] if kind is Kind.DIRECT else body
    found = _culprit(message, place, 32)
    if found is None:
        return None
    where, value = found
    if isinstance(value, Mapping):
        return f"{where}: a key of it cannot be sent; use text, or numbers of at most 64 bits"
    if isinstance(value, str):
        return f"{where}: a text with lone surrogates cannot be sent; write it with errors='replace'"
    return f"{where}: a {type(value).__qualname__} cannot be sent; send its pk, or the plain values that matter"


def _culprit(value: Any, place: str, depth: int) -> tuple[str, Any] | None:
    if not depth:
        return None
    if isinstance(value, Mapping) or type(value) in (list, tuple, set, frozenset):
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, item in items:
            found = _culprit(item, f"{place}[{key!r}]", depth - 1)
            if found is not None:
                return found
    try:
        ormsgpack.packb(value, default=_extended, option=_OPTIONS)
    except (TypeError, ValueError):
        return place, value
    return None
