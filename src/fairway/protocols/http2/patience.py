"""How much of what costs us more than the peer a connection may do.

RFC 9113 section 10.5 names what a peer can send without end although each frame is allowed. Each of these takes tokens;
time and answered requests give them. A connection that has none left is ended with ENHANCE_YOUR_CALM.

A WINDOW_UPDATE is free where content was sent: two for each time that some was found to be sent since the last one, for
the stream and the connection, and more the more it was.
"""

from __future__ import annotations

from fairway.protocols.http2.frames import DEFAULT_WINDOW

TOKENS_PER_SECOND = 20
TOKENS_PER_ANSWER = 6

# What it takes.
RESET = 1
"""The peer resets a stream before it is answered. A browser that leaves a page does so with all streams that are open;
and applications that still run for such streams are bounded, too (`ConnectionState.is_full`)."""
FAULT = 5
"""The peer makes us reset a stream."""
BYTES_PER_TOKEN = 1024
"""Of a field block that is decoded in vain."""
SETTINGS = 3
TRIFLE = 1
"""PING, PRIORITY, what is unknown, DATA without content, WINDOW_UPDATE without need, a refused stream."""

# For so many bytes of content that were sent, one more WINDOW_UPDATE is free.
_BYTES_PER_UPDATE = 256
_MOST_FREE_UPDATES = 1000


class Budget:
    """Tokens, at most `most`."""

    __slots__ = ("_free_updates", "_seen", "_since", "most", "now", "tokens")

    now: float
    """The time of what is being received."""

    def __init__(self, most: int, now: float) -> None:
        self.most = most
        self.tokens: float = most
        self.now = self._since = now
        self._seen = DEFAULT_WINDOW
        self._free_updates = 0

    def spend(self, cost: int) -> bool:
        """Take tokens; False if there are not so many."""
        if self.tokens < cost:
            # Time is looked at only when it counts.
            self.tokens = min(self.most, self.tokens + (self.now - self._since) * TOKENS_PER_SECOND)
            self._since = self.now
        self.tokens -= cost
        return self.tokens >= 0

    def earn(self) -> None:
        """A request was answered."""
        self.tokens = min(self.most, self.tokens + TOKENS_PER_ANSWER)

    def is_due(self, window: int) -> bool:
        """Whether a WINDOW_UPDATE is free; `window` is the connection's before it."""
        sent = self._seen - window
        if sent > 0:
            self._seen = window
            self._free_updates = min(_MOST_FREE_UPDATES, self._free_updates + 2 + sent // _BYTES_PER_UPDATE)
        if not self._free_updates:
            return False
        self._free_updates -= 1
        return True

    def opened(self, window: int) -> None:
        """The connection's window has become larger, to this."""
        self._seen = window
