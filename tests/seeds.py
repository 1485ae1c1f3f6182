"""How many random worlds a model test looks at: a few in every run, and as many as FAIRWAY_SEEDS says on demand.

    FAIRWAY_SEEDS=2000 python -m pytest tests/fairway/layers/test_tracks.py tests/fairway/layers/test_presence.py

A world depends on its seed alone. When a test fails, pytest shows the seed with the error, and `FAIRWAY_SEEDS=713-713`
looks at that world only.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import pytest

PARTS = 10
"""So many tests share the seeds, so that each stays within pytest's time-out."""


def seeded(few: int) -> Callable[[Callable[[int], None]], Callable[[Sequence[int]], None]]:
    """Make a test of a function that looks at one world: with the first few seeds, or with those that are asked for."""
    asked = os.environ.get("FAIRWAY_SEEDS", str(few))
    first, _, last = asked.rpartition("-")
    every = range(int(first), int(last) + 1) if first else range(int(last))
    parts = [every[part::PARTS] for part in range(min(PARTS, len(every)))]

    def decorate(look: Callable[[int], None]) -> Callable[[Sequence[int]], None]:
        @pytest.mark.parametrize("seeds", parts, ids=[f"{part[0]}..." for part in parts])
        def test(seeds: Sequence[int]) -> None:
            for seed in seeds:
                try:
                    look(seed)
                except BaseException as error:
                    error.add_note(f"FAIRWAY_SEEDS={seed}-{seed} looks at this world only")
                    raise

        test.__name__, test.__qualname__, test.__doc__ = look.__name__, look.__qualname__, look.__doc__
        return test

    return decorate


def examples(few: int) -> int:
    """How many examples Hypothesis looks at: a few, or as many as seeds are asked for."""
    return max(few, int(os.environ.get("FAIRWAY_SEEDS", "0").rpartition("-")[2]))
