"""A WebSocket handshake by extended CONNECT (RFC 8441 section 5): an ordinary request that a plain 200 accepts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fairway.asgi.errors import ProtocolMisuse
from fairway.asgi.types import Headers
from fairway.protocols.http2 import LocalProtocolError, Stream
from fairway.protocols.websocket import handshake
from fairway.server.http2.output import StreamWriter
from fairway.server.websocket.handshake import Handshake

if TYPE_CHECKING:
    from fairway.server.context import ServerContext
    from fairway.server.wire import Wire


class Answer:
    """The answer to an extended CONNECT. Its head is a frame of its own; its content goes over the stream's wire. If
    the stream was reset, nothing is sent. The application is told in the next pass of the loop, and makes no mistake.

    (`fairway.server.websocket.handshake.Carrier`)
    """

    __slots__ = ("_context", "_stream", "_wire", "_writer")

    def __init__(self, context: ServerContext, writer: StreamWriter, stream: Stream, wire: Wire) -> None:
        self._context = context
        self._writer = writer
        self._stream = stream
        self._wire = wire

    def send_start(self, status: int, headers: Headers, trailers: bool) -> None:
        if not self._stream.is_open:
            return
        defaults = self._context.defaults().fields
        try:
            frame = self._stream.send_response(status, headers, default_headers=defaults)
        except LocalProtocolError as error:
            raise ProtocolMisuse(str(error)) from None
        self._writer.write(frame)

    def send_body(self, data: bytes, more: bool) -> bool:
        if not self._stream.is_open:
            return False
        try:
            is_wanted = self._stream.admit(len(data), more)
        except LocalProtocolError as error:
            raise ProtocolMisuse(str(error)) from None
        return bool(is_wanted and data) and self._wire.append(data)


class ConnectHandshake(Handshake):
    """A handshake over HTTP/2."""

    __slots__ = ()

    def _agree(self, subprotocol: str | None, headers: Headers) -> None:
        self._carrier.send_start(200, handshake.agreed_headers(self._offer, subprotocol, headers), False)
