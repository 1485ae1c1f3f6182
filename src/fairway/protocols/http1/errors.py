"""The two ways HTTP/1.1 can go wrong, told apart by whose fault it is.

``LocalProtocolError`` is public: the caller asked for something that must not go on the wire.
``RemoteProtocolError`` stays inside this folder: readers raise it, ``Http1Protocol`` turns it into a
``RequestFailed`` event, so that nothing a peer sends ever raises out of the connection.
"""

from __future__ import annotations


class LocalProtocolError(Exception):
    """The caller broke the protocol; nothing was produced and no state has changed."""


class RemoteProtocolError(Exception):
    """The peer broke the protocol: the status to answer with and a lower-case reason naming the RFC section."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.status}: {self.reason}"
