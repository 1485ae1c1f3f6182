"""Whether this process serves: a server or a worker runs in it, for longer than one command or request.

Who runs one says so for as long as it runs. Who has something to do then, such as to start a process that others will
rely on, asks, or has himself called.
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
    """Serve, inside the block. In the event loop of the server or worker."""
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
    """Have something called whenever a server or worker starts in this process, in its event loop."""
    if callback not in _callbacks:
        _callbacks.append(callback)
