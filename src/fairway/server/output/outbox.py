"""What waits to be sent on one socket, and the only caller of `transport.write`.

The modules of this folder build on each other: `outbox`, `recipients`, `sweep`, `fanout`, `batch`. An outbox knows the
later ones by their contracts only (`fairway.server.output.scheduler`). It tells its scheduler when it becomes dirty,
and calls `bring_forward` before a frame is appended.

An outbox is in one of four states:

* *Empty.* `frames` is None, and the transport holds nothing. A sweep may bypass the outbox and write to its endpoint.
* *Dirty.* It holds frames, and its scheduler has noted it and will call `flush`: in this pass of the loop, or for
  broadcasts in one of the next.
* *Blocked.* The transport holds a part of the last chunk, or the first frame is being made (`Workshop`); never both.
  Frames stay here, where they can be counted, awaited or dropped whole. This state begins with `pause_writing` or in
  `flush`, and ends with `resume_writing`, which flushes.
* *Lost.* `transport` is None after `lost`. Nothing can be sent. Frames that are appended nevertheless stay unsent.

Before a connection closes, `write_through_transport` ends all bypassing: the rest goes through the transport.

So backpressure is measured here and not in the transport, which gets one chunk at a time and has a high water mark of
0. `size` is what this process holds for a client, except for the rest of one chunk.

A slow client slows down its senders, or is dropped. A sender that can wait awaits `drained`. A sender that cannot wait
checks `is_over_bound` before it appends, and drops the client if it is true. Call everything in the event loop of the
transport only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any

from fairway.delivery import Fanout, Unfinished
from fairway.server.output.lanes import CHUNK_BYTES, Endpoint, lane_of
from fairway.server.output.pieces import FINISHED, Droppable, Piece
from fairway.server.output.scheduler import Scheduler
from fairway.server.output.workshop import finish_first, is_making
from fairway.server.transport import Transport

MOST_UNMADE = 8
"""How many times `bound` the messages that are not made yet may have, before each further one makes the first."""


class Drained:
    """An awaitable that waits until an outbox has room. Cancelling loses nothing."""

    __slots__ = ("_outbox",)

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    def __await__(self) -> Generator[Any, None, None]:
        return self._outbox.wait_drained().__await__()


class Outbox:
    """Frames for one transport, in order. (`fairway.delivery.Output`)

    `high_water` (bytes): from this size on, `drained` waits. `bound` (bytes): if more than this waits behind the first
    message, the client is too slow, and a sender that cannot wait drops it (`is_over_bound`).

    `endpoint` is the socket or stream below the transport, if the peer gets exactly what is sent on it. Frames are then
    sent on it directly, and the transport gets only what it does not take. The transport closes the endpoint; a closed
    endpoint must send nothing. An endpoint without a lane (`fairway.server.output.lanes`) is not used. A sweep bypasses
    this outbox, unless it is in `indirect` (`fairway.server.output.fanout`).
    """

    __slots__ = (
        "_droppable",
        "_waiters",
        "blocked",
        "bound",
        "endpoint",
        "frames",
        "high_water",
        "scheduler",
        "size",
        "transport",
    )

    scheduler: Scheduler
    """Decides when this outbox is flushed. For an outbox into which others are flushed, it is their scheduler's
    `carriers`.
    """

    frames: list[Piece] | bytes | None
    """The waiting frames. None if there are none, because most connections are idle; a single frame needs no list."""

    def __init__(
        self,
        transport: Transport,
        scheduler: Scheduler,
        high_water: int,
        bound: int,
        endpoint: Endpoint | None = None,
    ) -> None:
        self.transport: Transport | None = transport
        self.high_water = high_water
        self.bound = bound
        self.size = 0
        self.blocked = False
        self.scheduler = scheduler
        self.frames = None
        self._droppable = 0  # how many of the frames are `Droppable`
        self.endpoint = endpoint if lane_of(endpoint) is not None else None
        self._waiters: list[asyncio.Future[None]] | None = None
        transport.set_write_buffer_limits(high=0)

    # Adding ---------------------------------------------------------------------------------------------------
    #
    # Only the first frame is reported to the scheduler: from then on the outbox is dirty, and will be flushed. If it is
    # blocked when its turn comes, `resume_writing` flushes it later. If it was flushed before, flushing does nothing.

    def append(self, frame: bytes | Droppable | Unfinished, is_broadcast: bool = False) -> bool:
        """Add a frame; an unfinished one is longer than a chunk. True if a chunk was full and therefore flushed at
        once.
        """
        if self.scheduler.fanout.sweep is not None:
            self.scheduler.fanout.bring_forward(self)
        frames = self.frames
        if frames is None:
            self.size = len(frame)
            self.frames = frame if type(frame) is bytes else [frame]
            if is_broadcast:
                self.scheduler.fanout.add(self)
            else:
                self.scheduler.add(self)
            return False
        size = self.size = self.size + len(frame)
        if type(frames) is list:
            frames.append(frame)
        else:
            self.frames = [frames, frame]  # type: ignore[list-item]  # bytes
        # So a handler that sends megabytes at once holds no more than a chunk here while the socket takes everything.
        if size >= CHUNK_BYTES and not self.blocked:
            self.flush()
            return True
        return False

    def append_droppable(self, frame: bytes, key: str) -> None:
        """Add a frame that may be dropped while it waits. Call `make_room` before."""
        self._droppable += 1
        self.append(Droppable(frame, key), is_broadcast=True)

    def make_room(self, size: int, key: str, only_latest: bool) -> int:
        """Make room for a `Droppable` of this size and key. Return how many earlier ones were dropped.

        Nothing is dropped unless the outbox is blocked. If it is, `only_latest` drops all earlier frames with this key.
        Then the oldest droppable frames with any key are dropped, until the new frame fits into `bound`.
        """
        dropped = 0
        if self.blocked:
            if only_latest:
                dropped += self._drop_matching(key, len(self._pieces))
            # The client is not behind while its frames are being made.
            unsure = _shrinking(self._pieces) if self.size + size > self.bound and is_making(self) else 0
            while self.size - unsure + size > self.bound and self._drop_matching(None, 1):
                dropped += 1
        return dropped

    def _drop_matching(self, key: str | None, count: int) -> int:
        """Drop up to `count` droppable frames, the oldest first, with this key or (None) any. Return how many."""
        frames = self.frames
        if type(frames) is not list or not self._droppable:
            return 0
        doomed = []
        for index, piece in enumerate(frames):
            if type(piece) is Droppable and (key is None or piece.key == key):
                doomed.append(index)
                if len(doomed) == count:
                    break
        for index in reversed(doomed):
            self.size -= len(frames[index])
            del frames[index]
        self._droppable -= len(doomed)
        return len(doomed)

    def flush(self) -> None:
        """Write the frames until the socket is full. Does nothing if the outbox is blocked or lost."""
        transport = self.transport
        if self.blocked or transport is None:
            return
        frames = self.frames
        if frames is None:
            pass
        elif (size := self.size) <= CHUNK_BYTES:
            self.frames = None
            self.size = 0
            self.scheduler.written += size
            data = frames if type(frames) is bytes else b"".join(self._commit(frames, len(frames)))  # type: ignore[arg-type]
            # Bypass the transport, which would do the same after a dozen checks. Nothing is overtaken: the transport
            # holds nothing, or the outbox would be blocked.
            try:
                sent = self.endpoint.send(data) if self.endpoint is not None else 0
            except OSError:
                sent = 0  # full or broken; the transport handles both
            if sent < len(data):
                transport.write(memoryview(data)[sent:] if sent else data)
        else:
            frames = self.frames = self._pieces
            while frames and not self.blocked:
                if type(frames[0]) not in FINISHED:
                    Outbox.pause_writing(self)  # and no more than that: the client is not behind
                    self.scheduler.workshop.add(self)
                    break
                chunk = self._next_chunk(frames)
                self.scheduler.written += len(chunk)
                transport.write(chunk)
            if not frames:
                self.frames = None
        if self._waiters is not None and not self.blocked:
            self.wake_waiters()  # the socket took everything, so `resume_writing` will not be called

    def flush_alone(self) -> None:
        """Flush now if no other outbox of this loop is dirty; otherwise leave it to the scheduler."""
        if self.frames is not None and not self.blocked:
            self.scheduler.flush_alone(self)

    @property
    def _pieces(self) -> list[Piece]:
        frames = self.frames
        if frames is None:
            return []
        return frames if type(frames) is list else [frames]  # type: ignore[list-item]  # bytes

    def _next_chunk(self, frames: list[Piece]) -> bytes:
        count = size = 0
        while count < len(frames) and (size < CHUNK_BYTES or not count) and type(frames[count]) in FINISHED:
            size += len(frames[count])
            count += 1
        self._commit(frames, count)
        # Only a frame that is longer than a chunk is cut. Its rest stays here, where it is counted, as a memoryview in
        # front. It cannot be dropped any more, because its beginning has been sent.
        if count == 1 and size > CHUNK_BYTES:
            whole = memoryview(frames[0])  # type: ignore[arg-type]
            frames[0] = whole[CHUNK_BYTES:]
            self.size -= CHUNK_BYTES
            return bytes(whole[:CHUNK_BYTES])
        chunk = b"".join(frames[:count])  # type: ignore[arg-type]
        del frames[:count]
        self.size -= size
        return chunk

    def _commit(self, frames: list[Piece], count: int) -> list[Piece]:
        """Make the first `count` frames undroppable, because they are about to be written. Return all frames."""
        if self._droppable:
            for index, piece in enumerate(frames[:count]):
                if type(piece) is Droppable:
                    frames[index] = piece.frame
                    self._droppable -= 1
        return frames

    def pause_writing(self) -> None:
        """The socket is full, and the transport holds a part of the last chunk."""
        self.blocked = True
        if self.endpoint is not None:
            self.scheduler.fanout.indirect.add(self)

    def resume_writing(self) -> None:
        """The socket has taken all of the last chunk, or the first frame is finished."""
        self.blocked = False
        self.flush()
        if not self.blocked and self.endpoint is not None:
            self.scheduler.fanout.indirect.discard(self)
        if self.size < self.high_water:
            self.wake_waiters()

    def made(self) -> None:
        """The first frame is finished. (`fairway.server.output.workshop`)"""
        self.resume_writing()

    @property
    def fanout(self) -> Fanout | None:
        """The fanout that may write to this socket; None if everything has to go through the transport."""
        return self.scheduler.fanout if self.endpoint is not None else None

    def write_through_transport(self) -> None:
        """The connection is closing: from now on nothing may bypass this outbox or its transport."""
        self.endpoint = None
        if self.transport is not None:
            self.scheduler.fanout.indirect.add(self)

    def write_rest(self, data: bytes, sent: int) -> None:
        """Give the transport the rest of `data`, of which the socket has taken `sent` bytes past this outbox."""
        if self.transport is not None:
            self.transport.write(memoryview(data)[sent:])

    @property
    def waiting(self) -> int:
        """How many bytes wait behind the first message.

        One long message does not make a client slow. Messages that pile up behind it do.
        """
        frames = self.frames
        if frames is None:
            return 0
        return self.size - len(frames[0] if type(frames) is list else frames)

    @property
    def is_over_bound(self) -> bool:
        """Whether more than `bound` waits behind the first message. Ask before adding. False after `lost`.

        The first message may be of any size. So a message longer than `bound` reaches a client that reads; a client
        that does not read is dropped when the following messages exceed the bound.
        """
        if self.size <= self.bound or self.waiting <= self.bound or self.transport is None:
            return False
        # It is judged as it will be sent. Otherwise a client would be slow because its messages are long. What is not
        # made yet is made in the next passes. Until then, each call makes no more than one, if they are many.
        unsure = _shrinking(self._pieces[1:])
        if not unsure or self.waiting - unsure > self.bound:
            return True
        self.scheduler.workshop.add_all(self)
        if self.waiting > MOST_UNMADE * self.bound:
            finish_first(self)
        return False

    def drained(self) -> Drained:
        """An awaitable that waits until `size` is below `high_water`, or until `lost`. It need not be awaited."""
        return Drained(self)

    async def wait_drained(self) -> None:
        # A waiter that was woken before this one may have filled the outbox again.
        while self.size >= self.high_water and self.transport is not None:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            if self._waiters is None:
                self._waiters = []
            self._waiters.append(waiter)
            await waiter

    def wake_waiters(self) -> None:
        """Let all who await `drained` check again whether there is room."""
        waiters, self._waiters = self._waiters, None
        for waiter in waiters or ():
            if not waiter.done():
                waiter.set_result(None)

    @property
    def is_empty(self) -> bool:
        """Whether everything has been given to the kernel. After `lost`, whether no frame was added since."""
        transport = self.transport
        return not self.frames and (transport is None or transport.get_write_buffer_size() == 0)

    def drop_waiting(self) -> int:
        """Drop all frames except one that is partly written. Return how many were dropped."""
        self.scheduler.fanout.bring_forward(self)
        frames = self._pieces
        if is_making(self):
            self.blocked = False
        begun = [piece for piece in frames[:1] if type(piece) is memoryview]
        self.frames = begun or None  # type: ignore[assignment]  # a list of pieces
        self.size = sum(map(len, begun))
        self._droppable = 0
        return len(frames) - len(begun)

    def lost(self) -> int:
        """The transport is gone: forget it, drop all frames, and wake all who await `drained`. Return how many frames
        were dropped.
        """
        self.transport = self.endpoint = None
        fanout = self.scheduler.fanout
        fanout.bring_forward(self)
        dropped = len(self._pieces)
        self.frames = None
        self.size = self._droppable = 0
        fanout.indirect.discard(self)
        self.wake_waiters()
        return dropped


def _shrinking(frames: list[Piece]) -> int:
    """How many bytes of these are not made yet, and may become fewer."""
    unfinished: Any = (piece for piece in frames if type(piece) not in FINISHED)
    return sum(len(piece) for piece in unfinished if piece.shrinks)
