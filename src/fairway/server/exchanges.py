"""How a request becomes an exchange with the application, in any version of HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from fairway.asgi.http import HttpCarrier, HttpExchange
from fairway.asgi.scope import Address, Entrance, http_scope
from fairway.asgi.types import Headers
from fairway.protocols.http.request import Request

if TYPE_CHECKING:
    from fairway.server.context import ServerContext

PATIENCE_AT_EOF = 0.9
"""Seconds from the start of a request until a client that has ended its side counts as gone. Some clients end their
side after each request and still want their answer (RFC 9112 section 9.6). Others have closed the connection, and an
application that waits should not wait for them."""

MAX_JOINED_BYTES = 16384
"""Content up to this size is copied behind its head. Larger content is sent as a piece of its own."""

BODY_TOO_SLOW = "request body stopped arriving, or arrives too slowly: RFC 9110 section 15.5.9"
"""Why a request is answered 408 (`fairway.server.pace`)."""

# The methods that the server as a whole supports, whatever the application does (RFC 9110 section 9.3.7).
_ALLOWED: Headers = [(b"allow", b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")]

_NOT_STORED: Headers = [(b"cache-control", b"no-store")]

_Exchange = TypeVar("_Exchange", bound=HttpExchange)


def open_exchange(
    kind: type[_Exchange],
    carrier: HttpCarrier,
    context: ServerContext,
    head: Request,
    expects_continue: bool,
    client: Address,
    entrance: Entrance,
) -> _Exchange:
    """The exchange of a request. `begin` starts it."""
    context.counters.requests += 1
    root_path = "" if head.raw_path == b"*" else context.config.root_path
    scope = http_scope(head, root_path, client, entrance, context.state)
    return kind(carrier, context, scope, context.loop.time(), expects_continue, context.batch)


def begin(exchange: HttpExchange, context: ServerContext) -> bool:
    """Start the application. False if the request was about the server itself, and has been answered."""
    scope = exchange.scope
    if scope["raw_path"] == b"*":
        exchange.answer(204, _ALLOWED)
        return False
    if scope["path"] == context.limits.health_path:
        exchange.answer(503 if context.draining else 200, _NOT_STORED)
        return False
    exchange.start()
    return True


def expect_end(exchange: HttpExchange, context: ServerContext) -> None:
    """The client has ended its side of the connection. Perhaps it has left; only sending to it would show that. So the
    application is told of a disconnect after a while, but what it sends after that is still written. For an event
    stream, the application is told at once, because no client ends its side of one and goes on listening.
    """
    loop = context.loop
    known_at = exchange.started_at + PATIENCE_AT_EOF
    if exchange.is_event_stream or loop.time() >= known_at:
        exchange.forsake()
    else:
        loop.call_at(known_at, exchange.forsake)
