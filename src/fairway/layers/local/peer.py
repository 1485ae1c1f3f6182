"""One process at the broker: what it asks for, and what waits to be written to it.

A peer is *greeting* until its hello, then *talking*. After its `LEAVE` it has *left*, and waits for the connection to
end. Everything for it from one pass of the event loop goes out in one write, `flush`.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable, Mapping
from typing import Protocol, cast

from fairway.layers.engine import Engine
from fairway.layers.local import protocol
from fairway.layers.local.answering import Histories, Holder, Queues
from fairway.layers.local.fields import ProtocolError
from fairway.layers.local.place import Misplaced
from fairway.layers.local.protocol import Ask, Decoder

MOST_SUBJECTS = 500_000
MOST_WAITING_BYTES = 32 * 1024 * 1024
"""Bounds for one peer. A peer with more waiting bytes is disconnected."""


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
        self.queues = Queues(engine, self.tell)
        self.holder = Holder(engine, self.tell)
        self.histories = Histories(engine, self.tell)

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
        self.queues.end()
        self.holder.end()
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

    def _empty(self, name: str, body: bytes) -> None:
        self._engine.flush()
        self.tell(protocol.done())

    def _leave(self, name: str, body: bytes) -> None:
        self.phase = Phase.LEFT
        self._owner.left(self)


_HANDLERS: Mapping[Ask, Callable[[Peer, str, bytes], None]] = {
    Ask.PUBLISH: Peer._publish,
    Ask.SUBSCRIBE: Peer._subscribe,
    Ask.UNSUBSCRIBE: Peer._unsubscribe,
    Ask.PUSH: lambda peer, name, body: peer.queues.push(name, body),
    Ask.PULL: lambda peer, name, body: peer.queues.pull(name),
    Ask.STOP: lambda peer, name, body: peer.queues.stop(name),
    Ask.PUT_BACK: lambda peer, name, body: peer.queues.put_back(name, body),
    Ask.FLUSH: Peer._empty,
    Ask.FOLLOW: lambda peer, name, body: peer.queues.follow(name, body),
    Ask.UNFOLLOW: lambda peer, name, body: peer.queues.unfollow(name, body),
    Ask.FOLLOWING: lambda peer, name, body: peer.queues.following(name),
    Ask.RENEW: lambda peer, name, body: peer.holder.renew(name, body),
    Ask.ENTER: lambda peer, name, body: peer.holder.enter(name, body),
    Ask.DEPART: lambda peer, name, body: peer.holder.depart(name, body),
    Ask.PRESENT: lambda peer, name, body: peer.holder.list(name),
    Ask.COUNT: lambda peer, name, body: peer.holder.count(name),
    Ask.SWEEP: lambda peer, name, body: peer.holder.sweep(name, body),
    Ask.PING: lambda peer, name, body: peer.tell(protocol.done()),
    Ask.APPEND: lambda peer, name, body: peer.histories.append(name, body),
    Ask.READ: lambda peer, name, body: peer.histories.read(name, body),
    Ask.TOPS: lambda peer, name, body: peer.histories.tops(body),
    Ask.CHANGES: lambda peer, name, body: peer.histories.changes(),
    Ask.LEAVE: Peer._leave,
}
