"""Access log lines in NCSA's common format, with pseudo-methods for WebSockets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, TextIO

from fairway.server.access import client_text, escaped, target_text

ActionLogger = Callable[[str, str, dict[str, Any]], object]

_WEBSOCKET = {
    "connecting": "WSCONNECTING",
    "connected": "WSCONNECT",
    "disconnected": "WSDISCONNECT",
    "rejected": "WSREJECT",
}

_CLIENT_LEFT = 499
"""As proxies write it: the client left before there was an answer."""


class AccessLogGenerator:
    """An action logger that writes `host - - [23/Nov/2026:22:15:00] "GET /path" 200 512` to a stream."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def __call__(self, protocol: str, action: str, details: dict[str, Any]) -> None:
        """Write the line of an action, if there is one for it."""
        if protocol == "http" and action == "complete":
            request = f"{details['method']} {details['path']}"
            self.write_entry(details["client"], datetime.now(), request, details["status"], details["size"])
        elif protocol == "websocket" and action in _WEBSOCKET:
            self.write_entry(details["client"], datetime.now(), f"{_WEBSOCKET[action]} {details['path']}")

    def write_entry(
        self,
        host: str,
        date: datetime,
        request: str,
        status: int | None = None,
        length: int | None = None,
        ident: str | None = None,
        user: str | None = None,
    ) -> None:
        """Write one line; what is None shows as a dash."""
        fields = [_or_dash(host), _or_dash(ident), _or_dash(user), date.strftime("[%d/%b/%Y:%H:%M:%S]"), f'"{request}"']
        self.stream.write(" ".join([*fields, _or_dash(status), _or_dash(length)]) + "\n")
        self.stream.flush()


def _or_dash(value: object) -> str:
    return "-" if value is None else str(value)


class ActionLog:
    """Fairway's events (`fairway.server.access.EventLog`) as Daphne's actions; text from peers is safe to print."""

    enabled = True

    def __init__(self, tell: ActionLogger) -> None:
        self._tell = tell

    def http_finished(self, scope: Mapping[str, Any], status: int | None, size: int, seconds: float) -> None:
        """`http`, `complete`: with method, status, size in bytes and time in seconds."""
        details = {
            **_details(scope),
            "method": escaped(str(scope["method"])),
            "status": status or _CLIENT_LEFT,
            "time_taken": seconds,
            "size": size,
        }
        self._tell("http", "complete", details)

    def websocket_connecting(self, scope: Mapping[str, Any]) -> None:
        """`websocket`, `connecting`."""
        self._tell("websocket", "connecting", _details(scope))

    def websocket_connected(self, scope: Mapping[str, Any]) -> None:
        """`websocket`, `connected`."""
        self._tell("websocket", "connected", _details(scope))

    def websocket_rejected(self, scope: Mapping[str, Any], status: int) -> None:
        """`websocket`, `rejected`."""
        self._tell("websocket", "rejected", _details(scope))

    def websocket_disconnected(self, scope: Mapping[str, Any], code: int, seconds: float) -> None:
        """`websocket`, `disconnected`."""
        self._tell("websocket", "disconnected", _details(scope))


def _details(scope: Mapping[str, Any]) -> dict[str, Any]:
    return {"path": target_text(scope), "client": client_text(scope)}
