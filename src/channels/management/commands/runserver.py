"""`manage.py runserver`, served by Fairway: HTTP and WebSocket, with everything else as Django has it.

It extends the command of `django.contrib.staticfiles` if that is installed, and otherwise Django's own. It replaces the
two parts that these leave open: the application (`get_handler`) and the server (`server_cls`). The banner, the checks,
the autoreloader, the flags and the error messages are Django's.

The server is imported only when it is started.
"""

from __future__ import annotations

import io
import logging
import re
import sys
import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, cast

from django.apps import apps
from django.conf import settings
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.core.management.base import CommandError, CommandParser, OutputWrapper
from django.urls import set_script_prefix

from channels.routing import get_default_application
from fairway.departure import Departure
from fairway.logs import set_up
from fairway.standard_streams import open_missing

if TYPE_CHECKING:
    from django.contrib.staticfiles.management.commands.runserver import Command as RunserverCommand

    from fairway.server.limits import Limits
    from fairway.server.process import StopEvent
    from fairway.server.tls.files import TlsFiles
elif apps.is_installed("django.contrib.staticfiles"):
    from django.contrib.staticfiles.management.commands.runserver import Command as RunserverCommand
else:
    from django.core.management.commands.runserver import Command as RunserverCommand

_SHUTDOWN_TIMEOUT = 1.0
"""Seconds that open requests may delay a restart of the development server, even if the settings allow more."""

_STOP_TIMEOUT = 4.0
"""Seconds that the main thread waits for the server's thread, including disconnect handlers and the lifespan."""


class Command(RunserverCommand):
    """Django's command, with another server."""

    help = "Starts a lightweight web server for development, with HTTP, WebSocket and static files."

    def __init__(self, *args: Any, **options: Any) -> None:
        """Open the standard streams that are closed before Django takes them for its output."""
        open_missing()
        super().__init__(*args, **options)

    def add_arguments(self, parser: CommandParser) -> None:
        """Add those of Daphne's options for which there is a limit, and an option for TLS."""
        super().add_arguments(parser)
        parser.add_argument(
            "--websocket_handshake_timeout",
            type=float,
            dest="connect_timeout",
            help="Seconds that a consumer has to accept a WebSocket (default: FAIRWAY['CONNECT_TIMEOUT'], or 20).",
        )
        parser.add_argument(
            "--websocket-max-message-size",
            type=int,
            dest="max_message_bytes",
            help="Longest WebSocket message in bytes (default: FAIRWAY['MAX_MESSAGE_BYTES'], or 1 MiB).",
        )
        parser.add_argument(
            "--websocket-max-frame-size",
            type=int,
            dest="max_frame_bytes",
            help="Longest WebSocket frame in bytes (default: FAIRWAY['MAX_FRAME_BYTES'], or 1 MiB).",
        )
        parser.add_argument(
            "--dev-tls",
            action="store_true",
            default=None,
            dest="dev_tls",
            help="Serve https and wss with a certificate for localhost (needs trustme).",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Make our own checks first, while an error still ends the process. Then continue as Django does."""
        if not getattr(settings, "ASGI_APPLICATION", None):
            raise CommandError(_missing_application())
        self.limits = _limits(options)
        self.tls = _tls(self.limits)
        super().handle(*args, **options)

    departure: Departure | None = None

    def run_from_argv(self, argv: list[str]) -> None:
        """Run the command as the owner of the process, so that nothing in it can prevent its end or its restart."""
        self.departure = Departure()
        with self.departure.at_the_end():
            super().run_from_argv(argv)

    def run(self, **options: Any) -> None:
        """Run until the process must end, or the autoreloader restarts it. Then stop the server."""
        from fairway.server.process import StopEvent

        self.stop_event = StopEvent()
        self.idle = threading.Event()
        self.idle.set()
        try:
            super().run(**options)
        finally:
            # With the autoreloader, the server is in another thread. Without this, the thread would be killed: browsers
            # would wait for a time-out before they connect again, and the application's shutdown would not run.
            self.stop_event.set()
            self.idle.wait(_STOP_TIMEOUT)

    def inner_run(self, *args: Any, **options: Any) -> None:
        """Run the checks and the server, in the autoreloader's thread or in the main thread."""
        # Django has set the script prefix in the main thread only. A relative STATIC_URL begins with it.
        set_script_prefix(settings.FORCE_SCRIPT_NAME or "/")
        # Django makes the instance, and passes only the address. So all other values must be in the class.
        attributes = {
            "limits": self.limits,
            "tls": self.tls,
            "access_log": DevelopmentLog(self.style),
            "stop_event": self.stop_event,
            "idle": self.idle,
            "departure": self.departure,
        }
        self.server_cls = type("FairwayServer", (DevelopmentServer,), attributes)
        super().inner_run(*args, **options)

    def get_handler(self, *args: Any, **options: Any) -> Any:
        """Return the ASGI application, for Django's `run()` to hand to the server."""
        return self.get_application(options)

    def get_application(self, options: Mapping[str, Any]) -> Any:
        """Return the application of `ASGI_APPLICATION`, inside a handler for static files if these must be served."""
        application = get_default_application()
        if options.get("use_static_handler") and (settings.DEBUG or options.get("insecure_serving")):
            return ASGIStaticFilesHandler(cast(Any, application))
        return application

    def on_bind(self, server_port: int) -> None:
        """Print Django's banner. Later versions name the protocol of their own server in it, which is corrected."""
        stdout, self.stdout = self.stdout, OutputWrapper(io.StringIO())
        try:
            super().on_bind(server_port)
            banner = self.stdout.getvalue()
        finally:
            self.stdout = stdout
        banner = re.sub(r"Starting (WSGI )?development server", "Starting ASGI development server", banner)
        stdout.write(banner if self.tls is None else banner.replace("http://", "https://", 1))
        if self.limits.dev_tls:
            from fairway.server.tls.dev import authority

            stdout.write(f"Let your browser trust the authority in {authority()}, once.")


class DevelopmentServer:
    """The server class that Django's `run()` expects. `run()` makes it, sets its application, and calls
    `serve_forever`.

    `run()` also adds `socketserver.ThreadingMixIn` as a base class, which has no effect here.
    """

    limits: ClassVar[Limits]
    tls: ClassVar[TlsFiles | None] = None
    access_log: ClassVar[DevelopmentLog]
    stop_event: ClassVar[StopEvent]
    idle: ClassVar[threading.Event]
    departure: ClassVar[Departure | None]

    def __init__(self, server_address: tuple[str, int], handler_class: object, ipv6: bool = False) -> None:
        """Listen at the address. Errors of the operating system are raised, and Django's command reports them."""
        from fairway.server.config import Config

        host, port = server_address
        root_path = settings.FORCE_SCRIPT_NAME or ""
        self.config = Config(host=host, port=port, root_path=root_path, limits=self.limits, tls=self.tls)
        self.sockets = self.config.bind()
        self.server_port: int = self.sockets[0].getsockname()[1]

    def set_app(self, application: Any) -> None:
        """Set the application that `get_handler` has returned."""
        self.application = application

    def serve_forever(self) -> NoReturn:
        """Serve until the server is told to stop. Then raise the exception that ends the command."""
        from fairway.server.process import run

        # This must come after the import of the application, which has configured logging again.
        set_up(default="warning")
        self.idle.clear()
        try:
            code = run(
                self.application,
                self.config,
                sockets=self.sockets,
                access_log=self.access_log,
                stop_event=self.stop_event,
                departure=self.departure,
            )
        finally:
            self.idle.set()
        if code:
            sys.exit(code)
        raise KeyboardInterrupt


class DevelopmentLog:
    """Log lines like those of `runserver` in Channels, in Django's colours, on the logger `django.channels.server`.

    They contain only paths, because queries may hold credentials.
    """

    def __init__(self, style: Any) -> None:
        from fairway.server.access import client_text, path_text

        self._client, self._path = client_text, path_text
        self._logger = logging.getLogger("django.channels.server")
        self._style = style
        self.enabled = self._logger.isEnabledFor(logging.INFO)

    def http_finished(self, scope: Mapping[str, Any], status: int | None, size: int, seconds: float) -> None:
        """`HTTP GET /path 200 [0.01, 127.0.0.1:5123]`."""
        # Proxies also write 499 if the client has left before there was an answer.
        code = status or 499
        text = f"HTTP {scope['method']} {self._path(scope)} {code} [{seconds:.2f}, {self._client(scope)}]"
        self._logger.info("%s", self._paint(code)(text), extra={"status_code": code})

    def websocket_connecting(self, scope: Mapping[str, Any]) -> None:
        """`WebSocket HANDSHAKING /path [127.0.0.1:5123]`."""
        self._websocket("HANDSHAKING", scope, 100)

    def websocket_connected(self, scope: Mapping[str, Any]) -> None:
        """`WebSocket CONNECT /path [127.0.0.1:5123]`."""
        self._websocket("CONNECT", scope, 101)

    def websocket_rejected(self, scope: Mapping[str, Any], status: int) -> None:
        """`WebSocket REJECT /path [127.0.0.1:5123]`."""
        self._websocket("REJECT", scope, status)

    def websocket_disconnected(self, scope: Mapping[str, Any], code: int, seconds: float) -> None:
        """`WebSocket DISCONNECT /path [127.0.0.1:5123]`."""
        self._websocket("DISCONNECT", scope, 100)

    def _websocket(self, event: str, scope: Mapping[str, Any], status: int) -> None:
        text = f"WebSocket {event} {self._path(scope)} [{self._client(scope)}]"
        self._logger.info("%s", self._paint(status)(text))

    def _paint(self, status: int) -> Any:
        """The colour that Django's own server gives to a status."""
        style = self._style
        if status == 304:
            return style.HTTP_NOT_MODIFIED
        if status == 404:
            return style.HTTP_NOT_FOUND
        by_class = (style.HTTP_INFO, style.HTTP_SUCCESS, style.HTTP_REDIRECT, style.HTTP_BAD_REQUEST)
        return by_class[status // 100 - 1] if 100 <= status < 500 else style.HTTP_SERVER_ERROR


def _limits(options: Mapping[str, Any]) -> Limits:
    from fairway.server.limits import ConfigurationError
    from fairway.settings import limits_from_django

    names = ("connect_timeout", "max_message_bytes", "max_frame_bytes", "dev_tls")
    given = {name: options[name] for name in names if options.get(name) is not None}
    try:
        limits = limits_from_django()
        return replace(limits, shutdown_timeout=min(limits.shutdown_timeout, _SHUTDOWN_TIMEOUT), **given)
    except ConfigurationError as error:
        raise CommandError(str(error)) from error


def _tls(limits: Limits) -> TlsFiles | None:
    from fairway.server.limits import ConfigurationError
    from fairway.server.negotiation import alpn_protocols
    from fairway.server.tls.files import files_of

    try:
        return files_of(limits, alpn_protocols(limits))
    except ConfigurationError as error:
        raise CommandError(str(error)) from error


def _missing_application() -> str:
    # The settings module of a project is nearly always beside its asgi module.
    module = getattr(settings, "SETTINGS_MODULE", None) or "mysite.settings"
    package = module.split(".")[0]
    return (
        "runserver serves the application that the setting ASGI_APPLICATION names, and it is not set. "
        f'Add this line to {module}: ASGI_APPLICATION = "{package}.asgi.application"'
    )
