"""The contract of backplanes: bytes between processes, for a layer to put its messages into.

A backplane knows subjects and queues. What is posted to a *subject* reaches every process that has subscribed to it at
that moment; what is pushed to a *queue* waits there for one reader. It knows no groups, channels, members or messages:
those are the layer's.

A backplane lives in one event loop. `start` begins to connect and does not wait for it; from then on the backplane
keeps itself connected, and stands by the subscriptions that it has acknowledged, until `close`. While what it needs is
away, every call waits for a bounded time and then raises `Unavailable`, and later calls raise it at once, until it is
back. Calls take effect in the order in which they are made.

`fairway.testing.backplane_contract` is the suite that a backplane has to pass.
"""

from __future__ import annotations

import abc
from collections.abc import Awaitable, Sequence
from typing import Protocol

from fairway.delivery import CounterSet


class BackplaneError(Exception):
    """A backplane could not do what it was asked to."""


class Unavailable(BackplaneError, ConnectionError):
    """What the backplane needs is away. Whether a message that was under way has arrived is unknown."""


class Refused(BackplaneError):
    """The service does not let us: a wrong password, a missing permission, a version that is too old."""


class QueueFull(BackplaneError):
    """The queue holds as many messages as it may."""


class BackplaneStatistics(CounterSet):
    """Counts of one backplane.

    `published`: messages posted or published. `received`: messages that came for a subject. `unheard`: posted, but no
    process had subscribed. `uncertain`: posted, and the connection was lost before the answer. `unavailable`: calls
    that raised `Unavailable`. `refused`: errors that the service answered with. `undecodable`: messages that were
    dropped because nobody could read them. `outages`: how often what the backplane needs went away.
    """

    __slots__ = (
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


class Backplane(abc.ABC):
    """Carries bytes between the processes that share a service and a prefix.

    Subjects and names of queues are at most 120 characters of `[A-Za-z0-9._!-]`. Messages of one sender to one subject
    arrive in their order, and all receivers of a subject see the same order.
    """

    statistics: BackplaneStatistics

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
        """Empty all queues."""
