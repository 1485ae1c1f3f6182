"""How often a connection may do what costs us more than the peer.

RFC 9113 section 10.5 lists frames that are each allowed, but that a peer can send without end. Each of them costs the
peer tokens; time and answered requests give tokens back. A connection without tokens is ended with ENHANCE_YOUR_CALM.

A WINDOW_UPDATE is free if we have sent content since the last one: two of them, one for the stream and one for the
connection, and more if it was a lot of content.

What is not too much may be too much at once: a read holds thousands of short frames. So only some are taken in a call,
fewer if they take longer.
"""

from __future__ import annotations

from fairway.protocols.http2.frames import DEFAULT_WINDOW

TOKENS_PER_SECOND = 20
TOKENS_PER_ANSWER = 6

# What things cost.
RESET = 1
"""The peer resets a stream before it is answered. A browser that leaves a page does this to every open stream. The
applications that still run for such streams are bounded too (`ConnectionState.is_full`)."""
FAULT = 5
"""The peer makes us reset a stream."""
BYTES_PER_TOKEN = 1024
"""Bytes, for each token, of a field block that is decoded in vain."""
SETTINGS = 3
TRIFLE = 1
"""A PING, PRIORITY or unknown frame, DATA without content, a WINDOW_UPDATE without need, a refused stream."""

FRAMES_AT_ONCE = 64
"""How many short frames are taken at once: a tenth of a millisecond."""
MESSAGE = 4
"""How many frames the content of a tunnel counts for: it is handled at once, and may be a message."""
MESSAGES_AT_ONCE = 128
"""How many messages of different tunnels are taken at once: one of each, as from so many sockets."""
IN_A_ROW = 8
"""How many of them a message counts for that follows another of the same tunnel."""
BYTES_PER_FRAME = 32
"""Bytes of a field block, or of settings, that take as long as a short frame."""

# Bytes of sent content for which one more WINDOW_UPDATE is free.
_BYTES_PER_UPDATE = 256
_MOST_FREE_UPDATES = 1000


class Budget:
    """The tokens of one connection, never more than `most`."""

    __slots__ = ("_free_updates", "_seen", "_since", "departed", "most", "now", "room", "tokens")

    departed: int
    """How many streams with an owner were reset in the data being processed: their applications may run on, and are
    not counted as such yet.
    """

    now: float
    """The time at which the data being processed was received. The caller sets it."""

    room: int
    """How many more short frames are taken at once."""

    def __init__(self, most: int, now: float) -> None:
        self.most = most
        self.tokens: float = most
        self.departed = 0
        self.room = FRAMES_AT_ONCE
        self.now = self._since = now
        self._seen = DEFAULT_WINDOW
        self._free_updates = 0

    def spend(self, cost: int) -> bool:
        """Take tokens. False if there were too few."""
        if self.tokens < cost:
            # Tokens for the time that has passed are added only when they are needed.
            self.tokens = min(self.most, self.tokens + (self.now - self._since) * TOKENS_PER_SECOND)
            self._since = self.now
        self.tokens -= cost
        return self.tokens >= 0

    def earn(self) -> None:
        """A request has been answered."""
        self.tokens = min(self.most, self.tokens + TOKENS_PER_ANSWER)

    def is_due(self, window: int) -> bool:
        """Whether a WINDOW_UPDATE is free. `window` is the connection's window before the update."""
        sent = self._seen - window
        if sent > 0:
            self._seen = window
            self._free_updates = min(_MOST_FREE_UPDATES, self._free_updates + 2 + sent // _BYTES_PER_UPDATE)
        if not self._free_updates:
            return False
        self._free_updates -= 1
        return True

    def opened(self, window: int) -> None:
        """The connection's window has grown to this size."""
        self._seen = window
