"""Where a layer's connection lives: in one event loop, which serves every thread and every other loop of the process.

The first loop that receives becomes the layer's *home*. That is the loop of a server or of a worker. Calls from other
loops and threads are handed over to it. Until somebody receives, senders share the process's background loop. So a
short-lived loop, such as the one `async_to_sync` makes for each call, needs no connection of its own.

When the home's loop ends, the next call opens a session in another loop, and that session subscribes to every group
with members. A forked child starts without a session.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar
from weakref import WeakSet

from fairway.delivery import register_probe, running_loop_or_none
from fairway.layers.background import background
from fairway.layers.backplane import BackplaneError, Unavailable
from fairway.layers.session import Session, Superseded
from fairway.timing.source import applications

T = TypeVar("T")

PATIENCE = 1.0
"""Seconds for which a session waits until the one before it has stopped."""

_ENDED = "the event loop that held the channel layer's connection has ended"


class Home:
    """The session of one layer, wherever it lives. `open_session` makes one in the running loop and starts it."""

    def __init__(self, name: str, open_session: Callable[[], Session], forked: Callable[[], None]) -> None:
        """`forked` is called in a forked child before anything else happens there."""
        self.session: Session | None = None
        self._open_session = open_session
        self._forked = forked
        self._lock = threading.Lock()
        self._left_to_parents: list[Session | None] = []
        self._heir: asyncio.AbstractEventLoop | None = None  # waits until the session in the background has stopped
        register_probe(f"channel layer {name}", self)
        _homes.add(self)

    def is_up(self) -> bool:
        """Whether the service is there. A layer that nobody has used counts as up. (`fairway.delivery.Probe`)"""
        session = self.session
        return session is None or session.is_closed or session.backplane.is_up

    def is_used(self) -> bool:
        """Whether anybody uses the layer. (`fairway.delivery.Probe`)"""
        return self.session is not None

    def problem(self) -> BackplaneError | None:
        """Why the service is not up, if that is known. None if it is up, or if the layer has not been used."""
        session = self.session
        return None if session is None or session.is_closed else session.backplane.problem()

    def lag(self) -> float | None:
        """Seconds that a message takes over the backplane. None if that is not known. (`fairway.delivery.Probe`)"""
        session = self.session
        return None if session is None or session.is_closed else session.lag.seconds(time.monotonic())

    def here(self) -> Session | None:
        """The session, if it can be used and lives in the running loop."""
        session = self.session
        if session is not None and session.loop is running_loop_or_none() and not session.is_closed:
            return session
        return None

    def post(self, subject: str, data: bytes) -> Awaitable[object] | None:
        """Send, without waiting for the service where that is safe. Await the result, if there is one.

        In the home of a server or worker the message is posted: the loop goes on, and sends it before it ends.
        Everybody else waits until the service has the message.
        """
        session = self.session
        if session is not None and session.posts and session.loop is running_loop_or_none() and not session.is_closed:
            return session.backplane.post(subject, data)
        return self.call(lambda session: session.backplane.publish(subject, data))

    async def call(self, function: Callable[[Session], Awaitable[T]], receives: bool = False) -> T:
        """Await a function of the session in the session's loop. `receives`: the running loop may become the home.

        Cancelling cancels the function too. Raises `Unavailable` if the session's loop ends meanwhile. The function,
        and all that it starts, waits in real time, even if the calling application goes by the clock of a test.
        """
        token = applications.set(None)
        try:
            return await self._call(function, receives)
        finally:
            applications.reset(token)

    async def _call(self, function: Callable[[Session], Awaitable[T]], receives: bool) -> T:
        here = asyncio.get_running_loop()
        while True:
            loop = self._loop_for(here, receives)
            if loop is not here:
                return await self._hand_over(loop, function, receives)
            session = await self._session_here(here)
            if session is None:
                continue
            try:
                return await function(session)
            except Superseded:
                if self._heir is None and self.session in (session, None):
                    raise

    async def _hand_over(
        self, loop: asyncio.AbstractEventLoop, function: Callable[[Session], Awaitable[T]], receives: bool
    ) -> T:
        calling = self._call(function, receives)
        try:
            future = asyncio.run_coroutine_threadsafe(calling, loop)
        except RuntimeError:
            calling.close()
            raise Unavailable(_ENDED) from None
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise Unavailable(_ENDED) from None

    async def close(self) -> None:
        """Disconnect. A later call connects again."""
        with self._lock:
            session, self.session = self.session, None
        if session is None or session.is_closed:
            return
        if session.loop is running_loop_or_none():
            await session.close()
        elif session.loop.is_running():
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(session.close(), session.loop))
        else:
            session.retire()

    def retire(self) -> None:
        """Close soon, without waiting. Any thread and any event loop may call it."""
        with self._lock:
            session, self.session = self.session, None
        if session is not None and not session.is_closed:
            session.retire()

    def start_anew(self) -> None:
        """In a forked child: leave the connection to the parent."""
        self._left_to_parents.append(self.session)
        self._lock = threading.Lock()
        self.session = self._heir = None
        self._forked()

    def _loop_for(self, here: asyncio.AbstractEventLoop, receives: bool) -> asyncio.AbstractEventLoop:
        """The loop that has the session, or is to have it. If that is the running one, it may have to be opened."""
        with self._lock:
            session = self.session
            if self._heir is not None and self._heir.is_running():
                return self._heir
            if session is None or not session.is_alive:
                return here if receives else background.started()
            if receives and session.loop is not here and background.is_its_own(session.loop):
                self._heir = here
                return here
            return session.loop

    async def _session_here(self, here: asyncio.AbstractEventLoop) -> Session | None:
        """The session of the running loop, which becomes the home. None if there is one in another loop, after all.

        A session in the background loop is stopped first, so that no two of them work at the same time.
        """
        with self._lock:
            session = self.session
            if session is not None and session.is_alive:
                if session.loop is here:
                    return session
                if self._heir is not here:
                    return None
            else:
                return self._opened()
        try:
            await session.stop_from_elsewhere(PATIENCE)
            with self._lock:
                return self._opened() if self.session is session else None
        finally:
            with self._lock:
                if self._heir is here:
                    self._heir = None

    def _opened(self) -> Session:
        """A session in the running loop, instead of an earlier one. Called under the lock."""
        if self.session is not None:
            self.session.retire()
        session = self.session = self._open_session()
        self._heir = None
        return session


_homes: WeakSet[Home] = WeakSet()


def _start_anew() -> None:
    for home in list(_homes):
        home.start_anew()


os.register_at_fork(after_in_child=_start_anew)
