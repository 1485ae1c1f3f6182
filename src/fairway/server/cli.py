"""The command line `fairway [options] module:attribute`.

A mistake of the user is answered by one sentence and exit code 1, never by a traceback.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, fields, replace
from difflib import get_close_matches
from typing import Any, NoReturn

from fairway.departure import Departure
from fairway.json_lines import formatter_of
from fairway.logs import get_logger, set_up
from fairway.server import descriptors, systemd
from fairway.server.app_import import AppImportError, load_app, traceback_of_import
from fairway.server.config import BindError, Config, inherit
from fairway.server.descriptors import processors
from fairway.server.in_force import table
from fairway.server.limits import CHOICES, ConfigurationError, Limits, descriptions, flag_name, variable_name
from fairway.server.negotiation import alpn_protocols
from fairway.server.process import StopEvent, run
from fairway.server.proxy import LOOPBACK, Network, ProxyHeaders, trusted_networks
from fairway.server.tls.files import files_of
from fairway.server.tls.options import TlsOptions
from fairway.server.workers import WORKERS_VARIABLE
from fairway.server.workers.board import Board
from fairway.server.workers.interpreters import command_of
from fairway.server.workers.nursery import Inheritance, inheritance, tend
from fairway.server.workers.reloading import Reloader
from fairway.server.workers.supervisor import MOST_WORKERS, Supervisor
from fairway.server.workers.watch import supervision_of
from fairway.server.workers.worker import Worker

logger = get_logger("fairway.server")

_CONFIG = "config"
"""The command that may stand before the application. No application has this name, because its path has a colon."""

_STATUS = "status"
"""The command whose only argument is a management socket."""

_DESCRIPTION = """\
Serve an ASGI application over HTTP/1.1, HTTP/2 and WebSocket. Made for Django
with Channels."""

_RELOAD_DRAIN_SECONDS = 0.2

_EXAMPLES = """\
examples:
  fairway mysite.asgi:application
  fairway --host 0.0.0.0 --port 80 mysite.asgi:application
  fairway --host 0.0.0.0 --port 443 \\
      --certfile fullchain.pem --keyfile privkey.pem mysite.asgi:application
  fairway --uds /run/mysite.sock --no-access-log mysite.asgi:application
  fairway --reload mysite.asgi:application

other commands:
  fairway config mysite.asgi:application
      show which limits are in force, and where each comes from
  fairway status unix:/run/mysite/management
      show the state of a server that runs with this --management
  fairway doctor
      check whether the installation is sound

Each limit is also an environment variable (FAIRWAY_MAX_MESSAGE_BYTES), and a
key of the dictionary FAIRWAY in Django's settings (MAX_MESSAGE_BYTES). A flag
overrides the variable, and the variable overrides the setting.
"""


def main(
    argv: Sequence[str] | None = None,
    *,
    limits_source: Callable[[], Limits] = lambda: Limits().with_environment(os.environ),
    warnings_source: Callable[[], Iterable[str]] = tuple,
    version: str = "unknown",
    before_fork: Callable[[], str] = str,
    departure: Departure | None = None,
) -> int:
    """Run the command line and return the exit code: 0 stopped, 1 cannot start, 3 the application refuses to start.

    `limits_source` and `warnings_source` are called after the application has been loaded, because that is what
    configures Django. The warnings are logged once, before the first request. `before_fork` is called when the loaded
    application is about to be forked; it returns why that must not happen, or "". With a `departure`, the process runs
    nothing but the server.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    if arguments[:1] == [_STATUS]:
        # Imported here, because no server needs an HTTP client.
        from fairway.server.management import terminal

        return terminal.main(arguments[1:], os.environ.get(variable_name("management"), ""))
    shows_config = arguments[:1] == [_CONFIG]
    options = _parser(version).parse_args(arguments[1:] if shows_config else arguments)
    inherited = inheritance(os.environ)
    if departure is not None and WORKERS_VARIABLE in os.environ:
        os.environ[WORKERS_VARIABLE] = str(options.workers)  # a flag overrides it, and checks read it
    try:
        if inherited is None and not shows_config and (options.workers > 1 or _reloads(options)):
            return _supervise(arguments, options)
        app = _behind_proxies(load_app(options.app), options)
        limits = limits_source().overridden(_given(options), flag_name)
        if shows_config:
            print(table(limits, _given(options), os.environ))
            return 0
        set_up(options.log_level, formatter=formatter_of(limits.log_format))
        config = _config(options, limits)
        if inherited is None or not inherited.is_further:
            for text in warnings_source():
                logger.warning("%s", text)
        if inherited is not None:
            return _tend(app, config, options, inherited, before_fork, departure)
        sockets = _inherited_sockets(options.fd) if options.fd else None
        return run(app, config, sockets=sockets, on_ready=_ready, loop=options.loop, departure=departure)
    except AppImportError as error:
        if error.__cause__ is not None:
            print(traceback_of_import(error.__cause__), file=sys.stderr)
        return _complain(error)
    except (ConfigurationError, BindError) as error:
        return _complain(error)


def _reloads(options: argparse.Namespace) -> bool:
    if (options.reload_dir or options.reload_include) and not options.reload:
        raise ConfigurationError("--reload-dir and --reload-include say what --reload watches: add --reload")
    return bool(options.reload)


def _supervise(arguments: list[str], options: argparse.Namespace) -> int:
    if sys.platform == "win32":
        raise ConfigurationError(
            "--workers and --reload need fork and Unix sockets, which Windows does not have: write --workers 1, "
            "and use python manage.py runserver, which reloads"
        )
    reloader = Reloader(options.reload_dir, options.reload_include) if _reloads(options) else None
    # The limits of the application's settings are not known before it has been loaded (`Supervision`). But the command
    # line alone says where to listen.
    limits = Limits().with_environment(os.environ).overridden(_given(options), flag_name)
    set_up(options.log_level, formatter=formatter_of(limits.log_format))
    descriptors.raise_limit()
    place = Config(host=options.host, port=options.port, uds=options.uds)
    sockets = _inherited_sockets(options.fd) if options.fd else place.bind()
    with ExitStack() as listening:
        for one in sockets:
            listening.callback(one.close)
        listening.callback(place.unlink_unix_socket)  # before the sockets are closed
        return Supervisor(command_of(arguments), sockets, options.workers, _ready, listening.close, reloader).run()


def _tend(
    app: Any,
    config: Config,
    options: argparse.Namespace,
    inherited: Inheritance,
    before_fork: Callable[[], str],
    departure: Departure | None,
) -> int:
    """Be a nursery, and then a worker in each process that has become one."""
    if _reloads(options):
        # All clients of one developer may come back together.
        config = replace(config, limits=replace(config.limits, drain_seconds=_RELOAD_DRAIN_SECONDS))
    limits, stop = config.limits, StopEvent()
    assignment = tend(inherited, before_fork(), asdict(supervision_of(limits)))
    if assignment is None:
        return 0
    seconds = limits.drain_seconds + limits.shutdown_timeout + limits.lifespan_timeout
    board = Board(inherited.board, inherited.slots)
    worker = Worker(board, assignment.slot, assignment.channel, seconds, stop.set)
    return run(
        app,
        # The supervisor owns the path of the Unix socket, and the management socket.
        replace(config, uds=None, management=""),
        sockets=[socket.socket(fileno=number) for number in inherited.sockets],
        stop_event=stop,
        loop=options.loop,
        departure=departure,
        worker=worker,
    )


def _ready(addresses: list[str]) -> None:
    for address in addresses:
        logger.info("listening on %s", f"{address} and ws{address[4:]}" if address.startswith("https:") else address)
    logger.info("stop with Ctrl-C")
    systemd.notify("READY=1")


def _config(options: argparse.Namespace, limits: Limits) -> Config:
    return Config(
        host=options.host,
        port=options.port,
        uds=options.uds,
        root_path=options.root_path,
        access_log=options.access_log,
        log_format=limits.log_format,
        server_name=options.server_name,
        lifespan=options.lifespan,
        limits=limits,
        tls=files_of(limits, alpn_protocols(limits)),
        introducers=_trusted(options) if limits.proxy_protocol else None,
        proxies=_trusted(options),
        management=limits.management,
    )


def _given(options: argparse.Namespace) -> dict[str, str]:
    """The limits that are on the command line, as they were typed."""
    given = {field.name: getattr(options, field.name) for field in fields(Limits)}
    return {name: str(value) for name, value in given.items() if value is not None}


def _behind_proxies(app: Any, options: argparse.Namespace) -> Any:
    return ProxyHeaders(app, _trusted(options)) if options.proxy_headers else app


def _trusted(options: argparse.Namespace) -> tuple[Network, ...]:
    addresses = options.forwarded_allow_ips.split(",")
    return trusted_networks(address.strip() for address in addresses if address.strip())


def _complain(error: Exception) -> int:
    print(f"fairway: {error}", file=sys.stderr)
    return 1


def _parser(version: str) -> argparse.ArgumentParser:
    parser = _Parser(
        prog="fairway",
        usage="%(prog)s [options] module:attribute",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
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
    instead.add_argument(
        "--fd", type=_descriptor, action="append", metavar="N|systemd[:NAME]",
        help="an inherited socket, instead of host and port, or those that systemd hands over; may be given again",
    )  # fmt: skip

    what = parser.add_argument_group("what the application sees")
    what.add_argument(
        "--root-path", default="", metavar="PATH", help="where a proxy mounts the application, such as /app"
    )
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
        "--workers", type=_workers, metavar="N|auto", default=os.environ.get(WORKERS_VARIABLE) or "1",
        help=f"processes that share the sockets; auto: one for each processor (default: ${WORKERS_VARIABLE}, or 1)",
    )  # fmt: skip
    how.add_argument(
        "--reload", action="store_true",
        help="load the application anew when its Python files or templates change; for development, needs watchfiles",
    )  # fmt: skip
    how.add_argument(
        "--reload-dir", action="append", default=[], metavar="PATH",
        help="a folder to watch, instead of the current one; may be given again",
    )  # fmt: skip
    how.add_argument(
        "--reload-include", action="append", default=[], metavar="PATTERN",
        help="names of further files to watch, such as '*.toml'; may be given again",
    )  # fmt: skip
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
    of_tls = {field.name for field in fields(TlsOptions)}
    _add_options(parser.add_argument_group("TLS"), of_tls)
    of_limits = {field.name for field in fields(Limits)} - of_tls
    _add_options(parser.add_argument_group("limits (bytes, seconds or counts; inf switches a deadline off)"), of_limits)
    return parser


_SYSTEMD = "systemd"


def _descriptor(text: str) -> int | str:
    if text.isdecimal():
        return int(text)
    if text.partition(":")[0] == _SYSTEMD:
        return text
    raise argparse.ArgumentTypeError(f"write the number of a descriptor, or {_SYSTEMD}, not {text!r}")


def _inherited_sockets(given: Sequence[int | str]) -> list[socket.socket]:
    """The sockets that the values of --fd name. Raises `BindError`."""
    numbers: list[int] = []
    for one in given:
        if isinstance(one, int):
            numbers.append(one)
            continue
        found = systemd.handed_over(os.environ, one.partition(":")[2])
        if not found:
            raise BindError(None, f"--fd {one}: no such socket was handed over to this process (LISTEN_FDS)")
        numbers += found
    sockets: list[socket.socket] = []
    try:
        for number in numbers:
            sockets.append(inherit(number))
            os.set_inheritable(number, False)
    except BindError:
        for each in sockets:
            each.detach()
        raise
    return sockets


def _workers(text: str) -> int:
    number = processors() if text == "auto" else int(text) if text.isdecimal() else 0
    if not 1 <= number <= MOST_WORKERS:
        raise argparse.ArgumentTypeError(f"write a number from 1 to {MOST_WORKERS}, or auto, not {text!r}")
    return number


_METAVARS = {"float": "SECONDS", "int": "N", "str": "FILE"}
_METAVAR_OF = {name: "|".join(values) for name, values in CHOICES.items()} | {
    "tls_ciphers": "LIST",
    "health_path": "PATH",
    "management": "ADDRESS",
}


def _add_options(group: argparse._ArgumentGroup, names: Collection[str]) -> None:
    told = descriptions()
    for field in fields(Limits):
        if field.name not in names:
            continue
        text = told.get(field.name, "").replace("`", "").replace("%", "%%")
        description = f"{text} (default: {field.default})" if field.default != "" else text
        if field.type == "bool":
            group.add_argument(flag_name(field.name), action=argparse.BooleanOptionalAction, help=description)
        else:
            metavar = _METAVAR_OF.get(field.name, _METAVARS[str(field.type)])
            group.add_argument(flag_name(field.name), metavar=metavar, help=description)


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, and what other servers' options are called here."""

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        options, others = self.parse_known_args(args, namespace)
        unknown = next((each for each in others if each.startswith("-")), None)
        if unknown is not None:
            self.error(self._way_out(unknown.partition("=")[0]))
        if others:
            self.error(f"{others[0]!r} is one argument too many: there is one application")
        return options

    def _way_out(self, option: str) -> str:
        hint = next((text for names, text in _ELSEWHERE.items() if option in names.split()), None)
        if hint is None:
            near = get_close_matches(option, self._option_string_actions, n=1)
            hint = f"did you mean {near[0]}?" if near else "fairway --help lists all"
        return f"there is no option {option}: {hint}"

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


# Options of uvicorn, gunicorn, Daphne and Hypercorn, and what to write here instead.
_ELSEWHERE = {
    "-w": "write --workers",
    "--threads -k --worker-class": "each worker is one event loop; write --workers for more of them",
    "--use-reloader": "write --reload",
    "-e --endpoint": "write --host and --port, or --uds; for TLS --certfile and --keyfile",
    "--ssl-certfile": "write --certfile",
    "--ssl-keyfile": "write --keyfile",
    "--ssl-keyfile-password --keyfile-password": "write --keyfile-password-file: others see the command line",
    "--ssl-ca-certs --ca-certs": "write --client-ca",
    "--ssl-cert-reqs --cert-reqs --verify-mode": "write --client-certs none, optional or required",
    "--ssl-version": "write --tls-min-version",
    "--ssl-ciphers --ciphers": "write --tls-ciphers",
    "-p": "write --port",
    "-b --bind --insecure-bind": "write --host and --port, or --uds",
    "-u --unix-socket": "write --uds",
    "--root_path": "write --root-path",
    "-v --verbosity -l": "write --log-level",
    "--log-config --log-file --access-log --access-logfile --access-logformat --log-fmt": "the log goes to "
    "standard error, access log included; LOGGING in Django's settings sends it elsewhere",
    "--app-dir --chdir": "change to that directory first: the current one is importable",
    "--factory": "name the application, not what makes it",
    "--http --ws --interface --worker": "there is one implementation of each protocol",
    "--ws-max-size --websocket-max-message-size": "write --max-message-bytes",
    "--websocket-max-frame-size": "write --max-frame-bytes",
    "--ws-ping-interval --websocket-ping-interval": "write --ping-interval",
    "--ws-ping-timeout": "write --ping-timeout",
    "--ws-per-message-deflate": "write --deflate or --no-deflate",
    "--limit-concurrency": "write --max-connections",
    "--timeout-keep-alive --keep-alive": "write --keep-alive-timeout",
    "--timeout-graceful-shutdown --graceful-timeout": "write --shutdown-timeout",
    "--application-close-timeout": "write --disconnect-timeout",
    "--websocket_connect_timeout": "write --connect-timeout",
}
