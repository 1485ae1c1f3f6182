"""Measure this project against the peers: targets in alternating pairs, idle memory, a survey of everything.

    python bench/run.py [--quick] [--only 'echo-40*'] [--peers uvicorn ws] [--parts targets memory survey]

Writes raw results (JSON), tables (Markdown) and plots (PNG) to bench/results/. Exits with 1 if a target was missed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import comparing
import memory
import peers
import ratios
import report
import selfcheck
from scenarios import SCENARIOS, Scenario
from servers import LOAD_CORE, SERVERS, Server, end_on_sigterm

RESULTS = peers.HERE / "results"
PARTS = ("targets", "memory", "survey")


def main() -> int:
    options = parse()
    end_on_sigterm()
    os.sched_setaffinity(0, {LOAD_CORE})
    begin = time.monotonic()
    peers.prepare()
    selfcheck.check()
    document: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "arguments": sys.argv[1:],
        "pairs": options.pairs,
        "seconds": options.seconds,
        "bound": f"order statistic number {ratios.bound_rank(options.pairs)} of {options.pairs} paired ratios",
        "versions": peers.versions(),
        "commands": {key: SERVERS[key].command for key in options.peers},
        "labels": {key: server.label for key, server in SERVERS.items()},
        "duels": duels(options) if "targets" in options.parts else [],
        "memory": idle(options) if "memory" in options.parts else [],
        "survey": everything(options) if "survey" in options.parts else {},
    }
    document["minutes"] = (time.monotonic() - begin) / 60
    return write(document, options.out)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, help="alternating pairs for each target (11)")
    parser.add_argument("--seconds", type=float, help="of load for each measurement (2; survey: 1.5)")
    parser.add_argument("--only", nargs="+", default=["*"], metavar="NAME", help="scenarios, * and ? as in a shell")
    parser.add_argument("--peers", nargs="+", choices=list(SERVERS), help="only these beside ours")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="only these (all)")
    parser.add_argument("--quick", action="store_true", help="a few minutes: 2 pairs of 1 s, few connections in memory")
    parser.add_argument("--out", default=time.strftime("bench-%Y-%m-%d"), help="name of the files in results/")
    parser.add_argument("--list", action="store_true", help="name servers and scenarios, and end")
    options = parser.parse_args()
    if options.list:
        listing()
        raise SystemExit(0)
    options.pairs = options.pairs or (2 if options.quick else 11)
    options.survey_seconds = options.seconds or (0.5 if options.quick else 1.5)
    options.seconds = options.seconds or (1 if options.quick else 2)
    options.peers = ["ours", *(options.peers or [key for key in SERVERS if key != "ours"])]
    if not peers.has_node():
        options.peers = [key for key in options.peers if key not in ("ws", "socketio")]
    return options


def listing() -> None:
    for server in SERVERS.values():
        print(f"{server.key:<14}{server.label:<26}{' '.join(sorted(server.kinds))}")
    for scenario in SCENARIOS:
        against = ", ".join(dict.fromkeys(target.peer for target in scenario.targets))
        print(f"{scenario.name:<28}{scenario.what}{f' (target against {against})' if against else ''}")


def chosen(options: argparse.Namespace) -> list[Scenario]:
    return [one for one in SCENARIOS if any(fnmatch(one.name, pattern) for pattern in options.only)]


def duels(options: argparse.Namespace) -> list[dict[str, Any]]:
    outcomes = []
    for scenario in chosen(options):
        rivals = list(dict.fromkeys(target.peer for target in scenario.targets if target.peer in options.peers))
        if rivals:
            outcomes.append(comparing.duel(scenario, rivals, options.pairs * scenario.more_pairs, options.seconds))
    return outcomes


def idle(options: argparse.Namespace) -> list[dict[str, Any]]:
    if options.only != ["*"] and not any(fnmatch("memory", pattern) for pattern in options.only):
        return []
    print("\nidle connections", flush=True)
    runs = memory.default_runs(options.peers)
    if options.quick:
        return memory.measure_all(runs, (200, 400, 800), 1000, 2)
    return memory.measure_all(runs, memory.STEPS, memory.PAUSE_AT, memory.PING_PERIOD)


def everything(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    servers: list[Server] = [SERVERS[key] for key in options.peers if SERVERS[key].survey]
    wanted = [one for one in chosen(options) if one.survey]
    return comparing.survey(servers, wanted, options.survey_seconds)


def write(document: dict[str, Any], name: str) -> int:
    RESULTS.mkdir(exist_ok=True)
    raw, table, plot = (RESULTS / f"{name}.{suffix}" for suffix in ("json", "md", "png"))
    raw.write_text(json.dumps(document, indent=1) + "\n")
    table.write_text(report.markdown(document))
    print(f"\n{report.targets(document)}", flush=True)
    subprocess.run([peers.PLOTTER, peers.HERE / "plots.py", raw, plot], check=True)
    for path in (raw, table, plot):
        print(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
    return 0 if report.all_held(document) else 1


if __name__ == "__main__":
    sys.exit(main())
