"""Commands run as a reader of the tutorial runs them: in a project's folder, as processes of their own.

`command()` runs one to its end; `Running` is one that serves, is watched line by line and ends with Ctrl-C.
Nothing sleeps: a test waits for a line of output, with a deadline. Used by the tests of the examples and of the docs.
"""

from __future__ import annotations

import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TUTORIAL = ROOT / "examples" / "tutorial"
EXERCISES = TUTORIAL / "exercises"
DEADLINE = 30.0

RUNSERVER = [sys.executable, "manage.py", "runserver", "--noreload", "127.0.0.1:0"]
FAIRWAY = [sys.executable, "-m", "fairway", "your_project_name.asgi:application", "--port", "0"]
READY = re.compile(r"(?:listening on|development server at) https?://127\.0\.0\.1:(\d+)")


def environment() -> dict[str, str]:
    """The environment of a reader: this Python first on PATH, no settings module, no colours."""
    hidden = {"DJANGO_SETTINGS_MODULE", "DJANGO_COLORS", "RUN_MAIN", "FORCE_COLOR"}
    env = {name: value for name, value in os.environ.items() if name not in hidden}
    scripts = str(Path(sys.executable).parent)
    return env | {
        "PATH": os.pathsep.join([scripts, env.get("PATH", os.defpath)]),
        "PYTHONPATH": str(ROOT / "src"),
        "PYTHONUNBUFFERED": "1",
        "NO_COLOR": "1",
        # A project copied below a checkout (TMPDIR may be there) must not be taken for a part of it.
        "GIT_CEILING_DIRECTORIES": "/",
        "GIT_DIR": os.devnull,
    }


def command(args: list[str] | str, cwd: Path, **extra_env: str) -> str:
    """Run to the end, a list directly and a string by the shell; the output, if the exit code is 0."""
    done = subprocess.run(
        args,
        cwd=cwd,
        env=environment() | extra_env,
        shell=isinstance(args, str),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=DEADLINE * 2,
    )
    assert done.returncode == 0, f"{args} ended with {done.returncode}:\n{done.stdout}"
    return done.stdout


def copy_project(target: Path, *diffs: str) -> Path:
    """A copy of the tutorial's project, with these exercises applied by `git apply`."""
    unwanted = shutil.ignore_patterns("__pycache__", "db.sqlite3", "exercises")
    shutil.copytree(TUTORIAL, target, ignore=unwanted)
    for diff in diffs:
        command(["git", "apply", str(EXERCISES / diff)], target)
    return target


class Running:
    """A command that serves, in a process group of its own, as a terminal would start it."""

    def __init__(self, args: list[str], cwd: Path, **extra_env: str) -> None:
        self.process = subprocess.Popen(
            args,
            cwd=cwd,
            env=environment() | extra_env,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            # A test run started in the background ignores SIGINT, and its children would inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        self.output: list[str] = []
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def find(self, pattern: str | re.Pattern[str], timeout: float = DEADLINE) -> re.Match[str] | None:
        """The first line from here on that has this pattern; None when the time is up first."""
        end = time.monotonic() + timeout
        while (left := end - time.monotonic()) > 0:
            try:
                line = self._lines.get(timeout=left)
            except queue.Empty:
                return None
            assert line is not None, f"ended while waiting for {pattern!r}:\n{self.text}"
            self.output.append(line)
            if found := re.search(pattern, line):
                return found
        return None

    def port(self) -> int:
        """The port of the next line that says where it listens."""
        found = self.find(READY)
        assert found, f"said no address in {DEADLINE:.0f} s:\n{self.text}"
        return int(found[1])

    @property
    def text(self) -> str:
        return "\n".join(self.output)

    def interrupt(self) -> int:
        """Ctrl-C: SIGINT to the whole group. The exit code; the rest of the output is in `text` then."""
        os.killpg(self.process.pid, signal.SIGINT)
        code = self.process.wait(DEADLINE)
        self._drain()
        return code

    def _drain(self) -> None:
        self._reader.join(DEADLINE)
        while not self._lines.empty():
            line = self._lines.get()
            if line is not None:
                self.output.append(line)

    def close(self) -> None:
        """End it in any case, with whatever it started."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(DEADLINE)
        self._drain()
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextmanager
def running(args: list[str], cwd: Path, **extra_env: str) -> Iterator[Running]:
    """Start a command that serves; it is gone at the end of the block."""
    process = Running(args, cwd, **extra_env)
    try:
        yield process
    finally:
        process.close()
