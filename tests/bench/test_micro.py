"""The micro-benchmarks run: each call is made once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).resolve().parents[2] / "bench" / "micro"


@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.glob("*.py") if path.name != "measuring.py"))
def test_it_runs(name: str) -> None:
    environment = {**os.environ, "FAIRWAY_MICRO_ONCE": "1"}
    done = subprocess.run(
        [sys.executable, FOLDER / name], env=environment, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "µs" in done.stdout
