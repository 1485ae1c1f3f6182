"""An event loop in its own thread, for code that has none: calls from synchronous code run in it.

A forked child inherits its parent's loop, but not the thread. It must not close that loop: closing it would make the
kernel stop watching the parent's descriptors. So the child keeps the loop untouched, and starts one of its own.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent import futures
from typing import Any, TypeVar

T = TypeVar("T")

_STOP_TIMEOUT = 5.0


class BackgroundLoop:
    """An event loop in a daemon thread. The first call starts it, and any thread may call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._left_to_parents: list[object] = []
        self._process = os.getpid()

    def run(
        self, function: Callable[..., Coroutine[Any, Any, T]], /, *args: Any, timeout: float | None, **kwargs: Any
    ) -> T:
        """Run a coroutine function in the loop, wait for its end, and return its result.

        An exception in the waiting thread, such as KeyboardInterrupt, cancels it; so does the time-out, which raises
        TimeoutError.
        """
        future = asyncio.run_coroutine_threadsafe(function(*args, **kwargs), self.started())
        try:
            futures.wait([future], timeout)
        finally:
            unfinished = future.cancel()
        if unfinished:
            name = getattr(function, "__qualname__", repr(function))
            raise TimeoutError(f"{name} did not finish within {timeout:g} s: is the channel layer's service up?")
        return future.result()

    def stop(self) -> None:
        """Cancel whatever runs, and close the event loop. A later call starts a new one."""
        self._notice_fork()
        with self._lock:
            loop, self._loop = self._loop, None
            thread, self._thread = self._thread, None
        if loop is not None and thread is not None and thread.is_alive():
            loop.call_soon_threadsafe(loop.stop)
            thread.join(_STOP_TIMEOUT)

    def started(self) -> asyncio.AbstractEventLoop:
        """The event loop, started if need be."""
        self._notice_fork()
        with self._lock:
            if self._loop is None or self._thread is None or not self._thread.is_alive():
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=_serve, args=(self._loop,), name="fairway-layers", daemon=True)
                self._thread.start()
            return self._loop

    def is_its_own(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether this is the background event loop."""
        return loop is self._loop

    def start_anew(self) -> None:
        """In a forked child: leave the loop and its thread to the parent."""
        self._left_to_parents.append((self._loop, self._thread))
        self._lock = threading.Lock()
        self._loop = self._thread = None
        self._process = os.getpid()

    def _notice_fork(self) -> None:
        # uWSGI runs the hooks of Python's forks only if its option py-call-osafterfork says so.
        if self._process != os.getpid():
            self.start_anew()


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.get_loop().run_forever()


def finished(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that never waits."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    coroutine.close()
    raise RuntimeError("it waits for an event loop")


background = BackgroundLoop()
"""The one background loop of this process."""

os.register_at_fork(after_in_child=background.start_anew)
atexit.register(background.stop)
