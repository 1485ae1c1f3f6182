"""What applications leave behind is gone soon: in processes of their own, under both commands, seen from outside."""

from __future__ import annotations

import http.client
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.examples.running import ROOT, Running, running
from tests.integration.raw import HANDSHAKE

COUNT = 20
CROWD = 200
"""More than are frozen together."""
SOON = 3.0
"""Seconds: a collection comes within one, and this machine may be busy."""
PATIENCE = 30.0
MB = 1_000_000
PAGE = os.sysconf("SC_PAGE_SIZE")

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")]

COMMANDS = {
    "fairway": ["-m", "fairway", "tests.integration.leaving_site:application", "--port", "0", "--no-access-log"],
    "runserver": ["-m", "tests.integration.leaving_site", "runserver", "--noreload", "127.0.0.1:0"],
}


class Site:
    def __init__(self, server: Running, database: str, journal: Path) -> None:
        self.pid = server.process.pid
        self.port = server.port()
        self._database = database
        self._journal = journal

    def request(self, path: str, body: bytes | None = None) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request("GET" if body is None else "POST", path, body)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        assert answer.status == 200
        return content

    def noted(self, event: str) -> int:
        """How often the site has noted it."""
        return self._journal.read_text().splitlines().count(event)

    def resident(self) -> int:
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * PAGE

    def descriptors(self) -> list[str]:
        """What they refer to."""
        found = []
        for descriptor in Path(f"/proc/{self.pid}/fd").iterdir():
            try:
                found.append(os.readlink(descriptor))
            except FileNotFoundError:
                continue
        return found

    def database_connections(self) -> int:
        return self.descriptors().count(self._database)


@pytest.fixture(scope="module", params=COMMANDS)
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("leaving")
    database, journal = str(folder / "db.sqlite3"), folder / "journal"
    arguments = [sys.executable, *COMMANDS[request.param]]
    # `tests` is importable from the root, as `python -m` sees it.
    environment = {
        "LEAVING_SITE_DATABASE": database,
        "LEAVING_SITE_JOURNAL": str(journal),
        "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}",
    }
    with running(arguments, ROOT, **environment) as server:
        yield Site(server, database, journal)


def soon(condition: Callable[[], bool], seconds: float = SOON) -> bool:
    """Whether it comes true before the time is up."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def test_bodies_of_finished_requests_do_not_pile_up(site: Site) -> None:
    site.request("/length/", b"x" * MB)
    start, most = site.resident(), 0
    for _ in range(150):
        assert site.request("/length/", b"x" * 2 * MB) == b"2000000"
        most = max(most, site.resident())
    assert most - start < 60 * MB


@pytest.mark.parametrize("path", ["/sync/", "/async/"])
def test_persistent_database_connections_end_with_their_request(site: Site, path: str) -> None:
    most = 0
    for _ in range(COUNT):
        site.request(path)
        most = max(most, site.database_connections())
    assert most <= 2  # that of the last request may be closing
    assert soon(lambda: site.database_connections() == 0)


def test_files_that_a_request_has_left_open_are_closed_soon(site: Site) -> None:
    before = len(site.descriptors())
    for _ in range(COUNT):
        site.request("/files/")
    assert soon(lambda: len(site.descriptors()) <= before)


def test_the_finally_block_of_a_stream_runs_soon_after_its_client_has_left(site: Site) -> None:
    clients = []
    for _ in range(COUNT):
        client = socket.create_connection(("127.0.0.1", site.port), PATIENCE)
        client.sendall(b"GET /stream/ HTTP/1.1\r\nHost: localhost\r\n\r\n")
        client.recv(4096)
        clients.append(client)
    assert soon(lambda: site.noted("stream") == COUNT)
    # Until they are old, for the collector.
    before = site.noted("collection")
    site.request("/length/", b"")
    assert soon(lambda: site.noted("collection") > before)
    for client in clients:
        client.close()
    assert soon(lambda: site.noted("stream ended") == COUNT)


def test_consumers_in_a_cycle_are_gone_soon_after_their_client(site: Site) -> None:
    clients = []
    for _ in range(COUNT):
        client = socket.create_connection(("127.0.0.1", site.port), PATIENCE)
        client.sendall(HANDSHAKE.replace(b"/chat", b"/holder/"))
        assert client.recv(4096).startswith(b"HTTP/1.1 101")
        clients.append(client)
    assert site.noted("consumer ended") == 0
    for client in clients:
        client.close()
    assert soon(lambda: site.noted("consumer ended") == COUNT)


def test_consumers_in_a_cycle_that_were_frozen_as_a_crowd_are_gone_seconds_after_it(site: Site) -> None:
    before, clients = site.noted("consumer ended"), []
    for _ in range(CROWD):
        client = socket.create_connection(("127.0.0.1", site.port), PATIENCE)
        client.sendall(HANDSHAKE.replace(b"/chat", b"/holder/"))
        assert client.recv(4096).startswith(b"HTTP/1.1 101")
        clients.append(client)
    for client in clients:
        client.close()
    assert soon(lambda: site.noted("consumer ended") == before + CROWD, 3 * SOON)


def test_an_exception_that_nobody_asks_for_is_reported_soon(site: Site) -> None:
    site.request("/failure/")
    assert soon(lambda: site.noted("Future exception was never retrieved") == 1)
