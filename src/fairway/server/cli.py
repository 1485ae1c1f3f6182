"""The command line `fairway [options] module:attribute`, and `run`, the life of one server in one event loop.

A mistake of the person who types is one sentence and exit code 1, not a traceback. `run` knows no arguments and no
Django: the `runserver` command calls it too, in a thread that may not handle signals.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal

from fairway.server.access import AccessLog, EventLog
from fairway.server.config import BindError, Config
from fairway.server.lifespan import LifespanFailed
from fairway.server.limits import ConfigurationError, Limits
from fairway.server.listener import Server
from fairway.server.loading import AppImportError, load_app
from fairway.server.proxy import LOOPBACK, ProxyHeaders, trusted_networks

logger = logging.getLogger("fairway.server")

LoopChoice = Literal["auto", "uvloop", "asyncio"]

_GC_THRESHOLDS = (50_000, 20, 100)
"""Instead of (700, 10, 10): connections free themselves by reference counts, and each full collection walks all of
their objects (about 0.2 µs each), so collecting as often as a script does would only cost latency."""

_ABORT_TIMEOUT = 2.0
"""Seconds that the connections' tasks have to end once everything was cut."""

_DESCRIPTION = "Serve an ASGI application: HTTP/1.1 and WebSocket, made for Django with Channels."

_EXAMPLES = """\
examples:
  fairway mysite.asgi:application
  fairway --host 0.0.0.0 --port 80 mysite.asgi:application
  fairway --uds /run/mysite.sock --no-access-log mysite.asgi:application
  fairway doctor (look whether the installation is sound)

Limits (message sizes, time-outs, ping interval ...) are keys of the dictionary FAIRWAY in Django's settings.
"""


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


def main(
    argv: Sequence[str] | None = None,
    *,
    limits_source: Callable[[], Limits] = Limits,
    warnings_source: Callable[[], Iterable[str]] = tuple,
    version: str = "unknown",
) -> int:
    """Run the command line and return the exit code: 0 stopped, 1 cannot start, 3 the application refused to.

    `limits_source` and `warnings_source` are called after the application was loaded, which is what configures Django;
    the warnings are logged, once, before it is served.
    """
    options = _parser(version).parse_args(argv)
    try:
        app = _behind_proxies(load_app(options.app), options)
        config = _config(options, limits_source())
        _set_up_logging(options.log_level)
        for text in warnings_source():
            logger.warning("%s", text)
        return run(app, config, on_ready=_ready, loop=options.loop)
    except AppImportError as error:
        if error.__cause__ is not None:
            traceback.print_exception(error.__cause__)
        return _complain(error)
    except (ConfigurationError, BindError) as error:
        return _complain(error)


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


def _ready(addresses: list[str]) -> None:
    for address in addresses:
        logger.info("listening on %s", address)
    logger.info("stop with Ctrl-C")
    collect_rarely()


def collect_rarely() -> None:
    """Set Python's collector for a process that serves. To be called once everything is loaded.

    What is loaded by then lives as long as the process, so no later collection need walk it.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)


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


def _set_up_logging(level: str | None) -> None:
    """Write to stderr unless the application has set up logging for itself, at level INFO unless told otherwise."""
    ours = logging.getLogger("fairway")
    if level is not None:
        ours.setLevel(level.upper())
    elif ours.level == logging.NOTSET:
        ours.setLevel(logging.INFO)
    names = ["fairway", *(name for name in logging.root.manager.loggerDict if name.startswith("fairway."))]
    for name in names:
        # Django's LOGGING switches off all loggers it does not name, unless told not to: nobody means these.
        logging.getLogger(name).disabled = False
    if any(logging.getLogger(name).handlers for name in names) or logging.root.handlers:
        return
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter())
    ours.addHandler(handler)


class _Formatter(logging.Formatter):
    """Plain lines for what is normal; the level in front of what is not."""

    def __init__(self) -> None:
        super().__init__("%(message)s")

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return text if record.levelno == logging.INFO else f"{record.levelname.lower()}: {text}"


def _config(options: argparse.Namespace, limits: Limits) -> Config:
    return Config(
        host=options.host,
        port=options.port,
        uds=options.uds,
        fd=options.fd,
        root_path=options.root_path,
        access_log=options.access_log,
        server_name=options.server_name,
        lifespan=options.lifespan,
        limits=limits,
    )


def _behind_proxies(app: Any, options: argparse.Namespace) -> Any:
    if not options.proxy_headers:
        return app
    addresses = options.forwarded_allow_ips.split(",")
    return ProxyHeaders(app, trusted_networks(address.strip() for address in addresses if address.strip()))


def _complain(error: Exception) -> int:
    print(f"fairway: {error}", file=sys.stderr)
    return 1


def _parser(version: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fairway",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("app", metavar="module:attribute", help="the application, such as mysite.asgi:application")
    parser.add_argument("--version", action="version", version=f"fairway {version}")

    where = parser.add_argument_group("where to listen")
    where.add_argument(
        "--host", default="127.0.0.1", help="name or address (default: %(default)s; 0.0.0.0: all of IPv4)"
    )
    where.add_argument("--port", type=int, default=8000, help="port (default: %(default)s; 0: any free one)")
    instead = where.add_mutually_exclusive_group()
    instead.add_argument("--uds", metavar="PATH", help="a Unix socket, instead of host and port")
    instead.add_argument("--fd", type=int, metavar="N", help="an inherited socket, instead of host and port")

    what = parser.add_argument_group("what the application sees")
    what.add_argument("--root-path", default="", metavar="PATH", help="path that a proxy strips, such as /app")
    what.add_argument(
        "--lifespan", choices=("auto", "on", "off"), default="auto",
        help="start-up and shutdown events: if supported, required, or never sent (default: %(default)s)",
    )  # fmt: skip

    what.add_argument(
        "--proxy-headers", action=argparse.BooleanOptionalAction, default=True,
        help="believe X-Forwarded-For and -Proto of trusted proxies (default: yes)",
    )  # fmt: skip
    what.add_argument(
        "--forwarded-allow-ips", metavar="LIST", default=os.environ.get("FORWARDED_ALLOW_IPS", ",".join(LOOPBACK)),
        help="trusted proxies: addresses, networks or *, with commas; a Unix socket's peers always are "
        "(default: $FORWARDED_ALLOW_IPS, or 127.0.0.0/8,::1)",
    )  # fmt: skip

    how = parser.add_argument_group("how to run")
    how.add_argument(
        "--loop", choices=("auto", "uvloop", "asyncio"), default="auto",
        help="event loop (default: %(default)s, uvloop where it is installed)",
    )  # fmt: skip
    how.add_argument(
        "--log-level", choices=("debug", "info", "warning", "error", "critical"),
        help="least level of the server's own log (default: info)",
    )  # fmt: skip
    how.add_argument("--no-access-log", dest="access_log", action="store_false", help="no line per request")
    name = how.add_mutually_exclusive_group()
    name.add_argument("--server-name", default="fairway", metavar="NAME", help='header "server" (default: %(default)s)')
    name.add_argument("--no-server-header", dest="server_name", action="store_const", const="", help="no such header")
    return parser
