"""The life of a server, from `run` to its end."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.fairway.server.site_process import PATIENCE, SiteProcess, serving

from fairway.server.access import AccessLog
from fairway.server.config import Config
from fairway.server.descriptors import MOST_ROOM
from fairway.server.process import StopEvent, run


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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("loop", "module"),
    [("asyncio", "asyncio.unix_events"), ("uvloop", "fairway.server.loops"), ("auto", "fairway.server.loops")],
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


# What does not want to end --------------------------------------------------------------------------------------

STUBBORN = """
import asyncio, atexit, sys, threading, time
from asgiref.sync import sync_to_async

atexit.register(print, "exit functions ran")

async def swallow():
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass

def sleep():
    time.sleep(3600)

async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        if "lifespan" in sys.argv[-1]:
            await swallow()
        return
    print("running", flush=True)
    if scope["path"] == "/swallow":
        await swallow()
    if scope["path"] == "/thread":
        await sync_to_async(sleep)()
    if scope["path"] == "/pool":
        await asyncio.get_running_loop().run_in_executor(None, sleep)
    if scope["path"] == "/block":
        # In pieces: a second signal that comes while Python handles the first is seen when the call returns.
        while True:
            time.sleep(0.05)
    if scope["path"] == "/spawned":
        global task
        task = asyncio.create_task(swallow())
    if scope["path"] == "/own-thread":
        threading.Thread(target=sleep).start()

"""

SHORT = {"SHUTDOWN_TIMEOUT": 0.5, "LIFESPAN_TIMEOUT": 0.5}
LONG = {"SHUTDOWN_TIMEOUT": 3600.0}
MARGIN = 15.0
"""Seconds beyond a limit in which the process has ended, on a busy machine."""


def begin(process: SiteProcess, path: str) -> socket.socket:
    """Send a request, and wait until the application has it."""
    client = process.connect()
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert process.popen.stdout is not None
    assert process.popen.stdout.readline() == "running\n"
    return client


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "loop", "signals"),
    [
        *((path, "uvloop", 1) for path in ("/swallow", "/thread", "/pool", "/block", "/spawned", "/own-thread")),
        *((path, "uvloop", 2) for path in ("/swallow", "/thread", "/pool", "/block", "/own-thread")),
        *((path, "asyncio", 1) for path in ("/swallow", "/block")),
    ],
)
def test_what_does_not_end_is_named_and_left_behind(tmp_path: Path, path: str, loop: str, signals: int):
    limits = SHORT if signals == 1 else LONG
    with serving(tmp_path, STUBBORN, "--loop", loop, limits=limits) as process, begin(process, path):
        process.signal()
        if signals == 2:
            if path != "/block":
                process.wait_for("stopping")
            process.signal(signal.SIGINT)

        assert process.end(within=MARGIN) == 0
        assert process.popen.stdout is not None
        assert process.popen.stdout.read() == "exit functions ran\n"
        place = {"/swallow": "swallow", "/spawned": "swallow", "/block": "application"}.get(path, "sleep")
        assert re.search(rf"left behind.* in {place} \(.*site_under_test\.py:\d+\)", process.log)
        assert "Traceback" not in process.log


@pytest.mark.slow
@pytest.mark.parametrize("signals", [1, 2])
def test_lifespan_shutdown_that_does_not_end_is_left_behind(tmp_path: Path, signals: int):
    limits = SHORT if signals == 1 else {**LONG, "LIFESPAN_TIMEOUT": 3600.0}
    source = STUBBORN.replace('"lifespan" in sys.argv[-1]', "True")
    with serving(tmp_path, source, limits=limits) as process:
        for _ in range(signals):
            process.signal()
            process.wait_for("stopping")

        assert process.end(within=MARGIN) == 0
        assert "the application's lifespan task ignores its cancellation: left behind in swallow (" in process.log


# Exits of single tasks ------------------------------------------------------------------------------------------

EXITING = """
import asyncio, sys

async def answer(send, body):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})

async def end(path):
    if path.endswith("/exit"):
        sys.exit(3)
    if path.endswith("/interrupt"):
        raise KeyboardInterrupt("mine")
    if path.endswith("/child"):
        await asyncio.create_task(end("/exit"))
    if path.endswith("/own"):
        class Own(BaseException): pass
        raise Own("mine")
    if path.endswith("/generator"):
        raise GeneratorExit("mine")
    if path.endswith("/cancel"):
        asyncio.current_task().cancel()
        await asyncio.sleep(0)
    if path.endswith("/callback"):
        asyncio.get_running_loop().call_soon(sys.exit, 3)

async def serve(scope, receive, send):
    if scope["type"] == "lifespan":
        raise NotImplementedError
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await end(scope["path"])
        await receive()
    else:
        await end(scope["path"])
        await answer(send, b"fine")

def application(scope, receive, send):
    if scope["path"].startswith("/at-once") if "path" in scope else False:
        sys.exit(3)
    return serve(scope, receive, send)
"""

WEBSOCKET = (
    "GET {} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@pytest.mark.slow
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_exit_that_one_task_asks_for_is_its_own(tmp_path: Path, loop: str):
    limits = {"CLOSE_TIMEOUT": 0.3}
    with serving(tmp_path, EXITING, "--loop", loop, limits=limits) as process, process.connect() as neighbour:
        for path in ("/exit", "/interrupt", "/child", "/own", "/generator", "/cancel", "/at-once"):
            assert process.get(path).startswith(b"HTTP/1.1 500 "), path
            if path != "/at-once":
                with process.connect() as client:
                    client.sendall(WEBSOCKET.format("/ws" + path).encode())
                    received = b"".join(iter(lambda client=client: client.recv(65536), b""))
                assert received.startswith(b"HTTP/1.1 101 ")
                assert received.endswith(b"\x88\x02" + (1011).to_bytes(2, "big")), path
        assert process.get("/callback").startswith(b"HTTP/1.1 200 ")
        neighbour.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert neighbour.recv(65536).startswith(b"HTTP/1.1 200 ")
        process.signal()
        assert process.end(within=MARGIN) == 0

    log = process.log
    for path in ("/exit", "/interrupt", "/child", "/own", "/generator"):
        assert f"exception in application for HTTP {path} from 127.0.0.1" in log
        assert f"exception in application for WebSocket /ws{path} from 127.0.0.1" in log
    assert "/cancel: application was cancelled, not by the server, without completing its response" in log
    assert "/ws/cancel: application was cancelled, not by the server" in log
    assert "SystemExit(3) in a callback does not end the process" in log
    assert "KeyboardInterrupt: mine" in log


@pytest.mark.slow
def test_exit_in_the_lifespan_start_up_is_a_refusal_to_start(tmp_path: Path):
    (tmp_path / "refusing.py").write_text("import sys\nasync def application(*_):\n    sys.exit('no database')\n")
    done = subprocess.run(
        [sys.executable, "-m", "fairway", "--port", "0", "refusing:application"],
        cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip

    assert done.returncode == 3
    assert "the application ended its lifespan start-up with SystemExit('no database')" in done.stderr


# Other signals, and the drain -----------------------------------------------------------------------------------

LOGGING = """
import logging
logging.getLogger("fairway").addHandler(logging.FileHandler("site.log"))
logging.getLogger("fairway").addHandler(logging.StreamHandler())
"""


@pytest.mark.slow
def test_signals_of_log_rotation_and_the_like_cut_nobody_off(tmp_path: Path):
    detached = {"stdin": subprocess.DEVNULL, "start_new_session": True}
    with serving(tmp_path, LOGGING + EXITING, **detached) as process:
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            process.signal(number)
            process.wait_for(f"{number.name} is ignored")
        (tmp_path / "site.log").rename(tmp_path / "site.log.1")
        process.signal(signal.SIGHUP)
        process.wait_for("SIGHUP: reopened 1 log files")
        assert process.get().startswith(b"HTTP/1.1 200 ")
        assert "SIGHUP" in (tmp_path / "site.log").read_text()
        assert "SIGHUP" not in (tmp_path / "site.log.1").read_text()
        (tmp_path / "site.log").rename(tmp_path / "site.log.2")
        (tmp_path / "site.log").mkdir()
        process.signal(signal.SIGHUP)
        process.wait_for("SIGHUP: a log file cannot be reopened, and the old one is kept: ")
        process.wait_for("SIGHUP: reopened 0 log files")
        assert "SIGHUP: reopened 0 log files" in (tmp_path / "site.log.2").read_text()
        process.signal(signal.SIGQUIT)

        assert process.end(within=MARGIN) == 0
        assert "stopped" in process.log


def wait_until_refused(process: SiteProcess) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            process.connect().close()
        except ConnectionRefusedError:
            return
    pytest.fail("connections are still taken")


@pytest.mark.slow
def test_new_connections_are_refused_during_the_drain(tmp_path: Path):
    with serving(tmp_path, STUBBORN, limits=LONG) as process, begin(process, "/swallow"):
        process.signal()
        process.wait_for("stopping")
        wait_until_refused(process)
        assert process.popen.poll() is None


@pytest.mark.slow
def test_drained_connection_that_its_client_keeps_open_lingers_for_a_second(tmp_path: Path):
    source = EXITING.replace(
        'await end(scope["path"])\n        await answer',
        "print('running', flush=True)\n        await asyncio.sleep(0.5)\n        await answer",
    )
    limits = {"CLOSE_TIMEOUT": 3600.0, "SHUTDOWN_TIMEOUT": 3600.0}
    with serving(tmp_path, source, limits=limits) as process, begin(process, "/") as client:
        process.signal()
        received = b"".join(iter(lambda: client.recv(65536), b""))
        assert b"connection: close" in received
        assert process.end(within=MARGIN) == 0


DESCRIPTORS = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (60, {}))

async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        raise NotImplementedError
    files = [open("/dev/null") for _ in range(8)]
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    await send({{"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"8")]}})
    await send({{"type": "http.response.body", "body": b"%8d" % limit}})
"""


@pytest.mark.slow
def test_soft_limit_of_descriptors_is_raised(tmp_path: Path):
    with serving(tmp_path, DESCRIPTORS.format(200)) as process:
        assert process.get().endswith(b" 200")


ROOM = """
import resource
from pathlib import Path

async def application(scope, receive, send):
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    await send({"type": "http.response.start", "status": 200, "headers": []})
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    await send({"type": "http.response.body", "body": b"%d %d" % (int(status["FDSize"]), limit)})
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("workers", [[], ["--workers", "2"]])
def test_the_systems_table_of_descriptors_has_room_for_all_connections(tmp_path: Path, workers: list[str]):
    with serving(tmp_path, ROOM, *workers) as process:
        room, limit = map(int, process.get().rpartition(b"\r\n\r\n")[2].split())
    assert room >= min(limit, MOST_ROOM)


def is_refused(client: socket.socket) -> bool:
    return client.recv(65536).startswith(b"HTTP/1.1 503 ")


@pytest.mark.slow
@pytest.mark.parametrize("hard", [64, 256])
def test_descriptors_are_kept_for_the_application(tmp_path: Path, hard: int):
    limits = {"REQUEST_HEAD_TIMEOUT": 3600.0}
    with serving(tmp_path, DESCRIPTORS.format(hard), limits=limits) as process, contextlib.ExitStack() as clients:
        first = clients.enter_context(process.connect())
        request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
        first.sendall(request)
        assert first.recv(65536).startswith(b"HTTP/1.1 200 ")
        for _ in range(hard):
            clients.enter_context(process.connect())
        assert is_refused(clients.enter_context(process.connect()))
        first.sendall(request)

        assert first.recv(65536).startswith(b"HTTP/1.1 200 ")
    assert "accepting pauses" not in process.log
