"""Autobahn's 517 cases: RFC 6455 (1 to 7, 10), sizes and speed (9), permessage-deflate (12, 13).

They run by `kosoku`, which drives Autobahn's own case files without Python 2. A verdict is Autobahn's: OK, or
INFORMATIONAL for the three cases that have no right answer. NON-STRICT counts as a failure here.
`make test` runs a third of the cases for compression, `.ci/run` all.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.suites.serving import served
from tests.suites.tools import REQUIRED, packages

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2000)]

# Messages of 16 MiB, in as many as a million fragments.
LIMITS = ["--max-message-bytes", "33554432", "--max-frame-bytes", "33554432", "--max-fragments", "1000000"]
DEADLINE = 1700.0
INFORMATIONAL = {"7.1.6", "7.13.1", "7.13.2"}
ALL_COMPRESSED = ["--deflate-min-bytes", "0"]
"""The runner's cases for compression take text for bytes only if it came compressed."""


def some_of_compression() -> tuple[list[str], int]:
    """A third of the cases, which takes a tenth of the time: messages up to 8 KiB, whole and in fragments."""
    groups = [f"12.{data}" for data in range(1, 6)] + [f"13.{offer}" for offer in range(1, 8)]
    sizes = (1, 2, 3, 4, 5, 11)
    return [f"{group}.{size}" for group in groups for size in sizes], len(groups) * len(sizes)


# All of them send 216,000 messages of up to 128 KiB, and take five minutes of both cores.
COMPRESSION = (["12.*", "13.*"], 216) if os.environ.get(REQUIRED) else some_of_compression()


def run(cases: list[str], reports: Path, *flags: str) -> dict[str, tuple[str, str]]:
    """What Autobahn says of each case: of what was received, and of how it ended."""
    runner = packages("autobahn") / "kosoku"
    chosen = [argument for case in cases for argument in ("--include", case)]
    with served(*LIMITS, *flags) as subject:
        command = [str(runner), "--parallelism", "4", "--outdir", str(reports), *chosen, subject.address]
        done = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=DEADLINE)
    index = reports / "index.json"
    assert index.exists(), done.stdout
    (verdicts,) = json.loads(index.read_text()).values()
    return {case: (verdict["behavior"], verdict["behaviorClose"]) for case, verdict in verdicts.items()}


@pytest.mark.parametrize(
    ("cases", "count", "flags"),
    [
        pytest.param([f"{chapter}.*" for chapter in (1, 2, 3, 4, 5, 6, 7, 10)], 247, [], id="protocol"),
        pytest.param(["9.*"], 54, [], id="sizes"),
        pytest.param(*COMPRESSION, ALL_COMPRESSED, id="compression"),
    ],
)
def test_every_case(cases: list[str], count: int, flags: list[str], tmp_path: Path):
    verdicts = run(cases, tmp_path, *flags)

    assert len(verdicts) == count
    odd = {case: verdict for case, verdict in verdicts.items() if verdict != ("OK", "OK")}
    assert odd == dict.fromkeys(INFORMATIONAL & verdicts.keys(), ("INFORMATIONAL",) * 2)
