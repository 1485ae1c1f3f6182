"""`python -m fairway` in a directory, for tests of a real process: started, read, signalled."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

PATIENCE = 20.0


class SiteProcess:
    """Once it listens. What it writes to stderr goes to a file, so that nothing waits for its being read."""

    def __init__(self, directory: Path, source: str, *arguments: str, limits: dict[str, Any], **options: Any) -> None:
        settings = f"from django.conf import settings\nsettings.configure(FAIRWAY={limits!r})\n"
        (directory / "site_under_test.py").write_text(settings + source)
        self.log_path = directory / "log"
        with self.log_path.open("w") as log:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "fairway", "--port", "0", *arguments, "site_under_test:application"],
                cwd=directory, stdout=subprocess.PIPE, stderr=log, text=True, **options,
            )  # fmt: skip
        line = self.wait_for("listening on ")
        parts = urlsplit(line.partition("listening on ")[2].strip().partition('"')[0])  # the log may be JSON
        self.address = (parts.hostname, parts.port)

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def wait_for(self, text: str, times: int = 1) -> str:
        """The line of the log in which the text stands for the nth time."""
        deadline = time.monotonic() + PATIENCE
        while True:
            is_over = self.popen.poll() is not None or time.monotonic() > deadline
            found = [line for line in self.log.splitlines() if text in line]
            if len(found) >= times:
                return found[times - 1]
            assert not is_over, f"no {text!r} in:\n{self.log}"
            time.sleep(0.02)

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=PATIENCE)

    def get(self, path: str = "/") -> bytes:
        """The whole answer to a request on a connection of its own."""
        with self.connect() as client:
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            return b"".join(iter(lambda: client.recv(65536), b""))

    def signal(self, number: int = signal.SIGTERM) -> None:
        self.popen.send_signal(number)

    def end(self, within: float) -> int:
        """Wait for the end; the exit code."""
        return self.popen.wait(within)

    def kill(self) -> None:
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.communicate()


@contextlib.contextmanager
def serving(directory: Path, source: str, *arguments: str, **options: Any) -> Iterator[SiteProcess]:
    """A process that serves `application` of the source; `limits` are its FAIRWAY setting."""
    process = SiteProcess(directory, source, *arguments, **{"limits": {}, **options})
    try:
        yield process
    finally:
        process.kill()


def until(condition: Callable[[], Any]) -> Any:
    """Wait until the condition holds, and return its value."""
    deadline = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.02)
    return value
