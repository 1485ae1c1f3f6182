"""Where a layer's connection lives: in one event loop of the process, for all its threads and loops.

The loop in which something is received first is the layer's *home*: that of a server, or of a worker. Calls from other
loops and threads are handed over to it. As long as nobody receives, those who only send share the process's background
loop, so that a short-lived loop, such as `async_to_sync` makes for each call, needs no connection of its own.

When the home's loop ends, the next call opens a session in another, which subscribes to all groups that have members. A
forked child begins without a session.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable
from typing import TypeVar
from weakref import WeakSet

from fairway.delivery import register_probe, running_loop_or_none
from fairway.layers.background import background
from fairway.layers.backplane import Unavailable
from fairway.layers.session import Session

T = TypeVar("T")

_ENDED = "the event loop in which the channel layer kept its connection has ended"


class Home:
    """The session of one layer, wherever it lives. `open_session` makes one in the running loop, and starts it."""

    def __init__(self, name: str, open_session: Callable[[], Session], forked: Callable[[], None]) -> None:
        """`forked` is called in a child process, before anything else is."""
        self.session: Session | None = None
        self._open_session = open_session
        self._forked = forked
        self._lock = threading.Lock()
        self._left_to_parents: list[Session | None] = []
        register_probe(f"channel layer {name}", self)
        _homes.add(self)

    def is_up(self) -> bool:
        """Whether what the layer needs is there, as far as it has been used. (`fairway.delivery.Probe`)"""
        session = self.session
        return session is None or session.is_closed or session.backplane.is_up

    def here(self) -> Session | None:
        """The session, if it is usable and lives in the running loop."""
        session = self.session
        if session is not None and session.loop is running_loop_or_none() and not session.is_closed:
            return session
        return None

    def post(self, subject: str, data: bytes) -> Awaitable[object] | None:
        """Send without waiting for the service, where that is right; what is returned, if anything, is to be awaited.

        In the home of a server or worker a message is posted: the loop goes on, and nothing that waits is forgotten.
        Everybody else waits until the service has it.
        """
        session = self.session
        if session is not None and session.posts and session.loop is running_loop_or_none() and not session.is_closed:
            return session.backplane.post(subject, data)
        return self.call(lambda session: session.backplane.publish(subject, data))

    async def call(self, function: Callable[[Session], Awaitable[T]], receives: bool = False) -> T:
        """Await a function of the session, in its loop. With `receives` the running loop may become the home."""
        here = asyncio.get_running_loop()
        loop = self._loop_for(here, receives)
        if loop is here:
            return await function(self._session_here())
        handed_over = self._run(function)
        try:
            future = asyncio.run_coroutine_threadsafe(handed_over, loop)
        except RuntimeError:
            handed_over.close()
            raise Unavailable(_ENDED) from None
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise Unavailable(_ENDED) from None

    async def close(self) -> None:
        """Disconnect; a later call connects again."""
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
        """`close` soon, from any thread or event loop, without waiting for it."""
        with self._lock:
            session, self.session = self.session, None
        if session is not None and not session.is_closed:
            session.retire()

    def start_anew(self) -> None:
        """In a child process: leave the connection to the parent."""
        self._left_to_parents.append(self.session)
        self._lock = threading.Lock()
        self.session = None
        self._forked()

    async def _run(self, function: Callable[[Session], Awaitable[T]]) -> T:
        return await function(self._session_here())

    def _loop_for(self, here: asyncio.AbstractEventLoop, receives: bool) -> asyncio.AbstractEventLoop:
        session = self.session
        if session is not None and session.is_alive and not (receives and background.is_its_own(session.loop)):
            return session.loop
        return here if receives else background.started()

    def _session_here(self) -> Session:
        """The session of the running loop, which is to be the home."""
        with self._lock:
            session = self.here()
            if session is None:
                if self.session is not None:
                    self.session.retire()
                session = self.session = self._open_session()
            return session


_homes: WeakSet[Home] = WeakSet()


def _start_anew() -> None:
    for home in list(_homes):
        home.start_anew()


os.register_at_fork(after_in_child=_start_anew)
