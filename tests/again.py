"""Run pytest, and what failed once more: `python -m tests.again [pytest's arguments]`.

Ten thousand tests share two busy cores, with real processes, sockets and deadlines, and now and then one of them waits
for longer than it is ready to. What fails beside others therefore runs again by itself. Nothing is hidden: both runs
are printed, a test that passes only by itself is named on the last lines, as one to be mended, and one that fails
again fails. More than a few failures are no accident, and are not tried again.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

FEW = 5
"""So many failures may be accidents."""

SOME_FAILED = 1
"""The status with which pytest ends if tests failed, and nothing worse has happened."""


def main(arguments: list[str]) -> int:
    with tempfile.TemporaryDirectory(prefix="fairway-tests-") as folder:
        command = [sys.executable, "-m", "pytest", "-p", "tests.testers", "-o", f"cache_dir={folder}", *arguments]
        status = subprocess.run(command).returncode
        failed = failures(Path(folder))
        if status != SOME_FAILED or not 0 < len(failed) <= FEW:
            return status
        print(f"\nOnce more, by themselves: {', '.join(failed)}", flush=True)
        alone = ["--testers", "0", "--last-failed", "--last-failed-no-failures", "none"]
        status = subprocess.run([*command, *alone]).returncode
        unsteady = sorted(set(failed) - set(failures(Path(folder))))
    for name in unsteady:
        print(f"UNSTEADY {name}: it failed beside others and passed by itself, mend it", flush=True)
    return status


def failures(cache: Path) -> list[str]:
    """The tests whose last run failed, by the cache that pytest keeps."""
    path = cache / "v" / "cache" / "lastfailed"
    return sorted(json.loads(path.read_text())) if path.exists() else []


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
