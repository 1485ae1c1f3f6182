"""Paired ratios and their bounds.

The machine's noise is not normal, and eleven pairs are few: so the bound is an order statistic, which assumes nothing
but that pairs are alike. The third smallest of eleven ratios is below the true median with a probability of 97 %
(one-sided: that fewer than three of eleven fall below the median has a probability of 67/2048).
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from math import comb

CONFIDENCE = 0.9


@dataclass(frozen=True)
class Verdict:
    """`bound` is the lower one where more is better, else the upper one; `confidence` is what it has."""

    median: float
    bound: float
    confidence: float


def judge(ratios: list[float], more_is_better: bool = True, confidence: float = CONFIDENCE) -> Verdict:
    """The bound that their median keeps with at least `confidence`; the extreme ratio if there are too few for that."""
    rank = bound_rank(len(ratios), confidence)
    ordered = sorted(ratios, reverse=not more_is_better)
    return Verdict(statistics.median(ratios), ordered[rank - 1], 1 - _below(len(ratios), rank))


def quartiles(ratios: list[float]) -> tuple[float, float]:
    """The lower and the upper one."""
    if len(ratios) < 2:
        return ratios[0], ratios[0]
    low, _, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return low, high


def bound_rank(count: int, confidence: float = CONFIDENCE) -> int:
    """Which of `count` ordered ratios is the bound: 1 is the worst."""
    rank = 1
    while rank < count and 1 - _below(count, rank + 1) >= confidence:
        rank += 1
    return rank


def _below(count: int, rank: int) -> float:
    """The probability that fewer than `rank` of `count` values lie below their median."""
    return sum(comb(count, k) for k in range(rank)) / 2**count
