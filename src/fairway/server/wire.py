"""One accepted socket: what is written to it, whether it is read, how it ends, and how long each of these may take.

A `Wire` is the outbox that also reads and ends. Its owner is the asyncio protocol of the same transport and passes on
what the transport says: `pause_writing`, `resume_writing`, `eof`, `lost`. The wire has no protocol of its own and knows
no message. An upgrade changes its owner and nothing else.

* Reading or paused. Only the owner pauses and resumes. Nobody sees the end of a stream that is not read, so somebody
  else looks for it meanwhile (`fairway.server.paused`) and tells `owner.peer_has_left`.
* Writing or blocked. While the transport holds anything the wire is blocked, and the client has `write_stall_timeout`
  for each byte. If it takes none it is dropped, and `handle_deadline` says so, once.
* Open, finishing, lost. `finish` writes what there is, however long a client that takes it needs, then ends our side,
  and the peer has `linger_seconds` to end its own. `close` does not wait for the peer, `abort` not for the socket.
  Whichever it was, at last the transport says `lost`.

Why linger: closing a socket in which something lies unread makes the kernel send a reset, which can overtake our answer
or our Close and destroy it at the peer (RFC 9112 section 9.6). So we stop writing, read on, and throw away what comes
(`discard`) until the peer has seen our end and ended its side, but not for ever.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Protocol

from fairway.server.limits import Limits
from fairway.server.output.lanes import Endpoint
from fairway.server.output.outbox import Outbox
from fairway.server.output.scheduler import Scheduler
from fairway.server.paused import DISCARD_PAUSE, Paused, PausedConnection
from fairway.server.transport import Transport

try:
    from fcntl import ioctl as _ioctl
    from termios import TIOCOUTQ as _OUTQ
except ImportError:  # Windows
    _OUTQ = None  # type: ignore[assignment, misc]  # where there is none nothing is asked


def unacknowledged(transport: Transport) -> int:
    """Bytes that were sent and that the peer's system has not taken; 0 where ours does not tell."""
    endpoint = transport.get_extra_info("socket")
    if endpoint is None or _OUTQ is None or transport.is_closing():
        return 0
    try:
        return int.from_bytes(_ioctl(endpoint.fileno(), _OUTQ, bytes(4)), sys.byteorder)
    except (OSError, ValueError):  # it is closed, or is of a kind that does not tell
        return 0


def moved(transport: Transport | None, since: float) -> bool:
    """Whether what carries this transport has sent anything since then, though nothing of this: its turn will come."""
    moved_at: float = 0.0 if transport is None else transport.get_extra_info("moved_at", 0.0)
    return moved_at > since


class Owner(PausedConnection, Protocol):
    """Who speaks over a wire."""

    def schedule(self, deadline: float) -> None:
        """See to it that `Wire.handle_deadline` is called then, or a little later."""


class Host(Protocol):
    """What all wires of one event loop share."""

    @property
    def batch(self) -> Scheduler: ...

    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...

    @property
    def limits(self) -> Limits:
        """Of these `outbox_high_water`, `outbox_bytes` and `write_stall_timeout`."""

    @property
    def paused(self) -> Paused: ...

    @property
    def linger_seconds(self) -> float:
        """How long a peer may take to end its side after we have ended ours."""

    def touch(self) -> float:
        """The time, by the clock of the deadlines."""


class NothingPending:
    """Says that nothing is waited for. All wires share one, which has no room for anything that could be changed."""

    __slots__ = ()

    stalled_at: float | None = None
    """Since when the socket, which is full, has taken no byte."""

    left: int = 0
    """How many bytes the peer had not taken then."""

    is_finishing = False

    linger_until: float | None = None
    """When the peer will have had its time; our side has been ended."""


class Pending(NothingPending):
    """What a wire waits for: its socket to take a byte, or its peer to end its side."""

    __slots__ = ("is_finishing", "left", "linger_until", "stalled_at")

    def __init__(self) -> None:
        self.stalled_at = self.linger_until = None
        self.left = 0
        self.is_finishing = False


NOTHING_PENDING = NothingPending()


class Wire(Outbox):
    """`endpoint` is as for `Outbox`. After `lost` everything is harmless, and nothing happens."""

    __slots__ = ("_host", "eof", "owner", "pending", "reading")

    owner: Owner | None
    """Whom to tell; None before anybody speaks, and after the end."""

    pending: NothingPending
    """To be looked at only."""

    reading: bool
    """Whether what arrives is given to the owner. It stays what it was when there is nothing more to read."""

    eof: bool
    """Whether the peer has ended its side; noted by the owner, who is told."""

    def __init__(self, transport: Transport, host: Host, owner: Owner | None, endpoint: Endpoint | None = None) -> None:
        limits = host.limits
        super().__init__(transport, host.batch, limits.outbox_high_water, limits.outbox_bytes, endpoint)
        self._host = host
        self.owner = owner
        self.reading = True
        self.eof = False
        self.pending = NOTHING_PENDING

    # Reading --------------------------------------------------------------------------------------------------

    def pause_reading(self) -> None:
        """Read nothing more. Whoever calls this knows who will call `resume_reading`."""
        if self.reading and self.transport is not None and self.owner is not None:
            self.reading = False
            self.transport.pause_reading()
            self._host.paused.add(self.owner, self.transport)

    def resume_reading(self) -> None:
        if not self.reading and self.transport is not None and self.owner is not None:
            self.reading = True
            self._host.paused.discard(self.owner)
            self.transport.resume_reading()

    def discard(self) -> None:
        """Something has come that nobody wants any more. It may, at some 25 MB a second: sending faster gains nobody
        anything.
        """
        if self.reading and not self.is_ending:
            self.pause_reading()
            self._host.loop.call_later(DISCARD_PAUSE, self.resume_reading)

    # Writing --------------------------------------------------------------------------------------------------

    # The transport's high water mark is 0. So it calls these two for the first byte that the socket does not take, and
    # for the last one that it has taken; in between the wire is blocked.

    def pause_writing(self) -> None:
        """The socket takes no more. From now on it has to take a byte now and then."""
        super().pause_writing()
        pending = self._begin_pending()
        pending.stalled_at = now = self._host.touch()
        pending.left = self._held()
        self._schedule(now + self._host.limits.write_stall_timeout)

    def resume_writing(self) -> None:
        """The socket has taken all of the last chunk."""
        # Before the outbox writes on: it may block again at once, and that is a new stall with a time of its own.
        if self.pending.is_finishing:
            self._begin_pending().stalled_at = None
        else:
            self.pending = NOTHING_PENDING
        super().resume_writing()
        if self.pending.is_finishing:
            self._end_writing()

    def _held(self) -> int:
        """What the peer has not taken, as far as this can be known: a slow one takes long for what the kernel holds."""
        transport = self.transport
        return 0 if transport is None else transport.get_write_buffer_size() + unacknowledged(transport)

    @property
    def held_bytes(self) -> int:
        """What waits in this process to be sent."""
        transport = self.transport
        return self.size + (0 if transport is None else transport.get_write_buffer_size())

    def _begin_pending(self) -> Pending:
        pending = self.pending
        if not isinstance(pending, Pending):
            pending = self.pending = Pending()
        return pending

    # Ending ---------------------------------------------------------------------------------------------------

    @property
    def is_ending(self) -> bool:
        """Whether the transport is closing, or lost."""
        return self.transport is None or self.transport.is_closing()

    def finish(self) -> None:
        """Write what there is, end our side, and let the peer end its own, but not for ever. The owner reads on
        meanwhile, and discards.
        """
        if self.is_ending:
            return
        self._begin_pending().is_finishing = True
        self.flush()
        self._end_writing()

    def _end_writing(self) -> None:
        # A client that is still taking what there is for it is measured by its progress: `resume_writing` comes here.
        transport = self.transport
        if transport is None or not self.is_empty or self.pending.linger_until is not None:
            return
        # Both sides have ended: nothing can lie unread any more, so the kernel sends no reset.
        if self.eof:
            transport.close()
            return
        # Some transports cannot end one side alone. Then the answer has been written all the same, and a peer that has
        # what it wants closes by itself.
        if transport.can_write_eof():
            transport.write_eof()
        pending = self._begin_pending()
        pending.linger_until = self._host.touch() + self._host.linger_seconds
        self._schedule(pending.linger_until)

    def close(self) -> None:
        """End both sides once everything is written. What of it the socket does not take at once makes it `finish`."""
        if self.transport is None:
            return
        self.flush()
        if self.blocked:
            self.finish()
        else:
            self.transport.close()

    def abort(self) -> None:
        """End both sides now, and forget what is unsent: the transport says `lost` in the next pass."""
        if self.transport is not None:
            self.transport.abort()

    def lost(self) -> int:
        """The transport is gone. As for `Outbox`; nothing is pending any more, and the owner is forgotten."""
        if self.owner is not None:
            self._host.paused.discard(self.owner)
        self.owner = None
        self.pending = NOTHING_PENDING
        return super().lost()

    # Deadlines ------------------------------------------------------------------------------------------------

    def _schedule(self, deadline: float) -> None:
        if self.owner is not None:
            self.owner.schedule(deadline)

    def next_deadline(self) -> float | None:
        """When `handle_deadline` has something to judge."""
        pending = self.pending
        if pending.stalled_at is None:
            return pending.linger_until
        # While the socket is full our side is not ended: there is no lingering beside it.
        return pending.stalled_at + self._host.limits.write_stall_timeout

    def handle_deadline(self, now: float) -> bool:
        """Judge what has lasted too long, and `abort`. True if that is because the client took no byte in its time."""
        deadline = self.next_deadline()
        if deadline is None or now < deadline:
            return False
        # Progress is what the transport has got rid of. The outbox does not count: nothing leaves it while it is
        # blocked.
        pending = self._begin_pending()
        held, left = self._held(), pending.left
        if pending.stalled_at is not None and (held < left or moved(self.transport, pending.stalled_at)):
            pending.stalled_at, pending.left = now, held
            return False
        is_stalled = pending.stalled_at is not None
        pending.stalled_at = pending.linger_until = None
        self.abort()
        return is_stalled
