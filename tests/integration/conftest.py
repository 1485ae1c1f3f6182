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

_LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.SelectorEventLoop,
    "uvloop": uvloop.new_event_loop,
}


def pytest_asyncio_loop_factories(config: object, item: object) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return _LOOPS


Start = Callable[..., Awaitable[Served]]

# The fast tests take one way, on both event loops. Each further way is gone on one loop: what it does itself is tested
# on both in the files about TLS and HTTP/2, and the rest is the same code once more.
_TLS, _HTTP2, _SHARED = (
    pytest.param(way, marks=[pytest.mark.slow, pytest.mark.on_one_loop(loop)])
    for way, loop in (("tls", "uvloop"), ("http2", "asyncio"), ("http2-shared", "uvloop"))
)

in_clear_and_over_tls = pytest.mark.parametrize("start", ["clear", _TLS], indirect=True)

# A client of HTTP/1.1 reaches the server itself, or by a gateway over HTTP/2: on a connection of its own, or on one for
# all clients.
over_http2_too = pytest.mark.parametrize("start", ["clear", _HTTP2, _SHARED], indirect=True)
over_everything = pytest.mark.parametrize("start", ["clear", _TLS, _HTTP2, _SHARED], indirect=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out = {item for item in items if isinstance(item, pytest.Function) and _is_for_another_loop(item)}
    if left_out:
        config.hook.pytest_deselected(items=list(left_out))
        items[:] = [item for item in items if item not in left_out]


def _is_for_another_loop(item: pytest.Function) -> bool:
    marker = item.get_closest_marker("on_one_loop")
    return marker is not None and not any(value is _LOOPS[marker.args[0]] for value in item.callspec.params.values())


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
        counters = served.context.counters
        assert counters.requests == sum(counters.responses), "a request was not counted once when it ended"
