"""Ends a process by a deadline, even if some of its tasks or threads do not end.

At its exit, Python waits for all threads that are not daemons, including the threads of pools, without a limit. A
`Departure` waits for them only until a deadline. Then it logs what is left behind, runs the exit functions, flushes the
output, and ends the process.

Only code that owns the whole process may use it, such as a command line, or the child process of a test. Libraries must
not.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
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
"""Seconds that threads have to end after everything else has ended."""

_LAST_SECONDS = 1.0
"""Seconds that exit functions and the flushing of output may take in a process that does not end by itself."""


class Departure:
    """Ends this process. It starts no thread before `by` or `leave` is called.

    From then on, one daemon thread waits for the deadline. When it comes, a second thread logs, runs the exit functions
    and flushes the output. Each of these may block. So the first thread waits a bounded time for the second one, and
    then ends the process.
    """

    def __init__(self, exit_functions: bool = True) -> None:
        """`exit_functions`: whether to run the functions registered with `atexit` at the deadline."""
        self._exit_functions = exit_functions
        # Its `put` may be interrupted by another `put`, because signal handlers call it.
        self._orders: queue.SimpleQueue[tuple[float, int] | None] = queue.SimpleQueue()
        # What is counted here is counted once, even if a signal handler interrupts.
        self._begun = itertools.count()
        self._thread: threading.Thread | None = None
        self._is_time = threading.Event()
        self._leaving: threading.Thread | None = None
        self.deadline: float | None = None
        """When the process must have ended, as a time of `time.monotonic()`. None until `by` or `leave` is called."""

    def by(self, deadline: float, code: int = 0) -> None:
        """End the process at the deadline if it still runs. A later call replaces the deadline and the exit code.

        Any thread and any signal handler may call it.
        """
        self.deadline = deadline
        self._orders.put((deadline, code))
        if self._thread is None and next(self._begun) == 0:
            # Make the threads here: CPython 3.13 cannot start a thread object that was made before a fork.
            self._last = threading.Thread(target=self._finish, name="fairway departure, last", daemon=True)
            self._thread = threading.Thread(target=self._watch, name="fairway departure", daemon=True)
            self._thread.start()
            # Start it before it is needed: CPython 3.12.0 and 3.12.1 start no thread while they wait for the others.
            self._last.start()

    def leave(self, code: int) -> None:
        """End the process with this code. Call it last, when everything has ended except what was left behind.

        If a task was left behind, the process ends at once, and this does not return. Otherwise this returns, and
        Python ends the process: the remaining threads have time until the deadline, but at least `GRACE`. From then on,
        SIGINT and SIGTERM end the process at once.
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
        # The function that is registered last runs first. When it runs, Python has waited for the threads, and the
        # deadline is no longer needed.
        atexit.register(self._orders.put, None)

    @contextlib.contextmanager
    def at_the_end(self) -> Iterator[None]:
        """Run the block, then call `leave`. If the block raises SystemExit, its code is used."""
        try:
            yield
        except SystemExit as error:
            # As in Python: a number is the exit code, None is success, and anything else is a failure.
            self.leave(error.code if isinstance(error.code, int) else int(error.code is not None))
            raise
        self.leave(0)

    def take_signals(self, code: int = 0) -> None:
        """From now on, let SIGINT and SIGTERM end the process at once. Call this in the main thread."""
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
        with contextlib.suppress(RuntimeError):  # the thread could not be started
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
