"""Where the tools are that these tests run, and what happens where they are not.

A tool that is missing skips the test, and the reason says how to get it; where `FAIRWAY_REQUIRE_SUITES` is set, as in
`.ci/run`, it fails the test instead.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "suites"
REQUIREMENTS = Path(__file__).parent / "requirements"
REQUIRED = "FAIRWAY_REQUIRE_SUITES"
INSTALL_DEADLINE = 300.0


def missing(what: str) -> NoReturn:
    """Skip the test for want of something, or fail it where nothing may be wanting."""
    if os.environ.get(REQUIRED):
        pytest.fail(f"{what} ({REQUIRED} is set)", pytrace=False)
    pytest.skip(what)


def tool(name: str, how: str) -> str:
    """The path of a command: on PATH, in `.cache/suites/bin`, or where `go install` puts it."""
    places = [os.environ.get("PATH", os.defpath), "/usr/sbin", CACHE / "bin", Path.home() / "go" / "bin"]
    if found := shutil.which(name, path=os.pathsep.join(map(str, places))):
        return found
    missing(f"{name} is not here: {how}")


def debian(name: str, package: str | None = None) -> str:
    """The path of a command that Debian and Ubuntu have."""
    return tool(name, f"apt-get install {package or name}")


def packages(name: str) -> Path:
    """The folder of commands of an environment with what `requirements/<name>.txt` pins, hashes checked.

    It is made once in `.cache/suites`, and made anew when the file changes.
    """
    requirements = REQUIREMENTS / f"{name}.txt"
    pinned = hashlib.sha256(sys.version.encode() + requirements.read_bytes()).hexdigest()[:16]
    directory = CACHE / f"{name}-{pinned}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{directory.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        complete = directory / "complete"
        if not complete.exists():
            shutil.rmtree(directory, ignore_errors=True)
            venv.create(directory, symlinks=True)
            done = pip("--python", str(directory), "install", "--require-hashes", "--requirement", str(requirements))
            if done.returncode:
                missing(f"pip cannot install {requirements.name}: {done.stderr.strip()[-300:]}")
            complete.touch()
    return directory / "bin"


def copy_of_source(requirement: str, digest: str, target: Path) -> Path:
    """The source distribution of a package, its SHA-256 checked, unpacked there: the folder that is in it."""
    archives = CACHE / "sources" / digest
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{digest}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not archives.exists():
            done = pip("download", "--no-deps", "--no-binary", ":all:", "--dest", str(archives), requirement)
            if done.returncode:
                missing(f"pip cannot download {requirement}: {done.stderr.strip()[-300:]}")
    (archive,) = archives.iterdir()
    assert hashlib.sha256(archive.read_bytes()).hexdigest() == digest, f"{archive.name} is not what was pinned"
    shutil.unpack_archive(archive, target)
    return target / archive.name.removesuffix(".tar.gz")


def pip(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    return subprocess.run(command, text=True, capture_output=True, timeout=INSTALL_DEADLINE)
