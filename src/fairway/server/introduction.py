"""Load balancers that introduce their clients by the PROXY protocol (`fairway.protocols.proxy`).

A trusted peer must introduce every client: the protocol is never guessed. Other peers cannot: whatever they send counts
as sent by a client. The header comes before everything else, TLS included. It is peeked at first and then taken off the
socket without a byte more, so that the next reader of the socket begins with the client's first byte.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from fairway.protocols.proxy import MAX_BYTES, Malformed, ProxyHeader, parse
from fairway.server.arrival import Arrival

if TYPE_CHECKING:
    from fairway.server.context import ServerContext

Introduced = Callable[[socket.socket, ProxyHeader], object]


class Introduction(Arrival):
    """The introduction of one client. Calls `introduced` with the socket and the header."""

    __slots__ = ("_introduced", "_read")

    kind = "proxy protocol"

    def __init__(self, context: ServerContext, accepted: socket.socket, introduced: Introduced) -> None:
        super().__init__(context, accepted)
        self._introduced = introduced
        self._read = b""

    def step(self) -> None:
        endpoint = self.endpoint
        try:
            seen = endpoint.recv(MAX_BYTES, socket.MSG_PEEK)
            header = parse(self._read + seen)
            if isinstance(header, ProxyHeader):
                endpoint.recv(header.size - len(self._read))
            elif header is None:
                # All of it belongs to the header. Left on the socket, it would make the socket readable for ever.
                self._read += endpoint.recv(len(seen))
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._end()
            return
        if not seen:
            self._end()
        elif isinstance(header, Malformed):
            self._peer = endpoint.getpeername()
            self._fail(f"a trusted proxy did not introduce its client: {header.reason}; closed")
        elif header is not None:
            self._leave()
            self._introduced(endpoint, header)
