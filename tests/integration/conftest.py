"""A real server on a real socket, on both event loops, and a log to look into."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import uvloop

from tests.integration.raw import Served, serve


def pytest_asyncio_loop_factories(config: object, item: object) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop}


Start = Callable[..., Awaitable[Served]]


@pytest.fixture
async def start(caplog: pytest.LogCaptureFixture) -> AsyncIterator[Start]:
    """Start a server: `await start(app, max_message_bytes=100)`; it is stopped at the end of the test."""
    caplog.set_level(logging.INFO, logger="fairway")
    servers: list[Served] = []

    async def begin(app: object, **limits: object) -> Served:
        served = await serve(app, caplog, **limits)
        servers.append(served)
        return served

    yield begin
    for served in servers:
        await served.stop()
