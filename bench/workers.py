"""How evenly workers share connections, how much memory each has of its own, and what they and metrics cost.

    python bench/workers.py [--parts spread memory metrics scaling] [--rounds 20] [--seconds 1.5]
    python bench/workers.py --quick          # does everything run?

*Spread*: connections are opened 1.5 ms apart ("steady"), then as fast as one client can ("storm"), each kept and asked
which process has it. *Memory* is that of the demo after sixty requests: of workers forked from a nursery, and of those
that load the application each for itself, because a thread was begun at its import. *Metrics* and *scaling* are ratios
of the CPU that a message costs: see `worker_costs.py`. Needs an idle machine, gcc and zlib1g-dev; takes 6 minutes.
Written to `results/workers-DATE.json`. Exits with 1 unless every bound holds.
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
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import peers
import worker_costs
from servers import LOAD_CORE, SERVER_CORE, on_core

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
from {} import application
"""

SPREAD, MEMORY, METRICS, SCALING = 1.05, 0.6, 1.03, 1.1
"""What is asked: the most connections to the mean, memory to that of spawned workers, and CPU."""

RATE = 4000
"""Messages a second for each worker."""

Verdict = tuple[bool, Any]
"""Whether a bound holds, and the figures."""


@contextlib.contextmanager
def served(
    directory: Path,
    app: str,
    workers: int,
    *path: Path,
    arguments: Sequence[str] = (),
    environment: Mapping[str, str] = MappingProxyType({}),
    core: Sequence[str] = (),
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A server of `app`, once all its workers are ready, and its port. `core` puts it on a core of its own."""
    log = directory / "log"
    command = [*core, sys.executable, "-m", "fairway", app, "--port", "0", "--workers", str(workers), "--no-access-log"]
    python_path = os.pathsep.join(map(str, [ROOT / "src", *path]))
    with log.open("w") as out:
        process = subprocess.Popen(
            [*command, *arguments],
            cwd=directory,
            env={**os.environ, **environment, "PYTHONPATH": python_path},
            stderr=out,
            stdout=out,
        )
    try:
        deadline = time.monotonic() + 60
        ready = f"all {workers} workers are ready" if workers > 1 else "listening on"
        while ready not in log.read_text():
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


def measure_spread(directory: Path, options: argparse.Namespace) -> dict[str, Verdict]:
    (directory / "who.py").write_text(WHO)
    found = {}
    for app, start in (("who:application", "forked"), ("spawned_who:application", "spawned")):
        (directory / "spawned_who.py").write_text(SPAWNED.format("who"))
        for kind, pause in (("steady", 0.0015), ("storm", 0.0)):
            with served(directory, app, options.workers) as (_, port):
                counts = spread(port, options.connections, pause)
            most = max(counts) * options.workers / sum(counts)
            name = f"spread, {start}, {kind}"
            found[name] = most <= SPREAD, counts
            tell(name, found[name][0], f"{counts}: the most is {most:.3f} of the mean (at most {SPREAD} asked)")
    return found


def measure_memory(directory: Path, options: argparse.Namespace) -> dict[str, Verdict]:
    (directory / "spawned_demo.py").write_text(SPAWNED.format("demo.asgi"))
    megabytes = {}
    for kind, app in (("forked", "demo.asgi:application"), ("spawned", "spawned_demo:application")):
        with served(directory, app, options.workers, ROOT / "demo") as (process, port):
            megabytes[kind] = private_memory(process, port)
    share = max(megabytes["forked"]) / min(megabytes["spawned"])
    told = "; ".join(f"{kind} {', '.join(f'{one:.1f}' for one in own)} MB" for kind, own in megabytes.items())
    tell("memory of their own", share <= MEMORY, f"{share:.2f} (at most {MEMORY} asked): {told}")
    return {"memory": (share <= MEMORY, megabytes)}


def measure_metrics(directory: Path, options: argparse.Namespace) -> dict[str, Verdict]:
    """On against off, and off against another server that has them off: what the machine's noise alone makes."""
    app, arguments = "site_app:application", ["--management", f"unix:{directory}/management"]
    found: dict[str, Verdict] = {}
    with contextlib.ExitStack() as stack:
        servers = []
        for name, more in (("on", arguments), ("off", []), ("off again", [])):
            place = directory / name
            place.mkdir()
            with_it = {"arguments": more, "environment": worker_costs.environment(place)}
            process, port = stack.enter_context(served(place, app, 1, peers.APPS, **with_it, core=on_core(SERVER_CORE)))
            servers.append((process.pid, port, more[1] if more else ""))
        for name, load in (
            ("metrics, echo", [*worker_costs.ECHO, "-n", "50", "-R", "8000"]),
            ("metrics, broadcast", [*worker_costs.BROADCAST, "-n", "200", "-R", "150"]),
        ):
            on, off, again = (
                worker_costs.Loaded(pid, port, load, management, tuple(on_core(LOAD_CORE)))
                for pid, port, management in servers
            )
            noise = worker_costs.compared(again, off, options.rounds, options.seconds)
            figures = worker_costs.compared(on, off, options.rounds, options.seconds)
            found[name] = figures["ratio"] <= METRICS, figures | {"off against off": noise}
            print(worker_costs.told(name, figures, METRICS), flush=True)
            print(f"     off against off: {noise['ratio']:.3f} ×", flush=True)
    return found


def measure_scaling(directory: Path, options: argparse.Namespace) -> dict[str, Verdict]:
    """Two workers with twice the connections and twice the rate against one."""
    loaded = []
    with contextlib.ExitStack() as stack:
        for workers in (2, 1):
            place = directory / f"of-{workers}"
            place.mkdir()
            environment = worker_costs.environment(place)
            process, port = stack.enter_context(
                served(place, "site_app:application", workers, peers.APPS, environment=environment)
            )
            load = [*worker_costs.ECHO, "-n", str(50 * workers), "-R", str(RATE * workers)]
            loaded.append(worker_costs.Loaded(process.pid, port, load))
        figures = worker_costs.compared(*loaded, options.rounds, options.seconds)
    print(worker_costs.told("two workers against one", figures, SCALING), flush=True)
    return {"scaling": (figures["ratio"] <= SCALING, figures)}


def tell(name: str, holds: bool, text: str) -> None:
    print(f"{'ok  ' if holds else 'FAIL'} {name:<28} {text}", flush=True)


PARTS = {
    "spread": measure_spread,
    "memory": measure_memory,
    "metrics": measure_metrics,
    "scaling": measure_scaling,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--connections", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=1.5, help="of each load")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--quick", action="store_true", help="does everything run? The figures mean little")
    parser.add_argument("--out", default=time.strftime("workers-%Y-%m-%d"))
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds, options.connections = 2, 0.5, 400
    if {"metrics", "scaling"} & set(options.parts):
        peers.prepare_load()
    found: dict[str, Verdict] = {}
    for part in options.parts:
        with tempfile.TemporaryDirectory() as name:
            found |= PARTS[part](Path(name), options)
    document = {**vars(options), "date": time.strftime("%Y-%m-%d %H:%M")}
    document |= {name: {"holds": holds, "figures": figures} for name, (holds, figures) in found.items()}
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{options.out}.json"
    path.write_text(json.dumps(document, indent=1) + "\n")
    verdict = options.quick or all(holds for holds, _ in found.values())
    said = "everything runs" if options.quick else "every bound holds" if verdict else "NOT every bound holds"
    print(f"{said}\n{path}")
    return 0 if verdict else 1


if __name__ == "__main__":
    sys.exit(main())
