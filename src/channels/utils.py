"""Two functions that code written for Channels imports from here.

`await_many_dispatch` is a simple consumer loop, for consumers that override `__call__`. The consumers of this package
do not use it: they read from an inbox.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Awaitable, Callable, Sequence
from typing import Any


def name_that_thing(thing: Any) -> str:
    """Return a dotted name for a consumer, class, function or instance, for use in messages."""
    if hasattr(thing, "consumer_class"):
        return name_that_thing(thing.consumer_class)
    if isinstance(thing, types.MethodType):
        return f"{name_that_thing(type(thing.__self__))}.{thing.__name__}"
    if not hasattr(thing, "__qualname__"):
        thing = type(thing)
    module = getattr(thing, "__module__", None)
    return f"{module}.{thing.__qualname__}" if module else str(thing.__qualname__)


async def await_many_dispatch(
    consumer_callables: Sequence[Callable[[], Awaitable[Any]]],
    dispatch: Callable[[Any], Awaitable[Any]],
) -> None:
    """Await `dispatch` for each message of several sources, one message at a time, until one raises.

    If several sources are ready, one message of each is dispatched, in the order of `consumer_callables`. A source is
    asked for its next message only after its last one was dispatched. When this ends, it cancels the pending calls of
    the sources. A message that such a call has already taken is lost.
    """
    pending = [_ask(source) for source in consumer_callables]
    try:
        while True:
            await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for index, answer in enumerate(pending):
                if answer.done():
                    await dispatch(answer.result())
                    pending[index] = _ask(consumer_callables[index])
    finally:
        for answer in pending:
            answer.cancel()
        # This also retrieves their exceptions, so that asyncio does not report them as never retrieved.
        await asyncio.gather(*pending, return_exceptions=True)


def _ask(source: Callable[[], Awaitable[Any]]) -> asyncio.Future[Any]:
    """Start a source, which may be a coroutine function or return a future."""
    return asyncio.ensure_future(source())
