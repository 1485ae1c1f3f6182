"""Whether this process serves: whether a server or a worker runs in it.

The code that runs a server or worker does so inside `serving()`. Other code may behave differently in such a process,
which lives longer than a command: for example, it may start a process that others rely on. It can ask with
`is_serving`, or register a callback with `when_serving`.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator

logger = logging.getLogger("fairway.delivery")

_serving = 0
_callbacks: list[Callable[[], None]] = []


def is_serving() -> bool:
    """Whether a server or a worker runs in this process."""
    return _serving > 0


@contextlib.contextmanager
def serving() -> Iterator[None]:
    """Mark the process as serving inside the block, and call the callbacks. Use it in the server's event loop."""
    global _serving
    _serving += 1
    try:
        for callback in _callbacks:
            try:
                callback()
            except Exception:
                logger.exception("what is done when a server starts has failed")
        yield
    finally:
        _serving -= 1


def when_serving(callback: Callable[[], None]) -> None:
    """Call `callback` whenever a server or worker starts in this process, in its event loop. Exceptions are logged."""
    if callback not in _callbacks:
        _callbacks.append(callback)
