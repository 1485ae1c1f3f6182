"""A real server on a real socket, on both event loops, and a log to look into."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import uvloop

from tests.fairway.server.tls import certificates
from tests.integration.raw import Served, serve


def pytest_asyncio_loop_factories(config: object, item: object) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop}


Start = Callable[..., Awaitable[Served]]

in_clear_and_over_tls = pytest.mark.parametrize("start", ["clear", "tls"], indirect=True)


@pytest.fixture
async def start(
    request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> AsyncIterator[Start]:
    """Start a server: `await start(app, max_message_bytes=100)`; it is stopped at the end of the test. With the
    parameter "tls" it speaks TLS, and so do its clients.
    """
    trust: ssl.SSLContext | None = None
    certfile = ""
    if getattr(request, "param", "") == "tls":
        trust, certfile = certificates.client_context(), str(certificates.certificate(tmp_path))
    caplog.set_level(logging.INFO, logger="fairway")
    servers: list[Served] = []

    async def begin(app: object, **limits: object) -> Served:
        served = await serve(app, caplog, **{"certfile": certfile, **limits})
        served.trust = trust
        servers.append(served)
        return served

    yield begin
    for served in servers:
        await served.stop()
