"""What the benchmarks of this folder share: the path to the source, and the best of several rounds."""

from __future__ import annotations

import os
import sys
import timeit
from collections.abc import Callable
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2] / "src"
if str(SOURCE) not in sys.path:
    sys.path.insert(0, str(SOURCE))


ONCE = bool(os.environ.get("FAIRWAY_MICRO_ONCE"))
"""Whether each call is made once only, to see that it works: its time means nothing."""


def microseconds(call: Callable[[], object], per: int = 1, rounds: int = 7, seconds: float = 0.02) -> float:
    """Time of one operation, `per` of which happen in a call. The best round: a machine's noise only ever adds."""
    if ONCE:
        return timeit.timeit(call, number=1) / per * 1e6
    timer = timeit.Timer(call)
    calls = 1
    while (taken := timer.timeit(calls)) < seconds / 4:
        calls *= 4
    calls = max(1, int(calls * seconds / taken))
    return min(timer.repeat(rounds, calls)) / calls / per * 1e6


def report(name: str, value: float, note: str = "") -> None:
    print(f"  {name:<52}{value:10.3f} µs  {note}".rstrip())
