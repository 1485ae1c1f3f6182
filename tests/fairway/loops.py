"""The event loops that everything has to work on: plain asyncio, and uvloop where it is installed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest

Result = TypeVar("Result")

LoopFactory = Callable[[], asyncio.AbstractEventLoop]

try:
    import uvloop
except ImportError:
    FACTORIES: dict[str, LoopFactory] = {"asyncio": asyncio.new_event_loop}
else:
    FACTORIES = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}

on_each_loop = pytest.mark.parametrize("new_loop", FACTORIES.values(), ids=FACTORIES)


def run(new_loop: LoopFactory, main: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine in a loop of its own."""
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(main)


async def passes(count: int = 3) -> None:
    """Let the loop make some passes, so that what was ready has run."""
    for _ in range(count):
        await asyncio.sleep(0)


class LoopThread:
    """An event loop that runs in a thread of its own, as a context manager."""

    def __init__(self, new_loop: LoopFactory) -> None:
        self.loop = new_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)

    def __enter__(self) -> LoopThread:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    def submit(self, coroutine: Coroutine[Any, Any, Result]) -> Any:
        """Start a coroutine there; a future of `concurrent.futures`."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    def call(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        return self.submit(coroutine).result(timeout=10)  # type: ignore[no-any-return]
