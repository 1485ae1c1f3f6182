"""What waits to be sent on one socket, and the only caller of `transport.write`.

It stands at the foot of a ladder: `recipients`, `sweep`, `fanout` and `batch` know outboxes, and each those before it.
An outbox knows them by contracts only (`fairway.server.output.scheduler`): it says when it has become dirty, and asks
for what is under way for its socket before anything else is appended.

Backpressure is counted here, not in the transport: the transport is given one chunk at a time and tells when even a
byte of it is left over (its high water mark is 0), and until that byte is gone everything stays here, where it can be
counted, waited for, or dropped whole. So `size` is what this process holds for a client, but for one chunk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any, TypeAlias

from fairway.delivery import Fanout
from fairway.server.output.lanes import CHUNK_BYTES, Endpoint, lane_of
from fairway.server.output.scheduler import Scheduler
from fairway.server.transport import Transport


class Drained:
    """Awaiting it waits for an outbox to have room. Cancelling loses nothing."""

    __slots__ = ("_outbox",)

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    def __await__(self) -> Generator[Any, None, None]:
        return self._outbox.wait_drained().__await__()


class Droppable:
    """A whole frame that need not be sent, of messages that are told apart by `key`."""

    __slots__ = ("frame", "key")

    def __init__(self, frame: bytes, key: str) -> None:
        self.frame = frame
        self.key = key

    def __len__(self) -> int:
        return len(self.frame)


Piece: TypeAlias = bytes | memoryview | Droppable


class Outbox:
    """Frames for one transport, in order. (`fairway.delivery.Output`)

    `high_water` (bytes): from there on senders are asked to wait. `bound` (bytes): when more waits behind the first
    message the client is too slow, and whoever sends without waiting has it dropped (`is_over_bound`).

    `endpoint` is what the transport itself sends on, if what is sent there is what the peer gets. Then frames go to it
    directly, and to the transport only what it does not take. The transport closes it; on a closed one nothing can be
    sent. A sweep bypasses this outbox, unless it is among the `indirect` ones (`fairway.server.output.fanout`). What
    has no lane (`fairway.server.output.lanes`) is not sent on directly.
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
    """Who says when it is written. Of an outbox that others are flushed into these are the `carriers` of theirs."""

    frames: list[Piece] | bytes | None
    """None as long as there are none: most connections are idle. One alone needs no list."""

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
        self._droppable = 0  # how many of the frames are
        self.endpoint = endpoint if lane_of(endpoint) is not None else None
        self._waiters: list[asyncio.Future[None]] | None = None
        transport.set_write_buffer_limits(high=0)

    # Adding ---------------------------------------------------------------------------------------------------
    #
    # An outbox with frames in it is *dirty*: its scheduler has noted it, and will flush it. So only the first frame has
    # to tell the scheduler. If the socket is blocked when its turn comes, `resume_writing` flushes it later; if it was
    # written before its turn, flushing nothing is harmless.

    def append(self, frame: bytes | Droppable, is_broadcast: bool = False) -> bool:
        """Add a frame; True when the outbox was so full that it was written at once."""
        if self.scheduler.fanout.sweep is not None:
            self.scheduler.fanout.bring_forward(self)
        frames = self.frames
        size = self.size = self.size + len(frame)
        if frames is None:
            self.frames = frame if type(frame) is bytes else [frame]
            if is_broadcast:
                self.scheduler.fanout.add(self)
            else:
                self.scheduler.add(self)
            return False
        if type(frames) is list:
            frames.append(frame)
        else:
            self.frames = [frames, frame]  # type: ignore[list-item]  # bytes
        # A handler that sends megabytes in one go keeps a chunk here and no more, as long as the socket takes it.
        if size >= CHUNK_BYTES and not self.blocked:
            self.flush()
            return True
        return False

    def append_droppable(self, frame: bytes, key: str) -> None:
        """Add a frame that need not be sent."""
        self._droppable += 1
        self.append(Droppable(frame, key), is_broadcast=True)

    def make_room(self, size: int, key: str, only_latest: bool) -> int:
        """Make room for a `Droppable` of this size and key; how many earlier ones were dropped.

        As long as the socket takes everything nothing is dropped. Then, with `only_latest`, the earlier frames with
        this key are; and the oldest ones with any key, until no more than `bound` bytes will be kept.
        """
        dropped = 0
        if self.blocked:
            if only_latest:
                dropped += self._drop_matching(key, len(self._pieces))
            while self.size + size > self.bound and self._drop_matching(None, 1):
                dropped += 1
        return dropped

    def _drop_matching(self, key: str | None, count: int) -> int:
        """Drop so many of the droppable frames, the oldest first, of one key or of any; how many there were."""
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
        """Write what there is, as far as the socket takes it."""
        transport = self.transport
        if self.blocked or transport is None:
            return
        frames = self.frames
        if frames is None:
            pass
        elif self.size <= CHUNK_BYTES:
            self.frames = None
            self.size = 0
            data = frames if type(frames) is bytes else self._joined(frames)  # type: ignore[arg-type]
            # Past the transport, which would do the same after a dozen checks. It holds nothing now, or the outbox
            # would be blocked: so nothing is overtaken.
            try:
                sent = self.endpoint.send(data) if self.endpoint is not None else 0
            except OSError:
                sent = 0  # full, or broken: the transport sees to either
            if sent < len(data):
                transport.write(memoryview(data)[sent:] if sent else data)
        else:
            frames = self.frames = self._pieces
            while frames and not self.blocked:
                transport.write(self._next_chunk(frames))
            if not frames:
                self.frames = None
        if self._waiters is not None and not self.blocked:
            self.wake_waiters()  # the socket took everything at once, so that there is nothing to resume

    def flush_alone(self) -> None:
        """Write now, if no other socket of this loop has anything to send."""
        if self.frames is not None and not self.blocked:
            self.scheduler.flush_alone(self)

    def _joined(self, frames: list[Piece]) -> bytes:
        if self._droppable:
            self._commit(frames, len(frames))
        return b"".join(frames)  # type: ignore[arg-type]  # the type of what a commit leaves

    @property
    def _pieces(self) -> list[Piece]:
        frames = self.frames
        if frames is None:
            return []
        return frames if type(frames) is list else [frames]  # type: ignore[list-item]  # bytes

    def _next_chunk(self, frames: list[Piece]) -> bytes:
        count = size = 0
        while count < len(frames) and (size < CHUNK_BYTES or not count):
            size += len(frames[count])
            count += 1
        if self._droppable:
            self._commit(frames, count)
        # A frame that is longer than a chunk is cut, and nothing else is: then the rest lies in front, as a memoryview.
        if count == 1 and size > CHUNK_BYTES:
            # The rest of a long frame stays here, where it is counted; it has begun, so it is not droppable.
            whole = memoryview(frames[0])  # type: ignore[arg-type]
            frames[0] = whole[CHUNK_BYTES:]
            self.size -= CHUNK_BYTES
            return bytes(whole[:CHUNK_BYTES])
        chunk = b"".join(frames[:count])  # type: ignore[arg-type]
        del frames[:count]
        self.size -= size
        return chunk

    def _commit(self, frames: list[Piece], count: int) -> None:
        """The first frames are about to be written: take them out of their wrappers."""
        for index, piece in enumerate(frames[:count]):
            if type(piece) is Droppable:
                frames[index] = piece.frame
                self._droppable -= 1

    def pause_writing(self) -> None:
        """The socket takes no more: part of the last chunk is left in the transport."""
        self.blocked = True
        if self.endpoint is not None:
            self.scheduler.fanout.indirect.add(self)

    def resume_writing(self) -> None:
        """The socket has taken all of the last chunk."""
        self.blocked = False
        self.flush()
        if not self.blocked and self.endpoint is not None:
            self.scheduler.fanout.indirect.discard(self)
        if self.size < self.high_water:
            self.wake_waiters()

    @property
    def fanout(self) -> Fanout | None:
        """By what it is written together with others; None if what is sent has to go through its transport."""
        return self.scheduler.fanout if self.endpoint is not None else None

    def write_through_transport(self) -> None:
        """The connection is closing: nothing is to be written past this outbox any more."""
        self.endpoint = None
        if self.transport is not None:
            self.scheduler.fanout.indirect.add(self)

    def write_rest(self, data: bytes, sent: int) -> None:
        """Hand over what the socket has not taken of something that was written past this outbox."""
        if self.transport is not None:
            self.transport.write(memoryview(data)[sent:])

    @property
    def waiting(self) -> int:
        """Bytes that wait behind the first message. However long one is, a client that takes it is not slow for that;
        it is when others pile up behind it.
        """
        frames = self.frames
        if frames is None:
            return 0
        return self.size - len(frames[0] if type(frames) is list else frames)

    @property
    def is_over_bound(self) -> bool:
        """Whether too much waits already, before anything is added. Nothing does when the transport is gone.

        What counts is what waits behind a first message that may be of any size: so a message that is longer than the
        bound reaches a client that reads, and a client that does not is dropped at the next one.
        """
        return self.size > self.bound and self.waiting > self.bound and self.transport is not None

    def drained(self) -> Drained:
        """What to await until the size is below the high water mark, or the outbox closed; it need not be awaited."""
        return Drained(self)

    async def wait_drained(self) -> None:
        # Others may have been woken first, and have filled it again: whoever wakes looks again.
        while self.size >= self.high_water and self.transport is not None:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            if self._waiters is None:
                self._waiters = []
            self._waiters.append(waiter)
            await waiter

    def wake_waiters(self) -> None:
        """Let whoever waits for room look again."""
        waiters, self._waiters = self._waiters, None
        for waiter in waiters or ():
            if not waiter.done():
                waiter.set_result(None)

    @property
    def is_empty(self) -> bool:
        """Whether everything has been handed to the kernel."""
        transport = self.transport
        return not self.frames and (transport is None or transport.get_write_buffer_size() == 0)

    def drop_waiting(self) -> int:
        """Forget all messages but the one that has begun to be written; how many frames were dropped."""
        self.scheduler.fanout.bring_forward(self)
        frames = self._pieces
        begun = [piece for piece in frames[:1] if type(piece) is memoryview]
        self.frames = begun or None  # type: ignore[assignment]  # a list of pieces
        self.size = sum(map(len, begun))
        self._droppable = 0
        return len(frames) - len(begun)

    def lost(self) -> int:
        """Forget the transport, which is gone, and everything unsent, and wake all who wait; how many frames were
        dropped.
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
