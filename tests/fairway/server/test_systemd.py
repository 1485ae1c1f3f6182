"""What systemd hands over."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from fairway.server.systemd import handed_over

PATIENCE = 20.0
SITE = """
async def application(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"here"})
"""

AS_SYSTEMD = """
import fcntl, os, sys
spare = [fcntl.fcntl(int(one), fcntl.F_DUPFD_CLOEXEC, 20) for one in sys.argv[1:3]]
for number, one in enumerate(spare, 3):
    os.dup2(one, number)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2"}
os.execv(sys.argv[3], sys.argv[3:])
"""


def environment(**changes: str) -> dict[str, str]:
    return {
        "LISTEN_PID": str(os.getpid()),
        "LISTEN_FDS": "3",
        "LISTEN_FDNAMES": "web:web:other",
        "HOME": "/",
        **changes,
    }


def test_sockets_are_those_of_a_name_or_all() -> None:
    assert handed_over(environment()) == [3, 4, 5]
    assert handed_over(environment(), "web") == [3, 4]
    assert handed_over(environment(), "nobody") == []
    assert handed_over(environment(LISTEN_FDNAMES=""), "web") == []


def test_what_is_for_another_process_is_not_taken_and_not_handed_on() -> None:
    for given in (environment(LISTEN_PID="1"), environment(LISTEN_FDS="x"), {"HOME": "/"}):
        assert handed_over(given) == []
        assert given == {"HOME": "/"}


def command(site: Path, *arguments: str) -> list[str]:
    (site / "activated.py").write_text(SITE)
    return [sys.executable, "-m", "fairway", "--lifespan", "off", *arguments, "activated:application"]


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_server_serves_on_sockets_that_were_opened_for_it(tmp_path: Path, workers: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        numbers = first.fileno(), second.fileno()
        serve = command(tmp_path, "--fd", "systemd", "--workers", workers)
        process = subprocess.Popen(
            [sys.executable, "-c", AS_SYSTEMD, *map(str, numbers), *serve],
            cwd=tmp_path, pass_fds=numbers,
        )  # fmt: skip
        try:
            for one in (first, second):
                client = http.client.HTTPConnection(*one.getsockname(), timeout=PATIENCE)
                client.request("GET", "/")
                assert client.getresponse().read() == b"here"  # who connects early waits
                client.close()
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()
            process.wait()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_where_nothing_was_handed_over_it_says_so(tmp_path: Path, workers: str) -> None:
    ended = subprocess.run(
        command(tmp_path, "--fd", "systemd:web", "--workers", workers),
        cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (
        1, "fairway: --fd systemd:web: no such socket was handed over to this process (LISTEN_FDS)\n",
    )  # fmt: skip
