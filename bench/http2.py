"""Measure HTTP/2, WebSockets over it, and TLS: duels in alternating pairs, and idle memory.

    python bench/http2.py [--quick] [--only 'echo*'] [--pairs 9] [--seconds 1] [--parts duels memory]

Everything is plain ASGI (apps/plain_app.py) but the broadcasts, which go to a group (apps/site_app.py). What counts is
the server's CPU for each request that succeeded, or each message received. Requests come from h2load (nghttp2-client),
WebSockets from wsload. Servers live as long as their duel, and are warm when it begins. Writes results/http2-DATE.json
and .md; exits with 1 if a target was missed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from typing import Any

import comparing
import memory
import peers
import processes
import ratios
import report
import selfcheck
from comparing import AGAIN, OURS
from measurement import Fault, Result, finish, last_line, measure_load, opened, settle, start_load
from scenarios import Target
from servers import LOAD_CORE, SERVERS, Running, Server, end_on_sigterm, on_core, running

RESULTS = peers.HERE / "results"
PARTS = ("duels", "memory")
WARM_UP_SECONDS = 0.5
H1 = "HTTP/1.1"
TLS_FLAGS = ("--certfile", str(peers.CERTIFICATE), "--keyfile", str(peers.KEY))
PLAIN = SERVERS["ours"]
SECURE = replace(PLAIN, command=(*PLAIN.command, *TLS_FLAGS))
HYPERCORN = replace(
    SERVERS["hypercorn"],
    command=(*SERVERS["hypercorn"].command, "--config", str(peers.APPS / "hypercorn_http2.toml")),
)
GRANIAN = SERVERS["granian"]
SUCCEEDED = re.compile(r"requests: \d+ total, \d+ started, (\d+) done, (\d+) succeeded")


@dataclass(frozen=True)
class Side:
    """A server, and the load it gets: arguments of h2load, or of wsload."""

    server: Server
    load: tuple[str, ...]


@dataclass(frozen=True)
class Duel:
    """The first side is ours; the bounds are of the ratio of its CPU to that of the others."""

    name: str
    what: str
    kind: str
    sides: dict[str, Side]
    targets: tuple[Target, ...]
    control: bool = False

    @property
    def by_h2load(self) -> bool:
        return self.kind == "hello"


def _requests(connections: int, streams: int, targets: tuple[Target, ...], control: bool = False) -> Duel:
    load = ("-c", str(connections), "-m", str(streams))
    sides = {OURS: Side(PLAIN, load), "hypercorn": Side(HYPERCORN, load), "granian": Side(GRANIAN, load)}
    what = f"hello-world over HTTP/2, {connections} × {streams}"
    asked = {target.peer for target in targets}
    kept = {name: side for name, side in sides.items() if name == OURS or name in asked}
    return Duel(f"requests-{connections}x{streams}", what, "hello", kept, targets, control)


def _cpu(peer: str, least: float, aim: float) -> Target:
    return Target("cpu", peer, least, aim)


def _sockets(name: str, what: str, kind: str, load: tuple[str, ...], flags: str, least: float, aim: float) -> Duel:
    """WebSockets of a carrier beside as many of our HTTP/1.1 in clear text."""
    server = SECURE if "-T" in flags.split() else PLAIN
    sides = {OURS: Side(server, (*load, *flags.split())), H1: Side(PLAIN, load)}
    return Duel(name, what, kind, sides, (_cpu(H1, least, aim),))


_ECHO = ("echo", "-n", "100", "-u", "/")
_HALL = ("broadcast", "-n", "1000", "-s", "200", "-m", "%s", "-u", "/hall/", "-S", "/hall-sender/")

DUELS = [
    _requests(10, 10, (_cpu("hypercorn", 1 / 8, 1 / 12), _cpu("granian", 1.6, 1.1)), control=True),
    _requests(1, 100, (_cpu("granian", 1.6, 1.1),)),
    Duel(
        "requests-50x1",
        "hello-world, 50 connections, one request at a time",
        "hello",
        {OURS: Side(PLAIN, ("-c", "50", "-m", "1")), H1: Side(PLAIN, ("-c", "50", "-m", "1", "--h1"))},
        (_cpu(H1, 1.25, 1.1),),
    ),
    replace(
        _sockets("echo-1", "echo, 40 bytes, 1 in flight, 100 × 1 over HTTP/2", "plain", _ECHO, "-2 1", 1.3, 1.15),
        control=True,
    ),
    _sockets("echo-10", "echo, 40 bytes, 1 in flight, 10 × 10 over HTTP/2", "plain", _ECHO, "-2 10", 0.7, 0.5),
    replace(
        _sockets("hall-1", "broadcast, 200 bytes, 1 in flight, 1,000 × 1 over HTTP/2", "hall", _HALL, "-2 1", 1.2, 1.1),
        control=True,
    ),
    _sockets("hall-10", "broadcast, 200 bytes, 1 in flight, 100 × 10 over HTTP/2", "hall", _HALL, "-2 10", 0.35, 0.25),
    _sockets("hall-tls", "broadcast, 200 bytes, 1 in flight, 1,000 over TLS, HTTP/1.1", "hall", _HALL, "-T", 2.0, 1.5),
]

MEMORY_STEPS = (1000, 2000, 4000)
# What, flags of the generator, WebSockets on a connection; KB for each WebSocket, at least and aim (or for comparison).
IDLE = (
    ("HTTP/1.1", "", 1, None),
    ("HTTP/2, one on a connection", "-2 1", 1, (7.5, 6.1)),
    ("HTTP/2, ten on a connection", "-2 10", 10, (4.5, 3.4)),
    ("HTTP/1.1 over TLS", "-T", 1, None),
    ("HTTP/2 over TLS, one on a connection", "-T -2 1", 1, (22.0, 20.0)),
)


def main() -> int:
    options = parse()
    end_on_sigterm()
    os.sched_setaffinity(0, {LOAD_CORE})
    begin = time.monotonic()
    peers.prepare()
    peers.make_certificate()
    selfcheck.check()
    selfcheck.check("-2", "2")
    document: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "arguments": sys.argv[1:],
        "pairs": options.pairs,
        "seconds": options.seconds,
        "bound": f"order statistic number {ratios.bound_rank(options.pairs)} of {options.pairs} paired ratios",
        "versions": peers.versions(),
        "duels": [fight(one, options) for one in DUELS if is_chosen(one.name, options) and "duels" in options.parts],
        "idle": list(idle(options)) if "memory" in options.parts and is_chosen("memory", options) else [],
    }
    document["minutes"] = (time.monotonic() - begin) / 60
    return write(document, options.out)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, help="alternating pairs of each duel (9)")
    parser.add_argument("--seconds", type=float, help="of load for each measurement (1)")
    parser.add_argument(
        "--only", nargs="+", default=["*"], metavar="NAME", help="duels, or memory; * and ? as in a shell"
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="only these (all)")
    parser.add_argument("--quick", action="store_true", help="2 pairs of 0.5 s, few connections in memory")
    parser.add_argument("--out", default=time.strftime("http2-%Y-%m-%d"), help="name of the files in results/")
    options = parser.parse_args()
    options.pairs = options.pairs or (2 if options.quick else 9)
    options.seconds = options.seconds or (0.5 if options.quick else 1.0)
    return options


def is_chosen(name: str, options: argparse.Namespace) -> bool:
    return any(fnmatch(name, pattern) for pattern in options.only)


def cannot(by_h2load: bool, secure: bool) -> str | None:
    """Why this cannot be measured here."""
    if by_h2load and not shutil.which("h2load"):
        return "h2load is not here (apt-get install nghttp2-client)"
    if secure and not peers.has_openssl():
        return "the generator has no TLS (apt-get install libssl-dev)"
    return None


def fight(duel: Duel, options: argparse.Namespace) -> dict[str, Any]:
    print(f"\n{duel.name}: {duel.what}", flush=True)
    labels = {side: duel.what if side == OURS else label(side) for side in duel.sides}
    if reason := cannot(duel.by_h2load, any("-T" in side.load for side in duel.sides.values())):
        print(f"  not measured: {reason}", flush=True)
        return comparing.outcome(duel.name, duel.what, labels, [], [reason], [], False)
    sides = [*duel.sides, *([AGAIN] if duel.control else [])]
    with contextlib.ExitStack() as stack:
        servers: dict[tuple[str, ...], Running] = {}

        def measure_side(name: str, seconds: float = options.seconds) -> Result:
            # What one command starts is one process, which takes the loads of several sides in turn: two of the same
            # kind differ by more than what is looked for.
            side = duel.sides[OURS if name == AGAIN else name]
            command = side.server.command
            if command not in servers:
                servers[command] = stack.enter_context(running(side.server, duel.kind))
            one = servers[command]
            result = requests(one, side, seconds) if duel.by_h2load else sockets(one, side, seconds)
            settle(one)
            return result

        for name in duel.sides:
            with contextlib.suppress(Fault):  # it will come again, and be counted
                measure_side(name, WARM_UP_SECONDS)
        rounds, faults = comparing.take_turns(sides, options.pairs, measure_side)
    return comparing.outcome(duel.name, duel.what, labels, rounds, faults, list(duel.targets), duel.control)


def label(side: str) -> str:
    return f"ours, {H1} in clear text" if side == H1 else SERVERS[side].label_for("hello")


def sockets(one: Running, side: Side, seconds: float) -> Result:
    return measure_load(one, [*side.load, "-W", "300"], seconds)


def requests(one: Running, side: Side, seconds: float) -> Result:
    """The server's CPU from before h2load begins until it has ended, for each request that succeeded."""
    url = f"http://127.0.0.1:{one.port}/"
    command = [*on_core(LOAD_CORE), "h2load", *side.load, "-D", str(max(1, round(seconds))), url]
    cpu, begin = processes.cpu_seconds(one.pid), time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    words = process.stdout.read()
    process.stdout.close()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    taken = time.monotonic() - begin
    cpu = processes.cpu_seconds(one.pid) - cpu
    found = SUCCEEDED.search(words)
    if process.returncode or not found or not int(found[2]):
        raise Fault(f"h2load ended with {process.returncode}: {words.strip()[-400:]}")
    done, succeeded = map(int, found.groups())
    return {
        "rate": succeeded / taken,
        "cpu": cpu * 1e6 / succeeded,
        "server_share": cpu / taken,
        "generator_share": (used.ru_utime + used.ru_stime) / taken,
        **dict.fromkeys(("p50", "p99", "stall", "writes_per_s", "writes_per_message")),
        "succeeded": succeeded,
        "failed": done - succeeded,
    }


def idle(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Private memory for each idle WebSocket of a plain application, after one message and eight header fields."""
    print("\nidle WebSockets", flush=True)
    steps = (200, 400, 800) if options.quick else MEMORY_STEPS
    for what, flags, per_connection, bounds in IDLE:
        result: dict[str, Any] = {"what": what, "per_connection": per_connection, "bounds": bounds}
        if reason := cannot(False, "-T" in flags):
            result["fault"] = reason
        else:
            try:
                result |= measure_idle(flags.split(), steps)
            except (Fault, OSError) as fault:
                result["fault"] = str(fault).partition("\n")[0]
        each = result.get("fault") or f"{result['process_kb_each']:.2f} KB + {result['kernel_kb_each']:.2f} KB kernel"
        print(f"  {what:<40}{each}", flush=True)
        yield result


def measure_idle(flags: list[str], steps: tuple[int, ...]) -> dict[str, Any]:
    # A connection of HTTP/2 counts, and so does each of its WebSockets.
    server, points = memory.roomy(SECURE if "-T" in flags else PLAIN, 2 * max(steps)), []
    with running(server, "plain", deflate=False) as one, contextlib.ExitStack() as stack:
        loads: list[subprocess.Popen[str]] = []
        total = 0
        for step in steps:
            load = ["idle", "-n", str(step - total), "-E", "-x", "-k", "8", "-u", "/", *flags]
            loads.append(stack.enter_context(opened(start_load(one, load, 3600), step - total)))
            total = step
            settle(one)
            collect(one.port, "-T" in flags)
            now = {"process_kb": processes.private_kb(one.pid), "kernel_kb": processes.kernel_kb()}
            points.append({"connections": total, **now})
        for held in loads:
            held.terminate()
            finish(held, last_line(held), 60)
    return {"points": points} | {f"{name}_each": memory.slope(points, name) for name in ("process_kb", "kernel_kb")}


def collect(port: int, secure: bool) -> None:
    context = ssl._create_unverified_context() if secure else None
    for _ in range(2):
        with urllib.request.urlopen(f"http{'s' * secure}://127.0.0.1:{port}/collect/", timeout=60, context=context):
            pass


def idle_rows(document: dict[str, Any]) -> list[tuple[str, ...]]:
    rows = []
    for one in document["idle"]:
        what, asked = f"idle WebSocket, {one['what']}", one["bounds"]
        if "fault" in one:
            rows.append((what, "KB each", "–", "–", "", "", "no" if asked else "", one["fault"]))
        elif asked:
            rows.append(report.absolute(what, "KB each", one["process_kb_each"], *asked))
        else:
            rows.append((what, "KB each", f"{one['process_kb_each']:.2f}", "", "", "", "", "for comparison"))
    return rows


def write(document: dict[str, Any], name: str) -> int:
    targets = report.duel_targets(document) + idle_rows(document)
    table = report.table(report.TARGET_HEADS, targets)
    machine = document["versions"]
    parts = [
        f"# HTTP/2 and TLS, {document['date']}",
        f"{machine['processor']}, {machine['cores']} cores, {machine['system']}. {document['pairs']} pairs of "
        f"{document['seconds']:g} s; the bound is {document['bound']}. {document['minutes']:.0f} minutes in all.",
        "## Targets",
        table,
        "## Duels",
        "Medians. CPU is microseconds of the server's processes for each request that succeeded or message received.",
        *(report.duel(one) for one in document["duels"]),
        "## Versions",
        report.table(("what", "version"), sorted(machine.items())),
    ]
    RESULTS.mkdir(exist_ok=True)
    raw, text = RESULTS / f"{name}.json", RESULTS / f"{name}.md"
    raw.write_text(json.dumps(document, indent=1) + "\n")
    text.write_text("\n\n".join(parts) + "\n")
    print(f"\n{table}\n{raw}\n{text}", flush=True)
    return 0 if all(row[6] != "no" for row in targets) else 1


if __name__ == "__main__":
    sys.exit(main())
