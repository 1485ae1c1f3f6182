"""The life of a server, from `run` to its end."""

from __future__ import annotations

import asyncio
import http.client
import os
import signal
import threading
from typing import Any
from urllib.parse import urlsplit

import pytest

from fairway.server.access import AccessLog
from fairway.server.config import Config
from fairway.server.process import StopEvent, run

PATIENCE = 20.0


def get(address: str, path: str = "/") -> bytes:
    parts = urlsplit(address)
    assert parts.hostname is not None
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=PATIENCE)
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    finally:
        connection.close()


class Running:
    """`run` in a thread, as the autoreloader of Django has it."""

    def __init__(self, app: Any, config: Config, **options: Any) -> None:
        self.stop = StopEvent()
        self.ready = threading.Event()
        self.code: int | None = None
        self.addresses: list[str] = []
        self.thread = threading.Thread(target=self._run, args=(app, config), kwargs=options)
        self.thread.start()

    def _run(self, app: Any, config: Config, **options: Any) -> None:
        try:
            self.code = run(app, config, stop_event=self.stop, on_ready=self._ready, **options)
        finally:
            self.ready.set()

    def _ready(self, addresses: list[str]) -> None:
        self.addresses = addresses
        self.ready.set()

    def end(self) -> int | None:
        self.stop.set()
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()
        return self.code


class Hello:
    """An application that keeps count of its lifespan."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.loop = ""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for _ in range(2):
                message = await receive()
                self.events.append(message["type"])
                await send({"type": f"{message['type']}.complete"})
            return
        self.loop = type(asyncio.get_running_loop()).__module__
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello"})


@pytest.mark.parametrize(
    ("loop", "module"), [("asyncio", "asyncio.unix_events"), ("uvloop", "uvloop"), ("auto", "uvloop")]
)
def test_run_serves_in_a_thread_until_it_is_told_to_stop(loop: Any, module: str):
    app = Hello()
    running = Running(app, Config(port=0), loop=loop)
    assert running.ready.wait(PATIENCE)
    assert app.events == ["lifespan.startup"]

    [address] = running.addresses
    assert get(address) == b"hello"
    code = running.end()

    assert code == 0
    assert app.events == ["lifespan.startup", "lifespan.shutdown"]
    assert app.loop == module
    with pytest.raises(ConnectionRefusedError):
        get(address)


def test_run_takes_over_open_sockets_and_a_log(caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO", "fairway.access")  # nobody is told where nobody would read it

    class Log(AccessLog):
        def http_finished(self, scope: Any, status: int | None, size: int, seconds: float) -> None:
            seen.append((scope["path"], status, size))

    seen: list[Any] = []
    config = Config(port=0)
    sockets = config.bind()
    running = Running(Hello(), config, sockets=sockets, access_log=Log(True))
    assert running.ready.wait(PATIENCE)

    get(running.addresses[0], "/x")
    running.end()

    assert seen == [("/x", 200, 5)]
    assert [each.fileno() for each in sockets] == [-1]


def test_stop_before_the_start_is_not_lost():
    app, stop = Hello(), StopEvent()
    stop.set()

    assert run(app, Config(port=0), stop_event=stop) == 0


def test_stop_ends_a_slow_start():
    begun, stop, ended = threading.Event(), StopEvent(), []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    thread = threading.Thread(target=run, args=(app, Config(port=0)), kwargs={"stop_event": stop})
    thread.start()
    assert begun.wait(PATIENCE)
    stop.set()
    thread.join(PATIENCE)

    assert not thread.is_alive()
    assert ended == [True]


async def test_stop_event_can_be_set_by_any_thread_and_twice():
    stop = StopEvent()
    waiting = asyncio.create_task(stop.wait())
    thread = threading.Thread(target=stop.set)
    thread.start()

    await waiting
    await stop.wait()
    stop.set()
    thread.join()


async def test_cancelled_wait_for_a_stop_loses_nothing():
    stop = StopEvent()
    waiting = asyncio.create_task(stop.wait())
    await asyncio.wait({waiting}, timeout=0)
    waiting.cancel()
    await asyncio.wait({waiting})

    stop.set()
    await stop.wait()


def test_signals_are_given_back(monkeypatch: pytest.MonkeyPatch):
    before = signal.getsignal(signal.SIGTERM)
    stop = StopEvent()

    code = run(Hello(), Config(port=0), stop_event=stop, on_ready=lambda _: os.kill(os.getpid(), signal.SIGTERM))

    assert code == 0
    assert signal.getsignal(signal.SIGTERM) is before
