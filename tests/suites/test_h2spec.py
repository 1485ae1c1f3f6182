"""h2spec: 145 cases for HTTP/2 and HPACK, 146 in strict mode, in clear text and over TLS."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.suites.serving import Subject
from tests.suites.tools import tool

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

HOW = "go install github.com/summerwind/h2spec/cmd/h2spec@v2.2.1+incompatible"
SUMMARY = re.compile(r"^(\d+) tests, (\d+) passed, (\d+) skipped, (\d+) failed$", re.MULTILINE)
PATIENCE = "10"
"""Seconds for a case; on a busy machine more than the two that h2spec gives."""


@pytest.mark.parametrize(("mode", "count"), [([], 145), (["--strict"], 146)], ids=["plain", "strict"])
@pytest.mark.parametrize("carrier", ["clear", "tls"])
def test_all_pass(request: pytest.FixtureRequest, carrier: str, mode: list[str], count: int):
    subject: Subject = request.getfixturevalue(carrier)
    options = ["--host", "127.0.0.1", "--port", str(subject.port), "--timeout", PATIENCE, *mode]
    if carrier == "tls":
        options += ["--tls", "--insecure"]
    done = subprocess.run([tool("h2spec", HOW), *options], text=True, capture_output=True, timeout=280)

    assert (found := SUMMARY.search(done.stdout)), done.stdout + done.stderr
    assert list(map(int, found.groups())) == [count, count, 0, 0], done.stdout
