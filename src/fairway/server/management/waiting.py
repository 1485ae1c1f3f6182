"""What waits in the inboxes and outboxes of a process's connections: the sums, and the most of any one connection.

Nothing is counted when a message comes or goes. Whenever the figures are asked for, some more connections are looked
at; once all have been, there are new numbers. So asking takes a millisecond or two however many connections there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from fairway.server.http2.connection import Http2Connection
from fairway.server.websocket.connection import WebSocketConnection

LOOKED_AT = 4000
"""How many connections are looked at when the figures are asked for."""


class Waiting:
    """`connections` returns the open ones. May be used from any thread, but by one caller."""

    def __init__(self, connections: Callable[[], Iterable[Any]]) -> None:
        self._connections = connections
        self._left: list[Any] = []
        self._messages = Tally()
        self._bytes = Tally()
        self._numbers = _numbers(self._messages, self._bytes)

    def look(self) -> dict[str, int]:
        """Look at the next connections. Return the numbers of the last complete round; zeros before the first."""
        if not self._left:
            self._left = list(self._connections())
            self._messages, self._bytes = Tally(), Tally()
        some, self._left = self._left[:LOOKED_AT], self._left[LOOKED_AT:]
        for connection in some:
            self._bytes.add(unsent(connection))
            if isinstance(connection, WebSocketConnection):
                self._messages.add(messages_of(connection))
        if not self._left:
            self._numbers = _numbers(self._messages, self._bytes)
        return self._numbers


class Tally:
    """A sum, and the largest of its parts."""

    __slots__ = ("largest", "total")

    def __init__(self) -> None:
        self.total = self.largest = 0

    def add(self, number: int) -> None:
        self.total += number
        if number > self.largest:
            self.largest = number


def unsent(connection: Any) -> int:
    """How many bytes wait to be sent on this connection. 0 for a socket that is still in a handshake."""
    wire = getattr(connection, "outbox", None)
    if wire is None:
        return 0
    size: int = wire.size
    if wire.blocked and (transport := wire.transport) is not None:
        size += transport.get_write_buffer_size()
    if isinstance(connection, Http2Connection):
        size += connection.writer.held
    return size


def messages_of(connection: WebSocketConnection) -> int:
    """How many messages of its client and of layers the consumer has not taken."""
    inbox = connection.inbox
    client = inbox.client
    return (0 if client is None else len(client)) + inbox.layer_size


def _numbers(messages: Tally, held: Tally) -> dict[str, int]:
    return {
        "messages": messages.total,
        "most_messages": messages.largest,
        "bytes": held.total,
        "most_bytes": held.largest,
    }
