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
| `APPEND`: the same as `PUBLISH`, and keep it | `POSITION`, or `REPEATED`: that of an earlier one with its key |
| `READ`: a page of a subject's history | `PAGE` |
| `TOPS`: the newest positions of these subjects | `POSITIONS` |
| `CHANGES`: a number that changes with every `APPEND` of anybody | `DONE`, with it |
| `PULL`: one message of a queue is wanted, now or later | `ITEM`, when there is one |
| `STOP`: one message fewer is wanted; an `ITEM` may be on its way | none |
| `PUT_BACK`: nobody took an item | none |
| `LEAVE`: the last frame of this process | the end, when every other process has left too |

`DONE`, `FULL`, `FOLLOWERS`, `RENEWED`, `LISTED`, `POSITION`, `REPEATED`, `PAGE`, `POSITIONS` and `REFUSED` arrive in
the order of what they answer. `REFUSED` in place of another answer says that a limit has been reached. In between come
`MESSAGE`, to subscribers, `ITEM`, `POSTED` and, at most once, `GOING`: another broker takes over. A process that gets
`GOING` sends `LEAVE` and nothing more, reads on to the end, and connects again. A process that was subscribed before
may send its `SUBSCRIBE`s together with `hello`. Version 1 has neither presence nor histories.

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

This module has the operations, the decoder, and the frames about subjects and queues. Those about histories and
presence are in `history_frames.py` and `presence_frames.py`.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Generic, TypeVar

from fairway.layers.local.fields import (
    NUMBER,
    SECONDS,
    ProtocolError,
    ascii_of,
    name_at,
    plausible,
    text_of,
    unpacked,
)

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
_POSTED = struct.Struct("!II")
_PUSH = struct.Struct("!Id")


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
    REPEATED = 50


_MESSAGE = int(Ask.MESSAGE)
_LONGEST = 2 + MAX_NAME + MAX_BODY

Op = TypeVar("Op", Ask, Answer)


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
    unpack, is_same, size, shortest = NUMBER.unpack_from, data.startswith, len(data), len(head)
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
    return frame(Ask.FOLLOW, group, SECONDS.pack(expiry) + queue.encode("ascii"))


def followers(rows: Iterable[tuple[str, str, float]]) -> bytes:
    """Groups, the queues that follow them, and for how many seconds they do."""
    body = bytearray()
    for group, queue, seconds in rows:
        one, two = group.encode("ascii"), queue.encode("ascii")
        body += bytes([len(one)]) + one + bytes([len(two)]) + two + SECONDS.pack(seconds)
    return frame(Answer.FOLLOWERS, body=bytes(body))


def welcome(version: int, process_id: int) -> bytes:
    return frame(Answer.WELCOME, body=_WELCOME.pack(version, process_id))


def refused(sentence: str) -> bytes:
    return frame(Answer.REFUSED, body=sentence.encode())


def done(number: int = 0) -> bytes:
    return frame(Answer.DONE, body=NUMBER.pack(number))


def posted(count: int, unheard: int) -> bytes:
    return frame(Answer.POSTED, body=_POSTED.pack(count, unheard))


def queued(queue: str, seconds: float, data: bytes) -> bytes:
    """A message, and the number of seconds for which it is still kept."""
    return frame(Answer.QUEUED, queue, SECONDS.pack(max(seconds, 0.0)) + data)


# Reading bodies ---------------------------------------------------------------------------------------------------


def read_hello(body: bytes) -> tuple[int, Role, str]:
    """Version, role and prefix of who begins to talk."""
    magic, version, role = unpacked(_HELLO, body)
    if magic != _MAGIC or role not in tuple(Role) or len(body) > _HELLO.size + MAX_PREFIX:
        raise ProtocolError("no greeting of ours")
    return version, Role(role), text_of(body[_HELLO.size :])


def read_welcome(body: bytes) -> tuple[int, int]:
    """Version and process of the broker."""
    version, process_id = unpacked(_WELCOME, body, whole=True)
    return version, process_id


def read_refused(body: bytes) -> str:
    """The sentence."""
    return text_of(body[:1000])


def number(body: bytes) -> int:
    """What a `DONE` says."""
    value: int = unpacked(NUMBER, body, whole=True)[0]
    return value


def read_posted(body: bytes) -> tuple[int, int]:
    """How many have been dealt with, and how many of them reached nobody."""
    count, unheard = unpacked(_POSTED, body, whole=True)
    return count, unheard


def read_names(body: bytes) -> list[str]:
    """The subjects of a `SUBSCRIBE` or `UNSUBSCRIBE`."""
    found: list[str] = []
    position = 0
    while position < len(body):
        if len(found) == NAMES_PER_FRAME:
            raise ProtocolError(f"more than {NAMES_PER_FRAME} names in one frame")
        name, position = name_at(body, position)
        found.append(name)
    return found


def read_push(body: bytes) -> tuple[int, float, bytes]:
    """Capacity, expiry and data."""
    capacity, expiry = unpacked(_PUSH, body)
    return capacity, plausible(expiry), _message(body[_PUSH.size :])


def read_put_back(body: bytes) -> bytes:
    """The message that nobody took."""
    return _message(body)


def read_follow(body: bytes) -> tuple[float, str]:
    """For how many seconds which queue follows."""
    seconds, queue = unpacked(SECONDS, body)[0], ascii_of(body[SECONDS.size :])
    if len(queue) > MAX_NAME:  # it could not be told to anybody
        raise ProtocolError(f"a name of {len(queue)} letters")
    return plausible(seconds), queue


def read_queued(body: bytes) -> tuple[float, bytes]:
    """For how many seconds a message is kept, and the message."""
    return plausible(unpacked(SECONDS, body)[0]), body[SECONDS.size :]


def read_prefix(body: bytes) -> str:
    """To what the following belongs."""
    return text_of(body)


def read_followers(body: bytes) -> list[tuple[str, str, float]]:
    """Groups, the queues that follow them, and for how many seconds they do."""
    rows, position = [], 0
    while position < len(body):
        group, position = name_at(body, position)
        queue, position = name_at(body, position)
        rows.append((group, queue, plausible(unpacked(SECONDS, body[position : position + SECONDS.size])[0])))
        position += SECONDS.size
    return rows


def _message(data: bytes) -> bytes:
    if len(data) > MAX_MESSAGE:
        raise ProtocolError(f"a message of {len(data)} bytes")
    return data
