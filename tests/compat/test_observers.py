"""Middlewares as production has them: they see what they should, and the log says what they cost."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import ClientConnection, connect

from tests.examples.running import ROOT, Running, running

DETOUR = "Broadcasts reach Room by its own send(), not directly"

pytestmark = pytest.mark.slow


@contextmanager
def served(name: str) -> Iterator[Running]:
    args = [sys.executable, "-m", "fairway", f"tests.compat.observed.{name}:application", "--port", "0"]
    with running(args, ROOT) as server:
        yield server


def talk(server: Running) -> None:
    """Two sockets, three broadcasts, and a consumer that fails."""
    address = f"ws://127.0.0.1:{server.port()}/"
    with ExitStack() as stack:
        first, second, failing = (stack.enter_context(connect(address)) for _ in range(3))
        for number in range(3):
            first.send(f"hello {number}")
            for client in (first, second, failing):
                assert client.recv(timeout=10) == f"hello {number}"
        failing.send("raise")
        assert close_code(failing) == 1011
        first.send("still here")
        assert second.recv(timeout=10) == "still here"


def close_code(client: ClientConnection) -> int | None:
    with pytest.raises(ConnectionClosedError):
        client.recv(timeout=10)
    return client.close_code


@pytest.mark.parametrize(
    ("name", "culprit", "seen"),
    [
        ("sentry", "sentry_sdk.integrations.asgi.SentryAsgiMiddleware", "sentry got LookupError"),
        ("opentelemetry", "opentelemetry.instrumentation.asgi.OpenTelemetryMiddleware", "websocket send"),
    ],
)
def test_an_observer_sees_everything_and_the_log_says_once_what_it_costs(name: str, culprit: str, seen: str) -> None:
    with served(name) as server:
        talk(server)
        assert server.interrupt() == 0
    (line,) = [line for line in server.output if DETOUR in line]
    assert culprit in line
    assert seen in server.text
    assert server.text.count("Traceback") == 1


def test_without_an_observer_broadcasts_go_directly() -> None:
    with served("bare") as server:
        talk(server)
        assert server.interrupt() == 0
    assert DETOUR not in server.text
    assert server.text.count("Traceback") == 1
