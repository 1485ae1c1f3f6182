"""One message for many sockets: its way from the channel layer to the kernel, in two visits to each.

The first visit places it: an outbox that has nothing else gets a tuple with the frame, which all such outboxes share,
and whose outboxes had the same tuple before get the same longer one. So nothing is made for a member. The second visit
writes what is there by then, joined once for all that share it. Between the two lie the other sockets' turns, and in
each the kernel uses the caches for itself: what a visit costs is the objects that it touches.

A tuple in an outbox never changes and is small; what is not shared, or large, or may be dropped, lies in a list.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

from fairway.delivery import Connection, Encoder, Payload

if TYPE_CHECKING:
    from fairway.server.outbox import Outbox
    from fairway.server.sending import SendingHalf

# So much is shared between outboxes at most: beyond it, a list for each costs little beside the sending.
SHARED_BYTES = 4096


class Crowd:
    """The sockets of one event loop that were sent to together, in order. (`fairway.delivery.Crowd`)

    `wake` is called when there will be something to write, and nothing was; `bound` (bytes): what an outbox may hold.
    """

    __slots__ = ("_outboxes", "_shared_bytes", "_wake", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, wake: Callable[[], None], bound: int) -> None:
        self.loop = loop
        self._outboxes: deque[Outbox] = deque()
        self._shared_bytes = min(SHARED_BYTES, bound)
        self._wake = wake

    def __len__(self) -> int:
        return len(self._outboxes)

    def add(self, outbox: Outbox) -> None:
        """Remember an outbox that has become dirty."""
        self._outboxes.append(outbox)
        if len(self._outboxes) == 1:
            self._wake()

    def broadcast(self, connections: Sequence[Connection], payload: Payload) -> list[int]:
        """Place the payload with those that are open and parked; which the others are is returned."""
        others: list[int] = []
        add = self._outboxes.append
        if not self._outboxes:
            self._wake()  # first: an encoder that fails for some must not keep the others' frames here
        encoder: Encoder | None = None
        alone: tuple[bytes, ...] = ()
        before: object = self  # what nobody has in an outbox
        after: tuple[bytes, ...] = ()
        size = size_after = 0
        is_shared, most = False, self._shared_bytes
        for place, connection in enumerate(cast("Sequence[SendingHalf]", connections)):
            # As `Member.broadcast` and `Outbox.append`: this is the loop that a large group spends its time in.
            if not (connection.is_open and connection.inbox.parked):
                others.append(place)
                continue
            if connection.encoder is not encoder:
                encoder = connection.encoder
                alone = (payload.form(encoder),)
                size = len(alone[0])
                before = self
                is_shared = not payload.is_droppable and size <= most
            outbox = connection.outbox
            frames = outbox._frames
            if frames is before:
                outbox._frames = after
                outbox.size = size_after
            elif frames is None and is_shared:
                outbox._frames = alone
                outbox.size = size
                add(outbox)
            elif is_shared and type(frames) is tuple and outbox.size + size <= most:
                before, after = frames, (*frames, alone[0])
                size_after = outbox.size + size
                outbox._frames = after
                outbox.size = size_after
            else:
                connection.broadcast(payload)
        return others

    def write(self, count: int) -> None:
        """Write what lies in so many of the outboxes."""
        outboxes = self._outboxes
        shared: object = self
        data = b""
        for _ in range(min(len(outboxes), count)):
            outbox = outboxes.popleft()
            frames = outbox._frames
            if frames is not shared:
                if type(frames) is not tuple:
                    outbox.flush()
                    continue
                shared = frames
                data = frames[0] if len(frames) == 1 else b"".join(frames)
            endpoint = outbox._endpoint
            if outbox.blocked or endpoint is None or outbox._waiters is not None:
                outbox.flush()
                continue
            # `Outbox.flush`, in line.
            outbox._frames = None
            outbox.size = 0
            try:
                sent = endpoint.send(data)
            except OSError:
                sent = 0
            if sent < len(data):
                cast(asyncio.Transport, outbox.transport).write(memoryview(data)[sent:])
