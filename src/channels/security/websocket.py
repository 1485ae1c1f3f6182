"""Who may open a WebSocket, or ask an HTTP consumer: only pages of allowed origins.

A browser lets any page open a WebSocket to any site, or post to it, with the user's cookies. It names the page's
origin, though, and `OriginValidator` goes by that. Other clients can name any origin, so this does not authenticate
anybody.
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

# Long enough for every origin a browser sends, short enough that log lines stay lines.
_MAX_LOGGED_CHARACTERS = 200
_DEFAULT_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}


# Without an origin a browser sends only these across sites, and they change nothing (RFC 9110 section 9.2.1).
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_KINDS = {"websocket": "WebSocket", "http": "HTTP request"}


class OriginValidator(TailCall):
    """Hands WebSockets on whose Origin header fits one of `allowed_origins`; rejects and logs the others.

    Around HTTP consumers it does the same with requests, which are answered with 403; those of safe methods (GET, HEAD,
    OPTIONS, TRACE) need no origin, since browsers leave it out within a site. More than one Origin header is none.

    `"example.com"` allows that host with any scheme and port, `".example.com"` its subdomains as well,
    `"https://example.com:8443"` exactly this, and `"*"` everything, connections without an origin included.
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
        # A client names one origin (RFC 6454 section 7.3). Nobody can say which of several it means.
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
        """Whether the connection may be opened; without an origin only if `"*"` is allowed."""
        if parsed_origin is None and "*" not in self.allowed_origins:
            return False
        return self.validate_origin(parsed_origin)

    def validate_origin(self, parsed_origin: ParseResult | None) -> bool:
        """Whether one of the allowed origins fits."""
        for pattern in self.allowed_origins:
            if pattern == "*" or self.match_allowed_origin(parsed_origin, pattern):
                return True
        return False

    def match_allowed_origin(self, parsed_origin: ParseResult | None, pattern: str) -> bool:
        """Whether the origin fits this one allowed origin."""
        hostname = None if parsed_origin is None else parsed_origin.hostname
        if parsed_origin is None or hostname is None:
            return False
        # A dot at the end says that the name is complete. Django removes it from the Host header, too.
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
        """Return the port of the origin, or the default one of its scheme; ValueError if it is none."""
        return origin.port if origin.port is not None else _DEFAULT_PORTS.get(origin.scheme)


class _AllowedHostsValidator(OriginValidator):
    """Reads the settings at every handshake, because tests change them long after the application was imported."""

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


# These come from settings. Parsing them each time took a twentieth of a handshake.
@functools.lru_cache(maxsize=256)
def _parsed_pattern(pattern: str) -> tuple[ParseResult, str]:
    """An allowed origin, and its host, with or without a scheme before it."""
    parsed = urlparse(pattern.lower())
    if parsed.scheme:
        return parsed, parsed.hostname or ""
    return parsed, urlparse(f"//{pattern}").hostname or pattern


def _parsed(origin: str | None) -> ParseResult | None:
    if origin is None:
        return None
    # A site is mostly opened from a few origins. Clients choose them, so long ones are not kept.
    return _kept_origin(origin) if len(origin) <= _MAX_LOGGED_CHARACTERS else _parsed_origin(origin)


def _parsed_origin(origin: str) -> ParseResult | None:
    try:
        return urlparse(origin)
    except ValueError:
        # The address in brackets is not an IPv6 address.
        return None


_kept_origin = functools.lru_cache(maxsize=256)(_parsed_origin)


def _loggable(text: str | None) -> str:
    """Return what the client sent on one line: quoted, escaped, and cut."""
    if text is None:
        return "(none)"
    return ascii(text if len(text) <= _MAX_LOGGED_CHARACTERS else text[:_MAX_LOGGED_CHARACTERS] + "...")
