"""The contract of backplanes, which carry the bytes of a layer's messages between processes.

A backplane knows subjects and queues. Data posted to a *subject* reaches every process that is subscribed to it at that
moment. Data pushed to a *queue* waits there for one reader. Groups, channels, members and messages belong to the layer;
a backplane knows none of them.

A backplane lives in one event loop. `start` begins to connect and returns at once. From then on, until `close`, the
backplane keeps itself connected and renews every subscription that it has acknowledged. While its service is away, a
call waits for a bounded time and then raises `Unavailable`; once that time has passed, further calls raise at once,
until the service is back. Calls take effect in the order in which they are made.

What only some backplanes can do are *abilities*: the attributes `followers`, `streams` and `presence`. Their methods
raise `NotAble` on a backplane that lacks the ability.

`fairway.testing.backplane_contract` is the test suite that every backplane has to pass.
"""

from __future__ import annotations

import abc
import asyncio
import re
from collections.abc import Awaitable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, NoReturn, Protocol, TypeVar

from fairway.delivery import CounterSet
from fairway.layers.parts import parts
from fairway.timing.source import SYSTEM, TimeSource


class BackplaneError(Exception):
    """A backplane could not do what it was asked to do."""


class Unavailable(BackplaneError, ConnectionError):
    """The backplane's service is away. A message that was on its way may or may not have arrived."""


class Refused(BackplaneError):
    """The service turns us away: a wrong password, a missing permission, a version that is too old."""


class QueueFull(BackplaneError):
    """The queue holds as many messages as it may."""


class NotAble(BackplaneError, NotImplementedError):
    """The backplane lacks an ability."""


class BackplaneStatistics(CounterSet):
    """What one backplane has counted.

    `published`: messages posted or published. `received`: messages that arrived for a subject. `unheard`: messages
    posted to a subject without subscribers. `uncertain`: posted messages whose connection was lost before the answer.
    `unavailable`: calls that raised `Unavailable`. `refused`: errors that the service answered with. `undecodable`:
    messages dropped because they could not be read. `lost`: messages that were taken from a queue for a reader that had
    gone, and could not be put back. `outages`: how often the service went away.
    """

    __slots__ = (
        "lost",
        "outages",
        "published",
        "received",
        "refused",
        "unavailable",
        "uncertain",
        "undecodable",
        "unheard",
    )

    def __init__(self) -> None:
        for name in self.__slots__:
            setattr(self, name, 0)

    lost: int
    outages: int
    published: int
    received: int
    refused: int
    unavailable: int
    uncertain: int
    undecodable: int
    unheard: int


class Events(Protocol):
    """What a backplane reports. It calls these methods in its event loop; they must not raise."""

    def message(self, subject: str, data: bytes) -> Awaitable[None] | None:
        """Data has arrived for a subject. Await the result, if there is one, before the next call."""

    def up(self) -> None:
        """All subscriptions stand, for the first time or again. Messages since the last `down` may be lost."""

    def down(self, error: Exception) -> None:
        """The backplane's service is away."""


# Abilities --------------------------------------------------------------------------------------------------------

FOLLOWERS, STREAMS, PRESENCE, CLAIMS = "followers", "streams", "presence", "claims"
"""The names of abilities. *Claims* are reserved: one owner for a name, with a lease and a fencing term."""


def _lacks(what: str, who_has: str) -> NoReturn:
    raise NotAble(f"the backplane of this channel layer {what}: {who_has}")


class Followers:
    """Queues that follow groups: a sender to a group also pushes to its followers. The service keeps the list.

    The list is short: every process that sends knows all of it.
    """

    async def add(self, group: str, queue: str, expiry: float) -> None:
        """Let a queue follow a group for this number of seconds from now."""
        self._lack()

    async def remove(self, group: str, queue: str) -> None:
        """Make a queue stop following a group. Does nothing if it does not follow."""
        self._lack()

    async def all(self) -> Sequence[tuple[str, str, float]]:
        """Each group with a queue that follows it, and for how many more seconds it does."""
        self._lack()

    def _lack(self) -> NoReturn:
        _lacks("cannot have queues in groups", "that of fairway.layers.redis.RedisChannelLayer can")


D = TypeVar("D")

_POSITION = re.compile(r"([0-9a-z]{1,40})-([0-9]{1,18})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a subject's history. Offsets grow, and can only be compared within one epoch.

    An epoch has digits and lower-case letters. As text, a position is opaque: clients hand it back as they got it.
    """

    epoch: str
    offset: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.offset}"

    @classmethod
    def read(cls, text: str) -> Position | None:
        """The position that was written out as this text. None if it is not one: it may come from anybody."""
        found = _POSITION.fullmatch(text)
        return cls(found[1], int(found[2])) if found is not None else None


@dataclass(frozen=True, slots=True)
class Keep:
    """How much of a subject's history is kept: the number of messages, and the seconds for which they are kept."""

    size: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Kept(Generic[D]):
    """A message from a subject's history. `at` is a time of the service's clock, `previous` the preceding offset."""

    data: D
    position: Position
    at: float
    previous: int


@dataclass(frozen=True, slots=True)
class Page(Generic[D]):
    """A part of a subject's history, the oldest message first. `top` is the position of the newest message.

    `is_complete`: nothing is missing between the position that was asked for and the first message. If something is
    missing, the page begins with the oldest message that is kept. If the last message is not the newest one, the next
    page begins after it. Messages with offsets up to `began` were kept in an earlier epoch: they were taken over from
    another server, as far as it had passed them on.
    """

    messages: Sequence[Kept[D]]
    top: Position
    is_complete: bool
    began: int = 0


@dataclass(frozen=True, slots=True)
class Appended:
    """Where a message is in a history. `is_new`: it was kept now, and no other one with its key before."""

    position: Position
    is_new: bool


class Streams:
    """Subjects whose last messages are kept: their *histories*. Each subject has its own epoch and offsets.

    A message that is kept is also published. It arrives with a stamp in front of its data, which says where in the
    history it is (`fairway.layers.stamps`). All messages to a subject arrive in one order, kept or not.

    An epoch ends when messages may have been lost without a trace, such as when the service is replaced by a copy.
    """

    async def append(self, subject: str, data: bytes, keep: Keep, key: str = "") -> Position:
        """Publish a message and keep it. Returns its position once the service has it.

        Of several with the same `key` within five minutes, only the first is published and kept; the others return its
        position.
        """
        return (await self.append_once(subject, data, keep, key)).position

    async def append_once(self, subject: str, data: bytes, keep: Keep, key: str) -> Appended:
        """`append`, for senders that want to know whether the message was new. Backplanes implement this method."""
        self._lack()

    async def read(self, subject: str, after: Position | float | None, limit: int) -> Page[bytes]:
        """The history after a position, or after a time of the service's clock; all of it with None.

        A page has at most `limit` messages, and about one MiB.
        """
        self._lack()

    async def tops(self, subjects: Sequence[str]) -> Sequence[Position]:
        """The position of each subject's newest message. A subject without messages has the offset 0."""
        self._lack()

    async def changes(self) -> str:
        """A text that differs from an earlier one if anything was appended to any subject in between."""
        self._lack()

    def _lack(self) -> NoReturn:
        _lacks("keeps no history", "none of this release does")


@dataclass(frozen=True)
class Present:
    """The entries of one process under one subject, in one of its terms."""

    process: str
    term: int
    entries: Mapping[str, bytes]


@dataclass(frozen=True)
class Departed:
    """A term of a process that has ended, because the process has not renewed its lease."""

    process: str
    term: int


@dataclass(frozen=True)
class Renewal:
    """The answer to `Presence.renew`: this process's term, and the processes that the caller has to see to."""

    term: int
    departed: Sequence[Departed] = ()


@dataclass(frozen=True)
class Change:
    """What has changed in the entries of this process under one subject: keys to remove, and then entries."""

    subject: str
    left: Collection[str]
    entries: Mapping[str, bytes]


ENTRIES_AT_ONCE = 500
"""Entries in one call of `enter` or `leave`, where there are many."""

NOTE = ""
"""The key of an entry that a process keeps for itself: it is listed with the others, but not counted."""


class Presence:
    """Presence: entries of processes under subjects. A process has entries while it renews its lease.

    Leases are measured with the service's clock. A lease that has ended does not come back: the next `renew` begins
    another *term*, in which the process has no entries until it enters them again. So whatever is still said about an
    earlier term, or in it, can be told apart. Terms of a process grow. Keys are names, as those of subjects are.
    """

    process: str = ""
    """The name under which others see the entries of this process. No two backplanes have the same."""

    swept_within: float = 10.0
    """Seconds that this process has to sweep one that it was told of."""

    async def enter(self, subject: str, entries: Mapping[str, bytes], term: int) -> None:
        """Add or change entries of this process. They are listed while it has a lease in this term."""
        self._lack()

    async def leave(self, subject: str, keys: Collection[str], term: int) -> None:
        """Remove entries of this process in this term. If only its `NOTE` is left, that goes too."""
        self._lack()

    async def update(self, changes: Sequence[Change], term: int) -> Mapping[str, BackplaneError]:
        """Make changes under different subjects, all at once. Returns the subjects where that has failed, and why."""
        updates = [self._update(change, term) for change in changes]
        results = await asyncio.gather(*updates, return_exceptions=True)
        failed = {}
        for change, result in zip(changes, results, strict=True):
            if isinstance(result, BackplaneError):
                failed[change.subject] = result
            elif result is not None:
                raise result
        return failed

    async def _update(self, change: Change, term: int) -> None:
        for keys in parts(change.left, ENTRIES_AT_ONCE):
            await self.leave(change.subject, keys, term)
        for entries in parts(change.entries.items(), ENTRIES_AT_ONCE):
            await self.enter(change.subject, dict(entries), term)

    async def present(self, subject: str) -> Sequence[Present]:
        """The entries of each process that has a lease."""
        self._lack()

    async def count(self, subject: str) -> int:
        """How many entries all these processes have together."""
        self._lack()

    async def renew(self, ttl: float, judges: bool = True) -> Renewal:
        """Renew the lease for this number of seconds from now.

        If `judges`, this process will see to the processes that it is told of: say that they have departed, then
        `sweep`. Each is named to one caller. If it has not been swept after `swept_within` seconds, it is named again.
        """
        self._lack()

    async def sweep(self, departed: Departed) -> None:
        """Remove what is left of a process whose lease has ended. Its later terms are not touched."""
        self._lack()

    def _lack(self) -> NoReturn:
        _lacks("keeps no presence", "that of fairway.layers.redis.RedisChannelLayer does")


class Backplane(abc.ABC):
    """Carries bytes between the processes that share a service and a prefix.

    Names of subjects and queues have at most 120 characters of `[A-Za-z0-9._!-]`. One sender's messages to one subject
    arrive in the order in which they were sent, and all receivers of a subject see the same order.
    """

    statistics: BackplaneStatistics
    followers: Followers = Followers()
    streams: Streams = Streams()
    presence: Presence = Presence()
    time: TimeSource = SYSTEM
    """The clock that its service goes by. Nobody moves that of a service which is not in this process."""

    @property
    def abilities(self) -> frozenset[str]:
        """What this backplane can do besides subjects and queues."""
        each = {
            FOLLOWERS: (self.followers, Followers),
            STREAMS: (self.streams, Streams),
            PRESENCE: (self.presence, Presence),
        }
        return frozenset(name for name, (own, none) in each.items() if type(own) is not none)

    @property
    @abc.abstractmethod
    def is_up(self) -> bool:
        """Whether it is connected, as far as it knows without trying. Any thread may ask."""

    def problem(self) -> BackplaneError | None:
        """Why it is not connected, where that is known, in one sentence; None if it is. Asked from any thread."""
        return None

    @abc.abstractmethod
    def start(self, events: Events) -> None:
        """Begin to connect, in the running event loop. Called once."""

    @abc.abstractmethod
    async def close(self, drain: float = 1.0) -> None:
        """Wait up to `drain` seconds until everything posted is confirmed, then disconnect."""

    @abc.abstractmethod
    def post(self, subject: str, data: bytes) -> Awaitable[None] | None:
        """Send together with everything else from this pass of the loop, without waiting for an answer.

        Await the result, if there is one, before sending more: either too much is unconfirmed, or the service is away
        and the wait may raise `Unavailable`. If the service answers with an error, a later call raises it.
        """

    @abc.abstractmethod
    async def publish(self, subject: str, data: bytes) -> int | None:
        """Send, and wait until the service has the message. Returns the number of receiving processes, if known."""

    async def publish_all(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """Publish data to subjects, and wait until the service has all of it. Raises the first error."""
        results = await asyncio.gather(*(self.publish(*message) for message in messages), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    @abc.abstractmethod
    async def subscribe(self, subjects: Sequence[str]) -> None:
        """Subscribe: whatever is published after this has returned arrives.

        If it raises, this process is subscribed to none of these subjects.
        """

    @abc.abstractmethod
    async def unsubscribe(self, subjects: Sequence[str]) -> None:
        """Stop receiving messages for these subjects."""

    @abc.abstractmethod
    async def push(self, queue: str, data: bytes, capacity: int, expiry: float) -> None:
        """Add a message to a queue. Unread, it is dropped after `expiry` seconds. Raises `QueueFull` at `capacity`."""

    @abc.abstractmethod
    async def pull(self, queue: str) -> bytes:
        """Wait for the next message of a queue. If several readers wait, in any process, one of them gets it.

        It waits through outages. Cancelling loses nothing.
        """

    @abc.abstractmethod
    async def flush(self) -> None:
        """Empty all queues, make them follow no group, and forget all histories, entries and leases."""
