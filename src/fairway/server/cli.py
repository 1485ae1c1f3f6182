"""The command line `fairway [options] module:attribute`.

A mistake of the person who types is one sentence and exit code 1, not a traceback.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from fairway.departure import Departure
from fairway.logs import get_logger, set_up
from fairway.server.config import BindError, Config
from fairway.server.limits import ConfigurationError, Limits
from fairway.server.loading import AppImportError, load_app
from fairway.server.process import run
from fairway.server.proxy import LOOPBACK, ProxyHeaders, trusted_networks

logger = get_logger("fairway.server")

_DESCRIPTION = "Serve an ASGI application: HTTP/1.1 and WebSocket, made for Django with Channels."

_EXAMPLES = """\
examples:
  fairway mysite.asgi:application
  fairway --host 0.0.0.0 --port 80 mysite.asgi:application
  fairway --uds /run/mysite.sock --no-access-log mysite.asgi:application
  fairway doctor (look whether the installation is sound)

Limits (message sizes, time-outs, ping interval ...) are keys of the dictionary FAIRWAY in Django's settings.
"""


def main(
    argv: Sequence[str] | None = None,
    *,
    limits_source: Callable[[], Limits] = Limits,
    warnings_source: Callable[[], Iterable[str]] = tuple,
    version: str = "unknown",
    departure: Departure | None = None,
) -> int:
    """Run the command line and return the exit code: 0 stopped, 1 cannot start, 3 the application refused to.

    `limits_source` and `warnings_source` are called after the application was loaded, which is what configures Django;
    the warnings are logged, once, before it is served. With a `departure` the process is the server's alone.
    """
    options = _parser(version).parse_args(argv)
    try:
        app = _behind_proxies(load_app(options.app), options)
        config = _config(options, limits_source())
        set_up(options.log_level)
        for text in warnings_source():
            logger.warning("%s", text)
        return run(app, config, on_ready=_ready, loop=options.loop, departure=departure)
    except AppImportError as error:
        if error.__cause__ is not None:
            traceback.print_exception(error.__cause__)
        return _complain(error)
    except (ConfigurationError, BindError) as error:
        return _complain(error)


def _ready(addresses: list[str]) -> None:
    for address in addresses:
        logger.info("listening on %s", address)
    logger.info("stop with Ctrl-C")


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
