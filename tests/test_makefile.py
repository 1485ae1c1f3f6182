"""What `make` says and leaves where an environment cannot be made."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

WITHOUT_ENSUREPIP = """\
#!/bin/sh
case "$*" in *ensurepip*) echo "ModuleNotFoundError: No module named 'ensurepip'" >&2; exit 1;; esac
exec {python} "$@"
"""

DIES_HALFWAY = """\
#!/bin/sh
case "$*" in *"-m venv"*) mkdir -p "$3/bin" && ln -s {python} "$3/bin/python"; exit 1;; esac
exec {python} "$@"
"""


def make(folder: Path, interpreter: str) -> subprocess.CompletedProcess[str]:
    """Run `make demo` with an interpreter that behaves in this way, for an environment in the folder."""
    python = folder / "python"
    python.write_text(interpreter.format(python=sys.executable))
    python.chmod(0o755)
    command = ["make", "demo", f"PYTHON={python}", f"VENV={folder / 'env'}"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_a_python_that_cannot_make_environments_is_one_sentence_with_the_command_that_mends_it(tmp_path: Path) -> None:
    done = make(tmp_path, WITHOUT_ENSUREPIP)

    assert done.returncode == 2
    assert done.stderr.startswith(
        f"{tmp_path / 'python'} cannot make environments: on Debian and Ubuntu, apt install python3-venv; "
        "or name another Python with PYTHON=...\n"
    )
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "env").exists()


@pytest.mark.parametrize("attempt", [1, 2])
def test_an_environment_that_was_not_finished_is_begun_anew(tmp_path: Path, attempt: int) -> None:
    for _ in range(attempt):
        done = make(tmp_path, DIES_HALFWAY)

    assert "Making an environment" in done.stdout
    assert not (tmp_path / "env" / "bin" / "python").is_symlink()
