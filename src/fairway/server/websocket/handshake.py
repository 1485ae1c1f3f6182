"""The opening of one WebSocket: from the request for it to its answer, whatever carries both.

A `Handshake` holds what only the answer needs: the client's offer, and bytes that came too early. It answers ASGI
events on the wire and, once accepted, makes the parts of the connection. The `WebSocketConnection` that owns it knows
which event is allowed when, and lets it go afterwards.

What depends on the carrier is how an acceptance is said (`_agree`), what came behind the request (`early_data`), and
the `HttpCarrier` that everything else goes through: an answer that is no acceptance is an ordinary response. The forms
are `fairway.server.http1.handshake` and its like.
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

# Bytes of a client that did not wait for the answer to its handshake.
_MAX_EARLY_BYTES = 65536


class Carrier(Protocol):
    """As much as an answer needs of a `fairway.asgi.http.HttpCarrier`."""

    def send_start(self, status: int, headers: Headers, trailers: bool) -> None: ...

    def send_body(self, data: bytes, more: bool) -> bool: ...


class Handshake:
    """Raises `ProtocolMisuse` for events that make no valid answer; then nothing has changed."""

    __slots__ = ("_carrier", "_context", "_denial", "_early", "_offer")

    def __init__(self, context: ServerContext, carrier: Carrier, offer: handshake.Offer) -> None:
        self._context = context
        self._carrier = carrier
        self._offer = offer
        self._early = b""
        self._denial: tuple[int, Headers | None] = 0, None  # the headers until they are sent

    # What the client says -------------------------------------------------------------------------------------

    def keep(self, data: bytes) -> bool:
        """Keep what a client sends that does not wait for the answer; False when it is too much."""
        self._early += data
        return len(self._early) <= _MAX_EARLY_BYTES

    def early_data(self) -> bytes:
        """What came behind the request, once, after `accept`."""
        return self._early

    def was_offered(self, subprotocol: str | None) -> bool:
        """Whether the client can know what to do with it."""
        return subprotocol is None or subprotocol in self._offer.subprotocols

    # The acceptance -------------------------------------------------------------------------------------------

    def accept(self, message: Mapping[str, Any]) -> None:
        """Send the answer to a `websocket.accept`."""
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
        """Send the acceptance."""
        raise NotImplementedError

    def encoder(self) -> Encoder:
        """The encoder that was agreed on; shared by all connections that agreed on the same."""
        limits, agreed = self._context.limits, self._offer.deflate
        if agreed is None:
            return PLAIN
        return deflate.encoder(limits.deflate_level, limits.deflate_min_bytes, agreed[1])

    def connection(self) -> WebSocketProtocol:
        """The protocol core of the accepted connection; its pings begin at a random time."""
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
        """Send a whole response of the server's own. `text` is its one line of content, or empty."""
        content = b"%b\n" % text.encode("ascii") if text else b""
        headers: Headers = [(b"content-length", b"%d" % len(content)), (b"connection", b"close")]
        if content:
            headers.append((b"content-type", b"text/plain; charset=utf-8"))
        self._carrier.send_start(status, headers, False)
        self._carrier.send_body(content, False)

    def begin_denial(self, message: Mapping[str, Any]) -> None:
        """Take note of the start of a denial response; it is sent with the first piece of the body."""
        status = message.get("status")
        if not isinstance(status, int) or not 200 <= status <= 599:
            raise ProtocolMisuse(f"the status of websocket.http.response.start is 200 to 599, not {status!r}")
        self._denial = status, checked_headers(message)

    def continue_denial(self, message: Mapping[str, Any]) -> int:
        """Send a piece of a denial response; the status of the response."""
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
        """Send the start that was held back, in front of so much of its body."""
        check_length("websocket.http.response.body", status, headers, length, more)
        try:
            self._carrier.send_start(status, [*headers, (b"connection", b"close")], False)
        except ProtocolMisuse as error:
            raise ProtocolMisuse(f"websocket.http.response.start: {error}") from None
        self._denial = status, None
