"""curl, nghttp and h2load speak HTTP/2 to the server, in clear text and over TLS."""

from __future__ import annotations

import os
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.suites.applications import HELLO
from tests.suites.conftest import Certificate
from tests.suites.serving import Subject, served
from tests.suites.tools import REQUIRED, debian, missing

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

MEBIBYTE = 1 << 20
UPLOAD = 1024 * MEBIBYTE if os.environ.get(REQUIRED) else 64 * MEBIBYTE
BOUND = 12 * MEBIBYTE
"""What a transfer may add to the server's memory: windows, buffers, and what the allocator keeps."""

LOAD = re.compile(r"requests: (\d+) total, \d+ started, \d+ done, (\d+) succeeded, (\d+) failed, (\d+) errored")
CARRIERS = ["clear", "tls"]


@pytest.fixture(params=CARRIERS)
def subject(request: pytest.FixtureRequest) -> Subject:
    return request.getfixturevalue(request.param)


def scheme(subject: Subject) -> str:
    return "https" if subject.is_secure else "http"


class Curl:
    """curl, which trusts the certificate and speaks HTTP/2 at once, or by ALPN over TLS."""

    def __init__(self, subject: Subject, certificate: Certificate) -> None:
        self.subject = subject
        version = ["--http2"] if subject.is_secure else ["--http2-prior-knowledge"]
        self.command = [debian("curl"), "--silent", "--show-error", "--max-time", "500", *version]
        self.command += ["--cacert", str(certificate.authority), "--write-out", "%{stderr}%{http_version} %{http_code}"]
        features = subprocess.run([self.command[0], "--version"], text=True, capture_output=True, check=True).stdout
        if "HTTP2" not in features:
            missing("this curl speaks no HTTP/2")

    def __call__(self, path: str, *options: str, version: str = "2") -> bytes:
        """The body of the answer, which is a 200 over the version of HTTP."""
        url = f"{scheme(self.subject)}://{self.subject.address}{path}"
        done = subprocess.run([*self.command, *options, url], capture_output=True, timeout=550)
        assert (done.returncode, done.stderr.decode()) == (0, f"{version} 200"), done
        return done.stdout


@pytest.fixture
def curl(subject: Subject, certificate: Certificate) -> Curl:
    return Curl(subject, certificate)


@contextmanager
def bounded_memory(subject: Subject) -> Iterator[None]:
    """The server's memory is looked at ten times a second, and stays within bounds."""
    before = subject.memory()
    most = before
    over = threading.Event()

    def watch() -> None:
        nonlocal most
        while not over.wait(0.1):
            most = max(most, subject.memory())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
    most = max(most, subject.memory())
    assert most - before < BOUND, f"{(most - before) / MEBIBYTE:.1f} MiB more"


def test_curl_is_greeted(curl: Curl):
    assert curl("/") == HELLO


def test_curl_downloads(curl: Curl, tmp_path: Path):
    curl("/bytes/20000000", "--output", str(tmp_path / "download"))

    assert (tmp_path / "download").stat().st_size == 20_000_000


def test_curl_uploads_with_flat_memory(curl: Curl, subject: Subject, tmp_path: Path):
    upload = tmp_path / "upload"
    with upload.open("wb") as file:
        file.truncate(UPLOAD)
    curl("/count", "--upload-file", str(upload))  # what the first transfer makes is kept
    with bounded_memory(subject):
        assert curl("/count", "--upload-file", str(upload)) == str(UPLOAD).encode()


def test_9113_8_1_curl_sends_what_nobody_reads_and_has_its_answer(curl: Curl, tmp_path: Path):
    """It reads nothing more once it has a complete 200: what it may send has to be said before."""
    upload = tmp_path / "upload"
    with upload.open("wb") as file:
        file.truncate(MEBIBYTE)
    assert curl("/", "--upload-file", str(upload), "--max-time", "60") == HELLO


def test_curl_may_speak_http_1(curl: Curl):
    assert curl("/", "--http1.1", version="1.1") == HELLO


def test_http_2_can_be_switched_off(certificate: Certificate):
    with served("--no-http2", *certificate.flags) as subject:
        assert Curl(subject, certificate)("/", version="1.1") == HELLO


def test_nghttp_is_greeted(subject: Subject):
    command = [debian("nghttp", "nghttp2-client"), "--no-verify-peer", "--stat", "--null-out"]
    paths = [f"{scheme(subject)}://{subject.address}/{number}" for number in range(20)]
    done = subprocess.run([*command, *paths], text=True, capture_output=True, timeout=100)

    assert done.returncode == 0, done
    assert len(re.findall(r"\b200\s+13 /\d+$", done.stdout, re.MULTILINE)) == 20, done.stdout


@pytest.mark.parametrize(("connections", "streams"), [(10, 10), (1, 100), (50, 1)])
def test_h2load_sees_no_failure(subject: Subject, connections: int, streams: int):
    shape = ["-n", "4000", "-c", str(connections), "-m", str(streams)]
    url = f"{scheme(subject)}://{subject.address}/"
    done = subprocess.run(
        [debian("h2load", "nghttp2-client"), *shape, url], text=True, capture_output=True, timeout=200
    )

    assert (found := LOAD.search(done.stdout)), done.stdout + done.stderr
    assert list(map(int, found.groups())) == [4000, 4000, 0, 0], done.stdout
    assert "Application protocol: h2" in done.stdout
