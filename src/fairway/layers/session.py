"""A backplane at work in one event loop, with its subscriptions kept in step with what the layer's members need."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from concurrent import futures
from typing import Protocol

from fairway.delivery import running_loop_or_none
from fairway.layers.backplane import Backplane, BackplaneError, Unavailable
from fairway.layers.interests import Interests
from fairway.layers.lag import Lag

DRAIN = 0.4
"""Seconds that posted messages have to be confirmed when the event loop ends. Servers allow half a second for it."""

MEASURE_EVERY = 5.0
"""Seconds between two measurements of the lag."""


class Superseded(Unavailable):
    """The session has stopped, and nothing was sent: another session of the layer may take the call over."""

    def __init__(self) -> None:
        super().__init__("the channel layer has been closed")


class Receiver(Protocol):
    """Takes what arrives for a subject."""

    def message(self, session: Session, subject: str, data: bytes) -> Awaitable[None] | None:
        """Await the result, if there is one, before the next message."""

    def up(self, session: Session, again: bool) -> None:
        """All subscriptions stand. `again`: there was an outage, and messages may have been missed in it."""

    def subscribed(self, session: Session, subjects: Sequence[str]) -> None:
        """These subjects are subscribed to now."""

    def unsubscribed(self, subjects: Sequence[str]) -> None:
        """These subjects are not subscribed to any more."""

    async def closing(self, session: Session) -> None:
        """The session is about to disconnect. Do not wait for long."""


class Session:
    """Lives from a layer's first use in an event loop until that loop ends, another loop takes over, or `close`.

    From `stop` on it neither hears nor asks for anything, because another session may have begun, in another thread:
    interests and receiver belong to one session at a time. What it was asked to send before, it still sends.

    An asynchronous generator notices the end of the loop: an orderly shutdown cancels the tasks, and then closes all
    asynchronous generators.

    Everything runs in the session's own loop, except `retire` and the notices of `Interests`, which come from any
    thread.
    """

    def __init__(
        self,
        backplane: Backplane,
        receiver: Receiver,
        interests: Interests,
        round_trip: Callable[[int], tuple[str, bytes]] | None = None,
    ) -> None:
        """`round_trip`: the subject and the bytes of a message with this number that comes back to this process."""
        self.loop = asyncio.get_running_loop()
        self.backplane = backplane
        self.posts = True  # whether senders in this loop go on without waiting for the service
        self.is_closed = False
        """Whether it has stopped. What works for it looks at this whenever it has waited."""
        self._has_ended = False
        self.lag = Lag()
        self._round_trip = round_trip
        self._measuring: asyncio.TimerHandle | None = None
        self._was_up = False
        self._receiver = receiver
        self._interests = interests
        self._asking: set[asyncio.Task[None]] = set()
        self._waiters: dict[str, list[asyncio.Future[None]]] = {}
        self._sweep: asyncio.TimerHandle | None = None
        self._guard = self._until_the_loop_ends()
        # The first step only starts to wait for the loop's end, which takes no task.
        _step(self._guard)

    @property
    def is_alive(self) -> bool:
        """Whether calls can still be made in its loop, or handed over to it."""
        return not self.is_closed and self.loop.is_running()

    def start(self) -> None:
        """Begin to connect and to subscribe. Returns at once."""
        self.backplane.start(self)
        self._interests.begin(self._notice)
        if self._round_trip is not None:
            self._measuring = self.loop.call_later(MEASURE_EVERY, self._measure, self._round_trip)

    async def close(self) -> None:
        """Send what is still waiting, and disconnect. Call it in the session's own loop."""
        await self._close()
        await self._guard.aclose()

    async def _close(self) -> None:
        if self._has_ended:
            return
        self.stop()
        await self._receiver.closing(self)
        await self.backplane.close(DRAIN)
        self._has_ended = True  # if it is cancelled before this, the end of the loop completes it

    def stop(self) -> None:
        """Take part in nothing any more. Whoever waits for a subscription gets `Superseded`."""
        self.is_closed = True
        self._interests.end(self._notice)
        for timer in (self._sweep, self._measuring):
            if timer is not None:
                timer.cancel()
        for task in self._asking:
            task.cancel()
        self._answer(list(self._waiters), Superseded())

    def check(self) -> None:
        """Raise `Superseded` if it has stopped."""
        if self.is_closed:
            raise Superseded

    async def stop_from_elsewhere(self, patience: float) -> None:
        """Have it stop in its own loop, which is not the running one. Returns then, or after `patience` seconds."""
        stopped = futures.Future[None]()

        def stop() -> None:
            self.stop()
            stopped.set_result(None)

        with contextlib.suppress(RuntimeError):  # the loop has been closed
            self.loop.call_soon_threadsafe(stop)
            await asyncio.wait([asyncio.wrap_future(stopped)], timeout=patience)

    def retire(self) -> None:
        """Close soon, because another session has taken over. Any thread may call it."""
        self.is_closed = True
        if not self.loop.is_closed():
            asyncio.run_coroutine_threadsafe(self.close(), self.loop)

    async def _until_the_loop_ends(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            await self._close()

    # Subscriptions --------------------------------------------------------------------------------------------

    async def stand(self, subject: str) -> None:
        """Want the subject, and wait until it is subscribed to. Raises `Unavailable` or `Refused` if that fails."""
        self.check()
        if self._interests.want(subject):
            return
        waiter: asyncio.Future[None] = self.loop.create_future()
        self._waiters.setdefault(subject, []).append(waiter)
        await waiter
        self.check()

    def is_standing(self, subject: str) -> bool:
        """Whether the subject is subscribed to."""
        return not self.is_closed and self._interests.is_standing(subject)

    def unwant(self, subject: str) -> None:
        """Nobody needs this subject after all."""
        self._interests.unwant(subject)

    def _notice(self) -> None:
        """The interests have changed. Called from any thread, under their lock."""
        if self.loop is running_loop_or_none():
            self.loop.call_soon(self._look)
        else:
            try:
                self.loop.call_soon_threadsafe(self._look)
            except RuntimeError:  # the loop was closed without shutting down its generators
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
            self.check()
        except Superseded:
            pass
        except Exception as error:
            self._interests.answered(request, names, is_standing=False)
            self._answer(names, error)
        else:
            self._interests.answered(request, names, is_standing=True)
            self._receiver.subscribed(self, names)
            self._answer(names, None)

    def _answer(self, names: Sequence[str], error: Exception | None) -> None:
        for waiter in [waiter for name in names for waiter in self._waiters.pop(name, ())]:
            if waiter.done():
                continue
            if error is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(error)
                waiter.exception()  # mark it as retrieved: the waiting call may have been cancelled

    def _unsubscribe(self) -> None:
        self._sweep = None
        if self.is_closed:
            return
        names = self._interests.take_left()
        if names:
            self._receiver.unsubscribed(names)
            task = self.loop.create_task(self._leave(names))
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)
        if self._interests.has_leaving:
            self._sweep = self.loop.call_later(self._interests.linger, self._unsubscribe)

    async def _leave(self, names: Sequence[str]) -> None:
        with contextlib.suppress(BackplaneError):  # the next connection will not subscribe to them anyway
            await self.backplane.unsubscribe(names)

    # Lag ------------------------------------------------------------------------------------------------------

    def _measure(self, round_trip: Callable[[int], tuple[str, bytes]]) -> None:
        """Send a message to this process itself, unless one is under way."""
        if self.is_closed:
            return
        self._measuring = self.loop.call_later(MEASURE_EVERY, self._measure, round_trip)
        number = self.lag.sent(time.monotonic()) if self.backplane.is_up else None
        if number is not None:
            task = self.loop.create_task(self._go_round(*round_trip(number)))
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)

    async def _go_round(self, subject: str, data: bytes) -> None:
        try:
            await self.stand(subject)
            waiting = self.backplane.post(subject, data)
            if waiting is not None:
                await waiting
        except BackplaneError:
            self.lag.lost()

    # What the backplane reports (`Events`) --------------------------------------------------------------------

    def message(self, subject: str, data: bytes) -> Awaitable[None] | None:
        return None if self.is_closed else self._receiver.message(self, subject, data)

    def up(self) -> None:
        if self.is_closed:
            return
        self._interests.ask_again()
        again, self._was_up = self._was_up, True
        self._receiver.up(self, again)

    def down(self, error: Exception) -> None:
        """The connection is lost. Calls in progress raise by themselves, so only the lag has to be told."""
        self.lag.lost()


def _step(generator: AsyncGenerator[None, None]) -> None:
    """Run an asynchronous generator to its first `yield`. It must get there without waiting."""
    with contextlib.suppress(StopIteration):
        next(generator.__anext__().__await__())
