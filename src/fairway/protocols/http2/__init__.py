"""The server's side of HTTP/2 (RFC 9113): frames, field compression (RFC 7541), streams and windows.

It opens no socket, reads no clock and knows no ASGI. `fairway.server` drives it: one `Http2Protocol` for each
connection.
"""

from __future__ import annotations

from fairway.protocols.http.errors import LocalProtocolError
from fairway.protocols.http2.errors import ErrorCode
from fairway.protocols.http2.events import (
    DataReceived,
    Event,
    GoingAway,
    PingAcknowledged,
    RequestFailed,
    RequestHead,
    RequestReceived,
    StreamRefused,
    StreamReset,
    Terminated,
    WindowOpened,
)
from fairway.protocols.http2.frames import PREFACE, data_head, ping_frame
from fairway.protocols.http2.limits import Http2Limits
from fairway.protocols.http2.protocol import Http2Protocol
from fairway.protocols.http2.response import PlainBlocks
from fairway.protocols.http2.streams import Stream

__all__ = [
    "PREFACE",
    "DataReceived",
    "ErrorCode",
    "Event",
    "GoingAway",
    "Http2Limits",
    "Http2Protocol",
    "LocalProtocolError",
    "PingAcknowledged",
    "PlainBlocks",
    "RequestFailed",
    "RequestHead",
    "RequestReceived",
    "Stream",
    "StreamRefused",
    "StreamReset",
    "Terminated",
    "WindowOpened",
    "data_head",
    "ping_frame",
]
