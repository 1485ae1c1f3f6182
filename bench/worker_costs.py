"""CPU for each message: with metrics on against off, and with two workers against one. Part of `workers.py`.

Both servers of a pair run at the same time and get the same load in turns, every second round backwards. The load is
an open loop far below what the server can do. CPU is that of the server's processes, in nanoseconds. What counts is
the median of the ratios within a round.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import peers
import processes
from fairway.server.management.address import parsed

SCRAPE_SECONDS = 1.0

ECHO = ["echo", "-u", "/echo/", "-m", '{"message": "%s"}']
BROADCAST = ["broadcast", "-u", "/hall/", "-S", "/hall-sender/", "-m", "%s"]


@dataclass(frozen=True)
class Loaded:
    """A server, and the load that it gets."""

    pid: int
    port: int
    load: list[str]
    management: str = ""
    core: tuple[str, ...] = ()
    """What puts the generator on a core of its own, before its command."""


def cost(one: Loaded, seconds: float) -> float:
    """Nanoseconds of CPU for each message received."""
    begin = end = 0
    with scraped(one.management):
        command = [*one.core, str(peers.LOAD), *one.load, "-p", str(one.port), "-t", str(seconds), "-W", "200"]
        load = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert load.stdout is not None
        last = ""
        for line in load.stdout:
            if line.startswith("START"):
                begin = processes.cpu_ns(one.pid)
            elif line.startswith("STOP"):
                end = processes.cpu_ns(one.pid)
            else:
                last = line
        _, words = load.communicate()
    if load.returncode:
        raise SystemExit(f"the load has failed: {words.strip()} {last.strip()}")
    return (end - begin) / json.loads(last)["in_time"]


@contextlib.contextmanager
def scraped(management: str) -> Iterator[None]:
    """Ask for the metrics every second, as Prometheus would, inside the block."""
    stop = threading.Event()

    def scrape() -> None:
        while not stop.is_set():
            with parsed(management).connect(5.0) as client:
                client.sendall(b"GET /metrics HTTP/1.1\r\nConnection: close\r\n\r\n")
                while client.recv(65536):
                    pass
            stop.wait(SCRAPE_SECONDS)

    thread = threading.Thread(target=scrape)
    if management:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        if management:
            thread.join()


def compared(one: Loaded, other: Loaded, rounds: int, seconds: float) -> dict[str, object]:
    """How many times as much each message costs with `one` as with `other`."""
    pairs = []
    for number in range(rounds + 1):
        order = (one, other) if number % 2 else (other, one)
        costs = {id(each): cost(each, seconds) for each in order}
        pairs.append((costs[id(one)], costs[id(other)]))
    del pairs[0]  # the first load of a process
    ratios = [mine / others for mine, others in pairs]
    return {
        "ratio": statistics.median(ratios),
        "ratio_of_least": min(mine for mine, _ in pairs) / min(others for _, others in pairs),
        "quartiles": statistics.quantiles(ratios, n=4),
        "us": [statistics.median(costs) / 1000 for costs in zip(*pairs, strict=True)],
    }


def told(name: str, found: dict[str, object], bound: float) -> str:
    """A line about a comparison, with what it may be."""
    mine, others = found["us"]  # type: ignore[misc]
    verdict = "ok  " if found["ratio"] <= bound else "FAIL"  # type: ignore[operator]
    return (
        f"{verdict} {name:<28} {found['ratio']:.3f} × (at most {bound} asked; of the least "
        f"{found['ratio_of_least']:.3f}): {mine:.2f} against {others:.2f} µs"
    )


def environment(directory: Path) -> dict[str, str]:
    """What `apps/site_app.py` needs."""
    return {"BENCH_DATABASE": str(directory / "none.sqlite3")}
