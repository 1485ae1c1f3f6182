"""Starting the demo as a real process, and finding a browser: shared by the browser tests and by screenshots.py.

The process is started as ``make demo`` starts it, ``python -m fairway demo.asgi:application`` from the demo's folder,
with a database that was migrated before.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from queue import Empty, Queue
from tempfile import TemporaryDirectory
from typing import Self

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "demo"

READY_WITHIN = 30.0  # seconds
STOPPED_WITHIN = 15.0

# The first one is the engine alone: a new page costs it a tenth of a second of processor time, and not a whole one.
BROWSERS = ["chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"]
BROWSER_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
]

_READY = re.compile(r"listening on (https?)://127\.0\.0\.1:(\d+)")


def find_browser() -> str | None:
    """The path of a Chromium: FAIRWAY_CHROMIUM, or the first one on PATH."""
    named = os.environ.get("FAIRWAY_CHROMIUM")
    if named:
        return shutil.which(named)
    return next(filter(None, map(shutil.which, BROWSERS)), None)


ENVIRONMENT = {
    "DJANGO_SETTINGS_MODULE": "demo.settings",
    "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")])),
    "PYTHONUNBUFFERED": "1",
}


def manage(environment: Mapping[str, str], *arguments: str) -> None:
    subprocess.run([sys.executable, "manage.py", *arguments], cwd=DEMO, env=environment, check=True)


@cache
def migrated() -> bytes:
    """A database with all tables and nothing in them: to make one takes a second of processor time."""
    with TemporaryDirectory(prefix="fairway-demo-") as folder:
        path = Path(folder, "db.sqlite3")
        manage({**os.environ, **ENVIRONMENT, "DEMO_DATABASE": str(path)}, "migrate", "--verbosity", "0")
        return path.read_bytes()


class DemoServer:
    """The demo in a process of its own, on a free port; started again, it takes the same port and the same database.

    `options` are those of the command `fairway`, `variables` of the process's environment.
    """

    application = "demo.asgi:application"
    folder = DEMO

    def __init__(self, database: Path, *options: str, **variables: str) -> None:
        self.port = 0
        self.database = database
        self.scheme = "http"
        self._options = options
        self.log: deque[str] = deque(maxlen=200)
        self._environment = os.environ | {
            **ENVIRONMENT,
            "DEMO_DATABASE": str(database),
            **variables,
        }
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._ready: Queue[int] = Queue()

    def __enter__(self) -> Self:
        self.database.write_bytes(migrated())
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def manage(self, *arguments: str) -> None:
        """Run `manage.py` on the same database, whether the server runs or not."""
        manage(self._environment, *arguments)

    def start(self) -> None:
        """Returns when the server says that it listens."""
        command = [sys.executable, "-m", "fairway", self.application]
        command += ["--host", "127.0.0.1", "--port", str(self.port), *self._options]
        self._process = subprocess.Popen(
            command, cwd=self.folder, env=self._environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        try:
            self.port = self._ready.get(timeout=READY_WITHIN)
        except Empty:
            self.stop()
            raise RuntimeError(f"the demo did not start; it said:\n{self.output}") from None

    def stop(self) -> None:
        """Ends the process as Ctrl-C would; returns when it is gone."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOPPED_WITHIN)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise RuntimeError(f"the demo did not stop when asked to; it said:\n{self.output}") from None
        finally:
            self._reader.join()
            self._process.stdout.close()
            self._process = None

    def freeze(self) -> None:
        """The process stands still, and its connections stay open."""
        self._process.send_signal(signal.SIGSTOP)

    def kill(self) -> None:
        """Ends the process in the middle of whatever it does."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        self._process.stdout.close()
        self._process = None

    def restart(self) -> None:
        """Begins anew, in whatever state the process is."""
        if self._process is not None:
            self.kill()
        self.start()

    @property
    def output(self) -> str:
        return "".join(self.log)

    def _read(self) -> None:
        for line in self._process.stdout:
            self.log.append(line)
            ready = _READY.search(line)
            if ready:
                self.scheme = ready[1]
                self._ready.put(int(ready[2]))
