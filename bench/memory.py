"""Idle connections: memory as a slope over their number in one fresh process, CPU of the pings, the collector's pause.

    python bench/memory.py [--steps 2000,8000,16000] [--pause-at 19500] [--servers ours,uvicorn] [--kinds echo]

Each connection has a browser's 13 headers and has exchanged one message. Before a figure is read, the server has
collected (GET /collect/). Memory is what the process tree shares with nobody; the kernel's, of both ends, stands apart.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import peers
import processes
from measurement import Fault, address, finish, last_line, opened, settle, start_load
from servers import SERVERS, Running, Server, running

STEPS = (2000, 8000, 16000)
PAUSE_AT = 19_500
# Under Channels a connection costs the more time the more there are: 8,000 beside 8,000 take minutes.
CHANNELS_STEPS = (1000, 2000, 4000)
PING_PERIOD = 25.0
KINDS = {"plain": "plain ASGI", "echo": "anonymous", "member": "signed in"}

# At least and aim: KB for each connection, and microseconds of CPU for each connection and second.
TARGETS = {"plain": (6, 5), "echo": (7, 6), "member": (8, 7)}
IDLE_CPU_TARGET = (1.0, 0.6)


def measure_idle(
    key: str, kind: str, steps: tuple[int, ...] = STEPS, pause_at: int = PAUSE_AT, idle_seconds: float = PING_PERIOD
) -> dict[str, Any]:
    """Raises `Fault` if connections could not be opened, or did not stay."""
    server, points = roomy(SERVERS[key], max(*steps, pause_at)), []
    with running(server, kind, deflate=False) as one, contextlib.ExitStack() as stack:
        empty = {"process_kb": processes.private_kb(one.pid), "kernel_kb": processes.kernel_kb()}
        loads, total = [], 0
        for step in steps:
            loads.append(stack.enter_context(holding(one, kind, step - total)))
            total = step
            settle(one)
            pause = collect(one)
            memory = {"process_kb": processes.private_kb(one.pid), "kernel_kb": processes.kernel_kb()}
            points.append({"connections": total, "pause_ms": pause, **memory})
        idle = idle_cpu(one, total, idle_seconds) if idle_seconds else None
        if pause_at > total:
            loads.append(stack.enter_context(holding(one, kind, pause_at - total)))
            settle(one)
            points.append({"connections": pause_at, "pause_ms": collect(one)})
        pings = sum(let_go(load)["pings"] for load in loads)
    return {
        "server": key,
        "kind": kind,
        "what": KINDS[kind],
        "empty": empty,
        "points": points,
        "process_kb_each": slope(points[: len(steps)], "process_kb"),
        "kernel_kb_each": slope(points[: len(steps)], "kernel_kb"),
        "idle_cpu_us": idle,
        "pings": pings,
        "pause_ms": points[-1]["pause_ms"],
    }


def roomy(server: Server, connections: int) -> Server:
    """The server with room for so many: by default ours leaves an eighth of the descriptors to the application."""
    return replace(server, environment={**server.environment, "FAIRWAY_MAX_CONNECTIONS": str(connections + 100)})


@contextlib.contextmanager
def holding(one: Running, kind: str, count: int) -> Iterator[subprocess.Popen[str]]:
    """So many more connections, open and idle, each after one message."""
    jar = ["-c", str(peers.COOKIES)] if kind == "member" else []
    load = ["idle", "-n", str(count), "-B", "-x", "-k", "8", *jar, *address(one.server, kind)]
    with opened(start_load(one, load, 3600), count) as process:
        yield process


def let_go(load: subprocess.Popen[str]) -> dict[str, Any]:
    """End a generator that holds connections; it says whether all were there until now."""
    load.terminate()
    return finish(load, last_line(load), 60)


def collect(one: Running) -> float | None:
    """Let the server collect, twice: milliseconds of its second, full collection. None where there is none."""
    if one.server.key == "floor":
        return None
    for _ in range(2):
        with urllib.request.urlopen(f"http://127.0.0.1:{one.port}/collect/", timeout=60) as response:
            pause = json.load(response)["pause_ms"]
    return pause


def idle_cpu(one: Running, connections: int, seconds: float) -> float:
    """Microseconds of CPU for each connection and second, over whole ping periods.

    Not the first one: in it deadlines are put off that were set before the connections exchanged their message.
    """
    time.sleep(PING_PERIOD)
    before, begin = processes.cpu_seconds(one.pid), time.monotonic()
    time.sleep(seconds)
    return (processes.cpu_seconds(one.pid) - before) * 1e6 / (time.monotonic() - begin) / connections


def slope(points: list[dict[str, Any]], name: str) -> float:
    if len(points) < 2:
        return float("nan")
    return statistics.linear_regression([one["connections"] for one in points], [one[name] for one in points]).slope


def default_runs(keys: list[str]) -> list[tuple[str, str]]:
    """Server and kind. Those with Django's stack are enough for what only they have."""
    wanted = [("ours", "plain"), ("uvicorn", "plain"), *((key, "echo") for key in SERVERS if SERVERS[key].survey)]
    wanted += [("ours", "member"), ("uvicorn", "member")]
    return [(key, kind) for key, kind in wanted if key in keys]


def measure_all(
    runs: list[tuple[str, str]], steps: tuple[int, ...], pause_at: int, idle_seconds: float
) -> list[dict[str, Any]]:
    results = []
    for key, kind in runs:
        label = SERVERS[key].label_for(kind)
        fewer = label.startswith("channels") and max(steps) > max(CHANNELS_STEPS)
        numbers = (CHANNELS_STEPS, 0) if fewer else (steps, pause_at)
        try:
            result = measure_idle(key, kind, *numbers, idle_seconds if kind == "echo" else 0)
        except (Fault, OSError) as fault:
            result = {"server": key, "kind": kind, "what": KINDS[kind], "fault": str(fault)}
            print(f"  {label:<24}{KINDS[kind]:<12}FAULT {fault}", flush=True)
        else:
            print(f"  {label:<24}{KINDS[kind]:<12}{line(result)}", flush=True)
        results.append(result)
    return results


def line(result: dict[str, Any]) -> str:
    idle = f"  {result['idle_cpu_us']:.2f} µs/s idle" if result["idle_cpu_us"] is not None else ""
    pause = f"  collection {result['pause_ms']:.0f} ms" if result["pause_ms"] is not None else ""
    return f"{result['process_kb_each']:.2f} KB + {result['kernel_kb_each']:.2f} KB kernel{idle}{pause}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", default=",".join(map(str, STEPS)))
    parser.add_argument("--pause-at", type=int, default=PAUSE_AT)
    parser.add_argument("--idle-seconds", type=float, default=PING_PERIOD)
    parser.add_argument("--servers", default="ours")
    parser.add_argument("--kinds", default=",".join(KINDS))
    options = parser.parse_args()
    peers.prepare()
    runs = [(key, kind) for key in options.servers.split(",") for kind in options.kinds.split(",")]
    runs = [(key, kind) for key, kind in runs if kind in SERVERS[key].kinds]
    steps = tuple(int(step) for step in options.steps.split(","))
    print(json.dumps(measure_all(runs, steps, options.pause_at, options.idle_seconds), indent=1))


if __name__ == "__main__":
    main()
