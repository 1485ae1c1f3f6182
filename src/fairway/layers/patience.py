"""How long a call waits for its answer: as long as the service sends something at all.

Services answer in order. When many calls come together, as when twenty thousand clients join their groups again, the
last one waits until all others are answered, however quick the service is. So a call must not be given up by its own
age. It is given up when the service has been silent for too long.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType

_LOOKS = 4
"""In so many looks in a row nothing new was heard. If this process stood still for a while, that is one look: what has
arrived meanwhile is read before the next.
"""


class Patience:
    """An asynchronous context manager that raises TimeoutError when nothing was heard for a number of seconds.

    They begin anew whenever something is heard, and may then be a quarter more. `heard` returns a value that changes
    with each sign of life.
    """

    __slots__ = ("_heard", "_interval", "_looking", "_loop", "_seen", "_silent", "_timeout")

    def __init__(self, seconds: float, heard: Callable[[], object]) -> None:
        self._interval = seconds / _LOOKS
        self._heard = heard
        self._silent = 0

    async def __aenter__(self) -> None:
        self._timeout = asyncio.timeout(None)
        await self._timeout.__aenter__()
        self._seen = self._heard()
        self._loop = asyncio.get_running_loop()
        self._looking = self._loop.call_later(self._interval, self._look)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._looking.cancel()
        await self._timeout.__aexit__(kind, error, traceback)

    def _look(self) -> None:
        seen, self._seen = self._seen, self._heard()
        self._silent = self._silent + 1 if seen == self._seen else 0
        if self._silent < _LOOKS:
            self._looking = self._loop.call_later(self._interval, self._look)
        else:
            self._timeout.reschedule(self._loop.time())
