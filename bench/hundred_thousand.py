"""100,000 connections on this machine: idle with pings for ten minutes, then one broadcast in each server process.

    python bench/hundred_thousand.py [--connections 100000] [--idle 600] [--per-process 16700] [--out 100k-2026-01-01]

As many server processes, and as many generators, as the limit on descriptors for each process asks for. All servers
share core 0, all generators core 1. Clients come from 127.0.0.1, 127.0.1.1, ... and send the 13 headers of a browser.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import peers
import processes
from measurement import Result, address, faults_in, finish, last_line, settle
from servers import LOAD_CORE, SERVERS, Running, end_on_sigterm, on_core, running

SOURCE_ADDRESSES = 8
SPARE_DESCRIPTORS = 500


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=100_000)
    parser.add_argument("--idle", type=float, default=600, help="seconds")
    parser.add_argument("--per-process", type=int, default=16_700)
    parser.add_argument("--out", default=time.strftime("100k-%Y-%m-%d"))
    options = parser.parse_args()
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1] - SPARE_DESCRIPTORS
    if options.per_process > limit:
        raise SystemExit(f"at most {limit} connections for each process: the hard limit of descriptors (ulimit -Hn)")
    peers.prepare()
    end_on_sigterm()
    os.sched_setaffinity(0, {LOAD_CORE})
    outcome = run(shares(options.connections, options.per_process), options.idle)
    document = {**vars(options), "date": time.strftime("%Y-%m-%d %H:%M"), "versions": peers.versions(), **outcome}
    path = peers.HERE / "results" / f"{options.out}.json"
    path.write_text(json.dumps(document, indent=1) + "\n")
    print(summary(outcome), path, sep="\n")
    return 0 if exactly_once(outcome, options.connections) else 1


def shares(connections: int, most: int) -> list[int]:
    """Members for each process: as even as can be."""
    count = -(-connections // most)
    return [connections // count + (place < connections % count) for place in range(count)]


def run(members: list[int], idle_seconds: float) -> dict[str, Any]:
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(running(SERVERS["ours"], "hall", deflate=False)) for _ in members]
        empty = state(servers)
        say(f"{len(servers)} server processes", empty)
        begin = time.monotonic()
        loads = [stack.enter_context(joined(one, count)) for one, count in zip(servers, members, strict=True)]
        opening = time.monotonic() - begin
        for one in servers:
            settle(one)
        opened = state(servers)
        say(f"{opened['sockets']:,} sockets open after {opening:.1f} s", opened)
        idle_begin = time.monotonic()
        time.sleep(idle_seconds)
        after = state(servers)
        idle = time.monotonic() - idle_begin
        say(f"{after['sockets']:,} sockets open after {idle:.0f} s idle", after)
        seconds, cpu = broadcast(servers, loads)
        outcomes = [finish_broadcast(load) for load in loads]
        end = state(servers)
    total = sum(members)
    return {
        "members": members,
        "opening_seconds": opening,
        "idle_seconds": idle,
        "broadcast_seconds": seconds,
        "states": {"empty": empty, "opened": opened, "after_idle": after, "after_closing": end},
        "process_kb_each": (after["process_kb"] - empty["process_kb"]) / total,
        "kernel_kb_each": (after["kernel_kb"] - empty["kernel_kb"]) / total,
        "idle_cpu_us_each_second": (after["cpu_seconds"] - opened["cpu_seconds"]) * 1e6 / max(idle, 1e-9) / total,
        "broadcast_cpu_us_each": cpu * 1e6 / total,
        "pings": sum(outcome.get("pings", 0) for outcome in outcomes),
        "generators": outcomes,
    }


@contextlib.contextmanager
def joined(one: Running, members: int) -> Any:
    """A generator whose members and sender are connected, and wait for SIGUSR1 to send one message."""
    where = address(one.server, "hall", sender=True)
    load = ["broadcast", "-n", str(members), "-B", "-M", "1", "-k", str(SOURCE_ADDRESSES), "-W", "86400000", *where]
    command = [*on_core(LOAD_CORE), str(peers.LOAD), *load, "-p", str(one.port), "-t", "60", "-D", "60000"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        ready = process.stdout.readline()
        if f"READY {members + 1} open, 0 failed" not in ready:
            process.terminate()
            raise SystemExit(f"{members} members wanted: {ready}{process.communicate()[1][:300]}")
        yield process
    finally:
        process.kill()
        process.communicate()


def broadcast(servers: list[Running], loads: list[subprocess.Popen[str]]) -> tuple[float, float]:
    """Have each generator send its message: seconds until the last member has its own, CPU seconds of the servers.

    A tenth of a second after its last delivery a generator closes its connections. That is not counted.
    """
    before = sum(processes.cpu_seconds(one.pid) for one in servers)
    begin = time.monotonic()
    with ThreadPoolExecutor(len(loads)) as pool:
        for load in loads:
            load.send_signal(signal.SIGUSR1)
        ends, cpu = zip(*pool.map(at_stop, servers, loads), strict=True)
    return max(ends) - begin, sum(cpu) - before


def at_stop(one: Running, load: subprocess.Popen[str]) -> tuple[float, float]:
    """When a generator has received everything, and the CPU seconds of its server at that time."""
    assert load.stdout is not None
    next((line for line in load.stdout if line.startswith("STOP")), None)
    return time.monotonic(), processes.cpu_seconds(one.pid)


def finish_broadcast(load: subprocess.Popen[str]) -> Result:
    line = last_line(load)
    try:
        return finish(load, line, 120)
    except Exception as fault:
        return {"fault": str(fault), "faults": faults_in(line), **(json.loads(line) if line.startswith("{") else {})}


def state(servers: list[Running]) -> dict[str, Any]:
    return {
        "sockets": sum(processes.connections(one.port) for one in servers),
        "process_kb": sum(processes.private_kb(one.pid) for one in servers),
        "kernel_kb": processes.kernel_kb(),
        "cpu_seconds": sum(processes.cpu_seconds(one.pid) for one in servers),
    }


def say(what: str, now: dict[str, Any]) -> None:
    print(
        f"{what}: {now['process_kb'] / 1024:,.0f} MB in processes, {now['kernel_kb'] / 1024:,.0f} MB in the kernel, "
        f"{now['cpu_seconds']:.1f} s of CPU",
        flush=True,
    )


def exactly_once(outcome: dict[str, Any], connections: int) -> bool:
    """Every member has got the one message of its process, once."""
    received = sum(load.get("received", 0) for load in outcome["generators"])
    clean = all("fault" not in load and load["fewest_ids"] == load["most_ids"] == 1 for load in outcome["generators"])
    return clean and received == connections


def summary(outcome: dict[str, Any]) -> str:
    loads = outcome["generators"]
    ids = f"{min(load.get('fewest_ids', 0) for load in loads)} to {max(load.get('most_ids', 0) for load in loads)}"
    return (
        f"broadcast: {sum(load.get('received', 0) for load in loads):,} deliveries in "
        f"{outcome['broadcast_seconds']:.2f} s, {ids} sequence ids a socket, "
        f"{outcome['broadcast_cpu_us_each']:.2f} µs of CPU each; slowest "
        f"{max(load.get('max_ms', 0) for load in loads):.0f} ms\n"
        f"each connection: {outcome['process_kb_each']:.2f} KB in processes, {outcome['kernel_kb_each']:.2f} KB in the "
        f"kernel (both ends), {outcome['idle_cpu_us_each_second']:.2f} µs of CPU a second; {outcome['pings']:,} pings"
    )


if __name__ == "__main__":
    sys.exit(main())
