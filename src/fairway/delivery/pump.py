"""Fills an inbox from the `receive` of another project's server or channel layer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from fairway.delivery.inbox import Inbox
from fairway.delivery.payload import Message


class SourceFailed:
    """The item that a pump puts into the inbox if its source raises. The consumer then raises the error."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


class Pump:
    """Fills an inbox from the `receive` of a server, or of a channel layer (`for_layer`), in a task of its own.

    The next message is fetched only after the consumer has taken the last one. So a message that nobody will handle
    stays in its source. With `ahead`, which is for clients, messages are fetched until the inbox is full, but the
    pieces of a request's body still one by one.

    The pump ends after a disconnect event, after an error of the source (`SourceFailed`), or by `stop`.
    """

    __slots__ = ("_ahead", "_for_layer", "_gate", "_inbox", "_is_stopped", "_source", "_task")

    def __init__(
        self, source: Callable[[], Awaitable[Message]], inbox: Inbox, for_layer: bool = False, ahead: bool = False
    ) -> None:
        self._source = source
        self._inbox = inbox
        self._for_layer = for_layer
        self._ahead = ahead
        self._gate: asyncio.Future[None] | None = None
        self._is_stopped = False
        self._task = inbox.loop.create_task(self._run())

    def _put(self, item: Any) -> None:
        if self._for_layer:
            self._inbox.put_layer(item, capacity=2)  # one message, and the error that may follow it
        else:
            self._inbox.put_client(item)

    async def _run(self) -> None:
        while True:
            try:
                message = await self._source()
            except BaseException as error:
                if isinstance(error, asyncio.CancelledError) and self._is_stopped:
                    raise
                self._put(SourceFailed(error))
                return
            self._gate = gate = self._inbox.loop.create_future()
            if not self._for_layer and message.get("type") in ("websocket.disconnect", "http.disconnect"):
                self._inbox.put_disconnect(message)
                return
            self._put(message)
            # Pieces of a request's body can be large, and are handled in turn, so only one of them waits at a time.
            if not self._ahead or self._inbox.full or message.get("more_body"):
                await gate

    def proceed_if_taken(self) -> None:
        """A message was dispatched: fetch the next one, unless the inbox still holds one from this pump's lane."""
        gate = self._gate
        if self._inbox.layer_size if self._for_layer else self._inbox.client_waiting:
            return
        if gate is not None:
            self._gate = None
            if not gate.done():
                gate.set_result(None)

    async def stop(self) -> None:
        """Cancel the call of the source, and wait until it has ended, so that it can clean up."""
        task = self._task
        # Cut a reference cycle: the task refers to its exception, this to its traceback, and this to a frame with the
        # pump.
        del self._task
        self._is_stopped = True
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()
