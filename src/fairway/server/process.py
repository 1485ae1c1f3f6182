"""The life of one server in one event loop: `run`, from its sockets to its exit code, and what stops it.

It knows no arguments and no Django: the command line calls it, and the `runserver` command does, in a thread that may
not handle signals.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any, Literal

from fairway.server.access import AccessLog, EventLog
from fairway.server.collector import Collector
from fairway.server.config import Config
from fairway.server.lifespan import LifespanFailed
from fairway.server.limits import ConfigurationError
from fairway.server.listener import Server

logger = logging.getLogger("fairway.server")

LoopChoice = Literal["auto", "uvloop", "asyncio"]

_ABORT_TIMEOUT = 2.0
"""Seconds that the connections' tasks have to end once everything was cut."""


class StopEvent:
    """Asks a running server to stop. `set` may be called from any thread, before, while and after it runs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_set = False
        self._wake: Callable[[], object] | None = None

    def set(self) -> None:
        """Let the server stop gracefully, as the first SIGTERM does. Does nothing the second time."""
        with self._lock:
            self._is_set = True
            if self._wake is not None:
                self._wake()

    async def wait(self) -> None:
        """Wait until it is set. For one waiter; cancelling it loses nothing."""
        loop = asyncio.get_running_loop()
        event = asyncio.Event()
        with self._lock:
            if self._is_set:
                return
            self._wake = lambda: loop.call_soon_threadsafe(event.set)
        try:
            await event.wait()
        finally:
            # The loop may be closed when set() is called for the next time.
            with self._lock:
                self._wake = None


def run(
    app: Any,
    config: Config,
    *,
    sockets: list[socket.socket] | None = None,
    access_log: EventLog | None = None,
    on_ready: Callable[[list[str]], object] | None = None,
    stop_event: StopEvent | None = None,
    loop: LoopChoice = "auto",
) -> int:
    """Serve until told to stop, and return the exit code.

    In the main thread SIGINT and SIGTERM stop it, gracefully the first time and at once the second; in another one
    only `stop_event` does. `sockets` are taken over and closed; without them the config's are opened. `on_ready` is
    called in the loop, with the addresses, once connections are accepted. Raises `BindError`.
    """
    factory = _loop_factory(loop)
    if sockets is None:
        sockets = config.bind()
    try:
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(_serve(app, config, sockets, access_log, on_ready, stop_event or StopEvent()))
    finally:
        for listening in sockets:
            listening.close()


async def _serve(
    app: Any,
    config: Config,
    sockets: list[socket.socket],
    access_log: EventLog | None,
    on_ready: Callable[[list[str]], object] | None,
    stop: StopEvent,
) -> int:
    server = Server(app, config, access_log=access_log or AccessLog(config.access_log))
    abort = asyncio.Event()
    with _signals(stop, abort):
        stopping = asyncio.create_task(stop.wait())
        starting = asyncio.create_task(server.start(sockets))
        try:
            # A signal during a long start-up ends it.
            await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():
                return 0
            starting.result()
            server.context.collector = Collector(server.context)
            if on_ready is not None:
                on_ready(server.addresses)
            await stopping
        except LifespanFailed as error:
            return error.exit_code
        finally:
            await _cancel(stopping, starting)
            config.unlink_unix_socket()
        await _stop(server, config, abort)
    return 0


async def _stop(server: Server, config: Config, abort: asyncio.Event) -> None:
    logger.info("stopping; once more to stop at once")
    graceful = asyncio.create_task(server.stop(config.limits.shutdown_timeout))
    impatient = asyncio.create_task(abort.wait())
    try:
        await asyncio.wait({graceful, impatient}, return_when=asyncio.FIRST_COMPLETED)
        if not graceful.done():
            server.abort()
            await asyncio.wait({graceful}, timeout=_ABORT_TIMEOUT)
        if graceful.done():
            graceful.result()
    finally:
        await _cancel(graceful, impatient)
    logger.info("stopped")


async def _cancel(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


@contextlib.contextmanager
def _signals(stop: StopEvent, abort: asyncio.Event) -> Iterator[None]:
    """Handle SIGINT and SIGTERM inside the block, in the main thread; elsewhere do nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    seen = False

    def handle() -> None:
        nonlocal seen
        if seen:
            abort.set()
        seen = True
        stop.set()

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        try:
            loop.add_signal_handler(number, handle)
        except NotImplementedError:  # Windows
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(handle))
    try:
        yield
    finally:
        for number, handler in before.items():
            with contextlib.suppress(NotImplementedError):
                loop.remove_signal_handler(number)
            signal.signal(number, handler)


def _loop_factory(choice: LoopChoice) -> Callable[[], asyncio.AbstractEventLoop]:
    if choice == "asyncio":
        return asyncio.new_event_loop
    try:
        import uvloop
    except ImportError:
        if choice == "uvloop":
            raise ConfigurationError("--loop uvloop: it is not installed; pip install uvloop, or use auto") from None
        return asyncio.new_event_loop
    return uvloop.new_event_loop
