"""Sending over a backplane from code without an event loop: over a blocking socket, in the calling thread.

For code that only sends, a `Sender` does what a `Node` does, with the same subjects, queues and bytes. It needs neither
an event loop nor a thread, because greenlets and forked workers do not get along well with either. A backplane that
supports this gives its layer a `BlockingBackplane`.

Connections are kept in a `Pool`, and each is used by one call at a time. So threads and greenlets never share one.
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
from fairway.layers.backplane import BackplaneStatistics, QueueFull, Refused, Unavailable
from fairway.layers.codec import Codec, Kind, place_of_queue
from fairway.layers.errors import ChannelFull
from fairway.layers.hub import Hub
from fairway.layers.interests import subject_of
from fairway.layers.receiver import process_of, subject_of_process

MOST_IDLE = 16
MOST_AT_ONCE = 128
"""Connections of one pool: that are kept for later, and that are in use; further calls wait for one."""

LONGEST_IDLE = 30.0
"""Seconds for which a connection is kept. What lies between may forget one that says nothing, and tell neither end."""


class BlockingBackplane(Protocol):
    """What a sender asks of a service. Each call returns when the service has it, or raises: `Unavailable`, also when
    it is not known whether the message has arrived, `Refused`, and TimeoutError at the `deadline` (monotonic).
    """

    def publish(self, subject: str, data: bytes, deadline: float) -> None:
        """Send to whoever has subscribed."""

    def publish_to_group(self, group: str, data: bytes, deadline: float) -> Sequence[str]:
        """The same for a group, and the queues that follow it."""

    def push(self, queue: str, data: bytes, capacity: int, expiry: float, deadline: float) -> None:
        """Add to a queue. `QueueFull` at its capacity."""

    def close(self) -> None:
        """Close the connections that are not in use. A later call makes new ones."""


class Sender:
    """Sends for one layer. Any thread, greenlet or forked child may call it. `name` returns that of the process."""

    def __init__(
        self,
        name: Callable[[], str],
        codec: Codec,
        hub: Hub,
        backplane: BlockingBackplane,
        statistics: BackplaneStatistics,
    ) -> None:
        self._name = name
        self._statistics = statistics
        self._codec = codec
        self._hub = hub
        self._backplane = backplane

    def send(self, channel: str, message: Message, deadline: float) -> None:
        """Send to a channel of any process, or to a queue.

        Raises `ChannelFull` for a full queue, and for a full channel of this process.
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

    def group_send(self, group: str, message: Message, deadline: float) -> None:
        """Send to all members of a group."""
        self._to_group(group, Kind.EVENT, message, message, (), deadline)

    def broadcast(self, group: str, payload: Payload, exclude: Iterable[str], deadline: float) -> None:
        """Send to the sockets of all members of a group."""
        excluded = list(exclude)
        body = [payload.text, payload.data, excluded]
        self._to_group(group, Kind.BROADCAST, body, payload.as_message(), excluded, deadline)

    def close(self) -> None:
        """Disconnect. A later call connects again."""
        self._backplane.close()

    def _to_group(
        self, group: str, kind: Kind, body: Any, message: Message, excluded: Collection[str], deadline: float
    ) -> None:
        data = self._codec.encode(kind, body, subject_of(group))
        with self._counted():
            following = self._backplane.publish_to_group(group, data, deadline)
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
    def _counted(self) -> Iterator[None]:
        try:
            yield
        except (Unavailable, TimeoutError):
            self._statistics.unavailable += 1
            raise
        except Refused:
            self._statistics.refused += 1
            raise
        self._statistics.published += 1


class Unsent(ConnectionError):
    """The connection had ended before a message was sent over it. Nobody has received the message."""


class Connected(Protocol):
    """What a pool keeps."""

    socket: socket.socket


def send_all(connected: socket.socket, data: bytes) -> None:
    """Send commands, of which the last is the message; `Unsent` if the connection has ended.

    It is raised when a part of the data was not sent. So the last command was not complete and is not carried out.
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
    """Connections to one place, which `dial` makes by a deadline. Those of a parent process are left to it."""

    def __init__(self, dial: Callable[[float], C]) -> None:
        self._dial = dial
        self._begin()

    def _begin(self) -> None:
        self._idle: list[tuple[C, float]] = []  # and since when
        self._places = threading.BoundedSemaphore(MOST_AT_ONCE)
        # At last: of several threads of a child, none may find its process here and the parent's connections there.
        self._process = os.getpid()

    def use(self, function: Callable[[C], T], deadline: float) -> T:
        """Call a function with a connection that nobody else has meanwhile. If it raises, the connection is closed.

        If it raises `Unsent` over a connection that was kept, it is called once more, with a new one.
        """
        if self._process != os.getpid():
            # To close them would end the parent's, where TLS says farewell; the descriptors are few.
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
        """Close what is idle."""
        if self._process != os.getpid():
            return  # it is the parent's
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
    """Whether something has come that nobody asked for: the end, most likely."""
    try:
        if not hasattr(select, "poll"):
            return bool(select.select([idle], [], [], 0)[0])
        waiting = select.poll()  # for descriptors of any number
        waiting.register(idle, select.POLLIN)
        return bool(waiting.poll(0))
    except (OSError, ValueError):
        return True


def remaining(deadline: float) -> float:
    """Seconds until then; TimeoutError if it has passed."""
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds
