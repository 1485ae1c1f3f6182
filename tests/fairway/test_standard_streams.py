"""Numbers 0, 1 and 2 are never a socket's, however the process was started."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

PATIENCE = 20.0
DAPHNE = Path(__file__).parents[2] / "compat" / "daphne"

SITE = """
import os, subprocess, sys

print("loaded")
print("loaded", file=sys.stderr)

async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        raise NotImplementedError
    places = ("/proc/self/fd/0", "/proc/self/fd/1", "/proc/self/fd/2")
    ours = "\\n".join(map(os.readlink, places))
    # A child whose own are those of its parent.
    assert subprocess.run(["sh", "-c", "test -e /dev/fd/0 && test -e /dev/fd/1 && test -e /dev/fd/2"]).returncode == 0
    sys.stdout.write("served\\n")
    sys.stderr.write("served\\n")
    body = f"{ours}\\n{sys.stdin.read()}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})
"""


@contextlib.contextmanager
def serving(directory: Path, module: str, redirections: str, *arguments: str) -> Iterator[Path]:
    """A server that a shell has started with these redirections; its Unix socket."""
    (directory / "site_under_test.py").write_text(SITE)
    path = directory / "s"
    command = f'exec "$@" {redirections}'
    process = subprocess.Popen(
        ["sh", "-c", command, "sh", sys.executable, "-m", module, *arguments, "site_under_test:application"],
        cwd=directory, env={**os.environ, "PYTHONPATH": str(DAPHNE)}, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + PATIENCE
        while not is_listening(path):
            assert process.poll() is None, f"it ended with {process.returncode}"
            assert time.monotonic() < deadline, "it does not listen"
            time.sleep(0.02)
        yield path
    finally:
        process.kill()
        process.wait()


def is_listening(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(os.fspath(path)) == 0


def get(path: Path) -> bytes:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE)
        client.connect(os.fspath(path))
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        return b"".join(iter(lambda: client.recv(65536), b""))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
@pytest.mark.parametrize(
    ("module", "option", "redirections"),
    [
        ("fairway", "--uds", "<&- >&- 2>&-"),
        ("daphne", "-u", "<&- >&- 2>&-"),
        ("fairway", "--uds", "<&- >/dev/null 2>/dev/null"),
        ("fairway", "--uds", ">&- 2>/dev/null"),
        ("fairway", "--uds", ">/dev/null 2>&-"),
    ],
)
def test_server_without_a_standard_stream_has_the_null_device(
    tmp_path: Path, module: str, option: str, redirections: str
):
    with serving(tmp_path, module, redirections, option, "s") as path:
        received = get(path)

    assert received.startswith(b"HTTP/1.1 200 ")
    assert received.partition(b"\r\n\r\n")[2].decode() == "/dev/null\n" * 3


@pytest.mark.slow
@pytest.mark.parametrize("words", [["config", "site_under_test:application"], ["doctor"], ["--help"], ["--version"]])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_of_the_output_may_leave(tmp_path: Path, words: list[str], unbuffered: str) -> None:
    (tmp_path / "site_under_test.py").write_text("async def application(scope, receive, send): ...")
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb") as output:
        done = subprocess.run(
            [sys.executable, "-m", "fairway", *words], cwd=tmp_path, env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            stdout=output, stderr=subprocess.PIPE, check=False,
        )  # fmt: skip
    assert "BrokenPipe" not in done.stderr.decode()
    # What argparse prints, it may give up silently.
    assert done.returncode in ((0, 141) if words[0].startswith("--") else (141,))
