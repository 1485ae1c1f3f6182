"""The project's server in a thread of the tests' process, for tests that are themselves synchronous code."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.contracts.carriers import SocketCarrier, open_carrier
from tests.fairway.loops import LoopThread


@contextmanager
def served(application: Any) -> Iterator[str]:
    """Serve an application for the length of the block; the address, `host:port`, of its socket."""
    carriers = open_carrier("fairway-asyncio")

    async def begin() -> str:
        carrier = await carriers.__aenter__()
        assert isinstance(carrier, SocketCarrier)
        await carrier.serve(application)
        return carrier.address

    async def end() -> None:
        await carriers.__aexit__(None, None, None)

    with LoopThread(asyncio.new_event_loop) as server:
        address = server.call(begin())
        try:
            yield address
        finally:
            server.call(end())
