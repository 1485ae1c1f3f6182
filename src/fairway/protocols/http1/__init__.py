"""HTTP/1.1 (RFC 9110, RFC 9112) as a pure state machine: a strict request parser and a response writer.

It opens no socket, reads no clock and knows nothing of ASGI. `fairway.server` uses one `Http1Protocol` for each TCP
connection, until a WebSocket handshake or the preface of HTTP/2 ends HTTP/1.1 on it.
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
