"""An event loop from its making to its closing, for one coroutine: `asyncio.run`, with two differences.

If some other task asks for an exit (`sys.exit()`, KeyboardInterrupt), only that task ends, and not the loop. And
closing has a bound: tasks that swallow their cancellation and threads that do not return are left behind.

Beside it stand the means to stop such a coroutine: signal handlers for as long as it runs, waiting for whichever comes
first, its work or the order to stop, and cancelling until everything has ended.
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
"""Seconds for tasks that are cancelled because the loop is closed, and as many for asynchronous generators after them.
"""

left_behind: list[asyncio.Task[Any]] = []
"""Tasks that have not ended when they had to, and that the log has named. They are kept alive: if one were freed in the
middle its `finally` blocks would run, without a loop.
"""


def run(main: Coroutine[Any, Any, T], factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop) -> T:
    """Run the coroutine in a new event loop, and return its result. Threads of the loop's pool are not waited for."""
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
            # Loops let these two exceptions through, whichever task raises them. Nothing that was ready to run is lost.
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
    """Whether the exit comes from the keyboard. It can only while nobody has installed a handler."""
    return (
        isinstance(error, KeyboardInterrupt)
        and threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )


def _is_of_task(error: BaseException) -> bool:
    """Whether it ended a task, whose owner then finds it there."""
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
    """Handle these signals inside the block. Outside of the main thread, which alone may have handlers, this does
    nothing.

    The handlers are the process's and not the event loop's, which would wait for a callback that blocks the loop. They
    run between any two instructions of the main thread: the loop is reached by `call_soon_threadsafe`.
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
    """Wait for either. Return whether it was the event, while the future goes on."""
    waiting = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait({future, waiting}, return_when=asyncio.FIRST_COMPLETED)
        return not future.done()
    finally:
        waiting.cancel()


async def cancel(*futures: asyncio.Future[Any]) -> None:
    """Cancel tasks and wait until they have ended. What they raise is not reported."""
    for future in futures:
        future.cancel()
    if futures:
        await asyncio.wait(futures)
    for future in futures:
        if not future.cancelled():
            future.exception()
