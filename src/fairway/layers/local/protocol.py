"""The frames that processes and their broker exchange over a Unix socket. Pure.

    u32 length of what follows   u8 operation   u8 length of the name   name (ASCII)   body

Numbers are big-endian. A process begins with `hello`, and sends nothing else until `WELCOME` has arrived. `REFUSED`
brings a sentence for people instead, and the end. Afterwards:

| from a process | answer |
|---|---|
| `MESSAGE`: post to a subject | one `POSTED` for all handled so far: how many, and how many of them reached nobody |
| `PUBLISH`: the same, confirmed | `DONE`: how many processes it reached |
| `SUBSCRIBE` `UNSUBSCRIBE` `FLUSH` `FOLLOW` `UNFOLLOW` `PING` | `DONE` |
| `PUSH`: add to a queue | `DONE`, or `FULL` |
| `FOLLOWING`: ask who follows what, or the group of that name; brokers of older releases tell all | `FOLLOWERS` |
| `RENEW`: renew the lease of a process | `RENEWED`: whether it stood, and who has departed |
| `ENTER` `DEPART`: who is present under a subject | `DONE` |
| `PRESENT` `COUNT`: ask who is, or how many are | `LISTED`, `DONE` |
| `SWEEP`: remove what a process has left | `DONE` |
| `APPEND`: the same as `PUBLISH`, and keep it | `POSITION` |
| `READ`: a page of a subject's history | `PAGE` |
| `TOPS`: the newest positions of these subjects | `POSITIONS` |
| `CHANGES`: a number that changes with every `APPEND` of anybody | `DONE`, with it |
| `PULL`: one message of a queue is wanted, now or later | `ITEM`, when there is one |
| `STOP`: one message fewer is wanted; an `ITEM` may be on its way | none |
| `PUT_BACK`: nobody took an item | none |
| `LEAVE`: the last frame of this process | the end, when every other process has left too |

`DONE`, `FULL`, `FOLLOWERS`, `RENEWED`, `LISTED`, `POSITION`, `PAGE`, `POSITIONS` and `REFUSED` arrive in the order of
what they answer. `REFUSED` in place of another answer says that a limit has been reached. In between come `MESSAGE`, to
subscribers, `ITEM`, `POSTED` and, at most once, `GOING`: another broker takes over. A process that gets `GOING` sends
`LEAVE` and nothing more, reads on to the end, and connects again. A process that was subscribed before may send its
`SUBSCRIBE`s together with `hello`. Version 1 has neither presence nor histories.

A process is present from its first `RENEW` on. When its connection ends, so does its lease, after the seconds that it
has asked for. A broker that takes over knows no leases: everybody enters again.

A broker of a newer version says hello as a `SUCCESSOR`. When all others have left, it is sent everything kept: for each
prefix a `PREFIX`, its messages as `QUEUED`, and `FOLLOWERS`, and its histories: `EPOCH` for each, its messages as
`KEPT`, and each `KEY`; then `DONE`, with the number of former subscribers.

A process that only publishes, and blocks, connects to `Place.path`, lets `Place.check_peer` look at the socket, sends
`hello(prefix)`, and feeds whatever arrives to a `Decoder(Answer)` until `WELCOME`. For each message it sends
`publish(subject, data)` and reads until `DONE`, or `push(...)` and reads until `DONE` or `FULL`. It never gets
`POSTED`, `MESSAGE` or `ITEM`. `GOING` may arrive at any time, even before an answer, which still follows; the process
connects again before its next message. If the connection ends before the answer, it is unknown whether the message has
arrived.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

from fairway.layers.backplane import Departed, Keep, Kept, Page, Position, Present

VERSION = 2
OLDEST = 1
"""This version of the protocol, and the oldest that a broker of this version still speaks."""

MAX_NAME = 255
MAX_BODY = 17 * 1024 * 1024
"""Bytes. A message of a layer has at most 16 MiB."""

MAX_MESSAGE = 16 * 1024 * 1024
"""Most bytes in a message that queues hold, so that every frame with it stays within `MAX_BODY`."""

MAX_PREFIX = 1000

NAMES_PER_FRAME = 1000
"""Most names in one SUBSCRIBE or UNSUBSCRIBE."""

OLDER = "the broker is of an older release"
"""The beginning of the sentence with which a broker refuses a newer process. That may then start a newer broker."""

_MAGIC = b"fairway\0"
_HEAD = struct.Struct("!IBB")
_HELLO = struct.Struct("!8sHB")
_WELCOME = struct.Struct("!HI")
_NUMBER = struct.Struct("!I")
_POSTED = struct.Struct("!II")
_PUSH = struct.Struct("!Id")
_SECONDS = struct.Struct("!d")
_RENEW = struct.Struct("!Iddd??")
_TERM = struct.Struct("!I")
_APPEND = struct.Struct("!IdH")
_READ = struct.Struct("!BIdQ")
_PAGE = struct.Struct("!BQQB")
_KEPT = struct.Struct("!QdQI")
_HANDED_OVER = struct.Struct("!dQdQ")
_UNTIL = struct.Struct("!dB")
_ALL, _TIME, _POSITION = range(3)


class Ask(enum.IntEnum):
    """Operations of a process."""

    HELLO = 1
    MESSAGE = 2
    PUBLISH = 3
    SUBSCRIBE = 4
    UNSUBSCRIBE = 5
    PUSH = 6
    PULL = 7
    STOP = 8
    PUT_BACK = 9
    FLUSH = 10
    FOLLOW = 11
    UNFOLLOW = 12
    FOLLOWING = 13
    PING = 14
    LEAVE = 15
    APPEND = 16
    READ = 17
    TOPS = 18
    CHANGES = 19
    RENEW = 24
    ENTER = 25
    DEPART = 26
    PRESENT = 27
    COUNT = 28
    SWEEP = 29


class Answer(enum.IntEnum):
    """Operations of a broker. A `MESSAGE` is the same frame in both directions."""

    MESSAGE = 2
    WELCOME = 32
    REFUSED = 33
    DONE = 34
    FULL = 35
    POSTED = 36
    ITEM = 37
    FOLLOWERS = 38
    GOING = 39
    PREFIX = 40
    QUEUED = 41
    POSITION = 42
    PAGE = 43
    POSITIONS = 44
    EPOCH = 45
    KEPT = 46
    KEY = 47
    RENEWED = 48
    LISTED = 49


_MESSAGE = int(Ask.MESSAGE)
_LONGEST = 2 + MAX_NAME + MAX_BODY

Op = TypeVar("Op", Ask, Answer)


class ProtocolError(Exception):
    """The bytes are not a frame, or not one of ours."""


class Role(enum.IntEnum):
    """The sender of a hello: a process that wants to connect, or a newer broker that wants to take over."""

    PROCESS = 0
    SUCCESSOR = 1


class Decoder(Generic[Op]):
    """Frames out of bytes, however they are cut. After a `ProtocolError` it is of no use.

    `Decoder(Ask)` reads what processes say, `Decoder(Answer)` what a broker says.
    """

    __slots__ = ("_error", "_have", "_need", "_ops", "_parts")

    def __init__(self, ops: type[Op]) -> None:
        self._ops: dict[int, Op] = {int(op): op for op in ops}
        self._parts: list[bytes] = []
        self._have = 0
        self._need = _HEAD.size
        self._error: ProtocolError | None = None

    def feed(self, data: bytes) -> list[tuple[Op, str, bytes]]:
        """The frames that are complete now: operation, name and body."""
        return self._frames(data, None)

    def feed_gathering(self, data: bytes) -> list[tuple[Op, str, bytes, int]]:
        """As `feed`, but `MESSAGE` frames for one subject that follow each other are one entry.

        Its body is all of these frames as they came, so that passing them on costs no more than one. The number says
        how many they are.
        """
        counts: list[int] = []
        frames = self._frames(data, counts)
        return [(op, name, body, count) for (op, name, body), count in zip(frames, counts, strict=True)]

    def _frames(self, data: bytes, counts: list[int] | None) -> list[tuple[Op, str, bytes]]:
        if self._error is not None:
            raise self._error
        self._have += len(data)
        if self._have < self._need:
            self._parts.append(data)
            return []
        if self._parts:
            self._parts.append(data)
            data = b"".join(self._parts)
            self._parts.clear()
        try:
            return self._split(data, counts)
        except ProtocolError as error:
            self._error = error
            raise

    def _split(self, data: bytes, counts: list[int] | None) -> list[tuple[Op, str, bytes]]:
        frames: list[tuple[Op, str, bytes]] = []
        position, size = 0, len(data)
        self._need = _HEAD.size
        while size - position >= _HEAD.size:
            length, number, name_length = _HEAD.unpack_from(data, position)
            if not 2 + name_length <= length <= _LONGEST:
                raise ProtocolError(f"a frame of {length} bytes")
            op = self._ops.get(number)
            if op is None:
                raise ProtocolError(f"an unknown operation, {number}")
            end = position + 4 + length
            if end > size:
                self._need = end - position
                break
            begin = position + _HEAD.size
            body = begin + name_length
            try:
                name = data[begin:body].decode("ascii")
            except UnicodeDecodeError:
                raise ProtocolError("a name that is not ASCII") from None
            if counts is not None:
                count = 1
                if number == _MESSAGE:
                    head = data[position + 4 : body]
                    if data.startswith(head, end + 4):
                        end, count = _end_of_run(data, end, head)
                    body = position
                counts.append(count)
            frames.append((op, name, data[body:end]))
            position = end
        self._have = size - position
        if position < size:
            self._parts.append(data[position:])
        return frames


def _end_of_run(data: bytes, position: int, head: bytes) -> tuple[int, int]:
    """The end of the frames whose head, apart from the length, is this one, and their number. The first ends here."""
    unpack, is_same, size, shortest = _NUMBER.unpack_from, data.startswith, len(data), len(head)
    count = 1
    while is_same(head, position + 4):
        (length,) = unpack(data, position)
        end = position + 4 + length
        if end > size or not shortest <= length <= _LONGEST:
            break
        position = end
        count += 1
    return position, count


# Making frames ----------------------------------------------------------------------------------------------------


def frame(op: Ask | Answer, name: str = "", body: bytes = b"") -> bytes:
    """The bytes of a frame. Raises ValueError if it is too large."""
    encoded = name.encode("ascii")
    if len(encoded) > MAX_NAME or len(body) > MAX_BODY:
        raise ValueError(f"a name has at most {MAX_NAME} bytes, a body {MAX_BODY}")
    return _HEAD.pack(2 + len(encoded) + len(body), op, len(encoded)) + encoded + body


def hello(prefix: str, version: int = VERSION, role: Role = Role.PROCESS) -> bytes:
    """Begin to talk. The prefix may have any letters, but has at most 1,000 bytes."""
    return frame(Ask.HELLO, body=_HELLO.pack(_MAGIC, version, role) + prefix.encode())


def post(subject: str, data: bytes) -> bytes:
    """Publish. A `POSTED` will confirm it, some time later."""
    return frame(Ask.MESSAGE, subject, data)


def publish(subject: str, data: bytes) -> bytes:
    """Publish, and have it confirmed by a `DONE`, which `number` reads."""
    return frame(Ask.PUBLISH, subject, data)


def push(queue: str, data: bytes, capacity: int, expiry: float) -> bytes:
    """Add to a queue, unless it holds `capacity` messages; it is dropped after `expiry` seconds."""
    return frame(Ask.PUSH, queue, _PUSH.pack(max(0, min(capacity, 2**32 - 1)), expiry) + data)


def names(op: Ask, subjects: Sequence[str]) -> Iterator[bytes]:
    """`SUBSCRIBE` or `UNSUBSCRIBE`, in as many frames as it takes; each is answered."""
    for begin in range(0, len(subjects), NAMES_PER_FRAME):
        part = (subject.encode("ascii") for subject in subjects[begin : begin + NAMES_PER_FRAME])
        yield frame(op, body=b"".join(bytes([len(name)]) + name for name in part))


def follow(group: str, queue: str, expiry: float) -> bytes:
    return frame(Ask.FOLLOW, group, _SECONDS.pack(expiry) + queue.encode("ascii"))


def followers(rows: Iterable[tuple[str, str, float]]) -> bytes:
    """Groups, the queues that follow them, and for how many seconds they do."""
    body = bytearray()
    for group, queue, seconds in rows:
        one, two = group.encode("ascii"), queue.encode("ascii")
        body += bytes([len(one)]) + one + bytes([len(two)]) + two + _SECONDS.pack(seconds)
    return frame(Answer.FOLLOWERS, body=bytes(body))


def renew(process: str, term: int, ttl: float, linger: float, swept_within: float, begins: bool, judges: bool) -> bytes:
    """Renew the lease of a term, or begin one. If the connection ends, the lease does so `linger` seconds later.

    Who `judges` is told of processes that have departed, and sweeps each within some seconds.
    """
    return frame(Ask.RENEW, process, _RENEW.pack(term, ttl, linger, swept_within, begins, judges))


def renewed(stood: bool, departed: Iterable[Departed]) -> bytes:
    rows = (_pascal(one.process) + _TERM.pack(one.term) for one in departed)
    return frame(Answer.RENEWED, body=bytes([stood]) + b"".join(rows))


def enter(subject: str, term: int, entries: Mapping[str, bytes]) -> bytes:
    """Raises ValueError if that is too much for one frame."""
    return frame(Ask.ENTER, subject, _TERM.pack(term) + _entries(entries))


def depart(subject: str, term: int, keys: Iterable[str]) -> bytes:
    return frame(Ask.DEPART, subject, _TERM.pack(term) + b"".join(map(_pascal, keys)))


def sweep(process: str, term: int) -> bytes:
    return frame(Ask.SWEEP, process, _TERM.pack(term))


def listed(present: Iterable[Present]) -> bytes:
    """Raises ValueError if that is too much for one frame."""
    rows = []
    for one in present:
        entries = _entries(one.entries)
        rows.append(_pascal(one.process) + _TERM.pack(one.term) + _NUMBER.pack(len(entries)) + entries)
    return frame(Answer.LISTED, body=b"".join(rows))


def _entries(entries: Mapping[str, bytes]) -> bytes:
    return b"".join(_pascal(key) + _NUMBER.pack(len(data)) + data for key, data in entries.items())


def _pascal(name: str) -> bytes:
    encoded = name.encode("ascii")
    return bytes([len(encoded)]) + encoded


def append(subject: str, data: bytes, keep: Keep, key: str) -> bytes:
    """Publish and keep a message, once for each key that is not empty."""
    encoded = key.encode()
    return frame(Ask.APPEND, subject, _APPEND.pack(keep.size, keep.seconds, len(encoded)) + encoded + data)


def read(subject: str, after: Position | float | None, limit: int) -> bytes:
    """Ask for at most `limit` messages after a position, after a time, or all that are kept."""
    kind, time, offset, epoch = _ALL, 0.0, 0, ""
    if isinstance(after, Position):
        kind, offset, epoch = _POSITION, after.offset, after.epoch
    elif after is not None:
        kind, time = _TIME, after
    return frame(Ask.READ, subject, _READ.pack(kind, min(limit, 2**32 - 1), time, offset) + epoch.encode("ascii"))


def position(place: Position) -> bytes:
    return frame(Answer.POSITION, body=str(place).encode("ascii"))


def positions(places: Iterable[Position]) -> bytes:
    texts = (str(place).encode("ascii") for place in places)
    return frame(Answer.POSITIONS, body=b"".join(bytes([len(text)]) + text for text in texts))


def page(found: Page[bytes]) -> bytes:
    """A part of a history."""
    epoch = found.top.epoch.encode("ascii")
    parts = [_PAGE.pack(found.is_complete, found.began, found.top.offset, len(epoch)), epoch]
    for kept in found.messages:
        parts += (_KEPT.pack(kept.position.offset, kept.at, kept.previous, len(kept.data)), kept.data)
    return frame(Answer.PAGE, body=b"".join(parts))


def epoch(subject: str, top: Position, seconds: float) -> bytes:
    """A history, and the number of seconds for which its epoch is still kept."""
    return frame(Answer.EPOCH, subject, _SECONDS.pack(max(seconds, 0.0)) + str(top).encode("ascii"))


def kept(subject: str, seconds: float, message: Kept[bytes]) -> bytes:
    """A message of a history, and the number of seconds for which it is still kept."""
    place = _HANDED_OVER.pack(max(seconds, 0.0), message.position.offset, message.at, message.previous)
    return frame(Answer.KEPT, subject, place + message.data)


def key(subject: str, text: str, seconds: float, place: Position) -> bytes:
    """A key, the number of seconds for which it is still remembered, and the position of its message."""
    position = str(place).encode("ascii")
    return frame(Answer.KEY, subject, _UNTIL.pack(max(seconds, 0.0), len(position)) + position + text.encode())


def welcome(version: int, process_id: int) -> bytes:
    return frame(Answer.WELCOME, body=_WELCOME.pack(version, process_id))


def refused(sentence: str) -> bytes:
    return frame(Answer.REFUSED, body=sentence.encode())


def done(number: int = 0) -> bytes:
    return frame(Answer.DONE, body=_NUMBER.pack(number))


def posted(count: int, unheard: int) -> bytes:
    return frame(Answer.POSTED, body=_POSTED.pack(count, unheard))


def queued(queue: str, seconds: float, data: bytes) -> bytes:
    """A message, and the number of seconds for which it is still kept."""
    return frame(Answer.QUEUED, queue, _SECONDS.pack(max(seconds, 0.0)) + data)


# Reading bodies ---------------------------------------------------------------------------------------------------


def read_hello(body: bytes) -> tuple[int, Role, str]:
    """Version, role and prefix of who begins to talk."""
    magic, version, role = _unpack(_HELLO, body)
    if magic != _MAGIC or role not in tuple(Role) or len(body) > _HELLO.size + MAX_PREFIX:
        raise ProtocolError("no greeting of ours")
    return version, Role(role), _text(body[_HELLO.size :])


def read_welcome(body: bytes) -> tuple[int, int]:
    """Version and process of the broker."""
    version, process_id = _unpack(_WELCOME, body, whole=True)
    return version, process_id


def read_refused(body: bytes) -> str:
    """The sentence."""
    return _text(body[:1000])


def number(body: bytes) -> int:
    """What a `DONE` says."""
    value: int = _unpack(_NUMBER, body, whole=True)[0]
    return value


def read_posted(body: bytes) -> tuple[int, int]:
    """How many have been dealt with, and how many of them reached nobody."""
    count, unheard = _unpack(_POSTED, body, whole=True)
    return count, unheard


def read_names(body: bytes) -> list[str]:
    """The subjects of a `SUBSCRIBE` or `UNSUBSCRIBE`."""
    found, position = [], 0
    while position < len(body):
        name, position = _name(body, position)
        found.append(name)
    if len(found) > NAMES_PER_FRAME:
        raise ProtocolError(f"{len(found)} names in one frame")
    return found


def read_push(body: bytes) -> tuple[int, float, bytes]:
    """Capacity, expiry and data."""
    capacity, expiry = _unpack(_PUSH, body)
    return capacity, _plausible(expiry), _message(body[_PUSH.size :])


def read_put_back(body: bytes) -> bytes:
    """The message that nobody took."""
    return _message(body)


def read_follow(body: bytes) -> tuple[float, str]:
    """For how many seconds which queue follows."""
    seconds, queue = _unpack(_SECONDS, body)[0], _ascii(body[_SECONDS.size :])
    if len(queue) > MAX_NAME:  # it could not be told to anybody
        raise ProtocolError(f"a name of {len(queue)} letters")
    return _plausible(seconds), queue


def read_append(body: bytes) -> tuple[bytes, Keep, str]:
    """Data, how much is kept, and the key."""
    size, seconds, length = _unpack(_APPEND, body)
    begin = _APPEND.size + length
    if not size or begin > len(body):
        raise ProtocolError("a message that is kept in no way")
    return body[begin:], Keep(size, _plausible(seconds)), _text(body[_APPEND.size : begin])


def read_read(body: bytes) -> tuple[Position | float | None, int]:
    """After what to read, and how many messages at most."""
    kind, limit, time, offset = _unpack(_READ, body)
    if kind == _ALL:
        return None, limit
    if kind == _TIME:
        return _plausible(time), limit
    return Position(_ascii(body[_READ.size :]), offset), limit


def read_position(body: bytes) -> Position:
    """A position."""
    place = Position.read(_ascii(body))
    if place is None:
        raise ProtocolError("a position that is none")
    return place


def read_positions(body: bytes) -> list[Position]:
    """Positions."""
    found, at = [], 0
    while at < len(body):
        text, at = _name(body, at)
        found.append(read_position(text.encode("ascii")))
    return found


def read_page(body: bytes) -> Page[bytes]:
    """A part of a history."""
    is_complete, began, top, length = _unpack(_PAGE, body)
    at = _PAGE.size + length
    epoch = _ascii(body[_PAGE.size : at])
    messages = []
    while at < len(body):
        offset, time, previous, size = _unpack(_KEPT, body[at : at + _KEPT.size])
        at += _KEPT.size
        if at + size > len(body):
            raise ProtocolError("a message that is cut off")
        messages.append(Kept(body[at : at + size], Position(epoch, offset), time, previous))
        at += size
    return Page(messages, Position(epoch, top), bool(is_complete), began)


def read_epoch(body: bytes) -> tuple[float, Position]:
    """For how many seconds an epoch is kept, and its newest position."""
    return _plausible(_unpack(_SECONDS, body)[0]), read_position(body[_SECONDS.size :])


def read_kept(body: bytes, epoch: str) -> tuple[float, Kept[bytes]]:
    """For how many seconds a message of this epoch is kept, and the message."""
    seconds, offset, at, previous = _unpack(_HANDED_OVER, body)
    return _plausible(seconds), Kept(body[_HANDED_OVER.size :], Position(epoch, offset), at, previous)


def read_key(body: bytes) -> tuple[float, Position, str]:
    """For how many seconds a key is remembered, the position of its message, and the key."""
    seconds, length = _unpack(_UNTIL, body)
    begin = _UNTIL.size + length
    return _plausible(seconds), read_position(body[_UNTIL.size : begin]), _text(body[begin:])


def read_queued(body: bytes) -> tuple[float, bytes]:
    """For how many seconds a message is kept, and the message."""
    return _plausible(_unpack(_SECONDS, body)[0]), body[_SECONDS.size :]


def read_prefix(body: bytes) -> str:
    """To what the following belongs."""
    return _text(body)


def read_followers(body: bytes) -> list[tuple[str, str, float]]:
    """Groups, the queues that follow them, and for how many seconds they do."""
    rows, position = [], 0
    while position < len(body):
        group, position = _name(body, position)
        queue, position = _name(body, position)
        rows.append((group, queue, _plausible(_unpack(_SECONDS, body[position : position + _SECONDS.size])[0])))
        position += _SECONDS.size
    return rows


def read_renew(body: bytes) -> tuple[int, float, float, float, bool, bool]:
    """Term, duration, linger, the time to sweep others; whether the term begins, and whether it judges others."""
    term, ttl, linger, swept_within, begins, judges = _unpack(_RENEW, body, whole=True)
    return term, _plausible(ttl), _plausible(linger), _plausible(swept_within), begins, judges


def read_renewed(body: bytes) -> tuple[bool, list[Departed]]:
    """Whether the lease stood, and who has departed."""
    if not body:
        raise ProtocolError("an empty body")
    departed, position = [], 1
    while position < len(body):
        process, position = _name(body, position)
        (term,) = _unpack(_TERM, body[position : position + _TERM.size])
        departed.append(Departed(process, term))
        position += _TERM.size
    return bool(body[0]), departed


def read_enter(body: bytes) -> tuple[int, dict[str, bytes]]:
    """The term, and who is present."""
    return _unpack(_TERM, body)[0], _read_entries(body, _TERM.size, len(body))


def read_depart(body: bytes) -> tuple[int, list[str]]:
    """The term, and who is not present any more."""
    keys, position = [], _TERM.size
    while position < len(body):
        key, position = _name(body, position)
        keys.append(key)
    return _unpack(_TERM, body)[0], keys


def read_sweep(body: bytes) -> int:
    """The term to sweep."""
    term: int = _unpack(_TERM, body, whole=True)[0]
    return term


def read_listed(body: bytes) -> list[Present]:
    """Who is present in which process."""
    found, position = [], 0
    while position < len(body):
        process, position = _name(body, position)
        (term,) = _unpack(_TERM, body[position : position + _TERM.size])
        (length,) = _unpack(_NUMBER, body[position + _TERM.size : position + _TERM.size + _NUMBER.size])
        begin = position + _TERM.size + _NUMBER.size
        position = begin + length
        found.append(Present(process, term, _read_entries(body, begin, position)))
    return found


def _read_entries(body: bytes, position: int, end: int) -> dict[str, bytes]:
    if end > len(body):
        raise ProtocolError("entries that are cut off")
    entries = {}
    while position < end:
        key, position = _name(body, position)
        (length,) = _unpack(_NUMBER, body[position : position + _NUMBER.size])
        position += _NUMBER.size
        if position + length > end:
            raise ProtocolError("an entry that is cut off")
        entries[key] = body[position : position + length]
        position += length
    return entries


def _name(body: bytes, position: int) -> tuple[str, int]:
    if position >= len(body) or position + 1 + body[position] > len(body):
        raise ProtocolError("a name that is cut off")
    end = position + 1 + body[position]
    return _ascii(body[position + 1 : end]), end


def _unpack(layout: struct.Struct, body: bytes, whole: bool = False) -> tuple[Any, ...]:
    if len(body) < layout.size or (whole and len(body) != layout.size):
        raise ProtocolError(f"a body of {len(body)} bytes")
    return layout.unpack_from(body)


def _plausible(seconds: float) -> float:
    if not 0 <= seconds < 1e10:  # neither does a NaN
        raise ProtocolError(f"a time of {seconds} s")
    return seconds


def _message(data: bytes) -> bytes:
    if len(data) > MAX_MESSAGE:
        raise ProtocolError(f"a message of {len(data)} bytes")
    return data


def _ascii(raw: bytes) -> str:
    try:
        return raw.decode("ascii")
    except UnicodeDecodeError:
        raise ProtocolError("a name that is not ASCII") from None


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise ProtocolError("a text that is not UTF-8") from None
