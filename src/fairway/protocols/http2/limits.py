"""The bounds of HTTP/2 connections, and the settings that announce them to the peer."""

from __future__ import annotations

from dataclasses import dataclass, field

from fairway.protocols.http2 import frames


@dataclass(frozen=True, slots=True, kw_only=True)
class Http2Limits:
    """One object for all connections of a server. Sizes are in bytes."""

    max_streams: int = 100
    """Most streams open at once. Further ones are refused, also while twice as many applications are running."""

    stream_window: int = 65535
    """How much content the peer may send on one stream ahead of what has been taken."""

    max_stream_window: int = 1 << 20
    """How far the window grows, by doubling, of a stream whose content is taken at once."""

    connection_window: int = 1 << 20
    """Like `stream_window`, for all streams together; at least 65,535."""

    held_bytes: int = 4 << 20
    """How much content of all streams may wait to be taken; above it no more is asked for."""

    max_discarded_bytes: int = 4 << 20
    """How much content may arrive on a stream after its response has ended. It is dropped, and beyond this the stream
    is reset. A stream's window may allow more."""

    discard_timeout: float = 5.0
    """How many seconds such content may go on arriving."""

    max_header_bytes: int = 65536
    """Size of a request's decoded fields, each counted as its length plus 32; beyond it 431, beyond twice as much the
    connection ends."""

    max_header_count: int = 100
    """Most fields in a request, all cookies counted as one; beyond it 431."""

    max_cookies: int = 200
    """Most cookies in a request; beyond it 431."""

    table_bytes: int = 4096
    """Size of the HPACK table, to whose fields a peer may refer."""

    max_continuations: int = 8
    """Most frames in one field block besides the first; beyond it the connection ends."""

    patience: int = 200
    """Tokens for what costs us more than the peer: see `fairway.protocols.http2.patience`."""

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
            # The priority tree of RFC 7540 is ignored. The field `priority` reaches the application (RFC 9218).
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
