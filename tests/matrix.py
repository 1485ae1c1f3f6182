"""Run the fast tests with other versions of Python and Django: `make matrix`.

The cells are the supported pairs for which this machine has an interpreter, on PATH or installed by pyenv. By default
as few are run as cover every version of both, without the one that `make test` covers; `--all` runs each pair, `--list`
only says which there are. Every cell has an environment of its own in `.cache/matrix/`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import django
from uv import find_uv_bin

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENTS = ROOT / ".cache" / "matrix"
# Environments of their own, and pages: neither depends on the versions.
ELSEWHERE = ["--ignore=tests/compat", "--ignore=tests/docs", "--ignore=tests/demo"]
FAST = ["-m", "not slow and not browser", "--hypothesis-profile", "fast", "-n", "3", "--dist", "loadfile"]
TESTS = ["-q", *FAST, "-p", "no:cacheprovider", *ELSEWHERE]

# Django -> the versions of Python that it supports (https://docs.djangoproject.com/en/dev/faq/install/).
SUPPORTED = {
    "5.2": ("3.11", "3.12", "3.13", "3.14"),
    "6.0": ("3.12", "3.13", "3.14"),
    "6.1": ("3.12", "3.13", "3.14"),
}


class Cell(NamedTuple):
    python: str
    django: str

    def __str__(self) -> str:
        return f"Python {self.python}, Django {self.django}"


def interpreters() -> dict[str, str]:
    """Version -> path of each supported interpreter on this machine."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found: dict[str, str] = {}
    for version in sorted({version for versions in SUPPORTED.values() for version in versions}):
        candidates = [shutil.which(f"python{version}"), *map(str, sorted(pyenv.glob(f"{version}.*/bin/python")))]
        working = [path for path in candidates if path and is_version(path, version)]
        if working:
            found[version] = working[-1]
    return found


def is_version(path: str, version: str) -> bool:
    # A shim of pyenv is on PATH also for versions that are not selected, and then fails.
    asked = subprocess.run([path, "-c", "import sys; print(*sys.version_info[:2], sep='.')"], capture_output=True)
    return asked.returncode == 0 and asked.stdout.decode().strip() == version


def all_cells(pythons: dict[str, str]) -> list[Cell]:
    return [Cell(python, django) for django, versions in SUPPORTED.items() for python in versions if python in pythons]


def fewest(cells: list[Cell]) -> list[Cell]:
    """A few cells that cover each version of both, the newest pairs first."""
    chosen: list[Cell] = []
    pythons, djangos = {cell.python for cell in cells}, {cell.django for cell in cells}
    while pythons or djangos:
        best = max(cells, key=lambda cell: ((cell.python in pythons) + (cell.django in djangos), cell))
        chosen.append(best)
        pythons.discard(best.python)
        djangos.discard(best.django)
    return chosen


def covered_by_make_test() -> Cell:
    """The cell whose versions this environment has."""
    return Cell("{}.{}".format(*sys.version_info), "{}.{}".format(*django.VERSION))


def prepare(cell: Cell, interpreter: str) -> Path:
    """Make the cell's environment, or bring it up to date, and return its interpreter."""
    folder = ENVIRONMENTS / f"python{cell.python}-django{cell.django}"
    python = folder / "bin" / "python"
    if not python.exists():
        uv("venv", "--python", interpreter, str(folder))
    uv("pip", "install", "--python", str(python), "--editable", ".", "--group", "dev", f"Django=={cell.django}.*")
    return python


def uv(*arguments: str) -> None:
    subprocess.run([find_uv_bin(), "--quiet", *arguments], cwd=ROOT, check=True)


def run(cell: Cell, interpreter: str) -> bool:
    started = time.monotonic()
    print(f"== {cell}", flush=True)
    try:
        python = prepare(cell, interpreter)
        outcome = subprocess.run([str(python), "-m", "pytest", *TESTS], cwd=ROOT).returncode == 0
    except subprocess.CalledProcessError as error:
        print(f"cannot set up {cell}: {error}", flush=True)
        outcome = False
    print(f"== {cell}: {'passed' if outcome else 'FAILED'} in {time.monotonic() - started:.0f} s", flush=True)
    return outcome


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="run each supported pair, not only a few that cover all")
    parser.add_argument("--list", action="store_true", help="say what would be run and what is missing")
    options = parser.parse_args()
    pythons = interpreters()
    cells = all_cells(pythons) if options.all else fewest(all_cells(pythons))
    wanted = {version for versions in SUPPORTED.values() for version in versions}
    for version in sorted(wanted - set(pythons)):
        print(f"Python {version} is not on this machine: nothing is run with it")
    if (covered := covered_by_make_test()) in cells:
        print(f"{covered}: that is what `make test` runs")
        cells.remove(covered)
    if options.list:
        print(*cells, sep="\n")
        return 0
    if not cells:
        print("no other pair can be run on this machine")
    outcomes = {cell: run(cell, pythons[cell.python]) for cell in cells}
    print(*(f"{'passed' if passed else 'FAILED'}  {cell}" for cell, passed in outcomes.items()), sep="\n")
    return 0 if all(outcomes.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
