"""Handlers of one consumer that run at the same time.

A consumer handles one message after the other. One that allows more has a `HandlerGroup`: it hands out the items of the
inbox to at most `limit` tasks, in order, and takes the client's disconnect out of turn when all of them are busy.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

from fairway.delivery import Inbox, statistics
from fairway.logs import get_logger

logger = get_logger("fairway.consumers")


class HandlerGroup:
    """At most `limit` handlers that run at once for one inbox. Belongs to one event loop.

    One task, the consumer's loop, asks for the next item, starts a handler with it, and asks again. It waits in `next`
    for an item if a slot is free, and for a slot if none is. So nothing leaves the inbox before a handler can begin
    with it. The first handler that raises ends the group: `next` raises its error, and a loop that waits for an item is
    woken without one for that. Handlers begin in the order in which they were started, and end in any order. The loop
    ends with `finish`, or with `cancel` if it has failed itself.
    """

    __slots__ = ("_error", "_free_slot", "_inbox", "_is_over", "_limit", "_running")

    def __init__(self, inbox: Inbox, limit: int) -> None:
        self._inbox = inbox
        self._limit = limit
        self._running: set[asyncio.Task[None]] = set()
        self._error: BaseException | None = None
        # What `next` waits on while all slots are taken.
        self._free_slot: asyncio.Future[None] | None = None
        self._is_over = False
        inbox.on_ending = self._wake

    async def next(self) -> Any:
        """Return the next item for a handler, once a slot is free; return the disconnect as soon as it is known.

        Raises the error of a handler, `StopConsumer` included. What the client sent before it left, and no handler was
        free for, is dropped and counted (`statistics.unhandled`).
        """
        while True:
            self._raise_first_error()
            if len(self._running) >= self._limit:
                if self._inbox.ending:
                    return self._skip_to_the_end()
                self._free_slot = self._inbox.loop.create_future()
                await self._free_slot
                continue
            item = self._inbox.take_nowait()
            if item is None:
                item = await self._inbox.wait()
            if item is not None:
                return item

    async def start(self, handler: Awaitable[Any]) -> None:
        """Run a handler in a task of its own, and let it begin."""
        task = self._inbox.loop.create_task(_run(handler))
        self._running.add(task)
        task.add_done_callback(self._ended)
        await asyncio.sleep(0)

    async def finish(self, seconds: float) -> None:
        """Give the handlers time to end, then cancel them; raises the first error among them."""
        try:
            if self._running and seconds > 0:
                _, late = await asyncio.wait(self._running, timeout=seconds)
                if late:
                    logger.warning("%d handlers were cancelled: they still ran after %g s", len(late), seconds)
        finally:
            await self.cancel()
        self._raise_first_error()

    async def cancel(self) -> None:
        """Cancel the handlers and wait until they have ended. What they raise now is not reported."""
        self._is_over = True
        self._inbox.on_ending = None
        running = list(self._running)
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is None or self._error is not None or self._is_over:
            self._wake()
            return
        self._error = error
        self._wake()
        self._inbox.nudge()

    def _raise_first_error(self) -> None:
        error, self._error = self._error, None
        try:
            if error is not None:
                raise error
        finally:
            del error  # its traceback has this frame in it

    def _wake(self) -> None:
        free_slot = self._free_slot
        if free_slot is not None:
            self._free_slot = None
            if not free_slot.done():
                free_slot.set_result(None)

    def _skip_to_the_end(self) -> Any:
        event, skipped = self._inbox.take_ending()
        if skipped:
            statistics.unhandled += skipped
            logger.warning("%d messages of a client that has left were not handled: all handlers were busy", skipped)
        return event


async def _run(handler: Awaitable[Any]) -> None:
    await handler
