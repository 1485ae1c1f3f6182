"""The servers: what each can do, how it is started at its best, and one of them running on core 0."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import databases
import peers

SERVER_CORE, LOAD_CORE = 0, 1
START_TIMEOUT = 60.0
STOP_TIMEOUT = 20.0

# What a scenario asks of a server, see `Scenario.kind`. `plain` and `hello` are served by apps/plain_app.py.
DJANGO = frozenset({"echo", "member", "room", "wrapped", "hall", "view", "plain", "hello"})
NO_DJANGO = frozenset({"echo", "room", "hall", "hello"})
PLAIN_KINDS = frozenset({"plain", "hello"})


@dataclass(frozen=True)
class Server:
    """`command` may hold {port}, {app} (a module with an `application`) and {deflate} ("true" or "false").

    Where permessage-deflate costs a peer memory for every connection, it is on only where it is asked for.
    `most_members`: larger groups are left out of the survey, because one message takes many seconds, or faults.
    """

    key: str
    label: str
    command: tuple[str, ...]
    kinds: frozenset[str]
    environment: dict[str, str] = field(default_factory=dict)
    socketio: bool = False
    most_members: int = 5000
    survey: bool = True

    def label_for(self, kind: str) -> str:
        """The name to show: without Django, what is measured is the server below Channels."""
        return self.label.removeprefix("channels + ") if kind in PLAIN_KINDS else self.label


def _bin(name: str) -> str:
    return str(peers.PYTHON.parent / name)


def _python(*arguments: str) -> tuple[str, ...]:
    return (
        sys.executable,
        *arguments,
        "{app}:application",
        "--port",
        "{port}",
        "--no-access-log",
        "--log-level",
        "warning",
    )


def _node(script: str) -> tuple[str, ...]:
    return ("node", "--expose-gc", str(peers.APPS / script), "{port}", "{deflate}")


_NODE_ENVIRONMENT = {"NODE_ENV": "production", "BENCH_NODE": str(peers.NODE)}

# Pings every 25 s everywhere, as is our default; logs of accesses off everywhere; one worker process everywhere.
SERVERS = {
    server.key: server
    for server in (
        Server("ours", "fairway", _python("-m", "fairway"), DJANGO),
        Server(
            "uncoalesced", "fairway, coalescing off", _python(str(peers.APPS / "uncoalesced.py")), DJANGO, survey=False
        ),
        Server(
            "daphne",
            "channels + Daphne",
            (_bin("daphne"), "-v", "0", "-p", "{port}", "--ping-interval", "25", "{app}:application"),
            DJANGO,
            most_members=1000,
        ),
        Server(
            "uvicorn",
            "channels + uvicorn",
            # Loop uvloop, http httptools, ws websockets: what uvicorn[standard] chooses by itself, said aloud.
            (
                *(
                    _bin("uvicorn"),
                    "{app}:application",
                    "--port",
                    "{port}",
                    "--log-level",
                    "warning",
                    "--no-access-log",
                ),
                *("--loop", "uvloop", "--http", "httptools", "--ws", "websockets", "--ws-ping-interval", "25"),
                *("--ws-per-message-deflate", "{deflate}"),
            ),
            DJANGO,
            most_members=1000,
        ),
        Server(
            "hypercorn",
            "channels + Hypercorn",
            (
                *(_bin("hypercorn"), "{app}:application", "--bind", "127.0.0.1:{port}", "--worker-class", "uvloop"),
                *("--log-level", "WARNING", "--backlog", "4096", "--websocket-ping-interval", "25"),
            ),
            DJANGO,
            most_members=1000,
        ),
        Server(
            "granian",
            "channels + Granian",
            (
                *(_bin("granian"), "--interface", "asgi", "--port", "{port}", "--log-level", "warning"),
                # Its backpressure counts open WebSockets; the default would stop at 1,024 of them.
                *("--backlog", "32768", "--backpressure", "32768", "--loop", "uvloop", "{app}:application"),
            ),
            DJANGO,
            most_members=1000,
        ),
        Server("ws", "Node ws", _node("ws_server.mjs"), NO_DJANGO, _NODE_ENVIRONMENT),
        Server(
            "socketio",
            "Socket.IO",
            _node("socketio_server.mjs"),
            NO_DJANGO - {"hello"},
            _NODE_ENVIRONMENT,
            socketio=True,
        ),
        Server(
            "uws", "uWebSockets (socketify)", (str(peers.PYTHON), str(peers.APPS / "uws_app.py"), "{port}"), NO_DJANGO
        ),
        Server("floor", "C, one send() each", (str(peers.FLOOR), "{port}"), frozenset({"echo", "hall"})),
    )
}


@dataclass
class Running:
    server: Server
    port: int
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def last_words(self) -> str:
        return self.log.read_text(errors="replace")[-1500:]


@contextlib.contextmanager
def running(server: Server, kind: str, deflate: bool = True, database: databases.Kind = "sqlite") -> Iterator[Running]:
    """A fresh process on the server's core; with a database of its own if that is SQLite."""
    values = {"deflate": str(deflate).lower(), "port": str(free_port())}
    values["app"] = "plain_app" if kind in PLAIN_KINDS else "site_app"
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        log = Path(folder, "log")
        value = databases.database(database).value_in(Path(folder))
        environment = os.environ | {"BENCH_DATABASE": value, "PYTHONPATH": str(peers.APPS)} | server.environment
        command = [*on_core(SERVER_CORE), *(part.format(**values) for part in server.command)]
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, cwd=folder, env=environment, stdout=output, stderr=output, start_new_session=True
            )
        one = Running(server, int(values["port"]), process, log)
        try:
            wait_until_listening(one)
            yield one
        finally:
            stop(process)


def end_on_sigterm() -> None:
    """Make SIGTERM unwind as Ctrl-C does, so that no server is left behind."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))


def on_core(number: int) -> list[str]:
    return ["taskset", "-c", str(number)]


def free_port() -> int:
    """Below the range that clients' ports are taken from, so that none of those is in the way."""
    for port in range(21000 + os.getpid() % 1000, 32000):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise SystemExit("no free port between 21000 and 32000")


def wait_until_listening(one: Running) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        if one.process.poll() is not None:
            raise SystemExit(f"{one.server.label} ended before it listened:\n{one.last_words()}")
        try:
            socket.create_connection(("127.0.0.1", one.port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise SystemExit(f"{one.server.label} did not listen within {START_TIMEOUT:g} s:\n{one.last_words()}")


def stop(process: subprocess.Popen[bytes]) -> None:
    """End the process and what it has started: all are in a session of their own."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_TIMEOUT)
