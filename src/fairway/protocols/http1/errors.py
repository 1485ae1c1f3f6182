"""How a peer can break HTTP/1.1.

The error stays inside this folder: readers raise it, `Http1Protocol` turns it into a `RequestFailed` event, so that
nothing a peer sends ever raises out of the connection. The caller's mistakes are a `LocalProtocolError`, which every
version of HTTP has (`fairway.protocols.http.errors`).
"""

from __future__ import annotations


class RemoteProtocolError(Exception):
    """The peer broke the protocol: the status to answer with and a lower-case reason naming the RFC section."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.status}: {self.reason}"


class PrefaceFound(RemoteProtocolError):
    """Instead of a request line there is that of the preface of HTTP/2."""


class OtherProtocolFound(RemoteProtocolError):
    """Instead of a request line there is a line that names no version of HTTP."""
