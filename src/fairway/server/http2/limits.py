"""The bounds of the protocol core, derived from the server's limits."""

from __future__ import annotations

from fairway.protocols.http2 import Http2Limits
from fairway.server.limits import Limits


def protocol_limits(limits: Limits) -> Http2Limits:
    return Http2Limits(
        max_streams=limits.http2_max_streams,
        stream_window=limits.http2_stream_window,
        max_stream_window=max(limits.http2_stream_window, limits.http2_max_stream_window),
        connection_window=limits.http2_connection_window,
        held_bytes=limits.http2_held_bytes,
        max_discarded_bytes=limits.http2_discarded_bytes,
        discard_timeout=limits.close_timeout,
        max_header_bytes=limits.max_header_bytes,
        max_header_count=limits.max_header_count,
        max_cookies=limits.max_cookies,
        table_bytes=limits.http2_table_bytes,
        max_continuations=limits.http2_continuations,
        patience=limits.http2_patience,
        websocket=limits.http2_websocket,
    )


def stream_high_water(limits: Limits) -> int:
    """How many bytes may wait for one request before its application has to wait."""
    return limits.http2_stream_outbox_bytes or min(limits.outbox_high_water, limits.http2_outbox_bytes)
