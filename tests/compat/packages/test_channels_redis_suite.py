"""channels_redis' own tests, as they stand, with our `channels` below it.

They want Redis and a Sentinel on the usual ports. Ours are wherever a port was free, so the two numbers are replaced in
a copy of the source distribution, in the package (its default) as in the tests.
"""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.compat.environment import Environment
from tests.services.redis import redis_server
from tests.services.sentinel import sentinel
from tests.suites.tools import copy_of_source

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

RELEASE = "channels-redis==4.3.0", "740ee7b54f0e28cf2264a940a24453d3f00526a96931f911fcb69228ef245dd2"
COUNT = 118
EXPECTED_TO_FAIL = 4
"""Marked so by their authors; with Channels itself some of them pass, and not always the same."""


def test_all_pass(environment: Environment, tmp_path: Path):
    with redis_server() as redis, sentinel(redis, "sentinel", "channels_redis") as watching:
        folder = copy_of_source(*RELEASE, tmp_path)
        for path in [*folder.glob("channels_redis/*.py"), *folder.glob("tests/*.py")]:
            source = path.read_text()
            path.write_text(source.replace("26379", str(watching.port)).replace("6379", str(redis.port)))
        # The machine may be slower than the authors' patience.
        options = ["-p", "no:cacheprovider", "-o", "timeout=100", "-rA", "--tb=short"]
        done = subprocess.run(
            [str(environment.python), "-m", "pytest", *options],
            cwd=folder,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=800,
        )

    words = re.findall(r"^(PASSED|FAILED|ERROR|XFAIL|XPASS|SKIPPED) ", done.stdout, re.MULTILINE)
    counts = Counter(words)
    assert done.returncode == 0, done.stdout[-6000:]
    assert counts["PASSED"] == COUNT - EXPECTED_TO_FAIL, counts
    assert counts["XFAIL"] + counts["XPASS"] == EXPECTED_TO_FAIL, counts
