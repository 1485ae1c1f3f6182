"""What `tests.again` makes of failures, with tests that are made for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.again import FEW

ROOT = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.slow


def outcome(folder: Path, source: str) -> tuple[int, str]:
    """With which status it ends, and what it prints, if these are the tests."""
    tests = folder / "test_of_it.py"
    tests.write_text(source)
    command = [
        sys.executable,
        "-m",
        "tests.again",
        "-q",
        "--testers",
        "2",
        "-p",
        "no:django",
        f"--rootdir={folder}",
        str(tests),
    ]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    return run.returncode, run.stdout + run.stderr


def test_what_passes_by_itself_is_named(tmp_path: Path):
    status, printed = outcome(
        tmp_path,
        "import pathlib\n"
        "def test_good(): assert True\n"
        "def test_unsteady():\n"
        "    seen = pathlib.Path(__file__).with_name('seen')\n"
        "    again = seen.exists()\n"
        "    seen.touch()\n"
        "    assert again, 'the first time'\n",
    )
    assert status == 0, printed
    assert "the first time" in printed  # nothing is hidden
    assert "UNSTEADY test_of_it.py::test_unsteady: it failed beside others and passed by itself, mend it" in printed


def test_what_fails_again_fails(tmp_path: Path):
    status, printed = outcome(tmp_path, "def test_good(): assert True\ndef test_bad(): assert False\n")
    assert status == 1
    assert "Once more, by themselves: test_of_it.py::test_bad\n" in printed
    assert "UNSTEADY" not in printed


def test_many_failures_are_not_tried_again(tmp_path: Path):
    bad = "".join(f"def test_{number}(): assert False\n" for number in range(FEW + 1))
    status, printed = outcome(tmp_path, bad)
    assert status == 1
    assert "Once more" not in printed


def test_tests_that_cannot_be_loaded_are_not_tried_again(tmp_path: Path):
    status, printed = outcome(tmp_path, "import no_such_module\n")
    assert status != 0
    assert "UNSTEADY" not in printed


def test_nothing_happens_if_nothing_fails(tmp_path: Path):
    status, printed = outcome(tmp_path, "def test_good(): assert True\n")
    assert status == 0, printed
    assert "Once more" not in printed
