"""Ends a process by a deadline, even if something in it does not want to end.

Python waits at its exit for every thread that is not a daemon, those of pools included, for as long as they run. A
`Departure` waits for them no longer than was promised: it says what is left behind, has the exit functions run and the
output flushed, and ends the process.

It belongs to whoever owns the process: a command line, the child that a test starts. A library has none.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Iterator

from fairway import running, whereabouts

logger = logging.getLogger("fairway.server")

GRACE = 0.5
"""Seconds that threads have to end after everything else has."""

_LAST_SECONDS = 1.0
"""Seconds that exit functions and the flushing of output may take in a process that does not end by itself."""


class Departure:
    """Nothing happens before `by` or `leave` is called."""

    def __init__(self, exit_functions: bool = True) -> None:
        """`exit_functions`: whether those of `atexit` are for this process to call."""
        self._exit_functions = exit_functions
        # Its `put` may be interrupted by another `put`, because signal handlers call it.
        self._orders: queue.SimpleQueue[tuple[float, int] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._is_time = threading.Event()
        self._leaving: threading.Thread | None = None
        self.deadline: float | None = None
        """By `time.monotonic()`; None as long as nobody wants the process to end."""

    def by(self, deadline: float, code: int = 0) -> None:
        """End the process at the deadline if it still lives then; a later call sets another one. For any thread."""
        self.deadline = deadline
        self._orders.put((deadline, code))
        if self._thread is None:
            # Made here: CPython 3.13 starts no thread that was made before a fork.
            self._last = threading.Thread(target=self._finish, name="fairway departure, last", daemon=True)
            self._thread = threading.Thread(target=self._watch, name="fairway departure", daemon=True)
            self._thread.start()
            # Before it is needed: CPython 3.12.0 and 3.12.1 start no thread once Python waits for those that there are.
            self._last.start()

    def leave(self, code: int) -> None:
        """Call this last: everything has ended except what was left behind.

        Returns, and lets Python end the process, if only threads may be left: they have the rest of the time that was
        promised, until a signal says otherwise.
        """
        now = time.monotonic()
        self._leaving = threading.current_thread()
        if not all(task.done() for task in running.left_behind):
            self.by(now, code)
            assert self._thread is not None
            self._thread.join()
        self.by(max(self.deadline or 0.0, now + GRACE), code)
        if threading.current_thread() is threading.main_thread():
            self.take_signals(code)
        # This runs first of the exit functions. Python has waited for the threads by then.
        atexit.register(self._orders.put, None)

    @contextlib.contextmanager
    def at_the_end(self) -> Iterator[None]:
        """Run the block, then leave, with the block's exit code if it exits."""
        try:
            yield
        except SystemExit as error:
            # As in Python: a number is the exit code, None is success, and anything else is a failure.
            self.leave(error.code if isinstance(error.code, int) else int(error.code is not None))
            raise
        self.leave(0)

    def take_signals(self, code: int = 0) -> None:
        """Let SIGINT and SIGTERM end the process at once from now on. Call this in the main thread."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: self.by(time.monotonic(), code))

    def _watch(self) -> None:
        deadline, code = float("inf"), 0
        while True:
            seconds = deadline - time.monotonic()
            try:
                order = self._orders.get(timeout=max(0.0, seconds) if seconds < threading.TIMEOUT_MAX else None)
            except queue.Empty:
                break
            if order is None:
                return
            deadline, code = order
        self._is_time.set()
        with contextlib.suppress(RuntimeError):  # it could not be started
            self._last.join(_LAST_SECONDS)
        os._exit(code)

    def _finish(self) -> None:
        # This has a thread of its own, because a log, an exit function or a pipe may block.
        self._is_time.wait()
        for text in whereabouts.busy_threads(but=self._leaving):
            logger.warning("left behind, in a thread: %s", text)
        if self._exit_functions:
            atexit._run_exitfuncs()
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.flush()
