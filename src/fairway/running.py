"""Runs one coroutine in a new event loop, like `asyncio.run`, with two differences.

If another task raises SystemExit or KeyboardInterrupt, only that task ends, and the loop continues. And closing the
loop takes a bounded time: tasks that ignore their cancellation, and threads that do not return, are left behind.

The other functions help to stop such a coroutine: `handling_signals` installs signal handlers while it runs, `first`
waits for its work or for the request to stop, and `cancel` cancels tasks and waits until they have ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from traceback import walk_tb
from types import FrameType
from typing import Any, TypeVar

from fairway import whereabouts

logger = logging.getLogger("fairway.running")

T = TypeVar("T")

CLOSE_SECONDS = 0.5
"""Seconds that cancelled tasks have to end when the loop is closed. Asynchronous generators then have the same time."""

left_behind: list[asyncio.Task[Any]] = []
"""Tasks that had not ended when the loop was closed. This list keeps them alive: if a suspended task were freed, its
`finally` blocks would run without an event loop.
"""


def run(main: Coroutine[Any, Any, T], factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop) -> T:
    """Run the coroutine in a new event loop, and return its result. Does not wait for the threads of the loop's pool.

    Ctrl-C cancels the coroutine, and then raises KeyboardInterrupt here, unless a handler for SIGINT is installed.
    """
    loop = factory()
    try:
        asyncio.set_event_loop(loop)
        return _run_in(loop, main)
    finally:
        try:
            _end_tasks(loop)
        finally:
            asyncio.set_event_loop(None)
            loop.close()


def _run_in(loop: asyncio.AbstractEventLoop, main: Coroutine[Any, Any, T]) -> T:
    task = loop.create_task(main)
    interrupt: KeyboardInterrupt | None = None
    while True:
        try:
            return loop.run_until_complete(task)
        except (SystemExit, KeyboardInterrupt) as error:
            # Event loops re-raise these two exceptions, whichever task raises them. All that was ready to run is still
            # scheduled, so the loop can be run again.
            if task.done():
                raise
            if _is_ctrl_c(error):
                interrupt = KeyboardInterrupt()
                task.cancel()
            elif not _is_of_task(error):
                logger.error("%r in a callback does not end the process", error, exc_info=error)
        except asyncio.CancelledError:
            if interrupt is not None:
                raise interrupt from None
            raise


def _is_ctrl_c(error: BaseException) -> bool:
    """Whether Python's own handler of SIGINT has raised the exception. It cannot if another handler is installed."""
    return (
        isinstance(error, KeyboardInterrupt)
        and threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )


def _is_of_task(error: BaseException) -> bool:
    """Whether the exception was raised in a task. Then it ended the task, and the task's owner finds it there."""
    return any(frame.f_code.co_flags & inspect.CO_COROUTINE for frame, _ in walk_tb(error.__traceback__))


def _end_tasks(loop: asyncio.AbstractEventLoop) -> None:
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        _run_in(loop, _wait(tasks))
    for task in tasks:
        if not task.done():
            if task not in left_behind:
                logger.warning(
                    "a task does not end although it was cancelled: left behind in %s", whereabouts.of_task(task)
                )
                left_behind.append(task)
        elif not task.cancelled() and (error := task.exception()) is not None:
            context = {"message": "a task failed when it was cancelled", "exception": error, "task": task}
            loop.call_exception_handler(context)
    _run_in(loop, _shut_down_generators(loop))


async def _wait(tasks: set[asyncio.Task[Any]]) -> None:
    await asyncio.wait(tasks, timeout=CLOSE_SECONDS)


async def _shut_down_generators(loop: asyncio.AbstractEventLoop) -> None:
    closing = asyncio.ensure_future(loop.shutdown_asyncgens())
    await asyncio.wait({closing}, timeout=CLOSE_SECONDS)
    if not closing.done():
        left_behind.append(closing)


@contextlib.contextmanager
def handling_signals(
    handlers: Mapping[signal.Signals, Callable[[int, FrameType | None], object]],
) -> Iterator[None]:
    """Handle these signals inside the block, and restore the previous handlers afterwards.

    Only the main thread can install handlers. In any other thread this does nothing.

    These are handlers of `signal`, not of the event loop: a handler of the loop would not run while a callback blocks
    the loop. A handler may run between any two instructions of the main thread, so it must use `call_soon_threadsafe`
    to reach the loop.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


async def first(future: asyncio.Future[Any], event: asyncio.Event) -> bool:
    """Wait until the future is done or the event is set. Return True if the future is not done."""
    waiting = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait({future, waiting}, return_when=asyncio.FIRST_COMPLETED)
        return not future.done()
    finally:
        waiting.cancel()


async def cancel(*futures: asyncio.Future[Any]) -> None:
    """Cancel tasks or futures, and wait until they have ended. Their exceptions are not reported."""
    for future in futures:
        future.cancel()
    if futures:
        await asyncio.wait(futures)
    for future in futures:
        if not future.cancelled():
            future.exception()
