"""Finds the line of the application that a task or a thread is executing, for log messages.

Frames of the standard library, of installed packages and of this package are skipped, unless there are no others.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import traceback
from collections.abc import Iterator
from itertools import dropwhile, islice, takewhile
from pathlib import Path
from types import FrameType

_LIBRARIES = (
    str(Path(asyncio.__file__).parents[1]),
    str(Path(__file__).parents[1] / "fairway"),
    str(Path(__file__).parents[1] / "channels"),
)

_IDLE = str(Path("concurrent") / "futures" / "thread.py")
"""End of the path of the module in which the threads of a pool wait for work."""


_MAX_FRAMES = 100
"""How many of the innermost frames a stack shows at most. More frames of a deep recursion tell nothing new."""


def of_task(task: asyncio.Task[object]) -> str:
    """Return the innermost line of a suspended task, as `numbers (site/views.py:12)`."""
    return _text(list(_suspended(task)))


def of_thread(identity: int | None) -> str | None:
    """Return the innermost line of a running thread, as `of_task` does.

    None if the thread has ended, or belongs to a pool and waits for work.
    """
    frames = list(running(identity))
    if not frames or frames[0].f_code.co_filename.endswith(_IDLE):
        return None
    return _text(frames)


def busy_threads(but: threading.Thread | None = None) -> list[str]:
    """Describe the threads that run code of the application and are not daemons, so that Python waits for their end.

    The calling thread and the thread `but` are left out.
    """
    found = []
    for thread in threading.enumerate():
        if not thread.daemon and thread is not threading.current_thread() and thread is not but:
            frames = list(running(thread.ident))
            if any(not _is_library(frame) for frame in frames) and (place := of_thread(thread.ident)):
                found.append(f"{thread.name} in {place}")
    return found


def stack_of_thread(identity: int | None, outside: str | None) -> str:
    """The stack of a running thread, formatted like a traceback. It begins with the application's outermost frame.

    Frames of the source file `outside`, such as the program's own script, and the frames outside of it are left out.
    """
    inner = takewhile(lambda frame: frame.f_code.co_filename != outside, running(identity))
    frames = list(islice(inner, _MAX_FRAMES))[::-1]
    shown = list(dropwhile(_is_library, frames)) or frames
    summary = traceback.StackSummary.extract((frame, frame.f_lineno) for frame in shown)
    return "Stack (most recent call last):\n" + "".join(summary.format()).rstrip("\n")


def running(identity: int | None) -> Iterator[FrameType]:
    """The frames of a running thread, the innermost first."""
    frame = sys._current_frames().get(identity or 0)
    while frame is not None:
        yield frame
        frame = frame.f_back


def _suspended(task: asyncio.Task[object]) -> Iterator[FrameType]:
    chain: list[FrameType] = []
    awaited: object = task.get_coro()
    while awaited is not None:
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None)
        if frame is not None:
            chain.append(frame)
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)
    return reversed(chain)


def _text(frames: list[FrameType]) -> str:
    if not frames:
        return "unknown code"
    frame = next((frame for frame in frames if not _is_library(frame)), frames[0])
    path = Path(frame.f_code.co_filename)
    return f"{frame.f_code.co_name} ({Path(*path.parts[-2:])}:{frame.f_lineno})"


def _is_library(frame: FrameType) -> bool:
    name = frame.f_code.co_filename
    return name.startswith((*_LIBRARIES, "<frozen")) or "site-packages" in name
