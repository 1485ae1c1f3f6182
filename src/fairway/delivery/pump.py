"""Fills an inbox from somebody else's `receive`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from fairway.delivery.inbox import Inbox
from fairway.delivery.payload import Message


class SourceFailed:
    """Put into the inbox by a pump whose source raised. The consumer raises the error where it waits."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


class Pump:
    """Fills an inbox from an awaitable source: a foreign server's `receive`, a foreign layer's `receive`.

    The next message is fetched only after the last one was dispatched, so that a message that nobody will handle
    stays where it is; with `ahead`, which is for clients, as long as the inbox is not full and no body is under way.
    Ends after a disconnect event, with the source's error (`SourceFailed`), or by `stop`.
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
            self._inbox.put_layer(item, capacity=2)  # one message at a time, and the error that ends the source
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
            # Pieces of a request's body can be large, and are handled in turn: one of them waits at a time.
            if not self._ahead or self._inbox.full or message.get("more_body"):
                await gate

    def proceed_if_taken(self) -> None:
        """A message has been dispatched: fetch another, unless the one fetched last still waits."""
        gate = self._gate
        if self._inbox.layer_size if self._for_layer else self._inbox.client_waiting:
            return
        if gate is not None:
            self._gate = None
            if not gate.done():
                gate.set_result(None)

    async def stop(self) -> None:
        """Cancel the fetching and wait until it has ended, so that the source may clean up."""
        task = self._task
        # The task refers to its exception, the exception to its traceback, and that to the frame in which this pump
        # runs.
        del self._task
        self._is_stopped = True
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()
