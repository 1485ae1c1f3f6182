"""How a request becomes an exchange with the application, whatever version of HTTP it came by."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from fairway.asgi.http import HttpCarrier, HttpExchange
from fairway.asgi.scope import Address, Entrance, http_scope
from fairway.asgi.types import Headers
from fairway.protocols.http.request import Request

if TYPE_CHECKING:
    from fairway.server.context import ServerContext

PATIENCE_AT_EOF = 0.9
"""How old a request is before a client that has ended its side counts as gone: some do so behind each request, and want
their answer (RFC 9112 section 9.6), others have closed, and an application that waits should not wait for them."""

MAX_JOINED_BYTES = 16384
"""Content up to here is copied behind its head; more is sent as a piece of its own."""

TOO_MANY: tuple[int, str, Headers] = (503, "too many connections", [(b"retry-after", b"10")])
"""What a client gets that is one more than allowed."""

# What the server as a whole supports, whatever the application makes of it (RFC 9110 section 9.3.7).
_ALLOWED: Headers = [(b"allow", b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")]

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
    """The exchange of a request, which is yet to begin. (`begin`)"""
    context.counters.requests += 1
    root_path = "" if head.raw_path == b"*" else context.config.root_path
    scope = http_scope(head, root_path, client, entrance, context.state)
    return kind(carrier, context, scope, context.loop.time(), expects_continue, context.batch)


def begin(exchange: HttpExchange) -> bool:
    """Start the application; False if the request is about the server itself, and was answered."""
    if exchange.scope["raw_path"] == b"*":
        exchange.answer(204, _ALLOWED)
        return False
    exchange.start()
    return True


def expect_end(exchange: HttpExchange, context: ServerContext) -> None:
    """The client has ended its side. It cannot be told from one that has left, unless something is sent to it: the
    application learns of it, and what it sends then is sent. Nobody ends their side of an event stream.
    """
    loop = context.loop
    known_at = exchange.started_at + PATIENCE_AT_EOF
    if exchange.is_event_stream or loop.time() >= known_at:
        exchange.forsake()
    else:
        loop.call_at(known_at, exchange.forsake)
