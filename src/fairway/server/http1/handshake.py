"""A WebSocket handshake that upgrades an HTTP/1.1 connection (RFC 6455 section 4.2.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fairway.asgi.errors import ProtocolMisuse
from fairway.protocols.http.request import Headers
from fairway.protocols.http1 import Http1Protocol, LocalProtocolError
from fairway.protocols.websocket import handshake
from fairway.server.websocket.handshake import Carrier, Handshake
from fairway.server.wire import Wire

if TYPE_CHECKING:
    from fairway.server.context import ServerContext


class UpgradeHandshake(Handshake):
    """`wire` and `http` (the protocol core) belong to `carrier`, the connection of the request."""

    __slots__ = ("_http", "_wire")

    def __init__(
        self, context: ServerContext, carrier: Carrier, offer: handshake.Offer, wire: Wire, http: Http1Protocol
    ) -> None:
        super().__init__(context, carrier, offer)
        self._wire = wire
        self._http = http

    def _agree(self, subprotocol: str | None, headers: Headers) -> None:
        try:
            data = self._http.send_response(
                101,
                handshake.accept_headers(subprotocol, headers),
                default_headers=handshake.accept_lines(self._offer),
            )
        except LocalProtocolError as error:
            raise ProtocolMisuse(str(error)) from None
        self._wire.append(data)

    @property
    def held_bytes(self) -> int:
        return self._http.buffered + super().held_bytes

    def early_data(self) -> bytes:
        return self._http.unread() + super().early_data()
