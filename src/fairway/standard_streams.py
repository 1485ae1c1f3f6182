"""What the standard streams may lack: a file, or a reader.

`open_missing` opens those that a process was started without, as with `fairway ... >&-`.

A newly opened file gets the lowest free descriptor. Without this, a client's socket could become descriptor 1, and
receive what C code or a child process prints.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
from collections.abc import Iterator
from typing import TextIO

_ENDED_BY_SIGPIPE = 128 + 13  # what shells tell of a process that a signal has ended

_STREAMS = ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w"))


def open_missing() -> None:
    """Open `/dev/null` in place of each closed stream, also for child processes. Call this before opening any file.

    If another file has the number of a stream already, it keeps it, and only Python's stream is made.
    """
    for number, name, mode in _STREAMS:
        place: int | str = os.devnull
        # The streams are opened in ascending order, so each one's number is the lowest free descriptor.
        if not _is_open(number) and os.open(os.devnull, os.O_RDWR) == number:
            os.set_inheritable(number, True)
            place = number
        if getattr(sys, name) is None:
            # The stream stays open until the process ends.
            stream = open(place, mode, encoding="utf-8", errors="backslashreplace", closefd=place != number)  # noqa: SIM115
            setattr(sys, name, stream)


@contextlib.contextmanager
def reader_may_leave() -> Iterator[None]:
    """End as SIGPIPE does, without a traceback, if the reader of the standard output has left, as `head` does."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        if not _is_broken(sys.stdout):
            raise  # another pipe
        # Python flushes the stream once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(_ENDED_BY_SIGPIPE)


def _is_broken(stream: TextIO) -> bool:
    poll = select.poll()
    poll.register(stream.fileno(), 0)
    return any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0))


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True
