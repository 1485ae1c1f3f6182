"""Messages of a named channel, on their way to the instances of the application that handle them."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import Any

from fairway.consumers.errors import StopConsumer
from fairway.delivery import Inbox, Message, Reader, SourceFailed


class Instance(Reader):
    """One running instance of the application, seen from the worker: `receive` is its ASGI callable.

    Our consumers take from its inbox without calling `receive`, so the worker sees by `inbox.parked` that they wait,
    even while other handlers of theirs run. It is a reader only: there is no client to whom anything could be sent.
    """

    __slots__ = ("_queue", "has_asked", "has_received")

    def __init__(self, queue: InputQueue) -> None:
        self._queue = queue
        self.inbox = Inbox(asyncio.get_running_loop(), source=self)
        self.has_asked = False
        self.has_received = False

    async def receive(self) -> Message:
        """ASGI `receive`. Raises `StopConsumer` when the worker is to end; cancelling loses nothing."""
        item = await self.inbox.get()
        if type(item) is SourceFailed:
            raise item.error
        return item  # type: ignore[no-any-return]  # nothing but messages is put in

    def parking(self) -> None:
        """The application is about to wait. Called just before it does, hence the detour over the loop."""
        self.has_asked = True
        self.inbox.loop.call_soon(self._queue.hand_out)

    def resume_reading(self) -> None:
        """Never called: this inbox only gets what is wanted at once, so it is never full."""

    def give(self, item: Any) -> None:
        self.has_received = True
        self.inbox.put_client(item)


class InputQueue:
    """Messages on their way to the instances of one scope.

    Messages go to whichever instance waits, in order. At most `maxsize` are kept for instances that are busy; a
    listener that awaits `wanted` before it fetches never needs more than one.
    """

    def __init__(self, maxsize: int = 1000) -> None:
        self.maxsize = maxsize
        self.instances: set[Instance] = set()
        self.error: BaseException | None = None
        self._messages: deque[Message] = deque()
        self._changed = asyncio.Event()
        self._closing = asyncio.Event()

    def qsize(self) -> int:
        return len(self._messages)

    @property
    def closed(self) -> bool:
        return self._closing.is_set()

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do: no message, and every instance waits for one."""
        return not self._messages and all(instance.inbox.parked for instance in self.instances)

    def put_nowait(self, message: Message) -> None:
        """Add a message, whether or not an instance waits. `asyncio.QueueFull` at `maxsize`."""
        if self.closed:
            raise RuntimeError("this queue was closed: ask get_or_create_application_instance() for another")
        if len(self._messages) >= self.maxsize:
            raise asyncio.QueueFull
        self._messages.append(message)
        self.hand_out()

    async def put(self, message: Message) -> None:
        """Add a message when an instance waits for it."""
        await self.wanted()
        self.put_nowait(message)

    async def wanted(self) -> None:
        """Wait until an instance waits for a message that is not here, or the queue is closed.

        Raises the error of an application that cannot be started.
        """
        while not self._is_wanted():
            if self.error is not None:
                raise self.error
            self._changed.clear()
            await self._changed.wait()

    def _is_wanted(self) -> bool:
        return self.closed or (not self._messages and any(instance.inbox.parked for instance in self.instances))

    def hand_out(self) -> None:
        """Give each instance that waits a message; once the queue is closed and empty, the end."""
        for instance in self.instances:
            if instance.inbox.parked:
                if self._messages:
                    instance.give(self._messages.popleft())
                elif self.closed:
                    instance.give(SourceFailed(StopConsumer()))
        self._changed.set()

    def close(self) -> None:
        """End the instances, each when it asks for a message next and there is none left."""
        self._closing.set()
        self.hand_out()

    def fail(self, error: BaseException) -> None:
        """Let `wanted` raise this error."""
        self.error = error
        self._changed.set()

    async def pause(self, seconds: float) -> None:
        """Sleep, but not after the queue was closed."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closing.wait()
