"""`ServerProcess`: a real process for each start method, what it hands over, how it fails, and how it ends."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from fairway.testing import ServerProcess

PATIENCE = 30.0
START_METHODS = ["fork", "spawn", "forkserver"]


@pytest.fixture(params=START_METHODS)
def start_method(request: pytest.FixtureRequest) -> Iterator[str]:
    before = multiprocessing.get_start_method()
    multiprocessing.set_start_method(request.param, force=True)
    yield request.param
    multiprocessing.set_start_method(before, force=True)


@pytest.fixture
def make() -> Iterator[Callable[..., ServerProcess]]:
    """A process that is started, and ended with the test."""
    processes: list[ServerProcess] = []

    def make(get_application: Callable[[], Any], **options: Any) -> ServerProcess:
        processes.append(ServerProcess("127.0.0.1", get_application, **options))
        processes[-1].start()
        return processes[-1]

    yield make
    for process in processes:
        process.terminate()
        process.join(PATIENCE)


async def application(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        body = f"{scope['root_path']} {os.environ.get('SET_UP')}".encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})


async def reluctant(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no coal"})


def get_application() -> Any:
    return application


def get_reluctant() -> Any:
    return reluctant


class UnpicklableError(Exception):
    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second}")


def fail() -> None:
    raise UnpicklableError("this", "that")


def leave() -> None:
    os._exit(7)


def set_up(text: str) -> None:
    os.environ["SET_UP"] = text


class NeedsSetUp:
    """Like a module with models: cannot be had before `setup` ran."""

    def __call__(self) -> Any:
        return application

    def __setstate__(self, state: dict[str, Any]) -> None:
        assert "SET_UP" in os.environ


def leave_word(path: Path) -> None:
    path.write_text("torn down")


@pytest.mark.slow
def test_serves_what_the_function_returns(start_method: str, make: Callable[..., ServerProcess], tmp_path: Path):
    process = make(
        NeedsSetUp(),
        kwargs={"root_path": "/app"},
        setup=partial(set_up, start_method),
        teardown=partial(leave_word, tmp_path / "word"),
    )
    assert process.ready.wait(PATIENCE)

    assert httpx.get(f"http://127.0.0.1:{process.port.value}/", timeout=PATIENCE).text == f"/app {start_method}"

    process.terminate()
    process.join(PATIENCE)
    assert process.exitcode == 0
    assert (tmp_path / "word").read_text() == "torn down"


def failure(process: ServerProcess) -> tuple[BaseException, str]:
    error, text = process.errors.get(timeout=PATIENCE)
    process.join(PATIENCE)
    assert process.exitcode == 1
    assert not process.ready.is_set()
    return error, text


@pytest.mark.slow
def test_error_comes_with_its_traceback(start_method: str, make: Callable[..., ServerProcess]):
    error, text = failure(make(fail))

    assert str(error) == "UnpicklableError: this and that"
    assert text.startswith("Traceback (most recent call last):")
    assert "in fail" in text
    assert text.endswith("UnpicklableError: this and that\n")


def test_port_in_use_is_an_error(make: Callable[..., ServerProcess]):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        error, text = failure(make(get_application, port=port))

    assert f"port {port} is already in use" in str(error)
    assert "BindError" in text


def test_application_that_refuses_to_start_is_an_error(make: Callable[..., ServerProcess]):
    error, _ = failure(make(get_reluctant))

    assert str(error) == "the application refused to start, in its lifespan; its words are in the log"


@pytest.mark.slow
def test_asked_for_port_is_taken(make: Callable[..., ServerProcess]):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    process = make(get_application, port=port)
    assert process.ready.wait(PATIENCE)

    assert process.port.value == port
    assert httpx.get(f"http://127.0.0.1:{port}/", timeout=PATIENCE).status_code == 200


PARENT = """
    import os, signal, sys
    from fairway.testing import ServerProcess
    from tests.fairway.testing.test_process import get_application

    if __name__ == "__main__":
        server = ServerProcess("127.0.0.1", get_application)
        server.start()
        server.ready.wait()
        print(server.pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_ends_when_the_process_that_started_it_was_killed(tmp_path: Path):
    script = tmp_path / "parent.py"
    script.write_text(textwrap.dedent(PARENT))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}

    # The pipe is the server's standard output as well: it is at its end when both are gone.
    done = subprocess.run(
        [sys.executable, str(script)], env=environment, stdout=subprocess.PIPE, text=True, timeout=PATIENCE
    )

    assert done.returncode == -signal.SIGKILL
    assert int(done.stdout) > 0


def start_within_worker() -> tuple[bool, bool, int]:
    server = ServerProcess("127.0.0.1", get_application)
    server.start()
    try:
        assert server.ready.wait(PATIENCE)
        url = f"http://127.0.0.1:{server.port.value}/"
        return multiprocessing.current_process().daemon, server.daemon, httpx.get(url, timeout=PATIENCE).status_code
    finally:
        server.terminate()
        server.join(PATIENCE)


@pytest.mark.slow
def test_starts_from_a_daemonic_worker():
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply_async(start_within_worker).get(PATIENCE) == (True, False, 200)
