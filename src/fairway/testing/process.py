"""A server in a separate process, for tests that talk to an application through real sockets.

Theory of operation. `multiprocessing` makes the process, with the start method that is in force. With "fork", the
process begins as a copy of the tests' process. With "spawn" and "forkserver" it begins empty, and imports what its
pickled arguments name. So it takes a function that makes the application, not the application itself. `setup` runs
first in the new process. Everything else is unpickled only after that, because importing the application's modules may
need it: Django's models cannot be imported before Django is set up.

The process serves until it is terminated. It also ends when the process that started it has ended.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import multiprocessing.process
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from multiprocessing.reduction import ForkingPickler
from typing import TYPE_CHECKING, Any

from fairway.departure import Departure
from fairway.logs import set_up

if TYPE_CHECKING:
    from fairway.server.process import StopEvent

SHUTDOWN_TIMEOUT = 1.0
"""Seconds that open requests may delay the stop of the server. A test that has ended does not wait for answers."""

Callback = Callable[[], object]


class ServerProcess(multiprocessing.Process):
    """Once started, serves the application that `get_application()` returns, on `host`.

    `kwargs` are fields of the server's `Config`. Without `limits` among them, those of `settings.FAIRWAY` hold. `setup`
    runs in the new process before everything else, and `teardown` after everything else. Without a `port`, the system
    chooses a free one. All arguments must be picklable, unless the start method is "fork".

    When `ready` is set, the server accepts connections at `port.value`. If the server cannot start, the process puts
    the exception and the text of its traceback into the queue `errors`, and ends with exit code 1.
    """

    def __init__(
        self,
        host: str,
        get_application: Callable[[], Any],
        kwargs: Mapping[str, Any] | None = None,
        setup: Callback | None = None,
        teardown: Callback | None = None,
        port: int | None = None,
    ) -> None:
        super().__init__(name="server", daemon=False)
        self.host = host
        self.get_application = get_application
        self.kwargs = dict(kwargs or {})
        self.setup = setup
        self.teardown = teardown
        self.port = multiprocessing.Value("i", port or 0)
        self.ready = multiprocessing.Event()
        self.errors: multiprocessing.Queue[tuple[BaseException, str]] = multiprocessing.Queue()

    def start(self) -> None:
        """Start the process. This also works in a worker of `manage.py test --parallel`."""
        # Those workers are daemonic. `multiprocessing` forbids daemonic processes to have children, because nobody
        # would end the children. This child ends by itself.
        current = multiprocessing.current_process()
        was_daemonic, current.daemon = current.daemon, False
        try:
            super().start()
        finally:
            current.daemon = was_daemonic

    def run(self) -> None:
        """Serve until the process is told to stop. Runs in the new process."""
        # A forked process has inherited the signal handlers of the tests' process.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self.departure = Departure(exit_functions=False)  # a forked process has inherited those of the tests' process
        with self.departure.at_the_end():
            self._run()

    def _run(self) -> None:
        try:
            if self.setup is not None:
                self.setup()
            self._unpickle()
            self._serve()
        except BaseException as error:
            if self.ready.is_set():
                raise
            self.errors.put((_picklable(error), traceback.format_exc()))
            sys.exit(1)

    def _serve(self) -> None:
        from fairway.server.process import StopEvent

        stop_event = StopEvent()
        _stop_with_parent(stop_event)
        try:
            code = self.serve(self.get_application(), stop_event)
        finally:
            if self.teardown is not None:
                self.teardown()
        if code:
            raise RuntimeError("the application refused to start, in its lifespan; its words are in the log")

    def serve(self, application: Any, stop_event: StopEvent) -> int:
        """Serve until the server is told to stop, and return its exit code. Runs in the new process.

        Calls `accepting` as soon as the server accepts connections.
        """
        from fairway.server.config import Config
        from fairway.server.process import run
        from fairway.settings import limits_from_django

        set_up(default="warning")
        limits = limits_from_django()
        limits = replace(limits, shutdown_timeout=min(limits.shutdown_timeout, SHUTDOWN_TIMEOUT))
        fields = {"access_log": False, "limits": limits, **self.kwargs}
        config = Config(host=self.host, port=self.port.value, **fields)
        sockets = config.bind()
        port = sockets[0].getsockname()[1]
        return run(
            application,
            config,
            sockets=sockets,
            on_ready=lambda _: self.accepting(port),
            stop_event=stop_event,
            departure=self.departure,
        )

    def accepting(self, port: int) -> None:
        """Tell the tests' process that connections are accepted at the port."""
        self.port.value = port
        self.ready.set()

    # The object is pickled in two parts: first `setup` with the rest of the object, then the arguments that may only be
    # unpickled after `setup` has run.

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        late = {name: state.pop(name) for name in ("get_application", "kwargs", "teardown")}
        state["_pickled"] = bytes(ForkingPickler.dumps(late))
        return state

    def _unpickle(self) -> None:
        pickled = self.__dict__.pop("_pickled", None)
        if pickled is not None:
            self.__dict__.update(pickle.loads(pickled))


def _stop_with_parent(stop_event: StopEvent) -> None:
    """Stop the server when the tests' process has ended, for whatever reason."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        stop_event.set()

    threading.Thread(target=watch, name="parent watch", daemon=True).start()


def _picklable(error: BaseException) -> BaseException:
    """The error, or a RuntimeError with its type and text if it cannot be pickled."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
