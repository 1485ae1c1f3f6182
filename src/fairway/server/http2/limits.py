"""The bounds of the protocol core, derived from the server's limits."""

from __future__ import annotations

from fairway.protocols.http2 import Http2Limits
from fairway.server.limits import Limits


def protocol_limits(limits: Limits) -> Http2Limits:
    return Http2Limits(
        max_streams=limits.http2_max_streams,
        stream_window=limits.http2_stream_window,
        max_stream_window=max(limits.http2_stream_window, 1 << 20),
        connection_window=limits.http2_connection_window,
        held_bytes=limits.http2_held_bytes,
        discard_timeout=limits.close_timeout,
        max_header_bytes=limits.max_header_bytes,
        max_header_count=limits.max_header_count,
        max_cookies=limits.max_cookies,
        max_continuations=limits.http2_continuations,
        patience=limits.http2_patience,
        websocket=limits.http2_websocket,
    )
