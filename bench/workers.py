"""How evenly workers share connections, and how much memory each has of its own.

    python bench/workers.py [--workers 4] [--connections 2000]

Connections are opened 1.5 ms apart ("steady"), then as fast as one client can ("storm"), each kept and asked which
process has it. Memory is that of the demo after sixty requests: of workers forked from a nursery, and of workers that
load the application each for itself, because a thread was begun at its import. Written to `results/workers-DATE.json`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"

WHO = """
import os
async def application(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"8")]})
        await send({"type": "http.response.body", "body": b"%8d" % os.getpid()})
"""
SPAWNED = """
import threading
threading.Thread(target=threading.Event().wait, daemon=True).start()
from demo.asgi import application
"""


@contextlib.contextmanager
def served(directory: Path, app: str, workers: int, *path: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A server of `app`, once all its workers are ready, and its port."""
    log = directory / "log"
    command = [sys.executable, "-m", "fairway", app, "--port", "0", "--workers", str(workers), "--no-access-log"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [ROOT / "src", *path]))}
    with log.open("w") as out:
        process = subprocess.Popen(command, cwd=directory, env=environment, stderr=out, stdout=out)
    try:
        deadline = time.monotonic() + 60
        while f"all {workers} workers are ready" not in log.read_text():
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"the server did not start:\n{log.read_text()}")
            time.sleep(0.05)
        found = re.search(r"listening on http://127\.0\.0\.1:(\d+)", log.read_text())
        assert found is not None
        yield process, int(found[1])
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def spread(port: int, count: int, pause: float) -> list[int]:
    """How many of so many connections each process has."""
    clients, pids = [], Counter[int]()
    for _ in range(count):
        client = socket.create_connection(("127.0.0.1", port))
        clients.append(client)
        if pause:
            time.sleep(pause)
    for client in clients:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = b""
        while not (match := re.search(rb"\r\n\r\n *(\d+)$", answer)):
            answer += client.recv(4096)
        pids[int(match[1])] += 1
        client.close()
    return sorted(pids.values())


def private_memory(process: subprocess.Popen[bytes], port: int) -> list[float]:
    """Megabytes that each worker shares with nobody, after sixty requests."""
    for _ in range(60):
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            while client.recv(65536):
                pass
    return sorted(_private(pid) for pid in _workers(process.pid))


def _workers(supervisor: int) -> list[int]:
    """Those that end the chain: the nursery has children, or is a worker itself."""
    return [pid for child in _children(supervisor) for pid in (_children(child) or [child])]


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def _private(pid: int) -> float:
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(map(int, re.findall(r"^Private_\w+:\s+(\d+)", rollup, re.M))) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--connections", type=int, default=2000)
    options = parser.parse_args()
    found: dict[str, object] = {**vars(options), "date": time.strftime("%Y-%m-%d %H:%M")}
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "who.py").write_text(WHO)
        (directory / "spawned.py").write_text(SPAWNED)
        for kind, pause in (("steady", 0.0015), ("storm", 0.0)):
            with served(directory, "who:application", options.workers) as (_, port):
                counts = spread(port, options.connections, pause)
            most = max(counts) * options.workers / options.connections
            found[kind] = counts
            print(f"{kind:<8} {counts}: the most is {most:.3f} of the mean (at most 1.05 asked)", flush=True)
        for kind, app in (("forked", "demo.asgi:application"), ("spawned", "spawned:application")):
            with served(directory, app, options.workers, ROOT / "demo") as (process, port):
                found[kind] = private_memory(process, port)
            print(f"{kind:<8} {', '.join(f'{one:.1f}' for one in found[kind])} MB of its own")  # type: ignore[attr-defined]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / time.strftime("workers-%Y-%m-%d.json")).write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
