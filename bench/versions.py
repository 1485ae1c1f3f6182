"""Compare two versions of this project: both alive on the server's core, taking turns of a second under the same load.

    git worktree add /tmp/before HEAD~1
    python bench/versions.py /tmp/before/src [src] [--only 'echo-40*' connect] [--rounds 20] [--seconds 1]

Fresh processes in pairs differ by a third on a noisy machine; two that live side by side and take turns share its
phases. One that waits has no connections and costs nothing. Every round measures all, each time in another order,
and the ratio (after divided by before) is a round's own. Written are the median ratio of the CPU time for each message
and of the rate, with the quartiles, and the same of "before" against a second process of its own.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path

import peers
from measurement import Result, measure, settle
from scenarios import SCENARIOS, Scenario
from servers import LOAD_CORE, SERVERS, Running, end_on_sigterm, running

MAIN = ["echo-40-ascii-w1", "echo-40-ascii-w8", "hall-1000-w1", "member-1000-w1", "connect", "http"]
BEFORE, AGAIN, AFTER = "before", "before again", "after"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, help="its folder src")
    parser.add_argument("after", type=Path, nargs="?", default=peers.HERE.parent / "src", help="ours by default")
    parser.add_argument("--only", nargs="+", default=MAIN, metavar="NAME", help="scenarios, * and ? as in a shell")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=1.0)
    options = parser.parse_args()
    end_on_sigterm()
    os.sched_setaffinity(0, {LOAD_CORE})
    peers.prepare()
    sources = {BEFORE: options.before, AGAIN: options.before, AFTER: options.after}
    for name, source in sources.items():
        if not (source / "fairway").is_dir():
            sys.exit(f"{name}: no package fairway in {source}")
    for scenario in SCENARIOS:
        if any(fnmatch(scenario.name, pattern) for pattern in options.only):
            compare(scenario, sources, options.rounds, options.seconds)


def compare(scenario: Scenario, sources: dict[str, Path], rounds: int, seconds: float) -> None:
    print(f"\n{scenario.name}: {scenario.what}", flush=True)
    results: dict[str, list[Result]] = {name: [] for name in sources}
    with ExitStack() as stack:
        servers = {name: stack.enter_context(started(source.resolve(), scenario)) for name, source in sources.items()}
        for number in range(rounds + 1):
            names = list(servers)
            for name in names[number % 3 :] + names[: number % 3]:
                result = measure(servers[name], scenario, seconds)
                settle(servers[name])
                if number:  # the first round warms up
                    results[name].append(result)
    for name, told in (("after ÷ before", AFTER), ("before ÷ before", AGAIN)):
        for metric in ("cpu", "rate"):
            pairs = zip(results[told], results[BEFORE], strict=True)
            low, middle, high = statistics.quantiles([one[metric] / other[metric] for one, other in pairs], n=4)
            values = ", ".join(f"{statistics.median(r[metric] for r in results[side]):,.2f}" for side in (told, BEFORE))
            print(f"  {name:<16}{metric:<5}{middle:6.3f}  ({low:.3f} to {high:.3f})  medians {values}", flush=True)


def started(source: Path, scenario: Scenario) -> AbstractContextManager[Running]:
    environment = {"PYTHONPATH": os.pathsep.join([str(source), str(peers.APPS)])}
    ours = SERVERS["ours"]
    ours = replace(ours, environment=ours.environment | environment)
    return running(ours, scenario.kind, database=scenario.database)


if __name__ == "__main__":
    main()
