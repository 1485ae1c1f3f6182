"""The opening of one WebSocket, from the request to its answer, over HTTP/1.1 or HTTP/2.

A `Handshake` holds what only the answer needs: the client's offer, and bytes that came too early. It turns ASGI events
into an answer on the wire, and after an acceptance it makes the parts of the connection. Its owner, a
`WebSocketConnection`, knows which event is allowed when, and drops the handshake afterwards.

Three things depend on the HTTP version: how an acceptance is written (`_agree`), which bytes follow the request
(`early_data`), and the carrier. Any answer other than an acceptance is an ordinary response through the carrier. The
subclasses are in `fairway.server.http1.handshake` and `fairway.server.http2.handshake`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from fairway.asgi.errors import ProtocolMisuse
from fairway.asgi.http import check_length, checked_headers
from fairway.delivery import Encoder
from fairway.protocols.http.request import Headers
from fairway.protocols.websocket import deflate, handshake
from fairway.protocols.websocket.decoder import Decoder
from fairway.protocols.websocket.frames import PLAIN
from fairway.protocols.websocket.protocol import WebSocketProtocol

if TYPE_CHECKING:
    from fairway.server.context import ServerContext

# How many bytes a client may send before it has the answer to its handshake.
_MAX_EARLY_BYTES = 65536


class Carrier(Protocol):
    """The part of a `fairway.asgi.http.HttpCarrier` that answers need."""

    def send_start(self, status: int, headers: Headers, trailers: bool) -> None: ...

    def send_body(self, data: bytes, more: bool) -> bool: ...


class Handshake:
    """Its methods raise `ProtocolMisuse` for an event that makes no valid answer. Nothing has changed then."""

    __slots__ = ("_carrier", "_context", "_denial", "_early", "_offer")

    def __init__(self, context: ServerContext, carrier: Carrier, offer: handshake.Offer) -> None:
        self._context = context
        self._carrier = carrier
        self._offer = offer
        self._early = b""
        self._denial: tuple[int, Headers | None] = 0, None  # the headers, until they are sent

    # What the client says -------------------------------------------------------------------------------------

    def keep(self, data: bytes) -> bool:
        """Keep bytes that the client sent before the answer. False if there are too many."""
        self._early += data
        return len(self._early) <= _MAX_EARLY_BYTES

    @property
    def held_bytes(self) -> int:
        """How many bytes that came too early are kept."""
        return len(self._early)

    def early_data(self) -> bytes:
        """The bytes that followed the request. Call it once, after `accept`."""
        return self._early

    def was_offered(self, subprotocol: str | None) -> bool:
        """Whether the client has offered this subprotocol. True for None."""
        return subprotocol is None or subprotocol in self._offer.subprotocols

    # The acceptance -------------------------------------------------------------------------------------------

    def accept(self, message: Mapping[str, Any]) -> None:
        """Send the acceptance that a `websocket.accept` asks for."""
        subprotocol = message.get("subprotocol")
        if not (subprotocol is None or (isinstance(subprotocol, str) and subprotocol.isascii())):
            raise ProtocolMisuse(f"the subprotocol is an ASCII str or None, not {subprotocol!r}")
        headers = checked_headers(message)
        if headers and any(name.lower() == b"sec-websocket-protocol" for name, _ in headers):
            raise ProtocolMisuse("pass the subprotocol in subprotocol, not in the headers of websocket.accept")
        try:
            self._agree(subprotocol, headers)
        except ProtocolMisuse as error:
            raise ProtocolMisuse(f"websocket.accept: {error}") from None

    def _agree(self, subprotocol: str | None, headers: Headers) -> None:
        """Write the acceptance to the carrier."""
        raise NotImplementedError

    def encoder(self) -> Encoder:
        """The encoder for the agreed extensions. All connections with the same agreement share one."""
        limits, agreed = self._context.limits, self._offer.deflate
        if agreed is None:
            return PLAIN
        return deflate.encoder(limits.deflate_level, limits.deflate_min_bytes, agreed[1])

    def connection(self) -> WebSocketProtocol:
        """Make the protocol core of the accepted connection. Its first ping comes at a random time."""
        limits = self._context.limits
        context = self._context
        inflation = context.backlog if self._offer.deflate is not None else None
        decoder = Decoder(
            limits.max_frame_bytes,
            limits.max_message_bytes,
            limits.max_fragments,
            inflation,
            limits.min_body_rate,
            limits.keep_alive_timeout,
        )
        return WebSocketProtocol(decoder, context.now, context.ping_times, 0.5 + 0.5 * context.random.random())

    # Any other answer -----------------------------------------------------------------------------------------

    def answer(self, status: int, text: str) -> None:
        """Send a complete response made by the server. `text` is its content, one line, or empty for none."""
        content = b"%b\n" % text.encode("ascii") if text else b""
        headers: Headers = [(b"content-length", b"%d" % len(content)), (b"connection", b"close")]
        if content:
            headers.append((b"content-type", b"text/plain; charset=utf-8"))
        self._carrier.send_start(status, headers, False)
        self._carrier.send_body(content, False)

    def begin_denial(self, message: Mapping[str, Any]) -> None:
        """Keep the start of a denial response. It is sent with the first piece of the body."""
        status = message.get("status")
        if not isinstance(status, int) or not 200 <= status <= 599:
            raise ProtocolMisuse(f"the status of websocket.http.response.start is 200 to 599, not {status!r}")
        self._denial = status, checked_headers(message)

    def continue_denial(self, message: Mapping[str, Any]) -> int:
        """Send a piece of the body of a denial response. Return the status of the response."""
        body = message.get("body", b"")
        if not isinstance(body, bytes | bytearray | memoryview):
            raise ProtocolMisuse(f"the body of websocket.http.response.body is bytes, not {type(body).__name__}")
        more = bool(message.get("more_body", False))
        status, headers = self._denial
        if headers is not None:
            self._send_denial(status, headers, len(body), more)
        try:
            self._carrier.send_body(bytes(body), more)
        except ProtocolMisuse as error:
            raise ProtocolMisuse(f"websocket.http.response.body: {error}") from None
        return status

    def _send_denial(self, status: int, headers: Headers, length: int, more: bool) -> None:
        """Send the start that was kept, before a first piece of `length` bytes."""
        check_length("websocket.http.response.body", status, headers, length, more)
        try:
            self._carrier.send_start(status, [*headers, (b"connection", b"close")], False)
        except ProtocolMisuse as error:
            raise ProtocolMisuse(f"websocket.http.response.start: {error}") from None
        self._denial = status, None
