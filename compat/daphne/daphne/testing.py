"""Daphne's classes for tests: a server in a process of its own, on real sockets."""

from __future__ import annotations

import functools
import os
import pickle
import queue
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from multiprocessing.util import Finalize
from pathlib import Path
from types import MethodType
from typing import Any, Self

from daphne.endpoints import build_endpoint_description_strings
from daphne.server import Server
from fairway.server.process import StopEvent
from fairway.testing import ServerProcess

_POLL_INTERVAL = 0.1
"""Seconds between two looks whether a process that is not ready has died."""

_SERVER_ARGUMENTS = ("http_timeout", "request_buffer_size", "websocket_max_message_size", "websocket_max_frame_size")


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

    With `xff` the proxy headers of the tests are believed; the other arguments are the server's. Subclasses may
    override `get_application`, which is called in the new process, and `process_setup` and `process_teardown`, which
    run there before and after everything else.
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
        websocket_max_message_size: int | None = None,
        websocket_max_frame_size: int | None = None,
    ) -> None:
        self.xff = xff
        self.http_timeout = http_timeout
        self.request_buffer_size = request_buffer_size
        self.websocket_max_message_size = websocket_max_message_size
        self.websocket_max_frame_size = websocket_max_frame_size
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
        given = {name: getattr(self, name) for name in _SERVER_ARGUMENTS}
        arguments = {name: value for name, value in given.items() if value is not None}
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
    """Serves a `TestApplication`: what it is to send is given while it runs, what it has received is looked at later.

    Its messages are those of the class, too: `TestApplication.save_setup()` is as good as `add_send_messages()`. So
    tests that serve two at once have to tell them apart by what they send.
    """

    application: TestApplication

    def __enter__(self) -> Self:
        TestApplication.delete_result()
        self.application = TestApplication()
        return super().__enter__()

    def __exit__(self, *exc_info: object) -> None:
        super().__exit__(*exc_info)
        TestApplication.delete_setup()

    def add_send_messages(self, messages: Iterable[dict[str, Any]]) -> None:
        """Have the application send these at the next message that it receives."""
        self.application.save_setup(messages)

    def get_received(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Return the scope and the messages of the last connection; raise what the application raised."""
        return self.application.load_result()


class _OfClassOrInstance:
    """A method to be called on an instance or on its class, whichever it is called on."""

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self._function = function

    def __get__(self, instance: object | None, owner: type) -> MethodType:
        return MethodType(self._function, owner if instance is None else instance)


@functools.cache
def _directory_of(process: int) -> Path:
    """A directory for the process with this number, which is the caller's, until it ends."""
    # Readable by this user alone: what is read from it is unpickled.
    directory = Path(tempfile.mkdtemp(prefix="daphne-testing-"))
    # Unlike `atexit`, this is heeded in the processes of `manage.py test --parallel`, and not in forks of this one.
    Finalize(None, shutil.rmtree, (directory,), exitpriority=0)
    return directory


class TestApplication:
    """Sends at each message it receives what is set up, and forgets it; notes what it has received.

    A request is answered when all of its body is there, and nothing is sent to a client that has gone. It talks with
    the tests through two files, `setup.testio` and `result.testio`, in `directory`. The methods below can be called on
    the class as well: then they are about the files in a directory of this process, which is also where a
    `DaphneTestingInstance` has them.
    """

    __test__ = False  # not a test, whatever its name

    def __init__(self, directory: str | Path | None = None) -> None:
        self.directory = _directory_of(os.getpid()) if directory is None else Path(directory)

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            raise NotImplementedError("it takes no part in the server's start")
        received: list[dict[str, Any]] = []
        try:
            while not received or not received[-1]["type"].endswith(".disconnect"):
                received.append(await receive())
                self.save_result(scope, received)
                await self._answer(received[-1], send)
        except Exception as error:
            self.save_exception(error)
            raise

    async def _answer(self, message: dict[str, Any], send: Any) -> None:
        if message.get("more_body") or message["type"].endswith(".disconnect"):
            return
        for answer in self.take_setup():
            await send(answer)

    @_OfClassOrInstance
    def save_setup(self, messages: Iterable[dict[str, Any]]) -> None:
        """Set what is sent at the next message."""
        _save(_setup_path(self), list(messages))

    @_OfClassOrInstance
    def load_setup(self) -> list[dict[str, Any]]:
        """Return what is to be sent; nothing if nothing was set."""
        path = _setup_path(self)
        return _load(path) if path.exists() else []

    @_OfClassOrInstance
    def take_setup(self) -> list[dict[str, Any]]:
        """Return what is to be sent, and forget it; what is set meanwhile stays for the next message."""
        path = _setup_path(self)
        taken = path.with_suffix(".taken")
        try:
            path.replace(taken)
        except FileNotFoundError:
            return []
        return _load(taken)

    @_OfClassOrInstance
    def save_result(self, scope: dict[str, Any], messages: list[dict[str, Any]]) -> None:
        """Note what the application has received."""
        _save(_result_path(self), {"scope": scope, "messages": messages})

    @_OfClassOrInstance
    def save_exception(self, exception: Exception) -> None:
        """Note what the application has raised."""
        _save(_result_path(self), {"exception": exception})

    @_OfClassOrInstance
    def load_result(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Return scope and messages; raise what the application raised, or ValueError if it was not called."""
        path = _result_path(self)
        if not path.exists():
            raise ValueError("no connection has reached the application")
        result = _load(path)
        if "exception" in result:
            raise result["exception"]
        scope, messages = result["scope"], result["messages"]
        return scope, messages

    @_OfClassOrInstance
    def delete_setup(self) -> None:
        """Forget what the application was to send."""
        _setup_path(self).unlink(missing_ok=True)

    @_OfClassOrInstance
    def delete_result(self) -> None:
        """Forget what the application has received."""
        _result_path(self).unlink(missing_ok=True)


def _setup_path(place: Any) -> Path:
    return _directory(place) / "setup.testio"


def _result_path(place: Any) -> Path:
    return _directory(place) / "result.testio"


def _directory(place: Any) -> Path:
    """That of an application, or of this process for a class of them."""
    return _directory_of(os.getpid()) if isinstance(place, type) else place.directory


def _save(path: Path, content: Any) -> None:
    # In one step, since the tests may read it at any time.
    written = path.with_suffix(".new")
    written.write_bytes(pickle.dumps(content))
    written.replace(path)


def _load(path: Path) -> Any:
    return pickle.loads(path.read_bytes())
