"""`manage.py runserver` and `runworker`, started without standard streams: numbers 0, 1 and 2 are never a socket's."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.channels.management.project import ASGI_APPLICATION, STATICFILES, Project, _environment
from tests.channels.management.worker_site.layers import DirectoryChannelLayer

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc"),
]

PATIENCE = 30.0
STREAMS = ("<&-", ">&-", "2>&-")
CLOSED = [" ".join(some) for count in (1, 2, 3) for some in itertools.combinations(STREAMS, count)]
OPEN = {"<&-": "</dev/null", ">&-": ">/dev/null", "2>&-": "2>/dev/null"}

URLS = """
    import os, subprocess, sys
    from django.http import HttpResponse
    from django.urls import path

    def streams(request):
        print("served")
        print("served", file=sys.stderr)
        there = "test -e /dev/fd/0 && test -e /dev/fd/1 && test -e /dev/fd/2"
        assert subprocess.run(["sh", "-c", there]).returncode == 0
        return HttpResponse(" ".join(os.readlink(f"/proc/self/fd/{number}") for number in range(3)))

    urlpatterns = [path("", streams)]
"""

WORKER = """
    import os, sys
    from channels.consumer import AsyncConsumer
    from channels.routing import ChannelNameRouter, ProtocolTypeRouter

    class Streams(AsyncConsumer):
        async def tell(self, message):
            print("handled")
            print("handled", file=sys.stderr)
            places = " ".join(os.readlink(f"/proc/self/fd/{number}") for number in range(3))
            await self.channel_layer.send("results", {"type": "told", "places": places})

    application = ProtocolTypeRouter({"channel": ChannelNameRouter({"work": Streams.as_asgi()})})
"""


@contextlib.contextmanager
def running(directory: Path, closed: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """`manage.py`, as a shell starts it without these streams; the others go to the null device."""
    others = " ".join(target for stream, target in OPEN.items() if stream not in closed.split())
    process = subprocess.Popen(
        ["sh", "-c", f'exec "$@" {closed} {others}', "sh", sys.executable, "manage.py", *arguments],
        cwd=directory, env=_environment(), start_new_session=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(PATIENCE)


def served(process: subprocess.Popen[bytes], port: int) -> str:
    """What the page says, once the server listens."""
    deadline = time.monotonic() + PATIENCE
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        try:
            connection.request("GET", "/")
            return connection.getresponse().read().decode()
        except ConnectionRefusedError:
            assert process.poll() is None, f"it ended with {process.returncode}"
            assert time.monotonic() < deadline, "it does not listen"
            time.sleep(0.05)
        finally:
            connection.close()


@pytest.mark.parametrize(
    ("closed", "options"),
    [*((closed, ["--noreload"]) for closed in CLOSED), (CLOSED[-1], [])],
    ids=lambda value: value if isinstance(value, str) else " ".join(value) or "reload",
)
def test_runserver(tmp_path: Path, unused_tcp_port: int, closed: str, options: list[str]):
    Project(tmp_path, [STATICFILES, "channels"]).write("runsite/urls.py", URLS)
    with running(tmp_path, closed, "runserver", *options, f"127.0.0.1:{unused_tcp_port}") as process:
        assert served(process, unused_tcp_port) == " ".join(["/dev/null"] * 3)


@pytest.mark.parametrize("closed", CLOSED)
def test_runworker(tmp_path: Path, closed: str):
    layer = DirectoryChannelLayer(str(tmp_path / "messages"))
    backend = {"BACKEND": "runsite.layers.DirectoryChannelLayer", "CONFIG": {"directory": "messages"}}
    project = Project(tmp_path, ["channels"], f"{ASGI_APPLICATION}; CHANNEL_LAYERS = {{'default': {backend!r}}}")
    project.write("runsite/asgi.py", WORKER)
    project.write("runsite/layers.py", (Path(__file__).parent / "worker_site" / "layers.py").read_text())
    asyncio.run(layer.send("work", {"type": "tell"}))
    with running(tmp_path, closed, "runworker", "work"):
        message = asyncio.run(asyncio.wait_for(layer.receive("results"), PATIENCE))
    assert message["places"] == " ".join(["/dev/null"] * 3)


def test_a_log_that_has_a_number_of_a_stream_keeps_it(tmp_path: Path, unused_tcp_port: int):
    """Django opens it before any command runs. Children do not inherit it."""
    log = tmp_path / "site.log"
    handler = {"class": "logging.FileHandler", "filename": str(log)}
    logging = {"version": 1, "handlers": {"file": handler}, "root": {"handlers": ["file"], "level": "INFO"}}
    project = Project(tmp_path, [STATICFILES, "channels"], f"{ASGI_APPLICATION}; LOGGING = {logging!r}")
    project.write("runsite/urls.py", URLS.replace("assert ", ""))
    with running(tmp_path, CLOSED[-1], "runserver", "--noreload", f"127.0.0.1:{unused_tcp_port}") as process:
        assert set(served(process, unused_tcp_port).split()) <= {"/dev/null", str(log)}
