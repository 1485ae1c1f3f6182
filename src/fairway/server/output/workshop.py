"""Frames that take long to make, such as a compressed megabyte: a slice of one is made in each pass of the event loop.

Until such a frame is finished, it waits in its outbox like any other: it keeps its place, counts for the bounds, and
may be dropped. It is made when it is the first, so nothing is made for a client that is behind or has left. Meanwhile
the outbox is blocked, as if its socket were full.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Protocol

from fairway.delivery import Unfinished
from fairway.server.output.pieces import FINISHED
from fairway.server.transport import Transport

# How many bytes of a message are compressed in a pass: half a millisecond for JSON at the default level.
MADE_PER_PASS = 1 << 15


class Outbox(Protocol):
    """The part of a `fairway.server.output.outbox.Outbox` that is used here."""

    blocked: bool
    frames: Any
    size: int
    transport: Transport | None

    def made(self) -> None:
        """The first frame is finished."""


def is_making(outbox: Outbox) -> bool:
    """Whether the outbox is blocked because its first frame is being made, and not by its transport."""
    frames, transport = outbox.frames, outbox.transport
    if not (outbox.blocked and type(frames) is list and frames) or type(frames[0]) in FINISHED:
        return False
    return transport is not None and not transport.get_write_buffer_size()


def make(outbox: Outbox, index: int, most: int) -> bool:
    """Make `most` bytes more of an unfinished frame. True if it is finished."""
    unfinished: Unfinished = outbox.frames[index]
    frame = unfinished.go_on(most)
    if frame is None:
        return False
    outbox.frames[index] = frame
    outbox.size += len(frame) - len(unfinished)
    return True


def finish_all(outbox: Outbox) -> None:
    """Make all unfinished frames now."""
    was_making = is_making(outbox)
    for index, piece in enumerate(outbox.frames):
        if type(piece) not in FINISHED:
            make(outbox, index, len(piece))
    if was_making:
        outbox.made()


class Workshop:
    """The outboxes of one event loop whose first frames are being made, in turn. Call it in that loop only."""

    __slots__ = ("_is_scheduled", "_loop", "_outboxes")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._outboxes: deque[Outbox] = deque()
        self._is_scheduled = False

    def add(self, outbox: Outbox) -> None:
        """Make the first frame in the next passes, unless it is dropped."""
        self._outboxes.append(outbox)
        self._schedule()

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._next_pass)

    def _next_pass(self) -> None:
        self._is_scheduled = False
        outbox = self._outboxes.popleft()
        try:
            if not is_making(outbox):
                pass
            elif make(outbox, 0, MADE_PER_PASS):
                outbox.made()
            else:
                self._outboxes.append(outbox)
        finally:
            if self._outboxes:
                self._schedule()
