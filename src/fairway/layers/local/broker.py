"""The broker: the engine for the processes of one machine, over a Unix socket.

It lives from the moment it has the lock until 30 seconds after its last peer has gone, and at least as long as its
queues hold messages. Each peer gets at most one write in a pass of the event loop. Everything is bounded: a peer that
takes nothing for five seconds, or lets 32 MiB wait, is cut off.

A broker speaks its own version of the protocol and some older ones. When a newer broker takes over, nothing is lost.
The old broker stops listening and asks all peers to leave. They finish sending, and read what is still coming, until
all have left. Then the old broker passes its queues and histories to the successor, and ends. The successor answers
nobody until as many peers have subscribed as before, or until a second has passed, so that no message is published
while its subscribers are still on their way.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Iterator

from fairway.layers.engine import Engine
from fairway.layers.local import history_frames, protocol
from fairway.layers.local.listening import Listening
from fairway.layers.local.peer import Peer, Phase
from fairway.layers.local.place import Place
from fairway.layers.local.protocol import Answer, Role

IDLE = 30.0
"""Seconds that a broker lives without peers."""

MOST_PEERS = 1000
MOST_PREFIXES = 100
QUEUE_BYTES = 64 * 1024 * 1024
"""Most bytes in all queues of one prefix. Beyond that they are full."""

STALLED = 5.0
GREETING = 5.0
"""Seconds within which a peer has to take some of its waiting bytes, or to say hello."""

HANDOVER = 2.0
SETTLING = 1.0
"""Seconds for all peers to leave, and to come back to the successor."""

_TICK = 1.0


class Heritage:
    """What a broker takes over from its predecessor: queues, histories, and how many processes had subscribed."""

    def __init__(self) -> None:
        self.engines: dict[str, Engine] = {}
        self.subscribed = 0


class Broker:
    """Serves a listening socket. It speaks the versions of the protocol from `oldest` to `version`."""

    def __init__(
        self,
        place: Place,
        heritage: Heritage | None = None,
        *,
        version: int = protocol.VERSION,
        oldest: int = protocol.OLDEST,
        idle: float = IDLE,
        stalled: float = STALLED,
    ) -> None:
        heritage = heritage or Heritage()
        self._place = place
        self._version = version
        self._oldest = oldest
        self._idle = idle
        self._stalled = stalled
        self._engines = heritage.engines
        self._expected = heritage.subscribed  # while it settles; nothing is written until then
        self._peers: dict[Peer, _Patience] = {}
        self._news: list[Peer] = []
        self._successor: Peer | None = None
        self._everybody_has_left = asyncio.Event()
        self._nobody_is_there = asyncio.Event()
        self._end = asyncio.Event()

    async def serve(self, listening: socket.socket) -> None:
        """Serve until there are no peers and no messages, another broker takes over, or this is cancelled."""
        loop = asyncio.get_running_loop()
        there = Listening(self._place, lambda: Peer(self))
        await there.begin(listening)
        if self._expected:
            loop.call_later(SETTLING, self._settle)
        ticking = loop.create_task(self._tick(there))
        try:
            await self._end.wait()
            if self._successor is not None:
                there.close()
                await self._hand_over(self._successor)
        finally:
            ticking.cancel()
            there.end()
            for peer in list(self._peers):
                peer.transport.abort()

    def stop(self) -> None:
        """End now. A process that needs a broker starts another one."""
        self._end.set()

    # What peers tell (`Owner`) --------------------------------------------------------------------------------

    def arrived(self, peer: Peer) -> None:
        if len(self._peers) >= MOST_PEERS:
            peer.refuse(f"{MOST_PEERS} processes are connected to the broker, and no more can be")
            return
        now = time.monotonic()
        self._peers[peer] = _Patience(now, peer.bytes_taken)
        with socket.socket(fileno=os.dup(peer.transport.get_extra_info("socket").fileno())) as connection:
            self._place.check_peer(connection)

    def greeted(self, peer: Peer, version: int, role: Role, prefix: str) -> Engine | None:
        if role is Role.SUCCESSOR:
            if version <= self._version or self._successor is not None:
                peer.refuse("there is nothing to take over")
            else:
                self._successor = peer
                self._end.set()
        elif version > self._version:
            peer.refuse(f"{protocol.OLDER}: version {self._version}, not {version}")
        elif version < self._oldest:
            peer.refuse(
                f"the broker at {self._place.path} speaks version {self._version} of its protocol, and this process "
                f"the older {version}: restart it, since it runs an older release"
            )
        elif prefix not in self._engines and len(self._engines) >= MOST_PREFIXES:
            peer.refuse(f"the broker serves {MOST_PREFIXES} prefixes, and no more")
        elif self._successor is not None:
            peer.transport.abort()  # the successor is where it listens
        else:
            peer.tell(protocol.welcome(self._version, os.getpid()))
            return self._engines.setdefault(prefix, Engine(QUEUE_BYTES, os.urandom(4).hex()))
        return None

    def has_news(self, peer: Peer) -> None:
        if not self._news and not self._expected:
            asyncio.get_running_loop().call_soon(self._flush)
        self._news.append(peer)

    def has_subscribed(self, peer: Peer) -> None:
        if self._expected and sum(1 for peer in self._peers if peer.subjects) >= self._expected:
            self._settle()

    def left(self, peer: Peer) -> None:
        self._look_whether_all_have_left()

    def gone(self, peer: Peer) -> None:
        self._peers.pop(peer, None)
        if not self._peers:
            self._nobody_is_there.set()
        self._look_whether_all_have_left()

    # Passes ---------------------------------------------------------------------------------------------------

    def _flush(self) -> None:
        news, self._news = self._news, []
        for peer in news:
            peer.flush()

    def _settle(self) -> None:
        if self._expected:
            self._expected = 0
            self._flush()

    async def _tick(self, there: Listening) -> None:
        alone_since: float | None = None
        while True:
            await asyncio.sleep(_TICK)
            now = time.monotonic()
            for peer, patience in list(self._peers.items()):
                if patience.is_over(peer, now, self._stalled):
                    peer.transport.abort()
            if self._successor is None and not await there.stands():
                self._end.set()
            for engine in self._engines.values():
                engine.expire(now)
            self._forget_prefixes()
            if self._peers or any(engine.size for engine in self._engines.values()):
                alone_since = None
            elif alone_since is None:
                alone_since = now
            elif now - alone_since >= self._idle - _TICK:
                self._end.set()

    def _forget_prefixes(self) -> None:
        """Forget the engines that are empty, unless a process has said hello with their prefix."""
        used = {peer.prefix for peer in self._peers}
        for prefix, engine in list(self._engines.items()):
            if engine.is_empty and prefix not in used:
                del self._engines[prefix]

    # Another broker takes over --------------------------------------------------------------------------------

    async def _hand_over(self, successor: Peer) -> None:
        subscribed = sum(1 for peer in self._peers if peer.subjects)
        for peer in self._peers:
            if peer.phase is Phase.TALKING:
                peer.tell(protocol.frame(Answer.GOING))
        self._look_whether_all_have_left()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HANDOVER):
                await self._everybody_has_left.wait()
        self._flush()
        successor.may_wait = 2 * MOST_PREFIXES * QUEUE_BYTES
        now = time.monotonic()
        for prefix, engine in self._engines.items():
            successor.tell(protocol.frame(Answer.PREFIX, body=prefix.encode()))
            for queue, until, data in engine.waiting():
                successor.tell(protocol.queued(queue, until - now, data))
            successor.tell(protocol.followers(engine.following(now)))
            for frame in _histories(engine, now):
                successor.tell(frame)
        successor.tell(protocol.done(subscribed))
        self._flush()
        # `close` still writes what waits, so the process must live until that is done.
        ending = [peer for peer in self._peers if not peer.transport.is_closing()]
        for peer in ending:
            peer.transport.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HANDOVER):
                await self._nobody_is_there.wait()

    def _look_whether_all_have_left(self) -> None:
        if self._successor is not None and all(peer.phase is not Phase.TALKING for peer in self._peers):
            self._everybody_has_left.set()


def _histories(engine: Engine, now: float) -> Iterator[bytes]:
    """The frames that hand over an engine's histories."""
    histories = engine.histories
    for subject, top, ends_at in histories.epochs():
        yield history_frames.epoch(subject, top, ends_at - now)
    for subject, expires_at, message in histories.messages():
        yield history_frames.kept(subject, expires_at - now, message)
    for subject, key, until, place in histories.remembered():
        yield history_frames.key(subject, key, until - now, place)


class _Patience:
    """How many bytes a peer has taken, and since when it has taken no more."""

    def __init__(self, now: float, taken: int) -> None:
        self._arrived = self._since = now
        self._taken = taken

    def is_over(self, peer: Peer, now: float, stalled: float) -> bool:
        """Whether the peer has let its bytes wait for too long, or has not said hello in time."""
        if peer.phase is Phase.GREETING and now - self._arrived > GREETING:
            return True
        if not peer.waiting_bytes or peer.bytes_taken != self._taken:
            self._since, self._taken = now, peer.bytes_taken
        return now - self._since > stalled
