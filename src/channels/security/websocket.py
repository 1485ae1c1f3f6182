"""Lets only pages of allowed origins open WebSockets and send requests to HTTP consumers.

A browser lets any page open a WebSocket to any site, or post to it, with the user's cookies. But the browser also sends
the page's origin, which `OriginValidator` checks. Other clients can send any origin, so this is no authentication.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Awaitable, Iterable
from typing import Any
from urllib.parse import ParseResult, urlparse

from django.conf import settings
from django.utils.http import is_same_domain

from channels.generic.websocket import AsyncWebsocketConsumer
from channels.middleware import Application, Receive, Scope, Send, TailCall, enter_application
from fairway.logs import FaultLog, get_logger

logger = get_logger("django.channels.security")
_refusals = FaultLog(logger, per_second=50)

# Long enough for every origin of a browser, and short enough for one line of a log.
_MAX_LOGGED_CHARACTERS = 200
_DEFAULT_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}


# Across sites, browsers send only these methods without an origin. They change nothing (RFC 9110 section 9.2.1).
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_KINDS = {"websocket": "WebSocket", "http": "HTTP request"}


class OriginValidator(TailCall):
    """Passes on WebSockets whose Origin header matches one of `allowed_origins`. Rejects and logs all others.

    It does the same for HTTP requests, which are rejected with 403. Requests with a safe method (GET, HEAD, OPTIONS,
    TRACE) need no origin, because browsers do not send it within a site. Several Origin headers count as no origin.

    `"example.com"` allows this host with any scheme and port, and `".example.com"` also its subdomains.
    `"https://example.com:8443"` allows exactly this origin. `"*"` allows everything, even connections without an
    origin.
    """

    def __init__(self, application: Application, allowed_origins: Iterable[str]) -> None:
        self.application = application
        self.allowed_origins = allowed_origins

    def enter(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[Any]:
        kind = scope["type"]
        if kind not in _KINDS:
            raise ValueError(f"You cannot use OriginValidator on a {kind} connection: it is for websocket and http")
        origins = _origins(scope)
        needs_none = kind == "http" and not origins and scope["method"] in _SAFE_METHODS
        # A client sends one origin (RFC 6454 section 7.3). Of several, nobody can tell the right one.
        if needs_none or self.valid_origin(_parsed(origins[0]) if len(origins) == 1 else None):
            return enter_application(self.application, scope, receive, send)
        _refusals.report(
            time.monotonic(),
            "origin not allowed",
            "%s rejected: origin %s is not allowed [path %s]",
            _KINDS[kind],
            _loggable(", ".join(origins) if origins else None),
            _loggable(scope.get("path")),
        )
        return _forbid(send) if kind == "http" else WebsocketDenier()(scope, receive, send)

    def valid_origin(self, parsed_origin: ParseResult | None) -> bool:
        """Whether the connection may be opened. Without an origin, only if `"*"` is allowed."""
        if parsed_origin is None and "*" not in self.allowed_origins:
            return False
        return self.validate_origin(parsed_origin)

    def validate_origin(self, parsed_origin: ParseResult | None) -> bool:
        """Whether the origin matches one of the allowed origins."""
        for pattern in self.allowed_origins:
            if pattern == "*" or self.match_allowed_origin(parsed_origin, pattern):
                return True
        return False

    def match_allowed_origin(self, parsed_origin: ParseResult | None, pattern: str) -> bool:
        """Whether the origin matches this allowed origin."""
        hostname = None if parsed_origin is None else parsed_origin.hostname
        if parsed_origin is None or hostname is None:
            return False
        # A dot at the end marks a complete name. Django also removes it from the Host header.
        hostname = hostname.removesuffix(".")
        parsed_pattern, host = _parsed_pattern(pattern)
        if not parsed_pattern.scheme:
            return is_same_domain(hostname, host)
        try:
            return (
                parsed_origin.scheme == parsed_pattern.scheme
                and self.get_origin_port(parsed_origin) == self.get_origin_port(parsed_pattern)
                and is_same_domain(hostname, host)
            )
        except ValueError:
            # The port is not a number.
            return False

    def get_origin_port(self, origin: ParseResult) -> int | None:
        """Return the port of the origin, or the default port of its scheme. Raises ValueError if it is not a number."""
        return origin.port if origin.port is not None else _DEFAULT_PORTS.get(origin.scheme)


class _AllowedHostsValidator(OriginValidator):
    """Reads the settings at each handshake, because tests change them after the application was imported."""

    def __init__(self, application: Application) -> None:
        self.application = application

    @property
    def allowed_origins(self) -> Iterable[str]:  # type: ignore[override]  # computed where the base class stores
        hosts: list[str] = settings.ALLOWED_HOSTS
        return [".localhost", "127.0.0.1", "[::1]"] if settings.DEBUG and not hosts else hosts


def AllowedHostsOriginValidator(application: Application) -> OriginValidator:
    """Wrap `application` in an `OriginValidator` that allows the hosts of the setting `ALLOWED_HOSTS`."""
    return _AllowedHostsValidator(application)


class WebsocketDenier(AsyncWebsocketConsumer):
    """Rejects every WebSocket, which servers answer with status 403."""

    async def connect(self) -> None:
        await self.close()


async def _forbid(send: Send) -> None:
    headers = [(b"content-type", b"text/plain")]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": b"The origin of this request is not allowed."})


def _origins(scope: Scope) -> list[str]:
    return [value.decode("latin1") for name, value in scope.get("headers", ()) if name == b"origin"]


# Allowed origins are cached, because parsing them takes a twentieth of the time of a handshake.
@functools.lru_cache(maxsize=256)
def _parsed_pattern(pattern: str) -> tuple[ParseResult, str]:
    """Parse an allowed origin, with or without a scheme. Return it with its host."""
    parsed = urlparse(pattern.lower())
    if parsed.scheme:
        return parsed, parsed.hostname or ""
    return parsed, urlparse(f"//{pattern}").hostname or pattern


def _parsed(origin: str | None) -> ParseResult | None:
    if origin is None:
        return None
    # Most connections come from a few origins, which are cached. Clients choose them, so long ones are not cached.
    return _kept_origin(origin) if len(origin) <= _MAX_LOGGED_CHARACTERS else _parsed_origin(origin)


def _parsed_origin(origin: str) -> ParseResult | None:
    try:
        return urlparse(origin)
    except ValueError:
        # The address in brackets is not an IPv6 address.
        return None


_kept_origin = functools.lru_cache(maxsize=256)(_parsed_origin)


def _loggable(text: str | None) -> str:
    """Return a client's text for a log line: quoted, escaped and shortened."""
    if text is None:
        return "(none)"
    return ascii(text if len(text) <= _MAX_LOGGED_CHARACTERS else text[:_MAX_LOGGED_CHARACTERS] + "...")
