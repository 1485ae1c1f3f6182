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
from tests.integration.gateway import Gateway
from tests.integration.raw import Served, serve


def pytest_asyncio_loop_factories(config: object, item: object) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop}


Start = Callable[..., Awaitable[Served]]

# The fast tests take one way; what TLS and HTTP/2 do themselves is tested in files of their own.
_TLS, _HTTP2, _SHARED = (pytest.param(way, marks=pytest.mark.slow) for way in ("tls", "http2", "http2-shared"))

in_clear_and_over_tls = pytest.mark.parametrize("start", ["clear", _TLS], indirect=True)

# A client of HTTP/1.1 reaches the server itself, or by a gateway over HTTP/2: on a connection of its own, or on one for
# all clients.
over_http2_too = pytest.mark.parametrize("start", ["clear", _HTTP2, _SHARED], indirect=True)
over_everything = pytest.mark.parametrize("start", ["clear", _TLS, _HTTP2, _SHARED], indirect=True)


@pytest.fixture
async def start(
    request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> AsyncIterator[Start]:
    """Start a server: `await start(app, max_message_bytes=100)`; it is stopped at the end of the test. With the
    parameter "tls" it speaks TLS, and so do its clients; with "http2" clients come through a gateway.
    """
    trust: ssl.SSLContext | None = None
    certfile = ""
    way = getattr(request, "param", "clear")
    if way == "tls":
        trust, certfile = certificates.client_context(), str(certificates.certificate(tmp_path))
    caplog.set_level(logging.INFO, logger="fairway")
    servers: list[Served] = []

    async def begin(app: object, **limits: object) -> Served:
        served = await serve(app, caplog, **{"certfile": certfile, **limits})
        served.trust = trust
        if way.startswith("http2"):
            await served.enter_through(Gateway(served.port, shares=way == "http2-shared"))
        servers.append(served)
        return served

    yield begin
    for served in servers:
        await served.stop()
