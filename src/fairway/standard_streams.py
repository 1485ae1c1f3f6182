"""Standard input, output and error of a process that was started without one of them (`fairway ... >&-`).

The next file that is opened gets the lowest free number. So a client's socket would become descriptor 1, and get what C
code or a child process prints.
"""

from __future__ import annotations

import os
import sys

_STREAMS = ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w"))


def open_missing() -> None:
    """Open `/dev/null` in the place of each stream that is closed, for child processes as well. Call this before
    anything else is opened.
    """
    for number, name, mode in _STREAMS:
        # In this order each number is the lowest free one, which is what the system gives.
        if not _is_open(number) and os.open(os.devnull, os.O_RDWR) == number:
            os.set_inheritable(number, True)
            if getattr(sys, name) is None:
                # They stay open as long as the process lives.
                stream = open(number, mode, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
                setattr(sys, name, stream)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True
