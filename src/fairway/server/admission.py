"""How connections are refused: because their address has too many (`fairway.server.addresses`), or because all clients
together hold too much memory (`fairway.server.memory`).
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
    """Take a place, to be held until the WebSocket ends. None: refuse it; that is logged and counted already.

    `is_shared` is as for `Addresses.client_of`.
    """
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
    """Count and log a refusal; `how` says what the client gets."""
    context.counters.address_refusals += 1
    most = context.limits.max_connections_per_address
    context.fault("address limit", scope, f"more than {most} connections of this address: {how}")


def turn_away_for_memory(context: ServerContext, accepted: socket.socket, is_tls: bool) -> None:
    """Answer 503 on a socket that was just accepted. With TLS, close it: an answer would need a handshake first."""
    context.counters.refused += 1
    context.fault("short of memory", None, "clients hold more than max_client_memory: new connections are answered 503")
    if is_tls:
        accepted.close()
    else:
        Refusal(context, accepted, answer(context, *SHORT_OF_MEMORY)).begin()


def answer(context: ServerContext, status: int, reason: str, headers: Headers) -> bytes:
    """The bytes of a complete response made by the server."""
    lines = context.defaults().lines
    return Http1Protocol().error_response(status, reason, default_headers=lines, extra_headers=headers)
