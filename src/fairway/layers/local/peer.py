"""One process at the broker: what it asks for, and what waits to be written to it.

A peer is *greeting* until its hello, then *talking*. After its `LEAVE` it has *left*, and waits for the connection to
end. Everything for it from one pass of the event loop goes out in one write, `flush`.
"""

from __future__ import annotations

import asyncio
import enum
import time
from collections.abc import Callable, Mapping
from typing import Protocol, cast

from fairway.layers.backplane import QueueFull
from fairway.layers.engine import Engine
from fairway.layers.leases import TooMuch
from fairway.layers.local import protocol
from fairway.layers.local.place import Misplaced
from fairway.layers.local.protocol import Ask, Decoder, ProtocolError

MOST_SUBJECTS = 500_000
MOST_READERS = 10_000
MOST_FOLLOWERS = 10_000
MOST_WAITING_BYTES = 32 * 1024 * 1024
"""Bounds for one peer. The bound of followers is for one prefix. A peer with more waiting bytes is disconnected."""

PUT_BACK_EXPIRY = 60.0

TOO_MANY = "too many are present in it to be listed"


class Phase(enum.Enum):
    GREETING = enum.auto()
    TALKING = enum.auto()
    LEFT = enum.auto()


class Owner(Protocol):
    """The broker."""

    def arrived(self, peer: Peer) -> None:
        """A peer has connected. Raises `Misplaced` if its user may not."""

    def greeted(self, peer: Peer, version: int, role: protocol.Role, prefix: str) -> Engine | None:
        """A peer has said hello. Returns its engine, unless it is refused or takes over."""

    def has_news(self, peer: Peer) -> None:
        """There is something to write to the peer, for the first time in this pass."""

    def has_subscribed(self, peer: Peer) -> None:
        """The peer has subscribed to something."""

    def left(self, peer: Peer) -> None:
        """The peer has sent its last message, and waits for the end."""

    def gone(self, peer: Peer) -> None:
        """The connection has ended."""


class _Reader:
    """A peer's wait for one message of a queue. (`fairway.layers.engine.Reader`)"""

    __slots__ = ("_queue", "_readers")

    def __init__(self, readers: _Readers, queue: str) -> None:
        self._readers = readers
        self._queue = queue

    def take(self, data: bytes) -> None:
        self._readers.forget(self._queue, self)
        self._readers.tell(protocol.frame(protocol.Answer.ITEM, self._queue, data))


class _Readers:
    """The messages of queues that one peer waits for."""

    def __init__(self, engine: Engine, tell: Callable[[bytes], None]) -> None:
        self.tell = tell
        self._engine = engine
        self._by_queue: dict[str, list[_Reader]] = {}
        self._count = 0

    def add(self, queue: str) -> None:
        if self._count >= MOST_READERS:
            raise ProtocolError(f"more than {MOST_READERS} readers")
        reader = _Reader(self, queue)
        self._by_queue.setdefault(queue, []).append(reader)
        self._count += 1
        self._engine.pull(queue, reader, time.monotonic())

    def stop(self, queue: str) -> None:
        """Wait for one message fewer. Does nothing if there is none to wait for: it is on its way."""
        readers = self._by_queue.get(queue)
        if readers:
            self._engine.stop_waiting(queue, readers[-1])
            self.forget(queue, readers[-1])

    def forget(self, queue: str, reader: _Reader) -> None:
        readers = self._by_queue[queue]
        readers.remove(reader)
        self._count -= 1
        if not readers:
            del self._by_queue[queue]

    def end(self) -> None:
        for queue, readers in self._by_queue.items():
            for reader in readers:
                self._engine.stop_waiting(queue, reader)


class _Holder:
    """The lease of one peer, once it has renewed one."""

    def __init__(self, engine: Engine, tell: Callable[[bytes], None]) -> None:
        self._leases = engine.leases
        self._tell = tell
        self._process = ""
        self._term = 0
        self._linger = 0.0

    def renew(self, process: str, body: bytes) -> None:
        term, ttl, self._linger, swept_within, begins, judges = protocol.read_renew(body)
        now = time.monotonic()
        if begins:
            self._leases.begin(process, term, now + ttl)
        stands = begins or self._leases.renew(process, term, now + ttl, now)
        if stands:
            self._process, self._term = process, term
        departed = self._leases.departed(now, swept_within) if judges and stands else ()
        self._tell(protocol.renewed(stands, departed))

    def enter(self, subject: str, body: bytes) -> None:
        term, entries = protocol.read_enter(body)
        try:
            self._leases.enter(self._process, term, subject, entries)
        except TooMuch as error:
            self._tell(protocol.refused(str(error)))
        else:
            self._tell(protocol.done())

    def depart(self, subject: str, body: bytes) -> None:
        term, keys = protocol.read_depart(body)
        self._leases.leave(self._process, term, subject, keys)
        self._tell(protocol.done())

    def list(self, subject: str) -> None:
        try:
            self._tell(protocol.listed(self._leases.present(subject, time.monotonic())))
        except ValueError:
            self._tell(protocol.refused(TOO_MANY))

    def count(self, subject: str) -> None:
        self._tell(protocol.done(self._leases.count(subject, time.monotonic())))

    def sweep(self, process: str, body: bytes) -> None:
        self._leases.sweep(process, protocol.read_sweep(body), time.monotonic())
        self._tell(protocol.done())

    def end(self) -> None:
        """The connection has ended, and with it the process, as far as one can see."""
        self._leases.shorten(self._process, self._term, time.monotonic() + self._linger)


class _Histories:
    """What one peer asks of histories."""

    __slots__ = ("_engine", "_tell")

    def __init__(self, engine: Engine, tell: Callable[[bytes], None]) -> None:
        self._engine = engine
        self._tell = tell

    def append(self, name: str, body: bytes) -> None:
        data, keep, key = protocol.read_append(body)
        place, message = self._engine.keep(name, data, keep, key, time.monotonic(), time.time())
        if message is not None:
            self._engine.publish(name, protocol.post(name, message))
        self._tell(protocol.position(place))

    def read(self, name: str, body: bytes) -> None:
        after, limit = protocol.read_read(body)
        self._tell(protocol.page(self._engine.histories.read(name, after, limit, time.monotonic())))

    def tops(self, body: bytes) -> None:
        now, histories = time.monotonic(), self._engine.histories
        self._tell(protocol.positions(histories.top(subject, now) for subject in protocol.read_names(body)))

    def changes(self) -> None:
        self._tell(protocol.done(self._engine.histories.changes % 2**32))


class Peer(asyncio.Protocol):
    """A connection, from `connection_made` to `connection_lost`. (`fairway.layers.engine.Subscriber`)"""

    def __init__(self, owner: Owner) -> None:
        self.transport: asyncio.Transport
        self.phase = Phase.GREETING
        self.prefix: str | None = None  # after its hello
        self.subjects: set[str] = set()
        self.bytes_written = 0
        self.may_wait = MOST_WAITING_BYTES
        self._owner = owner
        self._serve(Engine())
        self._decoder = Decoder(Ask)
        self._out: list[bytes] = []
        self._posted = self._unheard = 0

    def _serve(self, engine: Engine) -> None:
        self._engine = engine
        self._readers = _Readers(engine, self.tell)
        self._holder = _Holder(engine, self.tell)
        self.histories = _Histories(engine, self.tell)

    # Being told -----------------------------------------------------------------------------------------------

    def take(self, subject: str, data: bytes) -> None:
        """Take a ready frame for a subject."""
        out = self._out
        if not out:
            self._owner.has_news(self)
        out.append(data)

    def tell(self, frame: bytes) -> None:
        """Write a frame together with everything else from this pass."""
        self.take("", frame)

    def flush(self) -> None:
        """Write everything that waits."""
        if self._posted:
            self._out.append(protocol.posted(self._posted, self._unheard))
            self._posted = self._unheard = 0
        data, self._out = b"".join(self._out), []
        if self.transport.is_closing():
            return
        self.bytes_written += len(data)
        self.transport.write(data)
        if self.waiting_bytes > self.may_wait:
            self.transport.abort()

    @property
    def waiting_bytes(self) -> int:
        """Bytes that the kernel has not taken yet."""
        return self.transport.get_write_buffer_size()

    @property
    def bytes_taken(self) -> int:
        """Bytes that the kernel has taken."""
        return self.bytes_written - self.waiting_bytes

    def refuse(self, sentence: str) -> None:
        """Send the reason, and close the connection."""
        if not self.transport.is_closing():
            self.transport.write(protocol.refused(sentence))
            self.transport.close()

    # What it says (`asyncio.Protocol`) ------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name
        try:
            self._owner.arrived(self)
        except Misplaced as error:
            self.refuse(str(error))

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        try:
            for op, name, body, count in self._decoder.feed_gathering(data):
                if op is Ask.MESSAGE and self.phase is Phase.TALKING:
                    if not self._posted and not self._out:
                        self._owner.has_news(self)
                        self._out.append(b"")
                    self._posted += count
                    if not self._engine.publish(name, body):
                        self._unheard += count
                else:
                    self._said(op, name, body)
        except ProtocolError as error:
            self.refuse(f"that is not what a process of this version says: {error}")

    def _said(self, op: Ask, name: str, body: bytes) -> None:
        if self.phase is Phase.GREETING:
            if op is not Ask.HELLO:
                raise ProtocolError(f"{op.name} before a greeting")
            self._hello(body)
        elif self.phase is Phase.TALKING:
            handler = _HANDLERS.get(op)
            if handler is None:
                raise ProtocolError(f"{op.name} is out of place")
            handler(self, name, body)
        else:
            raise ProtocolError(f"{op.name} after the last message")

    def connection_lost(self, error: Exception | None) -> None:
        for subject in self.subjects:
            self._engine.unsubscribe(self, subject)
        self._readers.end()
        self._holder.end()
        self.phase = Phase.LEFT
        self._owner.gone(self)

    # Operations -----------------------------------------------------------------------------------------------

    def _hello(self, body: bytes) -> None:
        version, role, prefix = protocol.read_hello(body)
        engine = self._owner.greeted(self, version, role, prefix)
        if engine is not None:
            self.prefix = prefix
            self._serve(engine)
            self.phase = Phase.TALKING

    def _publish(self, name: str, body: bytes) -> None:
        self.tell(protocol.done(self._engine.publish(name, protocol.post(name, body))))

    def _subscribe(self, name: str, body: bytes) -> None:
        subjects = protocol.read_names(body)
        if len(self.subjects) + len(subjects) > MOST_SUBJECTS:
            self.tell(protocol.refused(f"a process can subscribe to {MOST_SUBJECTS} subjects, and no more"))
            return
        for subject in subjects:
            self._engine.subscribe(self, subject)
        self.subjects.update(subjects)
        self.tell(protocol.done())
        self._owner.has_subscribed(self)

    def _unsubscribe(self, name: str, body: bytes) -> None:
        for subject in protocol.read_names(body):
            self._engine.unsubscribe(self, subject)
            self.subjects.discard(subject)
        self.tell(protocol.done())

    def _push(self, name: str, body: bytes) -> None:
        capacity, expiry, data = protocol.read_push(body)
        try:
            self._engine.push(name, data, capacity, expiry, time.monotonic())
        except QueueFull:
            self.tell(protocol.frame(protocol.Answer.FULL))
        else:
            self.tell(protocol.done())

    def _pull(self, name: str, body: bytes) -> None:
        self._readers.add(name)

    def _stop(self, name: str, body: bytes) -> None:
        self._readers.stop(name)

    def _put_back(self, name: str, body: bytes) -> None:
        try:
            self._engine.push_back(name, protocol.read_put_back(body), time.monotonic() + PUT_BACK_EXPIRY)
        except QueueFull as error:  # it could not have taken so much
            raise ProtocolError(str(error)) from None

    def _empty(self, name: str, body: bytes) -> None:
        self._engine.flush()
        self.tell(protocol.done())

    def _follow(self, name: str, body: bytes) -> None:
        seconds, queue = protocol.read_follow(body)
        now = time.monotonic()
        if self._engine.follower_count >= MOST_FOLLOWERS:
            self.tell(protocol.refused(f"{MOST_FOLLOWERS} queues can be in groups, and no more"))
        else:
            self._engine.follow(name, queue, seconds, now)
            self.tell(protocol.done())

    def _unfollow(self, name: str, body: bytes) -> None:
        self._engine.unfollow(name, body.decode("ascii", "replace"))
        self.tell(protocol.done())

    def _following(self, name: str, body: bytes) -> None:
        self.tell(protocol.followers(self._engine.following(time.monotonic(), name or None)))

    def _leave(self, name: str, body: bytes) -> None:
        self.phase = Phase.LEFT
        self._owner.left(self)


_HANDLERS: Mapping[Ask, Callable[[Peer, str, bytes], None]] = {
    Ask.PUBLISH: Peer._publish,
    Ask.SUBSCRIBE: Peer._subscribe,
    Ask.UNSUBSCRIBE: Peer._unsubscribe,
    Ask.PUSH: Peer._push,
    Ask.PULL: Peer._pull,
    Ask.STOP: Peer._stop,
    Ask.PUT_BACK: Peer._put_back,
    Ask.FLUSH: Peer._empty,
    Ask.FOLLOW: Peer._follow,
    Ask.UNFOLLOW: Peer._unfollow,
    Ask.FOLLOWING: Peer._following,
    Ask.RENEW: lambda peer, name, body: peer._holder.renew(name, body),
    Ask.ENTER: lambda peer, name, body: peer._holder.enter(name, body),
    Ask.DEPART: lambda peer, name, body: peer._holder.depart(name, body),
    Ask.PRESENT: lambda peer, name, body: peer._holder.list(name),
    Ask.COUNT: lambda peer, name, body: peer._holder.count(name),
    Ask.SWEEP: lambda peer, name, body: peer._holder.sweep(name, body),
    Ask.PING: lambda peer, name, body: peer.tell(protocol.done()),
    Ask.APPEND: lambda peer, name, body: peer.histories.append(name, body),
    Ask.READ: lambda peer, name, body: peer.histories.read(name, body),
    Ask.TOPS: lambda peer, name, body: peer.histories.tops(body),
    Ask.CHANGES: lambda peer, name, body: peer.histories.changes(),
    Ask.LEAVE: Peer._leave,
}
