"""What applications leave behind: memory, database connections, `finally` blocks, and what collecting them costs.

    python bench/collector.py [--parts bodies,mixed,idle] [--commands fairway,runserver] [--databases sqlite,postgres]
                              [--source DIRECTORY] [--sockets 19000] [--seconds 30] [--out FILE]

* bodies: 300 x POST of 1 MB, then 900 x 2 MB, one after the other; how far the resident memory is above its start.
* mixed: 600 requests (sync and async views with a query, uploads of 1 MB, endless streams that the client leaves) with
  CONN_MAX_AGE=600; the most database connections and threads seen at once, memory, and how late a `finally` ran.
* idle: as many idle WebSockets as the limit of descriptors allows, and 50 such requests a second beside them; pauses of
  the collector and its share of the server's CPU time. Connecting is not counted.

`--source` serves another checkout's `src/`, to compare with. Figures are printed as JSON, one line for each part.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import resource
import selectors
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import processes

HERE = Path(__file__).parent
PAGE = os.sysconf("SC_PAGE_SIZE")
MB = 1_000_000
CLIENTS = 8
HEAD = "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
UPGRADE = (
    b"GET /idle/ HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
BACKENDS = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s"
RESERVED_DESCRIPTORS = 500
HOLDERS = 2
PATIENCE = 30.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default="bodies,mixed,idle")
    parser.add_argument("--commands", default="fairway,runserver")
    parser.add_argument("--databases", default="sqlite,postgres")
    parser.add_argument("--source", default=str(HERE.parent / "src"), help="the folder that holds channels and fairway")
    parser.add_argument("--sockets", type=int, default=19_500, help="idle ones, as far as descriptors allow")
    parser.add_argument("--seconds", type=float, default=30, help="of requests beside the idle sockets")
    parser.add_argument("--out", help="a file that the lines are added to")
    options = parser.parse_args()
    parts, commands = options.parts.split(","), options.commands.split(",")
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    if "bodies" in parts:
        for command in commands:
            report(options, "bodies", command, "sqlite", bodies)
    if "mixed" in parts:
        for command in commands:
            for database in options.databases.split(","):
                report(options, "mixed", command, database, mixed)
    if "idle" in parts:
        report(options, "idle", "fairway", "sqlite", lambda site: idle(site, options.sockets, options.seconds))
    return 0


def report(
    options: argparse.Namespace, part: str, command: str, database: str, measure: Callable[[Site], dict[str, Any]]
) -> None:
    with databases(database) as (settings, count), Site(command, options.source, settings, count) as site:
        line = json.dumps({"part": part, "command": command, "database": database, **measure(site)})
    print(line, flush=True)
    if options.out:
        with open(options.out, "a") as out:
            out.write(line + "\n")


class Refused(Exception):
    """An answer that is not 200."""


class Site:
    """The server in a process of its own, and what is to be seen of it from outside."""

    def __init__(self, command: str, source: str, database: dict[str, Any], count: Callable[[int], int]) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        arguments = {
            "fairway": [
                *("-m", "fairway", "leaving_app:application", "--port", str(self.port)),
                *("--no-access-log", "--max-connections", str(resource.getrlimit(resource.RLIMIT_NOFILE)[1])),
            ],
            "runserver": [str(HERE / "apps/leaving_app.py"), "runserver", "--noreload", str(self.port)],
        }[command]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([source, str(HERE / "apps")]),
            "LEAVING_DATABASE": json.dumps({**database, "CONN_MAX_AGE": 600}),
            "LEAVING_DEBUG": "1" if command == "runserver" else "",
        }
        self._count = count
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # closed in __exit__
        self.process = subprocess.Popen(
            [sys.executable, *arguments], env=environment, stdout=self._log, stderr=subprocess.STDOUT
        )
        self.pid = self.process.pid

    def __enter__(self) -> Site:
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and self.process.poll() is None:
            with contextlib.suppress(OSError):
                self.request("GET", "/facts/?clear=1")
                return self
            time.sleep(0.1)
        self._log.seek(0)
        raise SystemExit(f"the server does not answer:\n{self._log.read().decode()}")

    def __exit__(self, *args: object) -> None:
        self.process.kill()
        self.process.wait()
        self._log.close()

    def open(self, method: str, path: str, body: bytes = b"") -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), PATIENCE)
        connection.sendall(HEAD.format(method=method, path=path, length=len(body)).encode() + body)
        return connection

    def request(self, method: str, path: str, body: bytes = b"") -> bytes:
        with self.open(method, path, body) as connection:
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        head, _, content = answer.partition(b"\r\n\r\n")
        if b" 200 " not in head.split(b"\r\n")[0]:
            raise Refused(f"{method} {path}: {answer[:500]!r}")
        return content

    def facts(self, clear: bool = False) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.request("GET", "/facts/" + "?clear=1" * clear))
        return found

    @property
    def resident_mb(self) -> float:
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * PAGE / MB

    @property
    def threads(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/task"))

    @property
    def connections(self) -> int:
        return self._count(self.pid)


@contextlib.contextmanager
def databases(kind: str) -> Iterator[tuple[dict[str, Any], Callable[[int], int]]]:
    """Settings of a fresh database, and a function that counts a process's connections to it."""
    if kind == "sqlite":
        folder = tempfile.mkdtemp()
        name = os.path.join(folder, "db.sqlite3")
        try:
            yield {"ENGINE": "django.db.backends.sqlite3", "NAME": name}, lambda pid: open_files(pid, name)
        finally:
            shutil.rmtree(folder)
        return
    sys.path.insert(0, str(HERE.parent))
    import psycopg
    from tests.services.postgres import postgres_server

    with postgres_server() as server:
        name = server.create_database()
        # Kept: where connections are left behind, a new one may find no place.
        with psycopg.connect(**server.parameters("postgres"), autocommit=True) as watcher:
            yield server.django(name), lambda pid: watcher.execute(BACKENDS, (name,)).fetchone()[0]


def open_files(pid: int, name: str) -> int:
    links = []
    for descriptor in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            links.append(os.readlink(f"/proc/{pid}/fd/{descriptor}"))
    return links.count(name)


def bodies(site: Site) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for count, size in ((300, MB), (900, 2 * MB)):
        body = b"x" * size
        site.request("POST", "/length/", b"x")
        start, most, began = site.resident_mb, 0.0, time.monotonic()
        for _ in range(count):
            assert site.request("POST", "/length/", body) == b"%d" % size
            most = max(most, site.resident_mb)
        figures[f"{count}x{size // MB}MB"] = {
            "start_mb": round(start),
            "most_mb": round(most),
            "end_mb": round(site.resident_mb),
            "seconds": round(time.monotonic() - began, 1),
        }
    return {**figures, **pauses(site.facts())}


class Load:
    """Requests of all kinds, by threads that take the next in turn; streams are left after a moment."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._lock = threading.Lock()
        self.left: dict[str, float] = {}
        self.failed = 0

    def one(self, number: int) -> None:
        site, kind = self._site, ("/sync/", "/async/", "/length/", "/stream/")[number % 4]
        if kind == "/length/":
            site.request("POST", kind, b"x" * MB)
        elif kind == "/stream/":
            name = f"s{number}"
            with site.open("GET", f"/stream/{name}/") as connection:
                connection.recv(65536)
                time.sleep(random.random() / 2)
            with self._lock:
                self.left[name] = time.time()
        else:
            site.request("GET", kind)

    def run(self, count: int, rate: float = float("inf"), clients: int = CLIENTS) -> None:
        numbers, begin = iter(range(count)), time.monotonic()

        def client() -> None:
            while True:
                with self._lock:
                    number = next(numbers, None)
                if number is None:
                    return
                time.sleep(max(0.0, begin + number / rate - time.monotonic()))
                try:
                    self.one(number)
                except (OSError, Refused):
                    with self._lock:
                        self.failed += 1

        threads = [threading.Thread(target=client) for _ in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def lateness(self) -> dict[str, Any]:
        """How late the `finally` blocks of the streams ran, once all have, or after some seconds."""
        end = time.monotonic() + 5
        while True:
            ended = self._site.facts()["ended"]
            if len(ended) == len(self.left) or time.monotonic() > end:
                break
            # From here on it is quiet: asking would be activity.
            time.sleep(2)
        late = [ended[name] - self.left[name] for name in ended]
        return {
            "requests_failed": self.failed,
            "streams": len(self.left),
            "finally_missing": len(self.left) - len(ended),
            "finally_latest_s": round(max(late, default=0.0), 2),
        }


def mixed(site: Site) -> dict[str, Any]:
    most = {"connections": 0, "threads": 0, "resident": 0.0}
    start, stop = site.resident_mb, threading.Event()

    def watch() -> None:
        while not stop.wait(0.05):
            most["connections"] = max(most["connections"], site.connections)
            most["threads"] = max(most["threads"], site.threads)
            most["resident"] = max(most["resident"], site.resident_mb)

    watching = threading.Thread(target=watch)
    watching.start()
    load, began = Load(site), time.monotonic()
    load.run(600)
    seconds = time.monotonic() - began
    time.sleep(2)
    stop.set()
    watching.join()
    after = {"connections_after": site.connections, "threads_after": site.threads}
    return {
        "start_mb": round(start),
        "most_mb": round(most["resident"]),
        "end_mb": round(site.resident_mb),
        "most_connections": most["connections"],
        "most_threads": most["threads"],
        **after,
        "seconds": round(seconds, 1),
        **load.lateness(),
        **pauses(site.facts()),
    }


def idle(site: Site, wanted: int, seconds: float) -> dict[str, Any]:
    count = min(wanted, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - RESERVED_DESCRIPTORS)
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        shares = [count // HOLDERS] * (HOLDERS - 1)
        for share in [*shares, count - sum(shares)]:
            stack.enter_context(holding(site.port, share))
        connecting = time.monotonic() - began
        connected = pauses(site.facts(clear=True))
        cpu, begin = processes.cpu_seconds(site.pid), time.monotonic()
        load = Load(site)
        load.run(round(50 * seconds), 50, 32)
        cpu, took = processes.cpu_seconds(site.pid) - cpu, time.monotonic() - begin
        late = load.lateness()
        beside = site.facts()
    spent = sum(map(sum, beside["spent_ms"])) / 1000
    return {
        "sockets": count,
        "connecting_s": round(connecting, 1),
        "connecting": connected,
        "requests": round(50 * seconds),
        "seconds": round(took, 1),
        "cpu_s": round(cpu, 2),
        "collector_share_of_cpu": round(spent / cpu, 4),
        "resident_mb": round(site.resident_mb),
        **late,
        **pauses(beside),
    }


@contextlib.contextmanager
def holding(port: int, count: int) -> Iterator[None]:
    """A process that holds so many idle WebSockets."""
    child = subprocess.Popen(
        [sys.executable, __file__, "hold", str(port), str(count)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        if child.stdout.readline() != b"held\n":
            raise SystemExit("the idle sockets could not be opened")
        yield
    finally:
        child.stdin.close()
        child.wait()


def hold(port: int, count: int) -> None:
    """Open them and answer their pings, until standard input ends."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    with selectors.DefaultSelector() as selector:
        selector.register(sys.stdin, selectors.EVENT_READ)
        for number in range(count):
            connection = socket.create_connection(("127.0.0.1", port), PATIENCE)
            connection.sendall(UPGRADE)
            if not connection.recv(4096).startswith(b"HTTP/1.1 101"):
                raise SystemExit("no WebSocket")
            selector.register(connection, selectors.EVENT_READ)
            if number % 100 == 0:
                answer_pings(selector, 0)
        print("held", flush=True)
        while answer_pings(selector, None):
            pass


def answer_pings(selector: selectors.BaseSelector, timeout: float | None) -> bool:
    """False when standard input has something to say, which is its end."""
    for key, _ in selector.select(timeout):
        if key.fileobj is sys.stdin:
            return False
        connection: Any = key.fileobj
        ping = connection.recv(4096)
        if not ping.startswith(b"\x89"):
            raise SystemExit(f"an idle socket was sent {ping!r}")
        connection.sendall(bytes((0x8A, 0x80 | len(ping) - 2)) + bytes(4) + ping[2:])  # masked with zeros
    return True


def pauses(facts: dict[str, Any]) -> dict[str, Any]:
    """Of the collector: of each generation how often, and the longest."""
    return {
        "collections": [len(generation) for generation in facts["pauses_ms"]],
        "longest_ms": [max(generation, default=0) for generation in facts["pauses_ms"]],
        "longest_cpu_ms": [max(generation, default=0) for generation in facts["spent_ms"]],
        "total_cpu_ms": [round(sum(generation)) for generation in facts["spent_ms"]],
        "frozen": facts["frozen"],
        "walked": facts["walked"],
    }


if __name__ == "__main__":
    if sys.argv[1:2] == ["hold"]:
        hold(int(sys.argv[2]), int(sys.argv[3]))
        sys.exit()
    sys.exit(main())
