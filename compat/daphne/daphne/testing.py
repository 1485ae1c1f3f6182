"""Daphne's classes for tests: a server in a process of its own, on real sockets."""

from __future__ import annotations

import pickle
import queue
import shutil
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

from daphne.endpoints import build_endpoint_description_strings
from daphne.server import Server
from fairway.server.process import StopEvent
from fairway.testing import ServerProcess

_POLL_INTERVAL = 0.1
"""Seconds between two looks whether a process that is not ready has died."""


class DaphneProcess(ServerProcess):
    """A `ServerProcess` whose `kwargs` are arguments of `daphne.server.Server`."""

    def serve(self, application: Any, stop_event: StopEvent) -> int:
        """Serve until told to stop, in the new process."""
        endpoints = build_endpoint_description_strings(host=self.host, port=self.port.value)
        server = Server(application, endpoints, **self.kwargs)
        ready_callable = server.ready_callable

        def ready() -> None:
            self.accepting(server.listening_addresses[0][1])
            if ready_callable is not None:
                ready_callable()

        server.ready_callable = ready
        server.stop_event = stop_event
        return server.serve()


class BaseDaphneTestingInstance:
    """Serves `application` inside a `with` block, at `host` and `port`.

    With `xff` the proxy headers of the tests are believed. Subclasses may override `get_application`, which is called
    in the new process, and `process_setup` and `process_teardown`, which run there before and after everything else.
    """

    startup_timeout = 30.0
    host = "127.0.0.1"

    def __init__(
        self,
        xff: bool = False,
        http_timeout: float | None = None,
        request_buffer_size: int | None = None,
        *,
        application: Any = None,
    ) -> None:
        self.xff = xff
        self.http_timeout = http_timeout
        self.request_buffer_size = request_buffer_size
        self.application = application
        self.port: int | None = None

    def get_application(self) -> Any:
        """Return what to serve."""
        return self.application

    def process_setup(self) -> None:
        """Run first in the new process."""

    def process_teardown(self) -> None:
        """Run last in the new process."""

    def __enter__(self) -> Self:
        self.process = DaphneProcess(
            self.host,
            self.get_application,
            kwargs=self._server_arguments(),
            setup=self.process_setup,
            teardown=self.process_teardown,
        )
        self.process.start()
        try:
            self._wait_until_ready()
        except BaseException:
            self._stop()
            raise
        self.port = self.process.port.value
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stop()

    def _server_arguments(self) -> dict[str, Any]:
        arguments: dict[str, Any] = {}
        if self.http_timeout is not None:
            arguments["http_timeout"] = self.http_timeout
        if self.request_buffer_size is not None:
            arguments["request_buffer_size"] = self.request_buffer_size
        if self.xff:
            arguments["proxy_forwarded_address_header"] = "X-Forwarded-For"
            arguments["proxy_forwarded_port_header"] = "X-Forwarded-Port"
            arguments["proxy_forwarded_proto_header"] = "X-Forwarded-Proto"
        return arguments

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + self.startup_timeout
        while not self.process.ready.wait(_POLL_INTERVAL):
            is_alive = self.process.is_alive()
            try:
                error, text = self.process.errors.get_nowait()
            except queue.Empty:
                if not is_alive or time.monotonic() > deadline:
                    raise RuntimeError("the server has not started, and reports no error") from None
                continue
            raise RuntimeError(f"the server has not started:\n\n{text}") from error

    def _stop(self) -> None:
        self.process.terminate()
        self.process.join()

    def __getstate__(self) -> dict[str, Any]:
        # The process is handed this object's methods; the reverse would go round in a circle.
        return {name: value for name, value in self.__dict__.items() if name != "process"}


class DaphneTestingInstance(BaseDaphneTestingInstance):
    """Serves a `TestApplication`: what it is to send is given first, what it has received is looked at later."""

    application: TestApplication

    def __enter__(self) -> Self:
        self.directory = Path(tempfile.mkdtemp(prefix="daphne-testing-"))
        self.application = TestApplication(self.directory)
        try:
            return super().__enter__()
        except BaseException:
            shutil.rmtree(self.directory)
            raise

    def __exit__(self, *exc_info: object) -> None:
        super().__exit__(*exc_info)
        shutil.rmtree(self.directory)

    def add_send_messages(self, messages: Iterable[dict[str, Any]]) -> None:
        """Have the application send these, to each connection from now on."""
        self.application.save_setup(messages)

    def get_received(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Return the scope and the messages of the last connection; raise what the application raised."""
        return self.application.load_result()


class TestApplication:
    """Receives until the request is complete or the socket connects, sends what was set up, receives until the end.

    It talks with the tests through two files in `directory`: `setup.testio` and `result.testio`.
    """

    __test__ = False  # not a test, whatever its name

    def __init__(self, directory: str | Path | None = None) -> None:
        directory = Path(directory or tempfile.gettempdir())
        self.setup_path = directory / "setup.testio"
        self.result_path = directory / "result.testio"

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            raise NotImplementedError("it takes no part in the server's start")
        received: list[dict[str, Any]] = []
        try:
            await self._receive_first(received, receive)
            self.save_result(scope, received)
            for message in self.load_setup():
                await send(message)
            while not received[-1]["type"].endswith(".disconnect"):
                received.append(await receive())
                self.save_result(scope, received)
        except Exception as error:
            self.save_exception(error)
            raise

    async def _receive_first(self, received: list[dict[str, Any]], receive: Any) -> None:
        received.append(await receive())
        while received[-1].get("more_body"):
            received.append(await receive())

    def save_setup(self, messages: Iterable[dict[str, Any]]) -> None:
        """Set what the application sends."""
        _save(self.setup_path, list(messages))

    def load_setup(self) -> list[dict[str, Any]]:
        """Return what the application sends; nothing if nothing was set."""
        return _load(self.setup_path) if self.setup_path.exists() else []

    def save_result(self, scope: dict[str, Any], messages: list[dict[str, Any]]) -> None:
        """Note what the application has received."""
        _save(self.result_path, {"scope": scope, "messages": messages})

    def save_exception(self, exception: Exception) -> None:
        """Note what the application has raised."""
        _save(self.result_path, {"exception": exception})

    def load_result(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Return scope and messages; raise what the application raised, or ValueError if it was not called."""
        if not self.result_path.exists():
            raise ValueError("no connection has reached the application")
        result = _load(self.result_path)
        if "exception" in result:
            raise result["exception"]
        scope, messages = result["scope"], result["messages"]
        return scope, messages

    def delete_setup(self) -> None:
        """Forget what the application was to send."""
        self.setup_path.unlink(missing_ok=True)

    def delete_result(self) -> None:
        """Forget what the application has received."""
        self.result_path.unlink(missing_ok=True)


def _save(path: Path, content: Any) -> None:
    # In one step, since the tests may read it at any time.
    written = path.with_suffix(".new")
    written.write_bytes(pickle.dumps(content))
    written.replace(path)


def _load(path: Path) -> Any:
    return pickle.loads(path.read_bytes())
