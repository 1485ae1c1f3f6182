"""One accepted socket: what is written to it, whether it is read, how it ends, and how long each of these may take.

A `Wire` is an outbox that can also read and end. It knows no message and parses nothing. Its owner is the asyncio
protocol of the same transport, and passes on what asyncio calls: `pause_writing`, `resume_writing`, `connection_lost`
(as `lost`), and the end of the stream (it sets `eof`). An upgrade replaces the owner and nothing else.

A wire has three independent states:

* *Reading or paused.* Only the owner pauses and resumes (`discard` included). A socket that is not read does not show
  that its stream has ended. So the loop's `Paused` checks all paused sockets once a second, and calls
  `owner.peer_has_left`.
* *Writing or blocked.* The wire is blocked while the transport holds any byte. Then the client must take at least one
  byte in each `write_stall_timeout`. If it does not, `handle_deadline` aborts, and returns True once.
* *Open, finishing or lost.* Three methods end a wire, and the owner may call any of them at any time. `finish` writes
  everything, as long as the client keeps taking it; then it ends our side, and gives the peer `linger_seconds` to end
  its own. `close` ends both sides without waiting for the peer; but if the socket does not take everything at once, it
  does the same as `finish`. `abort` waits for nothing, and drops what is unsent. In the end, the transport always
  reports its loss, and the owner calls `lost`.

Why linger: if a socket is closed while received bytes lie unread, the kernel sends a reset. The reset can overtake our
last bytes and destroy them at the peer (RFC 9112 section 9.6). So we end our side, go on reading, and throw away what
arrives (`discard`), until the peer ends its side or `linger_seconds` have passed.
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
    _OUTQ = None  # type: ignore[assignment, misc]


def unacknowledged(transport: Transport) -> int:
    """How many sent bytes the peer's system has not acknowledged. 0 where our system cannot tell."""
    endpoint = transport.get_extra_info("socket")
    if endpoint is None or _OUTQ is None or transport.is_closing():
        return 0
    try:
        return int.from_bytes(_ioctl(endpoint.fileno(), _OUTQ, bytes(4)), sys.byteorder)
    except (OSError, ValueError):  # the socket is closed, or is of a kind that does not tell
        return 0


def moved(transport: Transport | None, since: float) -> bool:
    """Whether this transport is a stream that only waits for its turn: its own window is open, and its connection has
    sent held content of some stream since then. False for a transport with a socket of its own.
    """
    moved_at: float = 0.0 if transport is None else transport.get_extra_info("moved_at", 0.0)
    return moved_at > since


class Owner(PausedConnection, Protocol):
    """The protocol object that uses a wire."""

    def schedule(self, deadline: float) -> None:
        """Make sure that `Wire.handle_deadline` is called at this time, or a little later."""

    def resume_writing(self) -> None:
        """Call `Wire.resume_writing`, and do what had to wait for that."""


class Host(Protocol):
    """What all wires of one event loop share."""

    @property
    def batch(self) -> Scheduler: ...

    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...

    @property
    def limits(self) -> Limits:
        """A wire uses `outbox_high_water`, `outbox_bytes` and `write_stall_timeout`."""

    @property
    def paused(self) -> Paused: ...

    @property
    def linger_seconds(self) -> float:
        """How long a peer may take to end its side after we have ended ours."""

    def touch(self) -> float:
        """The current time of the clock that deadlines use."""


class NothingPending:
    """The state of a wire that waits for nothing. All wires share one instance, which cannot be changed."""

    __slots__ = ()

    stalled_at: float | None = None
    """Since when the socket is full and has taken no byte. None: it is not full."""

    left: int = 0
    """How many bytes the peer had not taken at `stalled_at`."""

    is_finishing = False
    """Whether `finish` was called."""

    linger_until: float | None = None
    """Until when the peer may end its side. None: our side has not ended."""


class Pending(NothingPending):
    """The state of a wire whose socket has to take a byte, or whose peer has to end its side."""

    __slots__ = ("is_finishing", "left", "linger_until", "stalled_at")

    def __init__(self) -> None:
        self.stalled_at = self.linger_until = None
        self.left = 0
        self.is_finishing = False


NOTHING_PENDING = NothingPending()


class Wire(Outbox):
    """`endpoint` is as for `Outbox`. After `lost`, every method may still be called and does nothing."""

    __slots__ = ("_host", "eof", "owner", "pending", "reading")

    owner: Owner | None
    """The protocol object to notify. None before there is one, and after `lost`."""

    pending: NothingPending
    """Read-only for others."""

    reading: bool
    """Whether the owner gets what arrives. The end of the stream and `lost` leave it unchanged."""

    eof: bool
    """Whether the peer has ended its side. The owner sets it."""

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
        """Stop reading. The caller must know who will call `resume_reading`."""
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
        """The owner has thrown away what it read: pause for a moment, so that at most some 25 MB a second arrive."""
        if self.reading and not self.is_ending:
            self.pause_reading()
            self._host.loop.call_later(DISCARD_PAUSE, self.resume_reading)

    # Writing --------------------------------------------------------------------------------------------------

    # The transport's high water mark is 0. So the transport calls `pause_writing` as soon as it holds a byte that the
    # socket did not take, and `resume_writing` when it holds none. In between the wire is blocked.

    def pause_writing(self) -> None:
        """The socket is full. The first `write_stall_timeout` begins."""
        super().pause_writing()
        pending = self._begin_pending()
        pending.stalled_at = now = self._host.touch()
        pending.left = self._held()
        _schedule(self.owner, now + self._host.limits.write_stall_timeout)

    def resume_writing(self) -> None:
        """The socket has taken all of the last chunk."""
        # Do this before the outbox writes on. That may block the wire again, which begins a new stall.
        if self.pending.is_finishing:
            self._begin_pending().stalled_at = None
        else:
            self.pending = NOTHING_PENDING
        super().resume_writing()
        if self.pending.is_finishing:
            self._end_writing()

    def made(self) -> None:
        """The first frame is finished."""
        if self.owner is not None:
            self.owner.resume_writing()  # as if the socket had been full

    def _held(self) -> int:
        """How many bytes the peer has not taken. Those in the kernel count: a slow peer takes long for them."""
        transport = self.transport
        return 0 if transport is None else transport.get_write_buffer_size() + unacknowledged(transport)

    @property
    def held_bytes(self) -> int:
        """How many bytes wait in this process to be sent."""
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
        """Whether the transport is closing or lost."""
        return self.transport is None or self.transport.is_closing()

    def finish(self) -> None:
        """Write everything, end our side, and give the peer `linger_seconds` to end its own.

        The owner must go on reading, and call `discard` for what arrives.
        """
        if self.is_ending:
            return
        self._begin_pending().is_finishing = True
        self.flush()
        self._end_writing()

    def _end_writing(self) -> None:
        # While something is unsent, the client's progress is measured. `resume_writing` comes here again after that.
        transport = self.transport
        if transport is None or not self.is_empty or self.pending.linger_until is not None:
            return
        # The peer's side has ended, so nothing can lie unread, and the kernel sends no reset.
        if self.eof:
            transport.close()
            return
        # Some transports cannot end one side alone. A peer that has read the whole answer then closes by itself.
        if transport.can_write_eof():
            transport.write_eof()
        pending = self._begin_pending()
        pending.linger_until = self._host.touch() + self._host.linger_seconds
        _schedule(self.owner, pending.linger_until)

    def close(self) -> None:
        """Write everything and end both sides. If the socket does not take everything at once, `finish`."""
        if self.transport is None:
            return
        self.flush()
        if self.blocked:
            self.finish()
        else:
            self.transport.close()

    def abort(self) -> None:
        """End both sides now and drop what is unsent. The transport reports its loss in the next pass of the loop."""
        if self.transport is not None:
            self.transport.abort()

    def lost(self) -> int:
        """As `Outbox.lost`; also forget the owner and all deadlines."""
        if self.owner is not None:
            self._host.paused.discard(self.owner)
        self.owner = None
        self.pending = NOTHING_PENDING
        return super().lost()

    # Deadlines ------------------------------------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        """When `handle_deadline` has to be called next. None: never, as things are."""
        pending = self.pending
        if pending.stalled_at is None:
            return pending.linger_until
        # A full socket and lingering exclude each other: our side ends only when everything is written.
        return pending.stalled_at + self._host.limits.write_stall_timeout

    def handle_deadline(self, now: float) -> bool:
        """Abort if a deadline has passed: True if the client took no byte in time, False if it only did not end its
        side, or if nothing is due. It may be called too early.
        """
        deadline = self.next_deadline()
        if deadline is None or now < deadline:
            return False
        # Progress is what has left the transport and the kernel. Nothing leaves the outbox while it is blocked.
        pending = self._begin_pending()
        held, left = self._held(), pending.left
        if pending.stalled_at is not None and (held < left or moved(self.transport, pending.stalled_at)):
            pending.stalled_at, pending.left = now, held
            return False
        is_stalled = pending.stalled_at is not None
        pending.stalled_at = pending.linger_until = None
        self.abort()
        return is_stalled


def _schedule(owner: Owner | None, deadline: float) -> None:
    if owner is not None:
        owner.schedule(deadline)
