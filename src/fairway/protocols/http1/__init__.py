"""HTTP/1.1 (RFC 9110, RFC 9112) as a pure state machine: a strict request parser and a response writer.

It opens no socket, reads no clock and knows no ASGI. `fairway.server` drives it: one `Http1Protocol` per
TCP connection, until a WebSocket handshake or the preface of HTTP/2 takes the connection over.
"""

from __future__ import annotations

from fairway.protocols.http.errors import LocalProtocolError
from fairway.protocols.http1.events import (
    BodyReceived,
    Event,
    OtherProtocolReceived,
    PrefaceReceived,
    RequestEnded,
    RequestFailed,
    RequestHead,
)
from fairway.protocols.http1.protocol import Http1Protocol
from fairway.protocols.http1.response import PlainHeads

__all__ = [
    "BodyReceived",
    "Event",
    "Http1Protocol",
    "LocalProtocolError",
    "OtherProtocolReceived",
    "PlainHeads",
    "PrefaceReceived",
    "RequestEnded",
    "RequestFailed",
    "RequestHead",
]
