"""Sends over a backplane from code without an event loop: over a blocking socket, in the calling thread.

A `Sender` sends to the same subjects and queues as a `Node`, and the same bytes, but it receives nothing. It starts
neither an event loop nor a thread, because both cause trouble with greenlets and in forked workers. A backplane that
supports blocking calls gives its layer a `BlockingBackplane`.

A `Pool` keeps the connections. One call at a time uses a connection, so threads and greenlets never share one.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, Generic, Protocol, TypeVar

from fairway.delivery import Message, Payload
from fairway.layers.backplane import BackplaneStatistics, Keep, Page, Present, QueueFull, Refused, Unavailable
from fairway.layers.codec import Codec, Kind, place_of_queue
from fairway.layers.errors import ChannelFull
from fairway.layers.history_rules import HistoryRules, to_keep
from fairway.layers.hub import Hub
from fairway.layers.interests import subject_of
from fairway.layers.recovery import History
from fairway.layers.requests import process_of, subject_of_process
from fairway.layers.streaming import Deliverer, history_of
from fairway.layers.tracks import Since, Sought, chosen

MOST_IDLE = 16
MOST_AT_ONCE = 128
"""How many idle connections one pool keeps, and how many may be in use. Further calls wait until one is free."""

LONGEST_IDLE = 30.0
"""Seconds that an idle connection is kept. Firewalls and proxies may drop a silent one without telling either end."""


class BlockingBackplane(Protocol):
    """What a sender needs from a service. Each call returns when the service has confirmed it.

    Every call raises `Refused` if the service rejects it, `Unavailable` if the connection fails, and `TimeoutError` at
    the `deadline` (a time of `time.monotonic`). After `Unavailable`, the message may or may not have arrived.
    """

    def publish(self, subject: str, data: bytes, deadline: float) -> None:
        """Send to all processes that have subscribed to the subject."""

    def publish_to_group(self, group: str, data: bytes, deadline: float) -> Sequence[str]:
        """Send to all processes with members of the group. Returns the queues that follow the group."""

    def append_to_group(self, group: str, data: bytes, keep: Keep, key: str, deadline: float) -> Sequence[str]:
        """Like `publish_to_group`, and keep the message: `fairway.layers.backplane.Streams`.

        If there is one with its key already, it returns no queues: they have that one.
        """

    def read(self, subject: str, after: Since, limit: int, deadline: float) -> Page[bytes]:
        """A page of a subject's history."""

    def push(self, queue: str, data: bytes, capacity: int, expiry: float, deadline: float) -> None:
        """Add to a queue, for `expiry` seconds. Raises `QueueFull` if the queue holds `capacity` messages."""

    def present(self, subject: str, deadline: float) -> Sequence[Present]:
        """The entries of each process under a subject: `fairway.layers.backplane.Presence`."""

    def count(self, subject: str, deadline: float) -> int:
        """How many entries there are under a subject."""

    def close(self) -> None:
        """Close the idle connections. A later call opens new ones."""


class Sender:
    """Sends for one layer. Any thread, greenlet or forked child may call it. `name` returns the name of this process.

    A `deadline` is a time of `time.monotonic`. For the errors that every method may raise, see `BlockingBackplane`.
    """

    def __init__(
        self,
        name: Callable[[], str],
        codec: Codec,
        hub: Hub,
        backplane: BlockingBackplane,
        statistics: BackplaneStatistics,
        rules: HistoryRules | None = None,
        deliverer: Deliverer | None = None,
    ) -> None:
        """`rules` say which groups have a history. `deliverer` reads the messages of histories."""
        self._name = name
        self._rules = rules
        self._deliverer = deliverer
        self._statistics = statistics
        self._codec = codec
        self._hub = hub
        self._backplane = backplane

    def send(self, channel: str, message: Message, deadline: float) -> None:
        """Send to a channel of any process, or to a queue.

        Raises `ChannelFull` if the queue, or the channel of this process, is full. Full channels of other processes are
        not reported.
        """
        process = process_of(channel)
        if process is None:
            self._push(channel, message, deadline)
            return
        if process == self._name():
            if not self._hub.send(channel, self._codec.reopened(message)):
                raise ChannelFull(channel)
            return
        subject = subject_of_process(process)
        data = self._codec.encode(Kind.DIRECT, [channel, message], subject)
        with self._counted():
            self._backplane.publish(subject, data, deadline)

    def group_send(
        self, group: str, message: Message, deadline: float, keep: bool | None = None, key: str = ""
    ) -> None:
        """Send to all members of a group. For `keep` and `key`, see the layer's method."""
        self._to_group(group, Kind.EVENT, message, message, (), deadline, to_keep(self._rules, group, keep, key), key)

    def broadcast(
        self,
        group: str,
        payload: Payload,
        exclude: Iterable[str],
        deadline: float,
        keep: bool | None = None,
        is_object: bool = False,
    ) -> None:
        """Send to the sockets of all members of a group. `is_object`: the text is a JSON object."""
        excluded = list(exclude)
        body = [payload.text, payload.data, excluded]
        found = to_keep(self._rules, group, keep)
        kind = Kind.BROADCAST_JSON if is_object and found is not None else Kind.BROADCAST
        self._to_group(group, kind, body, payload.as_message(), excluded, deadline, found)

    def history(self, group: str, after: Sought, limit: int, deadline: float) -> History:
        """At most `limit` messages that were sent to a group with a history."""
        assert self._deliverer is not None, "the group has a history"
        subject = subject_of(group)
        with self._counted(0):
            if isinstance(after, tuple):
                after = chosen(after, self._backplane.read(subject, None, 1, deadline).top.epoch)
            page = self._backplane.read(subject, after, limit, deadline)
        return history_of(self._deliverer, subject, page)

    def present(self, subject: str, deadline: float) -> Sequence[Present]:
        """The entries of each process under a subject."""
        with self._counted(0):
            return self._backplane.present(subject, deadline)

    def count(self, subject: str, deadline: float) -> int:
        """How many entries there are under a subject."""
        with self._counted(0):
            return self._backplane.count(subject, deadline)

    def close(self) -> None:
        """Close the idle connections. A later call connects again."""
        self._backplane.close()

    def _to_group(
        self,
        group: str,
        kind: Kind,
        body: Any,
        message: Message,
        excluded: Collection[str],
        deadline: float,
        keep: Keep | None,
        key: str = "",
    ) -> None:
        data = self._codec.encode(kind, body, subject_of(group))
        with self._counted():
            if keep is None:
                following = self._backplane.publish_to_group(group, data, deadline)
            else:
                following = self._backplane.append_to_group(group, data, keep, key, deadline)
        followers = [queue for queue in following if queue not in excluded]
        full = 0
        for queue in followers:
            try:
                self._push(queue, message, deadline)
            except ChannelFull:
                full += 1
        if full:
            self._hub.drops.left_out(group, full, len(followers))

    def _push(self, queue: str, message: Message, deadline: float) -> None:
        data = self._codec.encode(Kind.EVENT, message, place_of_queue(queue))
        try:
            self._backplane.push(queue, data, self._hub.capacity_of(queue), self._hub.expiry, deadline)
        except QueueFull:
            raise ChannelFull(queue) from None

    @contextlib.contextmanager
    def _counted(self, published: int = 1) -> Iterator[None]:
        try:
            yield
        except (Unavailable, TimeoutError):
            self._statistics.unavailable += 1
            raise
        except Refused:
            self._statistics.refused += 1
            raise
        self._statistics.published += published


class Unsent(ConnectionError):
    """The connection ended before the whole message was sent. Nobody has received the message."""


class Connected(Protocol):
    """A connection that a pool can keep."""

    socket: socket.socket


def send_all(connected: socket.socket, data: bytes) -> None:
    """Send encoded commands, of which the last one carries the message. Raises `Unsent` if the connection has ended.

    In that case some of the data was not sent, so the last command was incomplete, and the service does not execute it.
    """
    try:
        connected.sendall(data)
    except TimeoutError:
        raise
    except OSError as error:
        raise Unsent(str(error)) from error


C = TypeVar("C", bound=Connected)
T = TypeVar("T")


class Pool(Generic[C]):
    """Connections to one address. `dial` opens one, and gets the deadline. Any thread may call the methods.

    A forked child never uses or closes its parent's connections.
    """

    def __init__(self, dial: Callable[[float], C]) -> None:
        self._dial = dial
        self._begin()

    def _begin(self) -> None:
        self._idle: list[tuple[C, float]] = []  # and since when it is idle
        self._places = threading.BoundedSemaphore(MOST_AT_ONCE)
        # Set this last: no thread of a child may find its own process here while the parent's connections are above.
        self._process = os.getpid()

    def use(self, function: Callable[[C], T], deadline: float) -> T:
        """Call a function with a connection that no other call uses meanwhile. If it raises, the connection is closed.

        If it raises `Unsent` with a kept connection, it is called once more with a new connection. Raises
        `TimeoutError` if no connection becomes free before the deadline.
        """
        if self._process != os.getpid():
            # Closing them could end the parent's connections, because TLS sends a farewell. The descriptors are few.
            self._left_to_parent = self._idle
            self._begin()
        places = self._places
        if not places.acquire(timeout=remaining(deadline)):
            raise TimeoutError
        try:
            kept = self._take()
            if kept is not None:
                with contextlib.suppress(Unsent):
                    return self._call(function, kept)
            return self._call(function, self._dial(deadline))
        finally:
            places.release()

    def _call(self, function: Callable[[C], T], connection: C) -> T:
        try:
            result = function(connection)
        except BaseException:
            connection.socket.close()
            raise
        if len(self._idle) < MOST_IDLE:
            self._idle.append((connection, time.monotonic()))
        else:
            connection.socket.close()
        return result

    def close(self) -> None:
        """Close the idle connections. Does nothing in a forked child that has not used the pool."""
        if self._process != os.getpid():
            return  # the connections are the parent's
        while (connection := self._take()) is not None:
            connection.socket.close()

    def _take(self) -> C | None:
        """The connection that was used last, if it is still usable."""
        while self._idle:
            try:
                connection, since = self._idle.pop()
            except IndexError:  # another thread was faster
                return None
            if time.monotonic() - since < LONGEST_IDLE and not _is_stale(connection.socket):
                return connection
            connection.socket.close()
        return None


def _is_stale(idle: socket.socket) -> bool:
    """Whether an idle connection has something to read. Nobody has asked for data, so that is most likely its end."""
    try:
        if not hasattr(select, "poll"):
            return bool(select.select([idle], [], [], 0)[0])
        waiting = select.poll()  # unlike select, it takes descriptors above 1023
        waiting.register(idle, select.POLLIN)
        return bool(waiting.poll(0))
    except (OSError, ValueError):
        return True


def remaining(deadline: float) -> float:
    """Seconds until the deadline. Raises `TimeoutError` if it has passed."""
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds
