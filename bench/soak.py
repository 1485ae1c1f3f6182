"""A million connects and disconnects with a message in between: does the memory come back to where it began?

    python bench/soak.py [--connections 1000000] [--server ours] [--kind echo] [--out soak-2026-01-01]

Exits with 1 if the memory has grown by more than two percent since the end of a warm-up of 20,000 connections.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

import memory
import peers
import processes
from measurement import Fault, address, finish, last_line, settle, start_load
from servers import SERVERS, Running, end_on_sigterm, running

WARM_UP = 20_000
STEPS = 20
GROWTH = 0.02


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=1_000_000)
    parser.add_argument("--warm-up", type=int, default=WARM_UP)
    parser.add_argument("--server", choices=list(SERVERS), default="ours")
    parser.add_argument("--kind", choices=["echo", "member", "plain"], default="echo")
    parser.add_argument("--out", default=time.strftime("soak-%Y-%m-%d"))
    options = parser.parse_args()
    end_on_sigterm()
    peers.prepare()
    begin = time.monotonic()
    points = soak(options)
    first, last = points[0], points[-1]
    growth = last["process_kb"] / first["process_kb"] - 1
    document = {
        **vars(options),
        "versions": peers.versions(),
        "points": points,
        "growth": growth,
        "seconds": time.monotonic() - begin,
    }
    path = peers.HERE / "results" / f"{options.out}.json"
    path.write_text(json.dumps(document, indent=1) + "\n")
    print(f"{last['connections']:,} connections in {document['seconds']:.0f} s: {growth:+.2%} of memory\n{path}")
    return 0 if growth <= GROWTH else 1


def soak(options: argparse.Namespace) -> list[dict[str, Any]]:
    """The memory after the warm-up, and after each step."""
    with running(SERVERS[options.server], options.kind) as one:
        churn(one, options.kind, options.warm_up)
        points = [point(one, 0)]
        for step in range(1, STEPS + 1):
            churn(one, options.kind, options.connections // STEPS)
            points.append(point(one, step * (options.connections // STEPS)))
        return points


def churn(one: Running, kind: str, count: int) -> None:
    jar = ["-c", str(peers.COOKIES)] if kind == "member" else []
    load = ["connect", "-n", "64", "-k", "64", "-x", "-B", "-M", str(count), *jar, *address(one.server, kind)]
    process = start_load(one, load, 3600)
    outcome = finish(process, last_line(process), 3600)
    if outcome["open"] != count or outcome["received"] != count:
        raise Fault(f"{count} connections wanted: {outcome}")


def point(one: Running, connections: int) -> dict[str, Any]:
    settle(one)
    memory.collect(one)
    found = {
        "connections": connections,
        "process_kb": processes.private_kb(one.pid),
        "kernel_kb": processes.kernel_kb(),
    }
    found |= {"cpu_seconds": processes.cpu_seconds(one.pid), "descriptors": processes.descriptors(one.pid)}
    print(
        f"{connections:>10,} connections{found['process_kb']:>9,} KB{found['kernel_kb']:>10,} KB kernel"
        f"{found['descriptors']:>5} descriptors",
        flush=True,
    )
    return found


if __name__ == "__main__":
    sys.exit(main())
