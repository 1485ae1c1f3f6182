"""The environment that packages of others are installed into, as a project that switches has it: packages that were
written for Channels, and servers for synchronous code.

uv puts them there, with what they depend on, next to the wheels of this checkout: `fairway`, and the distribution
that is called `channels` and contains no modules, which is what their requirements find.

It is made once for each set of requirements and kept in `.cache/compat`; when only our sources have changed, only our
wheel is installed again. Several test runs may share it: whoever uses it holds a lock, and nobody changes it meanwhile.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import tomllib
import venv
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import django
from uv import find_uv_bin

ROOT = Path(__file__).resolve().parents[2]
LABEL = ROOT / "compat" / "channels"
REQUIREMENTS = Path(__file__).parent / "packages" / "requirements.txt"
# What is not there for every platform, as a wheel: whoever needs it looks whether it is installed.
OPTIONAL = ("pyuwsgi>=2.0.30",)
CACHE = ROOT / ".cache" / "compat"

# The Django that the tests run with, so that a test matrix reaches the packages too.
DJANGO = f"Django=={django.__version__}"
DEADLINE = 600.0


class Environment:
    """A virtual environment; `python` is its interpreter."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.scripts = directory / "bin"
        self.python = self.scripts / "python"
        self._sources = directory / "sources.sha256"

    def pip(self, *arguments: str) -> str:
        """Let pip work on this environment; its output. Fails the test if pip fails."""
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(self.directory)]
        return run([*command, *arguments])

    def is_up_to_date(self) -> bool:
        """Whether it is there, with our distributions as they are now."""
        return self._sources.exists() and self._sources.read_text() == hash_of_sources()

    def bring_up_to_date(self) -> None:
        """Make it if it is not there, and install our distributions again if they have changed."""
        if self.is_up_to_date():
            return
        sources = hash_of_sources()
        is_there = self._sources.exists()
        # What is interrupted from here on is begun anew.
        self._sources.unlink(missing_ok=True)
        if is_there:
            with wheels() as ours:
                self.pip("install", "--quiet", "--no-deps", "--force-reinstall", *ours)
        else:
            self._make()
        self._sources.write_text(sources)

    def _make(self) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)
        venv.create(self.directory, symlinks=True)
        with wheels() as ours:
            self._install(*ours, DJANGO, "--requirement", str(REQUIREMENTS))
        for requirement in OPTIONAL:
            with suppress(AssertionError):
                self._install("--only-binary", ":all:", requirement)

    def _install(self, *arguments: str) -> None:
        """With uv: it takes seconds, and pip a minute."""
        install = [find_uv_bin(), "--quiet", "--system-certs", "pip", "install", "--python", str(self.python)]
        run([*install, *arguments])


@contextmanager
def compat_environment() -> Iterator[Environment]:
    """The environment, up to date, for the length of the block."""
    version = "{}.{}".format(*sys.version_info)
    directory = CACHE / f"py{version}-{hash_of_requirements()[:16]}"
    CACHE.mkdir(parents=True, exist_ok=True)
    environment = Environment(directory)
    with (CACHE / f"{directory.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        while not environment.is_up_to_date():
            fcntl.flock(lock, fcntl.LOCK_EX)
            environment.bring_up_to_date()
            fcntl.flock(lock, fcntl.LOCK_SH)
        yield environment


def clone(folder: Path) -> Path:
    """A copy of what a clone of this checkout has, as far as installing and building from it needs it."""
    unwanted = shutil.ignore_patterns("__pycache__")
    folder.mkdir(parents=True)
    for name in ("src", "compat"):
        shutil.copytree(ROOT / name, folder / name, ignore=unwanted)
    for name in ("Makefile", "pyproject.toml", "PYPI.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    return folder


@contextmanager
def wheels() -> Iterator[list[str]]:
    """The paths of the wheels of Fairway and of `channels`, built from this checkout."""
    with tempfile.TemporaryDirectory(prefix="fairway-wheels-") as target:
        build = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-deps"]
        run([*build, "--no-build-isolation", "--wheel-dir", target, str(ROOT), str(LABEL)])
        yield sorted(str(path) for path in Path(target).glob("*.whl"))


def run(command: list[str]) -> str:
    """Run to the end; the output, or an AssertionError that carries it."""
    done = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=DEADLINE)
    assert done.returncode == 0, f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}"
    return done.stdout


def hash_of_requirements() -> str:
    """Changes when another environment is needed."""
    projects = [tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"] for folder in (ROOT, LABEL)]
    parts = [sys.version, DJANGO, REQUIREMENTS.read_text("utf-8"), *OPTIONAL, json.dumps(projects, sort_keys=True)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def hash_of_sources() -> str:
    """Changes with any file of our distributions."""
    found = hashlib.sha256()
    for path in sorted(path for folder in (ROOT / "src", LABEL) for path in folder.rglob("*") if is_source(path)):
        found.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes() + b"\0")
    return found.hexdigest()


def is_source(path: Path) -> bool:
    return path.is_file() and path.suffix != ".pyc"
