"""One measurement: the generator on its core, and what the server and the kernel did meanwhile."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import databases
import peers
import processes
from scenarios import Scenario
from servers import LOAD_CORE, Running, Server, on_core

SATURATED = 0.9
"""Share of its core from which on a closed loop's rate is the generator's own."""

WATCH_RATE = 100
STRAGGLERS_MS = 30_000

Result = dict[str, Any]


@dataclass(frozen=True)
class Sample:
    cpu: float
    writes: int
    segments: int

    @classmethod
    def of(cls, pid: int) -> Sample:
        return cls(processes.cpu_seconds(pid), processes.write_calls(pid), processes.segments_out())


class Fault(Exception):
    """The server lost, doubled, reordered or changed a message, refused or closed a connection, or took too long."""


def measure(one: Running, scenario: Scenario, seconds: float, rate: float | None = None) -> Result:
    """Raises `Fault`. The result's `rate` is in messages received (or connections, or answers) a second."""
    return measure_load(one, scenario_arguments(scenario, one.server, rate), seconds, scenario.watch)


def measure_load(one: Running, arguments: list[str], seconds: float, watch: bool = False) -> Result:
    """As `measure`, with arguments for the generator."""
    begin = end = Sample(0, 0, 0)
    watcher: subprocess.Popen[str] | None = None
    process = start_load(one, arguments, seconds)
    assert process.stdout is not None
    last = ""
    try:
        for line in process.stdout:
            if line.startswith("START"):
                begin = Sample.of(one.pid)
                watcher = start_watching(one, seconds) if watch else None
            elif line.startswith("STOP"):
                end = Sample.of(one.pid)
            else:
                last = line
        outcome = finish(process, last, seconds)
        bystander = finish(watcher, last_line(watcher), seconds) if watcher else None
    finally:
        for generator in filter(None, (process, watcher)):
            generator.kill()
            generator.communicate()
    return result_of(outcome, bystander, begin, end)


def result_of(outcome: Result, bystander: Result | None, begin: Sample, end: Sample) -> Result:
    messages = max(outcome["in_time"], 1)
    return {
        "rate": outcome["msgs_per_s"],
        "cpu": (end.cpu - begin.cpu) * 1e6 / messages,
        "server_share": (end.cpu - begin.cpu) / outcome["seconds"],
        "generator_share": outcome["cpu"],
        "p50": outcome["p50_ms"],
        "p99": outcome["p99_ms"],
        "stall": bystander and bystander["max_ms"],
        "bystander_p99": bystander and bystander["p99_ms"],
        "write_calls_per_message": (end.writes - begin.writes) / messages,
        "writes_per_s": outcome["segments"] / outcome["seconds"],
        "writes_per_message": outcome["segments"] / messages,
        "machine_segments_per_message": (end.segments - begin.segments) / messages,
        "generator": outcome,
    }


def start_load(
    one: Running, arguments: list[str], seconds: float, stragglers_ms: int = STRAGGLERS_MS
) -> subprocess.Popen[str]:
    limits = ["-t", str(seconds), "-D", str(stragglers_ms)]
    command = [*on_core(LOAD_CORE), str(peers.LOAD), *arguments, "-p", str(one.port), *limits]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@contextlib.contextmanager
def opened(load: subprocess.Popen[str], count: int) -> Iterator[subprocess.Popen[str]]:
    """A generator once it has opened so many connections; killed at the end. Raises `Fault` if some failed."""
    assert load.stdout is not None
    assert load.stderr is not None
    try:
        ready = load.stdout.readline()
        if f"READY {count} open, 0 failed" not in ready:
            load.terminate()
            raise Fault(f"{count} connections wanted: {ready.strip()} {load.stderr.read()[:300]}")
        yield load
    finally:
        load.kill()
        load.communicate()


def start_watching(one: Running, seconds: float) -> subprocess.Popen[str]:
    """A lone connection's echo at a fixed rate, next to the load: how long others wait."""
    return start_load(one, ["echo", "-n", "1", "-R", str(WATCH_RATE), *address(one.server, "echo")], seconds * 0.9)


def last_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.read().strip().rpartition("\n")[2]


def finish(process: subprocess.Popen[str], line: str, seconds: float) -> Result:
    assert process.stderr is not None
    words = process.stderr.read()
    try:
        code = process.wait(seconds + STRAGGLERS_MS / 1000 + 60)
    except subprocess.TimeoutExpired:
        process.kill()
        raise Fault("the generator did not end in time") from None
    if code or not line.startswith("{"):
        raise Fault(f"{words.strip()[:400]} {faults_in(line)}".strip())
    return json.loads(line)


def faults_in(line: str) -> str:
    if not line.startswith("{"):
        return line.strip()
    outcome = json.loads(line)
    names = ("failed", "closed", "lost", "dup_or_reordered", "bad")
    return ", ".join(f"{outcome[name]} {name}" for name in names if outcome[name])


def scenario_arguments(scenario: Scenario, server: Server, rate: float | None) -> list[str]:
    load = [part.format(cookies=databases.database(scenario.database).cookies) for part in scenario.load]
    where = address(server, scenario.kind, sender=scenario.mode == "broadcast")
    return [scenario.mode, *load, *where, "-W", "300", *(["-R", str(rate)] if rate else [])]


def address(server: Server, kind: str, sender: bool = False) -> list[str]:
    """Where, and in which form: halls get the text as it is, everything else JSON."""
    path = "/{}/"
    form = "%s" if kind == "hall" else '{"message": "%s"}'
    more = []
    if server.socketio:
        path = "/socket.io/?EIO=4&transport=websocket&kind={}"
        form = '42["message","%s"]' if kind == "hall" else '42["message",{"message":"%s"}]'
        more = ["-I"]
    sending = ["-S", path.format(f"{kind}-sender")] if sender else []
    return ["-u", path.format("echo" if kind == "plain" else kind), *sending, "-m", form, *more]


def settle(one: Running, timeout: float = 15.0) -> None:
    """Wait until the server has done with what went before: less than 5 % of a core for a fifth of a second."""
    deadline = time.monotonic() + timeout
    before = processes.cpu_seconds(one.pid)
    while time.monotonic() < deadline:
        time.sleep(0.2)
        now = processes.cpu_seconds(one.pid)
        if now - before <= 0.01:
            return
        before = now
