"""The life of one server in one event loop: `run`, from its sockets to its exit code, and what stops it.

It knows neither arguments nor Django. The command line calls it, and so does the `runserver` command, in a thread that
cannot handle signals.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal

from fairway import delivery, running
from fairway.asgi.lifespan import LifespanFailed
from fairway.departure import Departure
from fairway.logs import get_logger
from fairway.server import descriptors
from fairway.server.access import AccessLog, EventLog
from fairway.server.collector import Collector
from fairway.server.config import Config
from fairway.server.context import ServerContext
from fairway.server.lateness import Lateness
from fairway.server.limits import ConfigurationError
from fairway.server.listener import Server
from fairway.server.management.address import parsed
from fairway.server.management.endpoint import Endpoint, listen
from fairway.server.management.figures import figures_of
from fairway.server.management.one_process import OneProcess
from fairway.server.management.views import pages_of
from fairway.server.management.waiting import Waiting
from fairway.server.tls import files
from fairway.server.tls.guard import guarding
from fairway.server.watchdog import watching
from fairway.server.workers.board import BEAT_SECONDS
from fairway.server.workers.worker import Worker

logger = get_logger("fairway.server")

LoopChoice = Literal["auto", "uvloop", "asyncio"]

_ABORT_TIMEOUT = 2.0
"""Seconds that the application's tasks and its lifespan have to end after everything has been cut."""

_MARGIN = 3.0
"""Seconds, beyond a phase's time-out, for tasks that it has cut to end. After that they are left behind."""

_HANG_UP = getattr(signal, "SIGHUP", None)
_IGNORED = frozenset(getattr(signal, name) for name in ("SIGUSR1", "SIGUSR2") if hasattr(signal, name))
_OTHERS = [*_IGNORED, *(getattr(signal, name) for name in ("SIGHUP", "SIGQUIT") if hasattr(signal, name))]
"""Signals whose default is to end the process. Log rotation and the like send them, and that must cut nobody off."""


class StopEvent:
    """Asks a running server to stop. `set` may be called from any thread, before, during and after the run."""

    def __init__(self) -> None:
        # A signal handler may call `set` while the same thread holds it.
        self._lock = threading.RLock()
        self._is_set = False
        self._wake: Callable[[], object] | None = None

    def set(self) -> None:
        """Make the server stop gracefully, as the first SIGTERM does. Does nothing the second time."""
        with self._lock:
            self._is_set = True
            if self._wake is not None:
                self._wake()

    async def wait(self) -> None:
        """Wait until it is set. Only one may wait at a time. Cancelling loses nothing."""
        loop = asyncio.get_running_loop()
        event = asyncio.Event()
        with self._lock:
            self._wake = lambda: loop.call_soon_threadsafe(event.set)
            if self._is_set:
                event.set()
        try:
            await event.wait()
        finally:
            # The loop may be closed by the time of the next `set`.
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
    departure: Departure | None = None,
    worker: Worker | None = None,
) -> int:
    """Serve until told to stop, and return the exit code.

    *Signals*, in the main thread. SIGINT, SIGTERM and SIGQUIT stop the server, gracefully the first time and at once
    the second; a `worker` gracefully each time, because its supervisor says when to end at once. SIGHUP reopens the log
    files and reloads the certificate; at a terminal it stops the server. SIGUSR1 and SIGUSR2 are ignored. In any other
    thread, only `stop_event` stops it.

    `sockets` are taken over, and closed at the end. Without them, those of the config are opened, which may raise
    `BindError`. `on_ready` is called in the loop, with the addresses, once connections are accepted.

    It returns within the config's time-outs, even if tasks of the application do not end. A process that runs nothing
    else has a `departure`: with it a signal ends the process in time, even if its loop is blocked. A `worker` is one of
    several processes that share the sockets.
    """
    factory = _loop_factory(loop)
    if departure is not None:
        descriptors.raise_limit()
        descriptors.make_room()
    if sockets is None:
        sockets = config.bind()
    try:
        log = AccessLog(config.access_log, with_fields=config.log_format == "json")
        with _managed(config) as looking:
            life = _Life(app, config, sockets, access_log or log, departure, worker, looking)
            return running.run(life.run(on_ready, stop_event or StopEvent()), factory)
    finally:
        for listening in sockets:
            listening.close()


@contextlib.contextmanager
def _managed(config: Config) -> Iterator[OneProcess | None]:
    """Open the management socket, if one is configured, inside the block. Yields what makes its overviews. Raises
    `BindError`.
    """
    if not config.management:
        yield None
        return
    address = parsed(config.management)
    looking = OneProcess()
    endpoint = Endpoint(listen(address), pages_of(looking.look))
    endpoint.start()
    logger.info("management socket at %s", config.management)
    try:
        yield looking
    finally:
        address.unlink()  # first: later, the path may already belong to the server's successor
        endpoint.close()


@contextlib.contextmanager
def _seen_by(looking: OneProcess, context: ServerContext) -> Iterator[None]:
    """Let the management socket show the server, and measure its loop's lateness, inside the block."""
    lateness = Lateness(BEAT_SECONDS, time.monotonic())
    timer: asyncio.TimerHandle | None = None

    def beat() -> None:
        nonlocal timer
        lateness.beat(time.monotonic())
        timer = context.loop.call_later(BEAT_SECONDS, beat)

    timer = context.loop.call_later(BEAT_SECONDS, beat)
    looking.serves(context, lateness)
    try:
        yield
    finally:
        timer.cancel()


class _Life:
    """The life of one server, in one loop."""

    def __init__(
        self,
        app: Any,
        config: Config,
        sockets: list[socket.socket],
        access_log: EventLog,
        departure: Departure | None,
        worker: Worker | None,
        looking: OneProcess | None,
    ) -> None:
        self._looking = looking
        self._server = Server(app, config, access_log=access_log, sharing=worker)
        self._worker = worker
        self._config = config
        self._sockets = sockets
        self._departure = departure
        self._signals_seen = 0
        self._abort = asyncio.Event()

    async def run(self, on_ready: Callable[[list[str]], object] | None, stop: StopEvent) -> int:
        with self._signals(stop), contextlib.ExitStack() as serving:
            serving.enter_context(delivery.serving())
            stopping = asyncio.create_task(stop.wait())
            starting = asyncio.create_task(self._server.start(self._sockets))
            try:
                # A signal during a long start-up ends the start-up.
                await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
                if not starting.done():
                    return 0
                starting.result()
                self._server.context.collector = Collector(self._server.context)
                serving.enter_context(watching(self._server.context))
                if self._config.tls is not None:
                    interval = self._config.limits.certificate_check_interval
                    serving.enter_context(files.watching(self._config.tls, asyncio.get_running_loop(), interval))
                    serving.enter_context(guarding(self._server.context))
                if on_ready is not None:
                    on_ready(self._server.addresses)
                if self._worker is not None:
                    context = self._server.context
                    waiting = Waiting(lambda: context.connections)
                    self._worker.begin(
                        self._server.addresses,
                        lambda: self._server.held,
                        lambda lateness: figures_of(context, lateness, waiting),
                        self._abort_now,
                    )
                if self._looking is not None:
                    serving.enter_context(_seen_by(self._looking, self._server.context))
                await stopping
                if self._looking is not None:
                    self._looking.stops()
            except LifespanFailed as error:
                return error.exit_code
            finally:
                await running.cancel(stopping, starting)
                self._config.unlink_unix_socket()
            await self._stop()
        return 0

    async def _stop(self) -> None:
        if self._worker is None:
            logger.info("stopping; once more to stop at once")
        ending = asyncio.create_task(self._end())
        try:
            if await running.first(ending, self._abort):
                ending.cancel()  # which cuts what is open
                await asyncio.wait({ending}, timeout=_ABORT_TIMEOUT)
            if ending.done() and not ending.cancelled():
                ending.result()
        finally:
            await running.cancel(ending)
        if self._worker is None:
            logger.info("stopped")

    async def _end(self) -> None:
        limits, worker = self._config.limits, self._worker
        self._server.stop_accepting()
        if worker is not None:
            worker.stop_accepting()
        spread = limits.drain_seconds if worker is not None and worker.is_replaced else 0.0
        if spread and self._departure is not None:
            self._departure.by(time.monotonic() + spread + limits.shutdown_timeout + _MARGIN)
        for listening in self._sockets:
            listening.close()  # so that new connections are refused while the others end
        try:
            await self._server.end_connections(limits.shutdown_timeout, spread)
        finally:
            with self._more_time(limits.lifespan_timeout):
                await self._server.end_lifespan()

    @contextlib.contextmanager
    def _more_time(self, seconds: float) -> Iterator[None]:
        """Extend the process's deadline by a time-out for what happens inside the block."""
        departure = self._departure
        before = None if departure is None else departure.deadline
        if departure is None or before is None or self._abort.is_set():
            yield
            return
        departure.by(time.monotonic() + seconds + _MARGIN)
        try:
            yield
        finally:
            if not self._abort.is_set():
                departure.by(max(before, time.monotonic() + _MARGIN))

    @contextlib.contextmanager
    def _signals(self, stop: StopEvent) -> Iterator[None]:
        """Handle signals inside the block. Does nothing outside the main thread."""
        loop = asyncio.get_running_loop()

        def handle(number: int, frame: object) -> None:
            if number in _IGNORED:
                loop.call_soon_threadsafe(logger.info, "%s is ignored", signal.Signals(number).name)
            elif number == _HANG_UP and not any(map(os.isatty, range(3))):
                loop.call_soon_threadsafe(self._hang_up)
            else:
                self._on_stop_signal(loop, stop)

        # Keep whatever the application or the parent process (nohup) has set.
        others = [number for number in _OTHERS if signal.getsignal(number) is signal.SIG_DFL]
        try:
            with running.handling_signals(dict.fromkeys((signal.SIGINT, signal.SIGTERM, *others), handle)):
                yield
        finally:
            if self._departure is not None and self._signals_seen:
                self._departure.take_signals()

    def _hang_up(self) -> None:
        reopen_logs()
        if self._config.tls is not None:
            self._config.tls.reload()

    def _abort_now(self) -> None:
        self._abort.set()
        if self._departure is not None:
            self._departure.by(time.monotonic() + _MARGIN)

    def _on_stop_signal(self, loop: asyncio.AbstractEventLoop, stop: StopEvent) -> None:
        self._signals_seen += 1
        if self._signals_seen == 1:
            stop.set()
            seconds = self._config.limits.shutdown_timeout + _MARGIN
        elif self._worker is not None:
            # Systemd sends SIGTERM to all processes of a service, and the supervisor sends it to the same workers. Only
            # the supervisor knows the second time from the first, and says so over its channel.
            return
        elif self._signals_seen == 2:
            loop.call_soon_threadsafe(self._abort.set)
            seconds = _MARGIN
        else:
            seconds = 0.0
        if self._departure is not None:
            self._departure.by(time.monotonic() + seconds)


def reopen_logs() -> None:
    """Reopen the log files by their names, because the old ones may have been moved (log rotation).

    A file that cannot be opened, because of its folder's permissions, say, is written to by its old name.
    """
    loggers = [logging.root, *map(logging.getLogger, list(logging.root.manager.loggerDict))]
    handlers = {handler for each in loggers for handler in each.handlers if isinstance(handler, logging.FileHandler)}
    reopened = 0
    for handler in handlers:
        handler.acquire()
        try:
            if handler.stream is not None:
                before, handler.stream = handler.stream, handler._open()
                before.close()
            reopened += 1
        except OSError as error:
            logger.error("SIGHUP: a log file cannot be reopened, and the old one is kept: %s", error)
        finally:
            handler.release()
    logger.info("SIGHUP: reopened %d log files", reopened)


def _loop_factory(choice: LoopChoice) -> Callable[[], asyncio.AbstractEventLoop]:
    if choice == "asyncio":
        return asyncio.new_event_loop
    try:
        import uvloop  # noqa: F401  # it may be missing
    except ImportError:
        if choice == "uvloop":
            raise ConfigurationError("--loop uvloop: it is not installed; pip install uvloop, or use auto") from None
        return asyncio.new_event_loop
    from fairway.server.loops import Loop

    return Loop
