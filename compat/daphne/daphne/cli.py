"""The command `daphne [options] package.module:application`.

It has Daphne's flags and defaults. What each becomes is said in `daphne.server`.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any, ClassVar, NoReturn, TextIO

from asgiref.compatibility import guarantee_single_callable

from daphne.access import AccessLogGenerator
from daphne.endpoints import build_endpoint_description_strings
from daphne.server import Server
from fairway import standard_streams
from fairway.departure import Departure
from fairway.server.app_import import AppImportError, load_app

logger = logging.getLogger("daphne.cli")

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8000

_LEVELS = {0: logging.WARNING, 1: logging.INFO, 2: logging.DEBUG, 3: logging.DEBUG}
_NEEDS_PROXY_HEADERS = "--proxy-headers has to be passed for this parameter."


class CommandLineInterface:
    """One run of the command. A subclass may set `server_class`, and override `load_asgi_app`."""

    description: ClassVar[str] = "Django HTTP/WebSocket server, by Fairway"
    prog: ClassVar[str] = "daphne"
    server_class: Any = Server

    def __init__(self) -> None:
        self.parser = _parser(self.prog, self.description)
        self.server: Any = None
        self.departure = Departure()

    @classmethod
    def entrypoint(cls) -> NoReturn:
        """Run with the arguments of the process, and exit: with 1 for what cannot be served."""
        standard_streams.open_missing()
        interface = cls()
        with interface.departure.at_the_end():
            try:
                interface.run(sys.argv[1:])
            except argparse.ArgumentError as error:
                interface.fail(error)
        sys.exit(0)

    def run(self, args: Sequence[str]) -> None:
        """Serve until told to stop. Exits the process if it cannot; ArgumentError for a flag that lacks another."""
        options = self.parser.parse_args(args)
        headers = self._proxy_headers(options)
        self._set_up_logging(options)
        try:
            application = self.load_asgi_app(options.application)
        except AppImportError as error:
            if error.__cause__ is not None:
                traceback.print_exception(error.__cause__)
            self.fail(error)
        _switch_on_loggers()
        endpoints = self._endpoints(options)
        logger.info("Starting server at %s", ", ".join(endpoints))
        self.server = self.server_class(
            application=application,
            endpoints=endpoints,
            http_timeout=options.http_timeout,
            ping_interval=options.ping_interval,
            ping_timeout=options.ping_timeout,
            websocket_timeout=options.websocket_timeout,
            websocket_connect_timeout=options.websocket_connect_timeout,
            websocket_handshake_timeout=options.websocket_connect_timeout,
            websocket_max_message_size=options.websocket_max_message_size,
            websocket_max_frame_size=options.websocket_max_frame_size,
            application_close_timeout=options.application_close_timeout,
            action_logger=self._action_logger(options),
            root_path=options.root_path,
            verbosity=options.verbosity,
            server_name=options.server_name,
            **headers,
        )
        self.server.departure = self.departure
        self.server.run()

    def load_asgi_app(self, path: str) -> Any:
        """Import the application; the current directory is importable. Raises `AppImportError`."""
        return guarantee_single_callable(load_app(path))  # type: ignore[no-untyped-call]  # asgiref is not annotated

    def fail(self, error: Exception) -> NoReturn:
        """Say what is wrong, in one line, and exit with 1."""
        print(f"{self.prog}: {error}", file=sys.stderr)
        sys.exit(1)

    def _proxy_headers(self, options: argparse.Namespace) -> dict[str, str | None]:
        if not options.proxy_headers:
            for action in self.parser._actions:
                if action.dest in ("proxy_headers_host", "proxy_headers_port") and getattr(options, action.dest):
                    raise argparse.ArgumentError(action, _NEEDS_PROXY_HEADERS)
            return dict.fromkeys(_HEADER_ARGUMENTS)
        names = (
            options.proxy_headers_host or "X-Forwarded-For",
            options.proxy_headers_port or "X-Forwarded-Port",
            "X-Forwarded-Proto",
        )
        return dict(zip(_HEADER_ARGUMENTS, names, strict=True))

    def _endpoints(self, options: argparse.Namespace) -> list[str]:
        """All places to listen, sorted; host or port are filled in if only one is given, both if nothing is."""
        host, port = options.host, options.port
        elsewhere = options.unix_socket or options.file_descriptor is not None or options.socket_strings
        if host is not None or port is not None or not elsewhere:
            host = DEFAULT_HOST if host is None else host
            port = DEFAULT_PORT if port is None else port
        built = build_endpoint_description_strings(
            host=host, port=port, unix_socket=options.unix_socket, file_descriptor=options.file_descriptor
        )
        return sorted([*options.socket_strings, *built])

    def _set_up_logging(self, options: argparse.Namespace) -> None:
        logging.basicConfig(level=_LEVELS[options.verbosity], format=options.log_fmt)
        if options.verbosity >= 3:
            os.environ["PYTHONASYNCIODEBUG"] = "1"

    def _action_logger(self, options: argparse.Namespace) -> AccessLogGenerator | None:
        stream: TextIO | None = sys.stdout if options.verbosity >= 1 else None
        if options.access_log == "-":
            stream = sys.stdout
        elif options.access_log:
            try:
                # Open for as long as the process runs.
                stream = open(options.access_log, "a", buffering=1)  # noqa: SIM115
            except OSError as error:
                self.fail(error)
        return None if stream is None else AccessLogGenerator(stream)


_HEADER_ARGUMENTS = (
    "proxy_forwarded_address_header",
    "proxy_forwarded_port_header",
    "proxy_forwarded_proto_header",
)


def _switch_on_loggers() -> None:
    # Django's LOGGING switches off all loggers it does not name, unless told not to: nobody means these.
    for name in logging.root.manager.loggerDict:
        if name.partition(".")[0] in ("daphne", "fairway"):
            logging.getLogger(name).disabled = False


def _parser(prog: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=prog, description=description)
    add = parser.add_argument
    add("application", help="the application, as package.module:attribute")
    add("-p", "--port", type=int, help=f"port to listen on (default: {DEFAULT_PORT})")
    add("-b", "--bind", dest="host", help=f"host or address to listen on (default: {DEFAULT_HOST})")
    add("-u", "--unix-socket", help="Unix socket to listen on")
    add("--fd", type=int, dest="file_descriptor", help="inherited socket to listen on")
    add(
        "-e", "--endpoint", dest="socket_strings", action="append", default=[],
        help="place to listen on, such as tcp:port=8000:interface=127.0.0.1, unix:/run/site.sock or fd:fileno=3",
    )  # fmt: skip
    add("-t", "--http-timeout", type=float, help="seconds for a response, then 503 (default: no limit)")
    add("--websocket_timeout", type=float, default=86400, help="seconds that a WebSocket lives at most; -1: no limit")
    add("--websocket_connect_timeout", type=float, default=5, help="seconds to accept or reject a WebSocket")
    add("--ping-interval", type=float, default=20, help="seconds of silence until a WebSocket is pinged")
    add("--ping-timeout", type=float, default=30, help="seconds to answer a ping")
    add(
        "--websocket-max-message-size", type=int, default=1024 * 1024, help="longest message in bytes; 0: no limit"
    )  # fmt: skip
    add("--websocket-max-frame-size", type=int, default=1024 * 1024, help="longest frame in bytes; 0: no limit")
    add("--application-close-timeout", type=float, default=10, help="seconds to end after a client has left")
    add("--root-path", default="", help="path that a proxy strips, such as /app")
    add("--proxy-headers", action="store_true", help="believe X-Forwarded-For, -Port and -Proto of trusted proxies")
    add("--proxy-headers-host", metavar="NAME", help="header with the client's address, instead of X-Forwarded-For")
    add("--proxy-headers-port", metavar="NAME", help="header with the client's port, instead of X-Forwarded-Port")
    name = parser.add_mutually_exclusive_group()
    name.add_argument(
        "-s", "--server-name", default="daphne", help='header "server"; empty: none (default: %(default)s)'
    )
    name.add_argument("--no-server-name", dest="server_name", action="store_const", const="", help="no such header")
    add("--access-log", metavar="FILE", help="where to write the access log; -: stdout, the default with -v 1")
    add("--log-fmt", default="%(asctime)-15s %(levelname)-8s %(message)s", help="format of other log lines")
    add("-v", "--verbosity", type=int, choices=sorted(_LEVELS), default=1, help="0 warnings .. 3 asyncio's debugging")
    return parser
