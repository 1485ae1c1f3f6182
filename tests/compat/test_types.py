"""Our annotations: shipped, good enough for a strict project, and in agreement with the published stubs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.compat import stubs

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PATIENCE = 240.0


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip


@pytest.mark.slow
def test_markers_for_type_checkers_are_in_the_wheel(tmp_path: Path):
    done = run("hatchling", "build", "--target", "wheel", "--directory", str(tmp_path))
    assert done.returncode == 0, done.stderr

    (wheel,) = tmp_path.glob("django_fairway-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert {"channels/py.typed", "fairway/py.typed"} <= set(archive.namelist())


def test_the_project_that_is_checked_also_runs():
    from tests.compat import typed_project

    assert typed_project.consumer_class is typed_project.Chat


@pytest.mark.slow
@pytest.mark.timeout(PATIENCE)
def test_a_project_written_against_the_stubs_is_clean_under_strict(tmp_path: Path, pytestconfig: pytest.Config):
    assert pytestconfig.cache is not None
    # A config of its own, or mypy would take that of the project; a copy, so that it is not part of our tests.
    (tmp_path / "mypy.ini").write_text("[mypy]\nstrict = True\n")
    project = shutil.copy(HERE / "typed_project.py", tmp_path)
    cache = pytestconfig.cache.mkdir("mypy-typed-project")

    done = run(
        "mypy", "--config-file", str(tmp_path / "mypy.ini"), "--cache-dir", str(cache), project,
        MYPYPATH=str(ROOT / "src"),
    )  # fmt: skip

    assert done.stdout == "Success: no issues found in 1 source file\n"


@pytest.mark.slow
@pytest.mark.timeout(PATIENCE)
def test_we_are_what_the_stubs_describe(tmp_path: Path, pytestconfig: pytest.Config):
    """What differs is in the file of allowances, each with its reason; an entry that is not needed is an error too."""
    shutil.copytree(stubs.install(pytestconfig), tmp_path / "channels")
    # The stubs themselves are not to be judged.
    (tmp_path / "mypy.ini").write_text("[mypy]\n")

    done = run(
        "mypy.stubtest", "channels", "--concise", "--ignore-missing-stub",
        "--allowlist", str(HERE / "stubtest-allowed.txt"), "--mypy-config-file", str(tmp_path / "mypy.ini"),
        MYPYPATH=str(tmp_path), DJANGO_SETTINGS_MODULE="tests.settings", PYTHONPATH=str(ROOT),
    )  # fmt: skip

    assert done.stdout == ""
    assert done.returncode == 0, done.stderr


def test_every_allowance_has_a_reason():
    entries = (HERE / "stubtest-allowed.txt").read_text().splitlines()

    assert [line for line in entries if line and not re.fullmatch(r"#.*|[\w.]+  # .{15,}", line)] == []
