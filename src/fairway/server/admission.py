"""What becomes of those whose address has as many connections as it may have (`fairway.server.addresses`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fairway.server.addresses import UNBOUNDED, Place

if TYPE_CHECKING:
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
