"""The bounds of HTTP/2 connections, and what a peer is told of them."""

from __future__ import annotations

from dataclasses import dataclass, field

from fairway.protocols.http2 import frames


@dataclass(frozen=True, slots=True, kw_only=True)
class Http2Limits:
    """One object for all connections of a server. Sizes are bytes."""

    max_streams: int = 100
    """Open at once; one more is refused, and so it is when twice as many applications run."""

    stream_window: int = 65535
    """Of content that the peer may send on a stream ahead of what has been taken."""

    max_stream_window: int = 1 << 20
    """Up to which the window of a stream is doubled whose content is taken at once."""

    connection_window: int = 1 << 20
    """As `stream_window`, for all streams; at least 65,535."""

    held_bytes: int = 4 << 20
    """Of content that has come and was not taken, of all streams: above it nothing more is asked for."""

    max_discarded_bytes: int = 4 << 20
    """Of content that comes behind the end of its response, and is dropped; beyond it the stream is reset. A stream's
    window may allow more."""

    discard_timeout: float = 5.0
    """How long such content may come, in seconds."""

    max_header_bytes: int = 65536
    """Of the fields of a request, decoded, each counted as 32 more than it has: beyond it 431, beyond twice as much the
    end of the connection."""

    max_header_count: int = 100
    """Fields of a request, its cookies counted as one; beyond it 431."""

    max_cookies: int = 200
    """Cookies of a request; beyond it 431."""

    table_bytes: int = 4096
    """Of the table of fields that a peer may refer to (HPACK)."""

    max_continuations: int = 8
    """Frames that one field block may take besides its first; beyond it the end of the connection."""

    patience: int = 200
    """Tokens for what costs us more than the peer; see `fairway.protocols.http2.patience`."""

    websocket: bool = True
    """Whether extended CONNECT is offered (RFC 8441)."""

    greeting: bytes = field(init=False, repr=False, compare=False)
    """What a server sends first (RFC 9113 section 3.4): settings, and the rest of the connection's window."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "greeting", self._make_greeting())

    def _make_greeting(self) -> bytes:
        settings = [
            (frames.MAX_CONCURRENT_STREAMS, self.max_streams),
            (frames.MAX_HEADER_LIST_SIZE, self.max_header_bytes),
            # The tree of RFC 7540 is not looked at; the field `priority` is passed on (RFC 9218).
            (frames.NO_RFC7540_PRIORITIES, 1),
        ]
        if self.table_bytes != 4096:
            settings.append((frames.HEADER_TABLE_SIZE, self.table_bytes))
        if self.stream_window != frames.DEFAULT_WINDOW:
            settings.append((frames.INITIAL_WINDOW_SIZE, self.stream_window))
        if self.websocket:
            settings.append((frames.ENABLE_CONNECT_PROTOCOL, 1))
        greeting = frames.settings_frame(settings)
        increment = self.connection_window - frames.DEFAULT_WINDOW
        return greeting + frames.window_update_frame(0, increment) if increment > 0 else greeting
