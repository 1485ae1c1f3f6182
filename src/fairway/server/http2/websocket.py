"""A WebSocket on a stream of HTTP/2 (RFC 8441).

After the extended CONNECT the stream belongs to a `StreamTransport`. Over it runs the same `WebSocketConnection`, with
the same kind of wire, as over a socket.
"""

from __future__ import annotations

from typing import Protocol

from fairway.asgi.scope import Address, Entrance, websocket_scope
from fairway.protocols.http2 import RequestHead, Stream
from fairway.protocols.websocket import handshake
from fairway.server.admission import TOO_MANY, TOO_MANY_OF_ADDRESS
from fairway.server.http2.handshake import Answer, ConnectHandshake
from fairway.server.http2.transport import Carrying, StreamTransport
from fairway.server.http2.wire import StreamWire
from fairway.server.websocket.metered import websocket_kind


class Entered(Carrying, Protocol):
    """A connection, its client, and where the client came in."""

    client: Address
    entrance: Entrance


def open_websocket(connection: Entered, stream: Stream, head: RequestHead, ended: bool) -> None:
    """Start the application, which answers the handshake, or refuse the handshake without it."""
    context = connection.context
    limits = context.limits
    offer = handshake.check_connect(head.headers, limits.deflate, limits.max_subprotocols)
    if ended:
        offer = handshake.Refusal(400, "the client has ended its side with the handshake (RFC 8441 section 5)")
    elif not context.admission.takes_websocket(connection.websockets):
        offer = handshake.Refusal(*TOO_MANY)
    subprotocols = [] if isinstance(offer, handshake.Refusal) else offer.subprotocols
    root_path = context.config.root_path
    scope = websocket_scope(head, subprotocols, root_path, connection.client, connection.entrance, context.state)
    if isinstance(offer, handshake.Refusal):
        _refuse(connection, stream, offer)
        context.fault("handshake", scope, f"{offer.reason}; answered with {offer.status}")
        context.access.websocket_rejected(scope, offer.status)
        return
    place = context.admission.place_of_websocket(scope, connection.websockets > 0)
    if place is None:
        _refuse(connection, stream, handshake.Refusal(*TOO_MANY_OF_ADDRESS))
        context.access.websocket_rejected(scope, TOO_MANY_OF_ADDRESS[0])
        return
    transport = StreamTransport(connection, stream)
    wire = StreamWire(transport, context, None, transport)
    wire.scheduler = context.batch.streams
    opening = ConnectHandshake(context, Answer(context, connection.writer, stream, wire), offer)
    websocket = websocket_kind(context.limits)(context, wire, opening, scope)
    if context.admission.addresses is not None:
        context.admission.addresses.keep(websocket, place)
    transport.set_protocol(websocket)
    websocket.start(scope)


def _refuse(connection: Entered, stream: Stream, refusal: handshake.Refusal) -> None:
    defaults = connection.context.defaults().fields
    answer = stream.error_response(
        refusal.status, refusal.reason, default_headers=defaults, extra_headers=refusal.headers
    )
    connection.writer.write(answer)
    connection.stream_ended()
