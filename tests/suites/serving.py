"""`fairway`, serving the suites' application in a process of its own."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.examples.running import Running, running
from tests.suites.tools import ROOT

LISTENS = re.compile(r"listening on http(s?)://127\.0\.0\.1:(\d+)")


class Subject:
    """A server that is put to the test."""

    def __init__(self, process: Running) -> None:
        self.process = process
        found = process.find(LISTENS)
        assert found, f"listens nowhere:\n{process.text}"
        self.is_secure = found[1] == "s"
        self.port = int(found[2])
        self.address = f"127.0.0.1:{self.port}"

    def memory(self) -> int:
        """Private memory, in bytes."""
        rollup = Path(f"/proc/{self.process.process.pid}/smaps_rollup").read_text()
        return sum(int(line.split()[1]) * 1024 for line in rollup.splitlines() if line.startswith("Private_"))

    def stop(self) -> None:
        """Ctrl-C. The server ends well and has written no traceback, whatever it was sent."""
        code = self.process.interrupt()
        assert code == 0, f"ended with {code}:\n{self.process.text}"
        assert "Traceback" not in self.process.text, self.process.text


@contextmanager
def served(*flags: str) -> Iterator[Subject]:
    """Serve the suites' application for the length of the block."""
    arguments = ["tests.suites.applications:application", "--port", "0", "--no-access-log", *flags]
    with running([sys.executable, "-m", "fairway", *arguments], ROOT, PYTHONPATH=f"{ROOT}:{ROOT / 'src'}") as process:
        subject = Subject(process)
        yield subject
        subject.stop()
