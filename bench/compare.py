"""Compare this project with Channels under uvicorn and under Daphne, in alternating pairs on two cores.

    python bench/compare.py [--pairs 5] [--seconds 5] [--only echo]

Prints a table as it goes, and writes raw results to bench/results/. Exits with 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
CACHE = HERE / ".cache"
PEER_REQUIREMENTS = ["channels==4.3.2", "daphne==4.2.3", "uvicorn[standard]==0.54.0", "Django>=5.2,<5.3"]
START_TIMEOUT = 30.0


@dataclass(frozen=True)
class Server:
    name: str
    command: tuple[str, ...]  # {port} stands for the port


@dataclass(frozen=True)
class Scenario:
    name: str
    what: str
    load: tuple[str, ...]
    peer: str
    target: float


SCENARIOS = [
    Scenario(
        "echo",
        "echo through AuthMiddlewareStack, 100 connections, 1 in flight",
        ("echo", "-n", "100", "-u", "/echo/"),
        "channels + uvicorn",
        6,
    ),
    Scenario(
        "room",
        "a room of 1,000, each member's handler sends JSON, 1 in flight",
        ("broadcast", "-n", "1000", "-u", "/room/", "-S", "/sender/"),
        "channels + Daphne",
        25,
    ),
]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5, help="alternating pairs for each scenario (5)")
    parser.add_argument("--seconds", type=float, default=5, help="seconds of load for each measurement (5)")
    parser.add_argument("--only", choices=[scenario.name for scenario in SCENARIOS], help="one scenario only")
    options = parser.parse_args()
    load = compile_load()
    servers = make_servers()
    wanted = [scenario for scenario in SCENARIOS if options.only in (None, scenario.name)]
    results = [compare(scenario, servers, load, options.pairs, options.seconds) for scenario in wanted]
    write(results, servers)
    return 0 if all(result["ratio"] >= result["target"] for result in results) else 1


def compile_load() -> Path:
    CACHE.mkdir(exist_ok=True)
    program = CACHE / "wsload"
    subprocess.run(["gcc", "-O2", "-o", program, HERE / "wsload.c"], check=True, stderr=subprocess.DEVNULL)
    return program


def make_servers() -> dict[str, Server]:
    peers = CACHE / "peers"
    if not (peers / "ready").exists():
        print("Making the peers' environment ...", flush=True)
        subprocess.run([sys.executable, "-m", "venv", peers], check=True)
        subprocess.run([peers / "bin/pip", "install", "--quiet", *PEER_REQUIREMENTS], check=True)
        (peers / "ready").touch()
    quiet = ("--log-level", "warning", "--no-access-log")
    return {
        server.name: server
        for server in (
            Server(
                "fairway",
                (sys.executable, "-m", "fairway", "site_app:application", "--port", "{port}", "--no-access-log"),
            ),
            Server("channels + uvicorn", (f"{peers}/bin/uvicorn", "site_app:application", "--port", "{port}", *quiet)),
            Server("channels + Daphne", (f"{peers}/bin/daphne", "-v", "0", "-p", "{port}", "site_app:application")),
        )
    }


def compare(scenario: Scenario, servers: dict[str, Server], load: Path, pairs: int, seconds: float) -> dict:
    print(f"\n{scenario.what}\n{'':4}{'fairway':>12}{scenario.peer:>22}{'ratio':>9}", flush=True)
    rows = []
    for number in range(pairs):
        order = ("fairway", scenario.peer) if number % 2 == 0 else (scenario.peer, "fairway")
        row = {name: measure(servers[name], scenario, load, seconds) for name in order}
        ours, theirs = row["fairway"]["msgs_per_s"], row[scenario.peer]["msgs_per_s"]
        print(f"{number + 1:>4}{ours:>12,.0f}{theirs:>22,.0f}{ours / theirs:>9.1f}", flush=True)
        rows.append(row)
    medians = {name: statistics.median(row[name]["msgs_per_s"] for row in rows) for name in rows[0]}
    ratio = medians["fairway"] / medians[scenario.peer]
    ours, theirs = medians["fairway"], medians[scenario.peer]
    print(f"{'':4}{ours:>12,.0f}{theirs:>22,.0f}{ratio:>9.1f}  medians; wanted: {scenario.target}", flush=True)
    return {
        "scenario": scenario.name,
        "what": scenario.what,
        "peer": scenario.peer,
        "target": scenario.target,
        "ratio": ratio,
        "medians": medians,
        "pairs": rows,
    }


def measure(server: Server, scenario: Scenario, load: Path, seconds: float) -> dict:
    with running(server) as (port, process):
        before = cpu_seconds(process.pid)
        command = [*on_core(1), load, *scenario.load, "-p", str(port), "-t", str(seconds), "-W", "300"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds * 10 + 60)
        if done.returncode:
            raise SystemExit(f"{server.name}, {scenario.name}: the generator found faults: {done.stdout}{done.stderr}")
        result = json.loads(done.stdout)
        result["server_cpu_us_per_message"] = (cpu_seconds(process.pid) - before) * 1e6 / max(result["received"], 1)
        return result


@contextlib.contextmanager
def running(server: Server) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    with tempfile.TemporaryDirectory() as folder, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        environment = os.environ | {"BENCH_DATABASE": f"{folder}/db.sqlite3", "PYTHONPATH": str(HERE / "apps")}
        command = [*on_core(0), *(part.format(port=port) for part in server.command)]
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            wait_for(port, process)
            yield port, process
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def on_core(number: int) -> list[str]:
    return ["taskset", "-c", str(number)]


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"{process.args} ended with {process.returncode} before it listened")
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise SystemExit(f"{process.args} did not listen within {START_TIMEOUT:g} s")


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def write(results: list[dict], servers: dict[str, Server]) -> None:
    folder = HERE / "results"
    folder.mkdir(exist_ok=True)
    stamp = time.strftime("%Y-%m-%d")
    document = {
        "date": stamp,
        "machine": {"python": platform.python_version(), "system": platform.platform(), "cores": os.cpu_count()},
        "peers": PEER_REQUIREMENTS,
        "commands": {name: server.command for name, server in servers.items()},
        "results": results,
    }
    path = folder / f"compare-{stamp}.json"
    path.write_text(json.dumps(document, indent=1) + "\n")
    print(f"\nraw results: {path.relative_to(HERE.parent)}")


if __name__ == "__main__":
    sys.exit(main())
