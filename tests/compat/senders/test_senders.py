"""Views and tasks that send, in the servers that synchronous code runs in: gunicorn, uWSGI, Celery, and plain scripts.

Each sends over a real Redis and over the local broker, and readers in the tests' process get what it sends. The servers
are processes of others, in an environment of their own. Where pip has no uWSGI for a platform its tests are skipped, or
fail where nothing may be wanting (`tests.suites.tools`).
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fairway.layers.layer import BackplaneLayer
from fairway.layers.local import LocalChannelLayer
from fairway.layers.local.place import given_place
from fairway.layers.redis import RedisChannelLayer
from tests.compat.environment import Environment
from tests.services.local import broker_process
from tests.services.redis import RedisServer
from tests.suites.tools import missing

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PROJECT = Path(__file__).parent / "project"
DEADLINE = 120.0
PIECES = 40
"""How often a view or task is run."""
AT_ONCE = 8
STEPS = ("before", "after", "committed")
GROUPS = ("reports", "sockets")


@dataclass(frozen=True)
class Server:
    """How a server is started. `sends_before_fork`: the project is loaded, and sends, in the parent of the workers."""

    program: str
    arguments: tuple[str, ...]
    sends_before_fork: bool = False


def gunicorn(*arguments: str, sends_before_fork: bool = False) -> Server:
    common = ("senders:application", "--bind", "unix:http.sock", "--workers", "2", "--log-level", "warning")
    return Server("gunicorn", (*common, *arguments), sends_before_fork)


def uwsgi(*arguments: str) -> Server:
    common = ("--http-socket", "http.sock", "--module", "senders:application", "--master", "--processes", "2")
    return Server("uwsgi", (*common, "--need-app", "--die-on-term", "--disable-logging", *arguments), True)


def celery(*arguments: str, sends_before_fork: bool = False) -> Server:
    quietly = ("--loglevel", "WARNING", "--without-mingle", "--without-gossip", "--without-heartbeat")
    common = ("--app", "senders", "--quiet", "worker", "--queues", "{queue}")
    return Server("celery", (*common, *quietly, *arguments), sends_before_fork)


SERVERS = {
    "gunicorn sync": gunicorn("--preload", sends_before_fork=True),
    "gunicorn gthread": gunicorn("--worker-class", "gthread", "--threads", "4"),
    "gunicorn gevent": gunicorn("--worker-class", "gevent"),
    "uwsgi": uwsgi(),
    "uwsgi with threads": uwsgi("--enable-threads", "--threads", "4"),
}
WORKERS = {
    "celery prefork": celery("--pool", "prefork", "--concurrency", "2", sends_before_fork=True),
    "celery threads": celery("--pool", "threads", "--concurrency", "4"),
    "celery gevent": celery("--pool", "gevent", "--concurrency", "8"),
}


class Site:
    """The project, with a database and its layers."""

    def __init__(self, environment: Environment, folder: Path, layers: dict[str, Any]) -> None:
        self.environment = environment
        self.folder = folder
        self.variables = {
            "DATABASE": str(folder / "db.sqlite3"),
            "LAYERS": json.dumps(layers),
            "PYTHONPATH": str(PROJECT),
            "PYTHONUNBUFFERED": "1",
            "PATH": os.pathsep.join([str(environment.scripts), os.environ.get("PATH", os.defpath)]),
        }

    def run(self, program: str) -> None:
        """Run a script in the project to its end, which has to be a good one and to say nothing."""
        command = [str(self.environment.python), "-c", f"import senders; {program}"]
        done = subprocess.run(command, env=self.variables, capture_output=True, text=True, timeout=DEADLINE)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    @contextmanager
    def running(self, server: Server, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run a server for the length of the block. It has to end when it is told to, and never write a traceback."""
        program = self.environment.scripts / server.program
        if not program.exists():
            missing(f"{server.program} is not here: pip has no wheel of it for this platform")
        arguments = [one.format_map(variables) for one in server.arguments]
        first = {"SENDS_FIRST": "yes"} if server.sends_before_fork else {}
        log = self.folder / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [str(program), *arguments],
                env=self.variables | first,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            yield process
            process.terminate()
            process.wait(DEADLINE)
            assert "Traceback" not in log.read_text("utf-8", "replace"), "it has written a traceback"
        except BaseException as error:
            error.add_note(log.read_text("utf-8", "replace"))
            raise
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            (self.folder / "http.sock").unlink(missing_ok=True)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """With a short name: addresses of sockets may not be long."""
    with tempfile.TemporaryDirectory(prefix="fairway-") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def site(environment: Environment, folder: Path, redis: RedisServer) -> Iterator[Site]:
    place = given_place(str(folder / "broker.sock"))
    broker = broker_process(place)
    layers = {
        "default": {"BACKEND": "fairway.layers.redis.RedisChannelLayer", "CONFIG": {"hosts": [redis.url]}},
        "local": {"BACKEND": "fairway.layers.local.LocalChannelLayer", "CONFIG": {"socket": place.path}},
    }
    try:
        made = Site(environment, folder, layers)
        made.variables["BROKER"] = f"{redis.url}/5"
        made.run("from django.core.management import call_command; call_command('migrate', verbosity=0)")
        yield made
    finally:
        broker.terminate()
        broker.wait(DEADLINE)


class Reader:
    """A member of both groups, over one of the layers."""

    def __init__(self, layer: BackplaneLayer) -> None:
        self._layer = layer

    async def join(self) -> None:
        self._channel = await self._layer.new_channel()
        for group in GROUPS:
            await self._layer.group_add(group, self._channel)

    async def read(self, count: int) -> list[dict[str, Any]]:
        return [await self._layer.receive(self._channel) for _ in range(count)]

    async def close(self) -> None:
        await self._layer.close()


class Readers:
    """One for each layer."""

    def __init__(self, site: Site) -> None:
        configured = json.loads(site.variables["LAYERS"])
        classes = {"default": RedisChannelLayer, "local": LocalChannelLayer}
        self.each = [Reader(classes[alias](**one["CONFIG"], capacity=10_000)) for alias, one in configured.items()]

    async def read(self, count: int, process: subprocess.Popen[bytes] | None = None) -> list[list[dict[str, Any]]]:
        """So many messages of each layer, while the process runs."""
        async with asyncio.timeout(DEADLINE), asyncio.TaskGroup() as group:
            watching = group.create_task(fail_when_it_ends(process)) if process is not None else None
            messages = await asyncio.gather(*(reader.read(count) for reader in self.each))
            if watching is not None:
                watching.cancel()
        return messages


async def fail_when_it_ends(process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None:  # noqa: ASYNC110  # it tells no event
        await asyncio.sleep(0.1)
    raise AssertionError(f"it ended with {process.returncode}")


@asynccontextmanager
async def reading(site: Site) -> AsyncIterator[Readers]:
    readers = Readers(site)
    try:
        for reader in readers.each:
            await reader.join()
        yield readers
    finally:
        for reader in readers.each:
            await reader.close()


@pytest.fixture
async def readers(site: Site) -> AsyncIterator[Readers]:
    async with reading(site) as made:
        yield made


def assert_complete(messages: list[dict[str, Any]], numbers: range, parent: bool = False) -> None:
    """Each piece of work has sent all its messages, in their order, and nobody has started an event loop for it.

    With `parent` another process than those has sent one message at first.
    """
    reports = [one for one in messages if one["type"] == "report"]
    sockets = [json.loads(one["text"])["number"] for one in messages if one["type"] != "report"]
    if parent:
        first = reports.pop(0)
        assert first["number"] == -1
        assert first["process"] not in {one["process"] for one in reports}
    assert sorted(sockets) == list(numbers)
    for number in numbers:
        assert tuple(one["step"] for one in reports if one["number"] == number) == STEPS
    assert not {name for one in reports for name in one["threads"] if name.startswith("fairway")}


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=DEADLINE)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(DEADLINE)
        self.sock.connect(str(self._path))


def get(path: Path, number: int) -> None:
    connection = UnixConnection(path)
    try:
        connection.request("GET", f"/work/{number}/")
        response = connection.getresponse()
        assert (response.status, response.read()) == (200, str(number).encode())
    finally:
        connection.close()


def wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    """Return when somebody listens there."""
    end = time.monotonic() + DEADLINE
    while True:
        assert process.poll() is None, f"it ended with {process.returncode}"
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
            probe.connect(str(path))
            return
        assert time.monotonic() < end, "nobody listens"
        time.sleep(0.05)


@pytest.mark.parametrize("server", SERVERS.values(), ids=SERVERS)
async def test_views_send_in_a_wsgi_server(server: Server, site: Site, readers: Readers) -> None:
    path = site.folder / "http.sock"
    first = int(server.sends_before_fork)
    with site.running(server) as process:
        await asyncio.to_thread(wait_for, path, process)
        with ThreadPoolExecutor(AT_ONCE) as threads:
            loop = asyncio.get_running_loop()
            await asyncio.gather(*(loop.run_in_executor(threads, get, path, one) for one in range(PIECES)))
        for messages in await readers.read(first + PIECES * (len(STEPS) + 1), process):
            assert_complete(messages, range(PIECES), server.sends_before_fork)


@pytest.mark.parametrize("worker", WORKERS.values(), ids=WORKERS)
async def test_tasks_send_in_celery(worker: Server, site: Site, readers: Readers) -> None:
    queue = os.urandom(8).hex()
    first = int(worker.sends_before_fork)
    with site.running(worker, queue=queue) as process:
        program = f"[senders.task.apply_async((number,), queue={queue!r}) for number in range({PIECES})]"
        await asyncio.to_thread(site.run, program)
        for messages in await readers.read(first + PIECES * (len(STEPS) + 1), process):
            assert_complete(messages, range(PIECES), worker.sends_before_fork)


async def test_a_script_sends_and_ends(site: Site, readers: Readers) -> None:
    await asyncio.to_thread(site.run, "senders.work(0)")
    for messages in await readers.read(len(STEPS) + 1):
        assert_complete(messages, range(1))
