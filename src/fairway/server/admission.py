"""What becomes of those for whom there is no place: their address has as many connections as it may have
(`fairway.server.addresses`), or all clients hold as much memory as they may (`fairway.server.memory`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fairway.asgi.types import Headers
from fairway.protocols.http1 import Http1Protocol
from fairway.server.addresses import UNBOUNDED, Place
from fairway.server.arrival import Refusal
from fairway.server.exchanges import SHORT_OF_MEMORY

if TYPE_CHECKING:
    import socket

    from fairway.server.context import ServerContext


def place_for_websocket(context: ServerContext, scope: Mapping[str, Any], is_shared: bool) -> Place | None:
    """A place to be kept until the WebSocket ends (`Addresses.client_of`); None: it is to be refused."""
    addresses = context.addresses
    client = None if addresses is None else addresses.client_of(scope, is_shared)
    if addresses is None or client is None:
        return UNBOUNDED
    place = addresses.take(client[0])
    if place is not None and not place.is_beyond:
        return place
    if place is not None:
        place.give_back()
    note_refusal(context, {**scope, "client": client}, "429")
    return None


def note_refusal(context: ServerContext, scope: Mapping[str, Any], how: str) -> None:
    """Count it, and say so."""
    context.counters.address_refusals += 1
    most = context.limits.max_connections_per_address
    context.fault("address limit", scope, f"more than {most} connections of this address: {how}")


def turn_away_for_memory(context: ServerContext, accepted: socket.socket, is_tls: bool) -> None:
    """Tell a client that was just accepted, but not over TLS, where a handshake would have to come first."""
    context.counters.refused += 1
    context.fault("short of memory", None, "clients hold more than max_client_memory: new connections are answered 503")
    if is_tls:
        accepted.close()
    else:
        Refusal(context, accepted, answer(context, *SHORT_OF_MEMORY)).begin()


def answer(context: ServerContext, status: int, reason: str, headers: Headers) -> bytes:
    """A whole response of the server's own."""
    lines = context.defaults().lines
    return Http1Protocol().error_response(status, reason, default_headers=lines, extra_headers=headers)
