"""Log lines about what peers do: one for each request or WebSocket event. (`FaultLog` has the lines about bad input.)

Whatever comes from a peer is made safe first. Control characters and quotes are escaped, so that nobody can forge a
line. Values of query parameters that look like credentials are replaced by `***`. The length is bounded.

`fairway.asgi.reporter.EventLog` defines the events. `AccessLog` writes them in the server's own format; the `runserver`
command writes them in Django's.
"""

from __future__ import annotations

import logging
import re
from urllib.parse import unquote_to_bytes

from fairway.asgi.reporter import EventLog
from fairway.asgi.types import ScopeView
from fairway.logs import FaultLog, escape_character

__all__ = [
    "AccessLog", "EventLog", "FaultLog", "client_text", "escaped", "path_text", "redacted", "target_text",
]  # fmt: skip

MAX_TARGET_LENGTH = 1024
"""Most characters of a path with its query in one line."""


# These names exactly, and every name with one of the endings below.
_REDACTED_NAMES = frozenset({"auth", "authorization", "code", "key", "otp", "passwd", "pwd", "sid", "sig", "ticket"})
_REDACTED_ENDINGS = (
    "token", "jwt", "secret", "password", "signature", "_key", "apikey", "session", "sessionid", "session_id",
)  # fmt: skip
_UNSAFE_IN_QUOTES = re.compile(r"[^ !#-\[\]-~]")


class AccessLog:
    """Writes to the logger `fairway.access`, at level INFO.

    `127.0.0.1:5123 "GET /path?x=1 HTTP/1.1" 200 512 0.003` (status, bytes of body, seconds), and
    `127.0.0.1:5123 "WS /path" connected`, `rejected 403` or `disconnected 1000 12.3s`.
    """

    __slots__ = ("_info", "_with_fields", "enabled")

    def __init__(self, enabled: bool = True, logger: logging.Logger | None = None, with_fields: bool = False) -> None:
        """`with_fields`: each record also has its content as `fields`, for formatters other than text."""
        logger = logger or logging.getLogger("fairway.access")
        self.enabled = enabled and logger.isEnabledFor(logging.INFO)
        self._info = logger.info
        self._with_fields = with_fields

    def _extra(self, scope: ScopeView, **fields: object) -> dict[str, object] | None:
        return {"fields": {**fields_of(scope), **fields}} if self._with_fields else None

    def http_finished(self, scope: ScopeView, status: int | None, size: int, seconds: float) -> None:
        """Write the line of a request. A missing status shows as a dash."""
        if self.enabled:
            self._info(
                '%s "%s %s HTTP/%s" %s %d %.3f',
                client_text(scope),
                escaped(str(scope["method"])),
                target_text(scope),
                scope["http_version"],
                "-" if status is None else status,
                size,
                seconds,
                extra=self._extra(
                    scope,
                    method=scope["method"],
                    http_version=scope["http_version"],
                    status=status,
                    bytes=size,
                    duration=round(seconds, 6),
                ),
            )

    def websocket_connecting(self, scope: ScopeView) -> None:
        """Write nothing: the result of the handshake follows soon, within the connect deadline."""

    def websocket_connected(self, scope: ScopeView) -> None:
        """Write that the connection is open."""
        if self.enabled:
            extra = self._extra(scope, event="connected")
            self._info('%s "WS %s" connected', client_text(scope), target_text(scope), extra=extra)

    def websocket_rejected(self, scope: ScopeView, status: int) -> None:
        """Write the HTTP status with which the handshake was refused."""
        if self.enabled:
            extra = self._extra(scope, event="rejected", status=status)
            self._info('%s "WS %s" rejected %d', client_text(scope), target_text(scope), status, extra=extra)

    def websocket_disconnected(self, scope: ScopeView, code: int, seconds: float) -> None:
        """Write the close code and how long the connection lasted."""
        if self.enabled:
            extra = self._extra(scope, event="disconnected", code=code, duration=round(seconds, 3))
            text = '%s "WS %s" disconnected %d %.1fs'
            self._info(text, client_text(scope), target_text(scope), code, seconds, extra=extra)


def fields_of(scope: ScopeView) -> dict[str, object]:
    """The fields that describe a request: `address`, `path` (as the peer wrote it, with its query, without
    credentials), and `user_agent` if it is known.
    """
    client = scope.get("client")
    fields: dict[str, object] = {
        "address": str(client[0]) if client and client[0] else None,
        "path": (_path(scope) + _query(scope))[:MAX_TARGET_LENGTH],
    }
    for name, value in scope.get("headers", ()):
        if name == b"user-agent":
            fields["user_agent"] = value[:MAX_TARGET_LENGTH].decode("latin-1")
            break
    return fields


def client_text(scope: ScopeView) -> str:
    """The peer as `host:port`, with brackets around an IPv6 address. A dash if it has none, as on a Unix socket."""
    client = scope.get("client")
    if not client or not client[0]:
        return "-"
    host, port = client
    host = escaped(str(host), 255)
    if port is None:
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def path_text(scope: ScopeView) -> str:
    """The path as the peer wrote it, safe to print."""
    return escaped(_path(scope))


def target_text(scope: ScopeView) -> str:
    """The path as the peer wrote it, with its query, but without credentials and safe to print."""
    return escaped(_path(scope) + _query(scope))


def _path(scope: ScopeView) -> str:
    raw_path = scope.get("raw_path")
    return raw_path.decode("latin-1") if raw_path is not None else str(scope["path"])


def _query(scope: ScopeView) -> str:
    """The question mark and the query, without credentials. Only as much of it is looked at as could be shown: a query
    of 64 KiB may have 20,000 parameters.
    """
    query = scope.get("query_string", b"")
    if not query:
        return ""
    more = "..." if len(query) > MAX_TARGET_LENGTH else ""
    return f"?{redacted(query[:MAX_TARGET_LENGTH]).decode('latin-1')}{more}"


def escaped(text: str, limit: int = MAX_TARGET_LENGTH) -> str:
    """The text as one line of printable ASCII, with quotes and backslashes escaped, cut off with `...` at `limit`."""
    if len(text) > limit:
        text = text[:limit] + "..."
    return _UNSAFE_IN_QUOTES.sub(_escape, text)


def redacted(query: bytes) -> bytes:
    """The query string with `***` for each value whose name suggests a credential. The rest is unchanged."""
    if b"=" not in query:
        return query
    return b"&".join(_redacted_pair(pair) for pair in query.split(b"&"))


def _redacted_pair(pair: bytes) -> bytes:
    name, equals, _ = pair.partition(b"=")
    if not equals:
        return pair
    # Decoded as the application will decode it: percent-encoding must not hide a name.
    plain = unquote_to_bytes(name).decode("latin-1").lower().replace("-", "_")
    if plain in _REDACTED_NAMES or plain.endswith(_REDACTED_ENDINGS):
        return name + b"=***"
    return pair


def _escape(match: re.Match[str]) -> str:
    character = match.group()
    return "\\" + character if character in '"\\' else escape_character(character)
