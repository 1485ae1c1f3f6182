"""The demo's own tests, run as its README says: by Django's test runner, under the demo's settings."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "demo"


def manage(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "DJANGO_SETTINGS_MODULE": "demo.settings",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")])),
    }
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=DEMO,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [["test"], ["check"], ["makemigrations", "--check", "--dry-run"]],
    ids=["tests", "checks", "migrations are complete"],
)
def test_the_demo_passes_its_own(arguments: list[str]) -> None:
    done = manage(*arguments)

    assert done.returncode == 0, done.stdout
