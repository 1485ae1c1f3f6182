"""Frames that take long to make, such as a compressed megabyte: a slice of one is made in each pass of the event loop.

Until such a frame is finished, it waits in its outbox like any other: it keeps its place, counts for the bounds, with
what making it takes, and may be dropped. It is made when it is the first, so nothing is made for a client that is
behind or has left. Meanwhile the outbox is blocked, as if its socket were full. Only if the client would count as slow
because of frames that are not made yet, all of them are made, so that it is judged by what it would be sent.
"""

from __future__ import annotations

import asyncio
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
    before = len(unfinished)
    frame = unfinished.go_on(most)
    outbox.size += len(unfinished if frame is None else frame) - before
    if frame is None:
        return False
    outbox.frames[index] = frame
    return True


def finish_first(outbox: Outbox) -> None:
    """Make all of the first unfinished frame now."""
    index = _first_unfinished(outbox)
    if index is not None:
        was_making = is_making(outbox)
        make(outbox, index, len(outbox.frames[index]))
        if was_making:
            outbox.made()


def _first_unfinished(outbox: Outbox) -> int | None:
    frames = outbox.frames if type(outbox.frames) is list else ()
    return next((index for index, piece in enumerate(frames) if type(piece) not in FINISHED), None)


class Workshop:
    """The outboxes of one event loop whose frames are being made, in turn. Call it in that loop only."""

    __slots__ = ("_is_scheduled", "_loop", "_outboxes")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._outboxes: dict[Outbox, bool] = {}  # whether all frames are made, or only the first
        self._is_scheduled = False

    def add(self, outbox: Outbox) -> None:
        """Make the first frame in the next passes, unless it is dropped."""
        self._outboxes.setdefault(outbox, False)
        self._schedule()

    def add_all(self, outbox: Outbox) -> None:
        """Make all frames in the next passes, although the client may be behind: to know how long they are."""
        self._outboxes[outbox] = True
        self._schedule()

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._next_pass)

    def _next_pass(self) -> None:
        self._is_scheduled = False
        outbox = next(iter(self._outboxes))
        all_of_them = self._outboxes.pop(outbox)
        was_making = is_making(outbox)
        try:
            index = _first_unfinished(outbox) if all_of_them or was_making else None
            if index is None:
                return
            is_finished = make(outbox, index, MADE_PER_PASS)
            if all_of_them or not is_finished:
                self._outboxes[outbox] = all_of_them
            if is_finished and was_making:
                outbox.made()
        finally:
            if self._outboxes:
                self._schedule()
