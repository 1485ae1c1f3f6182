"""What processes say to their broker about histories, its answers, and what it hands over to a successor. Pure.

Each function makes the frame of an operation (`protocol.py`), and its twin `read_...` reads the body.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from fairway.layers.backplane import Keep, Kept, Page, Position
from fairway.layers.local.fields import SECONDS, ProtocolError, ascii_of, name_at, plausible, text_of, unpacked
from fairway.layers.local.protocol import Answer, Ask, frame

_APPEND = struct.Struct("!IdH")
_READ = struct.Struct("!BIdQ")
_PAGE = struct.Struct("!BQQB")
_KEPT = struct.Struct("!QdQI")
_HANDED_OVER = struct.Struct("!dQdQ")
_UNTIL = struct.Struct("!dB")
_ALL, _TIME, _POSITION = range(3)


def append(subject: str, data: bytes, keep: Keep, key: str) -> bytes:
    """Publish and keep a message, once for each key that is not empty."""
    encoded = key.encode()
    return frame(Ask.APPEND, subject, _APPEND.pack(keep.size, keep.seconds, len(encoded)) + encoded + data)


def read_append(body: bytes) -> tuple[bytes, Keep, str]:
    """Data, how much is kept, and the key."""
    size, seconds, length = unpacked(_APPEND, body)
    begin = _APPEND.size + length
    if not size or begin > len(body):
        raise ProtocolError("a message that is kept in no way")
    return body[begin:], Keep(size, plausible(seconds)), text_of(body[_APPEND.size : begin])


def read(subject: str, after: Position | float | None, limit: int) -> bytes:
    """Ask for at most `limit` messages after a position, after a time, or all that are kept."""
    kind, time, offset, epoch = _ALL, 0.0, 0, ""
    if isinstance(after, Position):
        kind, offset, epoch = _POSITION, after.offset, after.epoch
    elif after is not None:
        kind, time = _TIME, after
    return frame(Ask.READ, subject, _READ.pack(kind, min(limit, 2**32 - 1), time, offset) + epoch.encode("ascii"))


def read_read(body: bytes) -> tuple[Position | float | None, int]:
    """After what to read, and how many messages at most."""
    kind, limit, time, offset = unpacked(_READ, body)
    if kind == _ALL:
        return None, limit
    if kind == _TIME:
        return plausible(time), limit
    return Position(ascii_of(body[_READ.size :]), offset), limit


def position(place: Position, is_new: bool = True) -> bytes:
    """Where a message is. If it is not new, another one with its key is there."""
    return frame(Answer.POSITION if is_new else Answer.REPEATED, body=str(place).encode("ascii"))


def read_position(body: bytes) -> Position:
    """A position."""
    place = Position.read(ascii_of(body))
    if place is None:
        raise ProtocolError("a position that is none")
    return place


def positions(places: Iterable[Position]) -> bytes:
    texts = (str(place).encode("ascii") for place in places)
    return frame(Answer.POSITIONS, body=b"".join(bytes([len(text)]) + text for text in texts))


def read_positions(body: bytes) -> list[Position]:
    """Positions."""
    found, at = [], 0
    while at < len(body):
        text, at = name_at(body, at)
        found.append(read_position(text.encode("ascii")))
    return found


def page(found: Page[bytes]) -> bytes:
    """A part of a history."""
    epoch = found.top.epoch.encode("ascii")
    parts = [_PAGE.pack(found.is_complete, found.began, found.top.offset, len(epoch)), epoch]
    for kept in found.messages:
        parts += (_KEPT.pack(kept.position.offset, kept.at, kept.previous, len(kept.data)), kept.data)
    return frame(Answer.PAGE, body=b"".join(parts))


def read_page(body: bytes) -> Page[bytes]:
    """A part of a history."""
    is_complete, began, top, length = unpacked(_PAGE, body)
    at = _PAGE.size + length
    epoch = ascii_of(body[_PAGE.size : at])
    messages = []
    while at < len(body):
        offset, time, previous, size = unpacked(_KEPT, body[at : at + _KEPT.size])
        at += _KEPT.size
        if at + size > len(body):
            raise ProtocolError("a message that is cut off")
        messages.append(Kept(body[at : at + size], Position(epoch, offset), time, previous))
        at += size
    return Page(messages, Position(epoch, top), bool(is_complete), began)


def epoch(subject: str, top: Position, seconds: float) -> bytes:
    """A history, and the number of seconds for which its epoch is still kept."""
    return frame(Answer.EPOCH, subject, SECONDS.pack(max(seconds, 0.0)) + str(top).encode("ascii"))


def read_epoch(body: bytes) -> tuple[float, Position]:
    """For how many seconds an epoch is kept, and its newest position."""
    return plausible(unpacked(SECONDS, body)[0]), read_position(body[SECONDS.size :])


def kept(subject: str, seconds: float, message: Kept[bytes]) -> bytes:
    """A message of a history, and the number of seconds for which it is still kept."""
    place = _HANDED_OVER.pack(max(seconds, 0.0), message.position.offset, message.at, message.previous)
    return frame(Answer.KEPT, subject, place + message.data)


def read_kept(body: bytes, epoch: str) -> tuple[float, Kept[bytes]]:
    """For how many seconds a message of this epoch is kept, and the message."""
    seconds, offset, at, previous = unpacked(_HANDED_OVER, body)
    return plausible(seconds), Kept(body[_HANDED_OVER.size :], Position(epoch, offset), at, previous)


def key(subject: str, text: str, seconds: float, place: Position) -> bytes:
    """A key, the number of seconds for which it is still remembered, and the position of its message."""
    position = str(place).encode("ascii")
    return frame(Answer.KEY, subject, _UNTIL.pack(max(seconds, 0.0), len(position)) + position + text.encode())


def read_key(body: bytes) -> tuple[float, Position, str]:
    """For how many seconds a key is remembered, the position of its message, and the key."""
    seconds, length = unpacked(_UNTIL, body)
    begin = _UNTIL.size + length
    return plausible(seconds), read_position(body[_UNTIL.size : begin]), text_of(body[begin:])
