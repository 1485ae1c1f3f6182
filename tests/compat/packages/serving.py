"""The example projects, served by `fairway` from the packages' environment, in processes of their own."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from tests.compat.environment import ROOT, Environment
from tests.examples.running import Running, command, running

PROJECTS = Path(__file__).parent / "projects"
REDIS_LABEL = ROOT / "compat" / "channels_redis"
DEADLINE = 30.0


class Socket:
    """The client's end of a WebSocket that carries JSON."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    def send(self, content: object) -> None:
        self.connection.send(json.dumps(content))

    def receive(self, timeout: float = DEADLINE) -> Any:
        return json.loads(self.connection.recv(timeout))

    def hears_nothing(self, seconds: float) -> bool:
        """Whether it stays open and silent for so long."""
        try:
            self.connection.recv(seconds)
        except TimeoutError:
            return True
        return False


class Server:
    """A project that is being served."""

    def __init__(self, process: Running) -> None:
        self.process = process
        self.port = process.port()

    def url(self, path: str, scheme: str = "http") -> str:
        return f"{scheme}://127.0.0.1:{self.port}{path}"

    @contextmanager
    def connect(self, path: str, **options: Any) -> Iterator[Socket]:
        """A WebSocket for the length of the block."""
        options |= {"open_timeout": DEADLINE, "close_timeout": DEADLINE, "proxy": None}
        with connect(self.url(path, "ws"), **options) as connection:
            yield Socket(connection)

    def stop(self, tracebacks: bool = False) -> None:
        """Ctrl-C; fails if the server did not end well, or wrote a traceback at any time that was not expected."""
        code = self.process.interrupt()
        assert code == 0, f"ended with {code}:\n{self.process.text}"
        assert tracebacks or "Traceback" not in self.process.text, self.process.text


class Project:
    """One of the projects, with its settings and what these read from the environment."""

    def __init__(
        self, environment: Environment, database: Path, name: str, *, labels: Sequence[Path] = (), **variables: object
    ) -> None:
        """`labels`: folders of distributions of ours that stand before what is installed."""
        self.python = str(environment.python)
        self.name = name
        self.variables = {key: str(value) for key, value in variables.items()} | {
            "DJANGO_SETTINGS_MODULE": f"{name}.settings",
            "DATABASE": str(database),
            # Ours has to be found where pip has put it.
            "PYTHONPATH": os.pathsep.join(map(str, [*labels, PROJECTS])),
            "PATH": os.pathsep.join([str(environment.scripts), os.environ.get("PATH", os.defpath)]),
        }

    def run(self, *arguments: str) -> str:
        """Run one to its end; what it printed."""
        return command([self.python, *arguments], PROJECTS, **self.variables)

    @contextmanager
    def running(self, *arguments: str) -> Iterator[Running]:
        """Run one for the length of the block."""
        with running([self.python, *arguments], PROJECTS, **self.variables) as process:
            yield process

    @contextmanager
    def served(self, tracebacks: bool = False) -> Iterator[Server]:
        """Serve it for the length of the block; it has to end well, and unless said otherwise without a traceback in
        its log.
        """
        with self.running("-m", "fairway", f"{self.name}.asgi:application", "--port", "0") as process:
            server = Server(process)
            try:
                yield server
            except BaseException as error:
                process.close()
                error.add_note(f"The server said:\n{process.text}")
                raise
            server.stop(tracebacks)


MakeProject = Callable[..., Project]


def eventually(look: Callable[[], object], wanted: object) -> None:
    """Look until it is as it should be; fail with what was seen last."""
    end = time.monotonic() + DEADLINE
    while (seen := look()) != wanted:
        assert time.monotonic() < end, f"{seen!r} instead of {wanted!r}"
        time.sleep(0.02)
