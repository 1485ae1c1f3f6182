"""The queue of a worker: messages of a named channel for the instances of the application that handle them."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import Any

from fairway.consumers.errors import StopConsumer
from fairway.delivery import Inbox, Message, Reader, SourceFailed


class Instance(Reader):
    """One running instance of the application, as the worker sees it. `receive` is its ASGI callable.

    Our consumers take messages from the inbox directly, without `receive`. The worker knows from `inbox.parked` whether
    the instance waits for a message. This is a `Reader` and not a `Connection`, because there is no client.
    """

    __slots__ = ("_queue", "has_asked", "has_received")

    def __init__(self, queue: InputQueue) -> None:
        self._queue = queue
        self.inbox = Inbox(asyncio.get_running_loop(), source=self)
        self.has_asked = False
        self.has_received = False

    async def receive(self) -> Message:
        """ASGI `receive`. Raises `StopConsumer` when the worker ends. Cancelling loses nothing."""
        item = await self.inbox.get()
        if type(item) is SourceFailed:
            raise item.error
        return item  # type: ignore[no-any-return]  # all other items are messages

    def parking(self) -> None:
        """The application is about to wait. (`fairway.delivery.Source`)

        This is called just before `inbox.parked` is set, so the messages are handed out in the next pass of the loop.
        """
        self.has_asked = True
        self.inbox.loop.call_soon(self._queue.hand_out)

    def resume_reading(self) -> None:
        """Never called: an instance gets a message only while it waits, so its inbox is never full."""

    def give(self, item: Any) -> None:
        self.has_received = True
        self.inbox.put_client(item)


class InputQueue:
    """Messages for the instances of one scope.

    Each message goes to an instance that waits, in order. While all instances are busy, at most `maxsize` messages are
    kept. A listener that awaits `wanted` before it fetches a message needs room for only one. Belongs to one event
    loop.
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
        """Whether there is nothing to do: there is no message, and every instance waits for one."""
        return not self._messages and all(instance.inbox.parked for instance in self.instances)

    def put_nowait(self, message: Message) -> None:
        """Add a message, even if no instance waits. Raises `asyncio.QueueFull` if the queue holds `maxsize`.

        Raises RuntimeError if the queue is closed.
        """
        if self.closed:
            raise RuntimeError("this queue was closed: ask get_or_create_application_instance() for another")
        if len(self._messages) >= self.maxsize:
            raise asyncio.QueueFull
        self._messages.append(message)
        self.hand_out()

    async def put(self, message: Message) -> None:
        """Wait until an instance waits for a message, then add this one."""
        await self.wanted()
        self.put_nowait(message)

    async def wanted(self) -> None:
        """Wait until the queue is empty and an instance waits for a message, or until the queue is closed.

        Raises the error that `fail` was called with, if the application cannot be started.
        """
        while not self._is_wanted():
            if self.error is not None:
                raise self.error
            self._changed.clear()
            await self._changed.wait()

    def _is_wanted(self) -> bool:
        return self.closed or (not self._messages and any(instance.inbox.parked for instance in self.instances))

    def hand_out(self) -> None:
        """Give a message to each instance that waits. If the queue is closed and empty, let the instance end."""
        for instance in self.instances:
            if instance.inbox.parked:
                if self._messages:
                    instance.give(self._messages.popleft())
                elif self.closed:
                    instance.give(SourceFailed(StopConsumer()))
        self._changed.set()

    def close(self) -> None:
        """Let each instance end when it waits for a message and none is left. They get `StopConsumer`."""
        self._closing.set()
        self.hand_out()

    def fail(self, error: BaseException) -> None:
        """Let `wanted` raise this error from now on."""
        self.error = error
        self._changed.set()

    async def pause(self, seconds: float) -> None:
        """Sleep for this time, or until the queue is closed."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closing.wait()
