"""Looking at servers that run as real processes, through their management sockets."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.fairway.server.site_process import PATIENCE, SiteProcess, until
from websockets.sync.client import connect

from fairway.server.management.address import Address

pytestmark = pytest.mark.slow

SITE = """
import asyncio, time
async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        for _ in range(2):
            await send({"type": (await receive())["type"] + ".complete"})
        return
    if scope["type"] == "http":
        if scope["path"] == "/block":
            time.sleep(3)
        if scope["path"] == "/wait":
            await asyncio.sleep(30)
        if scope["path"] == "/raise":
            raise RuntimeError("as asked")
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})
        return
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] != "websocket.disconnect":
        await send({"type": "websocket.send", "text": event["text"]})
"""


class Seen(SiteProcess):
    """A site with a management socket."""

    def __init__(self, directory: Path, *arguments: str, **options: Any) -> None:
        self.management = Address(path=str(directory / "management"))
        if "limits" not in options:
            arguments = ("--management", f"unix:{self.management.path}", *arguments)
            options["limits"] = {}
        if not options.pop("access_log", False):
            arguments = ("--no-access-log", *arguments)
        super().__init__(directory, SITE, *arguments, **options)

    def page(self, path: str) -> tuple[int, str]:
        """Status and text of an answer of the management socket."""
        with self.management.connect(PATIENCE) as client:
            client.sendall(f"GET {path} HTTP/1.1\r\n\r\n".encode())
            response = http.client.HTTPResponse(client)
            response.begin()
            return response.status, response.read().decode()

    def status(self) -> dict[str, Any]:
        return dict(json.loads(self.page("/status")[1]))

    def sums(self) -> dict[str, float]:
        """Metrics by name, added up over their labels."""
        sums: dict[str, float] = {}
        for family in text_string_to_metric_families(self.page("/metrics")[1]):
            for sample in family.samples:
                sums[sample.name] = sums.get(sample.name, 0) + sample.value
        return sums


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Seen]]:
    started: list[Seen] = []

    def begin(*arguments: str, **options: Any) -> Seen:
        started.append(Seen(tmp_path, *arguments, **options))
        return started[-1]

    yield begin
    for one in started:
        one.signal(signal.SIGTERM)
        one.end(PATIENCE)
        one.kill()


def echo(server: Seen, count: int) -> None:
    host, port = server.address
    with connect(f"ws://{host}:{port}/", proxy=None) as client:
        for _ in range(count):
            client.send("x")
            client.recv()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_what_happens_is_counted_and_can_be_read(start: Callable[..., Seen], workers: str) -> None:
    server = start("--workers", workers)
    until(lambda: server.page("/ready") == (200, "ready\n"))
    assert server.page("/health") == (200, "alive\n")
    assert stat.S_IMODE(os.stat(server.management.path).st_mode) == 0o600

    echo(server, 10)
    for _ in range(4):
        assert server.get().endswith(b"ok")
    assert b" 500 " in server.get("/raise")

    until(lambda: (sums := server.sums()).get("fairway_responses_total") == 5 and not sums["fairway_connections"])
    sums = server.sums()
    assert sums["fairway_messages_received_total"] == 10
    # Frames of 7 and 3 bytes, and what requests and responses have at least.
    assert sums["fairway_received_bytes_total"] > 10 * 7 + 5 * len("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert sums["fairway_sent_bytes_total"] > 10 * 3 + 5 * len("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
    assert sums["fairway_outbox_bytes"] == sums["fairway_inbox_messages"] == 0
    assert sums["fairway_websockets_total"] == 1
    assert sums["fairway_requests_total"] == 5
    assert sums["fairway_application_errors_total"] == 1
    assert sums["fairway_workers_wanted"] == int(workers)
    assert sums["fairway_workers"] == int(workers)
    assert sums["fairway_resident_memory_bytes"] > 10_000_000
    assert sums["fairway_cpu_seconds_total"] > 0

    status = server.status()
    assert (status["ready"], status["wanted"], len(status["processes"])) == (True, int(workers), int(workers))
    assert {one["state"] for one in status["processes"]} == {"ready"}


def test_open_connections_are_told_apart(start: Callable[..., Seen]) -> None:
    server = start("--workers", "2")
    host, port = server.address
    with server.connect(), connect(f"ws://{host}:{port}/", proxy=None), connect(f"ws://{host}:{port}/", proxy=None):
        until(lambda: server.sums().get("fairway_connections") == 3)
        kinds: dict[str, int] = {}
        for one in server.status()["processes"]:
            for kind, count in one["figures"]["connections"].items():
                kinds[kind] = kinds.get(kind, 0) + count
        assert kinds == {"http1": 1, "http2": 0, "websocket": 2, "arriving": 0}


def test_a_server_that_drains_is_not_ready_but_alive(start: Callable[..., Seen]) -> None:
    server = start("--workers", "2")
    until(lambda: server.page("/ready")[0] == 200)
    with server.connect() as client:
        client.sendall(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
        until(lambda: server.sums().get("fairway_tasks") == 1)
        server.signal(signal.SIGTERM)
        assert until(lambda: (page := server.page("/ready"))[0] == 503 and page) == (503, "stopping\n")
        assert server.page("/health")[0] == 200
        server.signal(signal.SIGTERM)
        assert server.end(PATIENCE) == 0
    assert not os.path.exists(server.management.path)


def test_a_worker_that_dies_is_counted_and_missed_until_another_serves(start: Callable[..., Seen]) -> None:
    server = start("--workers", "2")
    until(lambda: server.page("/ready")[0] == 200)
    victim = server.status()["processes"][0]["pid"]
    os.kill(victim, signal.SIGKILL)
    until(lambda: server.sums()["fairway_worker_restarts_total"] == 1)
    until(lambda: server.page("/ready")[0] == 200)
    assert victim not in [one["pid"] for one in server.status()["processes"]]


def test_a_worker_that_hangs_is_seen_to(start: Callable[..., Seen]) -> None:
    server = start("--workers", "2")
    until(lambda: server.page("/ready")[0] == 200 and all(one["figures"] for one in server.status()["processes"]))
    victim = server.status()["processes"][0]["pid"]
    os.kill(victim, signal.SIGSTOP)
    try:

        def lag() -> float:
            return float({one["pid"]: one["figures"]["loop_lag"] for one in server.status()["processes"]}[victim])

        until(lambda: lag() > 2)
    finally:
        os.kill(victim, signal.SIGCONT)


def test_one_process_answers_while_its_loop_is_blocked(start: Callable[..., Seen]) -> None:
    server = start()
    until(lambda: server.page("/ready")[0] == 200)
    with server.connect() as client:
        client.sendall(b"GET /block HTTP/1.1\r\nHost: x\r\n\r\n")
        until(lambda: server.sums()["fairway_loop_lag_seconds"] > 0.5)
        assert client.recv(4096)
    until(lambda: server.sums()["fairway_loop_late_seconds_total"] > 1)


def test_the_setting_of_a_project_opens_it_for_workers_too(start: Callable[..., Seen], tmp_path: Path) -> None:
    server = start("--workers", "2", limits={"MANAGEMENT": f"unix:{tmp_path / 'management'}"})
    until(lambda: server.page("/ready")[0] == 200)


def test_the_socket_moves_with_the_setting_when_the_application_is_loaded_anew(
    start: Callable[..., Seen], tmp_path: Path
) -> None:
    server = start("--workers", "2", limits={"MANAGEMENT": "unix:former"})
    source, former = tmp_path / "site_under_test.py", tmp_path / "former"
    until(former.exists)
    source.write_text(source.read_text().replace("unix:former", f"unix:{tmp_path / 'management'}"))
    server.signal(signal.SIGHUP)
    until(lambda: Path(server.management.path).exists() and server.page("/ready")[0] == 200)
    assert not former.exists()

    with socket.socket(socket.AF_UNIX) as taken:
        taken.bind(str(tmp_path / "taken"))
        taken.listen()
        source.write_text(source.read_text().replace(server.management.path, str(tmp_path / "taken")))
        server.signal(signal.SIGHUP)
        server.wait_for("the management socket stays where it is")
    assert server.page("/health")[0] == 200


@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_address_that_is_taken_is_one_sentence(tmp_path: Path, workers: str) -> None:
    (tmp_path / "site_under_test.py").write_text(SITE)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        command = ["--port", "0", "--management", place, "--workers", workers, "site_under_test:application"]
        ended = subprocess.run(
            [sys.executable, "-m", "fairway", *command], cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE
        )
    assert ended.returncode == 1
    assert "already in use: choose another one with --management" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("workers", ["1", "2"])
def test_every_line_of_the_log_may_be_an_object(start: Callable[..., Seen], workers: str) -> None:
    server = start("--workers", workers, "--log-format", "json", access_log=True)
    with server.connect() as client:
        client.sendall(
            b'GET /\xff"\x7f%0a?token=secret HTTP/1.1\r\nHost: x\r\nUser-Agent: \xe9"{}\r\nConnection: close\r\n\r\n'
        )
        assert client.recv(4096)
    assert b" 500 " in server.get("/raise")
    server.wait_for("RuntimeError")
    server.signal(signal.SIGTERM)
    assert server.end(PATIENCE) == 0
    found = [json.loads(line) for line in server.log.splitlines()]
    assert all({"time", "level", "process", "logger", "message"} <= one.keys() for one in found)
    assert "secret" not in server.log
    (error,) = [one for one in found if "traceback" in one]
    assert error["traceback"].endswith("RuntimeError: as asked")
    statuses = [one["status"] for one in found if one["logger"] == "fairway.access"]
    assert statuses[-1] == 500


def test_a_worker_that_hangs_for_too_long_is_killed_and_replaced(start: Callable[..., Seen]) -> None:
    server = start("--workers", "2", "--worker-kill-after", "4")
    until(lambda: server.page("/ready")[0] == 200)
    victim, other = (one["pid"] for one in server.status()["processes"])
    os.kill(victim, signal.SIGSTOP)
    server.wait_for(f"worker {victim} hangs, and its event loop does not turn: killed")
    server.wait_for(f"worker {victim} was ended by SIGKILL; another one starts now")
    server.wait_for("all 2 workers are ready", times=2)
    pids = [one["pid"] for one in until(lambda: server.page("/ready")[0] == 200 and server.status())["processes"]]
    assert victim not in pids
    assert other in pids
    assert server.log.count(f"worker {victim} hangs") == 1
