"""The contract of backplanes: bytes between processes, for a layer to put its messages into.

A backplane knows subjects and queues. What is posted to a *subject* reaches every process that has subscribed to it at
that moment; what is pushed to a *queue* waits there for one reader. It knows no groups, channels, members or messages:
those are the layer's.

A backplane lives in one event loop. `start` begins to connect and does not wait for it; from then on the backplane
keeps itself connected, and stands by the subscriptions that it has acknowledged, until `close`. While what it needs is
away, every call waits for a bounded time and then raises `Unavailable`, and later calls raise it at once, until it is
back. Calls take effect in the order in which they are made.

What not every backplane can do are its *abilities*: `followers`, `streams` and `presence` are objects of it, whose
methods raise `NotAble` where it lacks them.

`fairway.testing.backplane_contract` is the suite that a backplane has to pass.
"""

from __future__ import annotations

import abc
from collections.abc import Awaitable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn, Protocol

from fairway.delivery import CounterSet


class BackplaneError(Exception):
    """A backplane could not do what it was asked to."""


class Unavailable(BackplaneError, ConnectionError):
    """What the backplane needs is away. Whether a message that was under way has arrived is unknown."""


class Refused(BackplaneError):
    """The service does not let us: a wrong password, a missing permission, a version that is too old."""


class QueueFull(BackplaneError):
    """The queue holds as many messages as it may."""


class NotAble(BackplaneError, NotImplementedError):
    """The backplane lacks an ability."""


class BackplaneStatistics(CounterSet):
    """Counts of one backplane.

    `published`: messages posted or published. `received`: messages that came for a subject. `unheard`: posted, but no
    process had subscribed. `uncertain`: posted, and the connection was lost before the answer. `unavailable`: calls
    that raised `Unavailable`. `refused`: errors that the service answered with. `undecodable`: messages that were
    dropped because nobody could read them. `lost`: messages taken from a queue for a reader that had gone, and that
    could not be put back. `outages`: how often what the backplane needs went away.
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
    """Who is told of what comes. Called in the backplane's event loop; nothing here raises."""

    def message(self, subject: str, data: bytes) -> Awaitable[None] | None:
        """Something came for a subject. What is returned, if anything, is to be awaited before the next call."""

    def up(self) -> None:
        """All subscriptions stand, at the start or again. What came in between may have been missed."""

    def down(self, error: Exception) -> None:
        """What the backplane needs is away."""


# Abilities --------------------------------------------------------------------------------------------------------

FOLLOWERS, STREAMS, PRESENCE, CLAIMS = "followers", "streams", "presence", "claims"
"""Names of abilities. *Claims* are reserved: one owner for a name, with a lease, and a term that fences off others."""


def _lacks(what: str, who_has: str) -> NoReturn:
    raise NotAble(f"the backplane of this channel layer {what}: {who_has}")


class Followers:
    """Queues that follow groups: who sends to a group pushes to them as well. The service keeps who follows.

    There are few of them: every process that sends knows them all.
    """

    async def add(self, group: str, queue: str, expiry: float) -> None:
        """Let a queue follow a group for so many seconds from now."""
        self._lack()

    async def remove(self, group: str, queue: str) -> None:
        """Let it follow no longer; nothing happens if it does not."""
        self._lack()

    async def all(self) -> Sequence[tuple[str, str, float]]:
        """Groups, the queues that follow them, and for how many seconds they still do."""
        self._lack()

    def _lack(self) -> NoReturn:
        _lacks("cannot have queues in groups", "that of fairway.layers.redis.RedisChannelLayer can")


@dataclass(frozen=True)
class Position:
    """A place in what is kept of a subject: offsets grow, and mean something within an epoch only."""

    epoch: str
    offset: int


@dataclass(frozen=True)
class Keep:
    """How much is kept of a subject: so many messages, for so many seconds."""

    size: int
    seconds: float


@dataclass(frozen=True)
class Kept:
    """A message that was kept, when it was, by the service's clock, and after which one of its subject it comes."""

    data: bytes
    position: Position
    at: float
    previous: int | None


@dataclass(frozen=True)
class Page:
    """A part of what is kept of a subject. `is_complete`: nothing is missing between `after` and the first message."""

    messages: Sequence[Kept]
    top: Position
    is_complete: bool


class Streams:
    """Subjects of which the last messages are kept."""

    async def append(self, subject: str, data: bytes, keep: Keep, key: str = "") -> Position:
        """Publish and keep; of those with the same `key` only the first."""
        self._lack()

    async def read(self, subject: str, after: Position | float | None, limit: int) -> Page:
        """What was kept after a position or a time of the service's clock; from the beginning with None."""
        self._lack()

    def _lack(self) -> NoReturn:
        _lacks("keeps no history", "none of this release does")


@dataclass(frozen=True)
class Departed:
    """A process whose lease has ended, with the subjects of its entries. `term` fences off what it still says."""

    process: str
    subjects: Sequence[str]
    term: int


class Presence:
    """Who is there: entries of a process under a subject, which live as long as the process's lease."""

    async def enter(self, subject: str, entries: Mapping[str, bytes]) -> None:
        """Add entries of this process, or change them."""
        self._lack()

    async def leave(self, subject: str, keys: Collection[str]) -> None:
        """Take entries of this process away."""
        self._lack()

    async def present(self, subject: str) -> Mapping[str, Mapping[str, bytes]]:
        """The entries of each process."""
        self._lack()

    async def count(self, subject: str) -> int:
        """How many entries there are, of all processes."""
        self._lack()

    async def renew(self, ttl: float) -> Sequence[Departed]:
        """Live for so many seconds more; each process that has died is named to one caller."""
        self._lack()

    def _lack(self) -> NoReturn:
        _lacks("keeps no presence", "none of this release does")


class Backplane(abc.ABC):
    """Carries bytes between the processes that share a service and a prefix.

    Subjects and names of queues are at most 120 characters of `[A-Za-z0-9._!-]`. Messages of one sender to one subject
    arrive in their order, and all receivers of a subject see the same order.
    """

    statistics: BackplaneStatistics
    followers: Followers = Followers()
    streams: Streams = Streams()
    presence: Presence = Presence()

    @property
    def abilities(self) -> frozenset[str]:
        """What it can do besides subjects and queues."""
        each = {
            FOLLOWERS: (self.followers, Followers),
            STREAMS: (self.streams, Streams),
            PRESENCE: (self.presence, Presence),
        }
        return frozenset(name for name, (own, none) in each.items() if type(own) is not none)

    @property
    @abc.abstractmethod
    def is_up(self) -> bool:
        """Whether it is connected, as far as is known without trying. Asked from any thread."""

    @abc.abstractmethod
    def start(self, events: Events) -> None:
        """Begin to connect, in the running event loop. Called once."""

    @abc.abstractmethod
    async def close(self, drain: float = 1.0) -> None:
        """Wait at most so many seconds until what was posted is confirmed, then disconnect."""

    @abc.abstractmethod
    def post(self, subject: str, data: bytes) -> Awaitable[None] | None:
        """Send with the others of this pass of the loop, without waiting for an answer.

        What is returned, if anything, is to be awaited before sending more: too much is unconfirmed, or the service is
        away, and then it raises `Unavailable`. An error that the service answers with is raised by a later call.
        """

    @abc.abstractmethod
    async def publish(self, subject: str, data: bytes) -> int | None:
        """Send, and wait until the service has it; how many processes it went to, where that is known."""

    @abc.abstractmethod
    async def subscribe(self, subjects: Sequence[str]) -> None:
        """Receive these from now on: whatever is published after this has returned arrives.

        If it raises, they are not subscribed to.
        """

    @abc.abstractmethod
    async def unsubscribe(self, subjects: Sequence[str]) -> None:
        """Do not receive these any more."""

    @abc.abstractmethod
    async def push(self, queue: str, data: bytes, capacity: int, expiry: float) -> None:
        """Add to a queue; the message is dropped unread after `expiry` seconds. `QueueFull` at `capacity`."""

    @abc.abstractmethod
    async def pull(self, queue: str) -> bytes:
        """Wait for the next message of a queue; one of several readers gets it, whichever process they are in.

        Waits through outages. Cancelling loses nothing.
        """

    @abc.abstractmethod
    async def flush(self) -> None:
        """Empty all queues, and let them follow no group."""
