"""Errors for peers that break HTTP/1.1.

These errors never leave this package: the readers raise them, and `Http1Protocol` turns them into `RequestFailed`
events, so that it never raises because of what a peer sends. Mistakes of the caller raise `LocalProtocolError`, which
all versions of HTTP share (`fairway.protocols.http.errors`).
"""

from __future__ import annotations


class RemoteProtocolError(Exception):
    """The peer broke the protocol. `status` is for the answer, and `reason` names the section of the RFC."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.status}: {self.reason}"


class PrefaceFound(RemoteProtocolError):
    """The first line is the beginning of the HTTP/2 preface, not a request line."""


class OtherProtocolFound(RemoteProtocolError):
    """The first line names no version of HTTP, so it is not a request line."""
