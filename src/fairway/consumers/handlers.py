"""Runs several handlers of one consumer at the same time.

By default, a consumer handles one message after another. If it allows more, it has a `HandlerGroup`. The group hands
the items of the inbox to at most `limit` tasks, in order. If all of them are busy when the client leaves, the group
takes the disconnect before the items in front of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

from fairway.delivery import Inbox, statistics
from fairway.logs import get_logger

logger = get_logger("fairway.consumers")


class HandlerGroup:
    """At most `limit` handlers that run at the same time for one inbox. Belongs to one event loop.

    One task, the consumer's loop, calls `next` for an item, calls `start` with a handler for it, and repeats that.
    While all slots are taken, `next` waits for a slot; otherwise it waits for an item. So no item leaves the inbox
    before a handler can begin with it. Handlers begin in the order in which they were started, and end in any order.

    The first handler that raises ends the group: `next` raises its error. If the loop waits in `next` for an item at
    that time, it is woken without an item. At the end, the loop calls `finish`, or `cancel` if it has failed itself.
    """

    __slots__ = ("_error", "_free_slot", "_inbox", "_is_over", "_limit", "_running")

    def __init__(self, inbox: Inbox, limit: int) -> None:
        self._inbox = inbox
        self._limit = limit
        self._running: set[asyncio.Task[None]] = set()
        self._error: BaseException | None = None
        # `next` awaits this while all slots are taken.
        self._free_slot: asyncio.Future[None] | None = None
        self._is_over = False
        inbox.on_ending = self._wake

    async def next(self) -> Any:
        """Return the next item for a handler, once a slot is free. Return the disconnect even if no slot is free.

        In that case, the messages that the client sent before it left are dropped and counted (`statistics.unhandled`).
        Raises the first error of a handler, including `StopConsumer`.
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
        """Run a handler in a task of its own. Waits for one pass of the event loop, in which the handler begins."""
        task = self._inbox.loop.create_task(_run(handler))
        self._running.add(task)
        task.add_done_callback(self._ended)
        await asyncio.sleep(0)

    async def finish(self, seconds: float) -> None:
        """Wait up to `seconds` for the handlers to end, then cancel them. Raises their first error."""
        try:
            if self._running and seconds > 0:
                _, late = await asyncio.wait(self._running, timeout=seconds)
                if late:
                    logger.warning("%d handlers were cancelled: they still ran after %g s", len(late), seconds)
        finally:
            await self.cancel()
        self._raise_first_error()

    async def cancel(self) -> None:
        """Cancel the handlers, and wait until they have ended. Errors that they raise from now on are not reported."""
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
            del error  # its traceback refers to this frame

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
