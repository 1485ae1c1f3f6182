"""`Server`: Daphne's arguments, served by Fairway.

Each argument becomes a field of Fairway's `Config` or `Limits`, or a wrapper around the application. What `FAIRWAY` in
Django's settings says holds for everything that the arguments leave at its default.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from django.conf import settings

from daphne.access import ActionLog, ActionLogger
from daphne.endpoints import Endpoint, parse
from daphne.root_path import RootPath
from daphne.timeouts import TimeLimits
from fairway.departure import Departure
from fairway.server.config import BindError, Config
from fairway.server.limits import SETTING, ConfigurationError, Limits
from fairway.server.process import StopEvent, run
from fairway.server.proxy import PRIVATE, ProxyHeaders, trusted_networks
from fairway.settings import limits_from_django

logger = logging.getLogger("daphne.server")

_MIB = 1024 * 1024

TRUSTED_PROXIES = "FORWARDED_ALLOW_IPS"
"""The environment variable that names whose proxy headers count. Without it, those of private addresses do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Places(Config):
    """A configuration for several places to listen, whose sockets are opened apart."""

    endpoints: tuple[Endpoint, ...] = ()

    def unlink_unix_socket(self) -> None:
        """Remove the files of all Unix sockets."""
        for endpoint in self.endpoints:
            endpoint.config.unlink_unix_socket()


class _Limit(NamedTuple):
    """One of Daphne's arguments, and the field of `Limits` that it is."""

    field: str
    argument: str
    value: Any
    default: float

    def applied_to(self, limits: Limits) -> Limits:
        try:
            return replace(limits, **{self.field: self.value})
        except ConfigurationError as error:
            raise ConfigurationError(str(error).replace(self.field, self.argument, 1)) from None


class Server:
    """Serves `application` on `endpoints`, when `run` is called.

    `proxy_forwarded_*_header` are names of headers, believed if the peer is a trusted proxy. `action_logger` is called
    with protocol, action and details. `ready_callable` is called once connections are accepted. Accepted for their
    name, and without effect: `signal_handlers`, since SIGINT and SIGTERM stop it whenever it runs in the main thread,
    and `request_buffer_size`, since bodies are streamed as they come.
    """

    def __init__(
        self,
        application: Any,
        endpoints: Sequence[str] | None = None,
        signal_handlers: bool = True,
        action_logger: ActionLogger | None = None,
        http_timeout: float | None = None,
        request_buffer_size: int = 8192,
        websocket_timeout: float = 86400,
        websocket_connect_timeout: float = 20,
        ping_interval: float = 20,
        ping_timeout: float = 30,
        root_path: str = "",
        proxy_forwarded_address_header: str | None = None,
        proxy_forwarded_port_header: str | None = None,
        proxy_forwarded_proto_header: str | None = None,
        verbosity: int = 1,
        websocket_handshake_timeout: float = 5,
        websocket_max_message_size: int = _MIB,
        websocket_max_frame_size: int = _MIB,
        application_close_timeout: float = 10,
        ready_callable: Callable[[], object] | None = None,
        server_name: str = "daphne",
    ) -> None:
        self.application = application
        self.endpoints = list(endpoints or [])
        self.action_logger = action_logger
        self.http_timeout = http_timeout
        self.websocket_timeout = websocket_timeout
        self.root_path = root_path
        self.proxy_headers = (
            proxy_forwarded_address_header,
            proxy_forwarded_port_header,
            proxy_forwarded_proto_header,
        )
        self.verbosity = verbosity
        self.ready_callable = ready_callable
        self.server_name = server_name
        self.listening_addresses: list[tuple[str, int]] = []
        self.stop_event = StopEvent()
        self.departure: Departure | None = None
        connect_timeout = min(websocket_connect_timeout, websocket_handshake_timeout)
        self._limits = (
            _Limit("connect_timeout", "websocket_connect_timeout", connect_timeout, 5),
            _Limit("ping_interval", "ping_interval", ping_interval, 20),
            _Limit("ping_timeout", "ping_timeout", ping_timeout, 30),
            _Limit("max_message_bytes", "websocket_max_message_size", websocket_max_message_size or sys.maxsize, _MIB),
            _Limit("max_frame_bytes", "websocket_max_frame_size", websocket_max_frame_size or sys.maxsize, _MIB),
            _Limit("disconnect_timeout", "application_close_timeout", application_close_timeout, 10),
        )

    def run(self) -> None:
        """Serve until told to stop. Exits the process with 1 if it cannot listen, with 3 if the application refuses."""
        if not self.endpoints:
            logger.error("No endpoints. This server will not listen on anything.")
            sys.exit(1)
        try:
            code = self.serve()
        except (BindError, ConfigurationError) as error:
            logger.critical("%s", error)
            sys.exit(1)
        if code:
            sys.exit(code)

    def stop(self) -> None:
        """Stop gracefully; from any thread."""
        self.stop_event.set()

    def log_action(self, protocol: str, action: str, details: dict[str, Any]) -> None:
        """Tell the action logger, if there is one; for subclasses to override."""
        if self.action_logger is not None:
            self.action_logger(protocol, action, details)

    def serve(self) -> int:
        """Serve until told to stop, and return the exit code. Raises `BindError` or `ConfigurationError`."""
        endpoints = [parse(description) for description in self.endpoints]
        config = self.config(endpoints)
        application = self.wrapped_application()
        with ExitStack() as listening:
            sockets = _bind(endpoints, listening)
            self.listening_addresses = [_address(opened) for opened in sockets]
            return run(
                application,
                config,
                sockets=sockets,
                access_log=ActionLog(self.log_action),
                on_ready=self._ready,
                stop_event=self.stop_event,
                departure=self.departure,
            )

    def config(self, endpoints: Sequence[Endpoint] = ()) -> Config:
        """Fairway's configuration for these places to listen."""
        return _Places(
            endpoints=tuple(endpoints),
            server_name=self.server_name,
            limits=self.limits(),
        )

    def limits(self) -> Limits:
        """Fairway's limits: the arguments', where they are not Daphne's defaults; `FAIRWAY`'s; Daphne's defaults."""
        limits = limits_from_django()
        set_by_project = getattr(settings, SETTING, {}) if settings.configured else {}
        for limit in self._limits:
            if limit.value != limit.default or limit.field.upper() not in set_by_project:
                limits = limit.applied_to(limits)
        return limits

    def wrapped_application(self) -> Any:
        """The application, in what Daphne's arguments ask for and Fairway's server does not do itself."""
        application: Any = TimeLimits(self.application, self.http_timeout, self.websocket_timeout)
        if self.root_path.strip("/"):
            application = RootPath(application, self.root_path)
        if not any(self.proxy_headers):
            return application
        address, port, proto = (name.lower().encode("latin-1") if name else None for name in self.proxy_headers)
        return ProxyHeaders(
            application, _trusted_proxies(), address_header=address, port_header=port, proto_header=proto
        )

    def _ready(self, addresses: list[str]) -> None:
        for address in addresses:
            logger.info("Listening on %s", address)
        if self.ready_callable is not None:
            self.ready_callable()


def _trusted_proxies() -> Any:
    named = [address.strip() for address in os.environ.get(TRUSTED_PROXIES, "").split(",") if address.strip()]
    return trusted_networks(named or PRIVATE)


def _bind(endpoints: list[Endpoint], listening: ExitStack) -> list[socket.socket]:
    """Open the sockets of all endpoints; leaving `listening` closes them."""
    sockets: list[socket.socket] = []
    for endpoint in endpoints:
        for opened in endpoint.bind():
            listening.callback(opened.close)
            sockets.append(opened)
    return sockets


def _address(listening: socket.socket) -> tuple[str, int]:
    name = listening.getsockname()
    return (str(name), 0) if listening.family == socket.AF_UNIX else (name[0], name[1])
