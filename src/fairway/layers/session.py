"""A layer's backplane at work, in one event loop: it keeps the subscriptions as the layer's members need them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Sequence
from typing import Protocol

from fairway.delivery import running_loop_or_none
from fairway.layers.backplane import Backplane, Unavailable
from fairway.layers.interests import Interests

DRAIN = 0.4
"""Seconds that what was posted has to be confirmed when the event loop ends. Servers give the end half a second."""


class Receiver(Protocol):
    """Takes what comes for a subject."""

    def message(self, session: Session, subject: str, data: bytes) -> Awaitable[None] | None:
        """What is returned, if anything, is to be awaited before the next message."""

    def up(self, session: Session, again: bool) -> None:
        """All subscriptions stand. If it is up `again`, what came meanwhile may have been missed."""


class Session:
    """From the first use of a layer in an event loop until that loop ends, another loop takes over, or `close`.

    The loop's end is noticed by an asynchronous generator, which every orderly end of a loop closes, after it has
    cancelled the tasks.
    """

    def __init__(self, backplane: Backplane, receiver: Receiver, interests: Interests) -> None:
        self.loop = asyncio.get_running_loop()
        self.backplane = backplane
        self.posts = True  # whether what is sent in this loop is sent without waiting for the service
        self.is_closed = False
        self._was_up = False
        self._receiver = receiver
        self._interests = interests
        self._asking: set[asyncio.Task[None]] = set()
        self._waiters: dict[str, list[asyncio.Future[None]]] = {}
        self._sweep: asyncio.TimerHandle | None = None
        self._guard = self._until_the_loop_ends()
        # Its first step only waits for the loop's end: it needs no task.
        _step(self._guard)

    @property
    def is_alive(self) -> bool:
        """Whether it can be used, by a call in its loop or handed over to it."""
        return not self.is_closed and self.loop.is_running()

    def start(self) -> None:
        """Begin to connect, and subscribe to what the layer is interested in."""
        self.backplane.start(self)
        self._interests.begin(self._notice)

    async def close(self) -> None:
        """Send what waits, and disconnect. In the session's own loop."""
        await self._close()
        await self._guard.aclose()

    async def _close(self) -> None:
        if self.is_closed:
            return
        self.is_closed = True
        self._interests.end(self._notice)
        if self._sweep is not None:
            self._sweep.cancel()
        for task in self._asking:
            task.cancel()
        self._answer(list(self._waiters), Unavailable("the channel layer has been closed"))
        await self.backplane.close(DRAIN)

    def retire(self) -> None:
        """Close soon; from any thread. Another session has taken over."""
        if not self.loop.is_closed():
            asyncio.run_coroutine_threadsafe(self.close(), self.loop)

    async def _until_the_loop_ends(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            await self._close()

    # Subscriptions --------------------------------------------------------------------------------------------

    async def stand(self, subject: str) -> None:
        """Return when the subject is subscribed to; `Unavailable` or `Refused` if it cannot be."""
        if self._interests.is_standing(subject):
            return
        waiter: asyncio.Future[None] = self.loop.create_future()
        waiters = self._waiters.get(subject)
        if waiters is None:
            self._waiters[subject] = [waiter]
            self._interests.ask(subject)
        else:
            waiters.append(waiter)
        await waiter

    def _notice(self) -> None:
        """The interests have changed. From any thread, under their lock."""
        if self.loop is running_loop_or_none():
            self.loop.call_soon(self._look)
        else:
            try:
                self.loop.call_soon_threadsafe(self._look)
            except RuntimeError:  # it has been closed, and nobody said so
                self.is_closed = True

    def _look(self) -> None:
        if self.is_closed:
            return
        request, names = self._interests.take_wanted()
        if names:
            task = self.loop.create_task(self._subscribe(request, names))
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)
        if self._sweep is None and self._interests.has_leaving:
            self._sweep = self.loop.call_later(self._interests.linger, self._unsubscribe)

    async def _subscribe(self, request: int, names: Sequence[str]) -> None:
        try:
            await self.backplane.subscribe(names)
        except Exception as error:
            self._interests.answered(request, names, is_standing=False)
            self._answer(names, error)
        else:
            self._interests.answered(request, names, is_standing=True)
            self._answer(names, None)

    def _answer(self, names: Sequence[str], error: Exception | None) -> None:
        for waiter in [waiter for name in names for waiter in self._waiters.pop(name, ())]:
            if waiter.done():
                continue
            if error is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(error)
                waiter.exception()  # seen, even if nobody waits any more

    def _unsubscribe(self) -> None:
        self._sweep = None
        names = self._interests.take_left()
        if names:
            task = self.loop.create_task(self._leave(names))
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)
        if self._interests.has_leaving:
            self._sweep = self.loop.call_later(self._interests.linger, self._unsubscribe)

    async def _leave(self, names: Sequence[str]) -> None:
        with contextlib.suppress(ConnectionError):  # the next connection does not subscribe to them
            await self.backplane.unsubscribe(names)

    # What the backplane tells (`Events`) ----------------------------------------------------------------------

    def message(self, subject: str, data: bytes) -> Awaitable[None] | None:
        return self._receiver.message(self, subject, data)

    def up(self) -> None:
        self._interests.ask_again()
        again, self._was_up = self._was_up, True
        self._receiver.up(self, again)

    def down(self, error: Exception) -> None:
        """The calls that fail say so."""


def _step(generator: AsyncGenerator[None, None]) -> None:
    """Run an asynchronous generator up to its first `yield`, which it must reach without waiting."""
    with contextlib.suppress(StopIteration):
        next(generator.__anext__().__await__())
