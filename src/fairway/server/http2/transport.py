"""One stream of HTTP/2 as a transport (RFC 8441 section 5): for a WebSocket, it stands for a socket.

*Out.* A `StreamTransport` is also the endpoint of its wire. Data that fits into both windows, and need not wait for the
socket, goes into the outbox of the connection as one DATA frame: by `send`, or for many streams at once by the lane
(`frame`). If the stream is alone on its connection, nothing is worth waiting for, and the frame goes straight to the
socket. Data that does not fit is written as to any transport. It is held here, which makes the stream's outbox
`blocked`, until the connection says that it is this stream's turn (`go_on`).

*In.* Data that arrives while reading is paused is kept, and not credited to the peer's window. So the peer stops after
one window, and the other streams of the connection go on. No socket shows the peer's end meanwhile, so the protocol is
told of it (`peer_has_left`).

*Ends.* For each there is a `connection_lost`, in a pass of its own:

* `write_eof` sends END_STREAM. The peer's own calls `eof_received`.
* `close` sends END_STREAM too. For the protocol, that is all. The rest of the stream waits up to `linger_seconds` for
  the peer's END_STREAM or RST_STREAM, throws its data away, and is reset after that.
* `abort` sends RST_STREAM. The peer's own, and the loss of the connection, call `lost`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, cast

from fairway.protocols.http2 import ErrorCode, Http2Protocol, Stream, data_head
from fairway.server.http2.output import FRAME_BYTES, StreamWriter
from fairway.server.output.lanes import STREAMS, Lane, send_now

if TYPE_CHECKING:
    from fairway.server.context import ServerContext
    from fairway.server.wire import Wire

_NOTHING = memoryview(b"")


class Carrying(Protocol):
    """The part of a connection that a stream uses. (`fairway.server.http2.connection`)"""

    context: ServerContext
    outbox: Wire
    protocol: Http2Protocol
    websockets: int
    writer: StreamWriter

    def stream_ended(self) -> None:
        """A stream is complete, or was reset."""

    def schedule(self, deadline: float) -> None:
        """Make sure that the deadlines of all streams are checked at this time."""


class StreamProtocol(Protocol):
    """The user of a stream: the parts of `asyncio.Protocol` and of a wire's owner that are called here."""

    def data_received(self, data: bytes) -> None: ...

    def eof_received(self) -> bool: ...

    def peer_has_left(self, is_reset: bool) -> None: ...

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...

    def connection_lost(self, exc: Exception | None) -> None: ...


class StreamTransport:
    """(`fairway.server.transport.Transport`, `fairway.server.output.lanes.Carried`,
    `fairway.server.http2.stream.StreamOwner`)
    """

    __slots__ = (
        "_connection",
        "_held",
        "_is_closing",
        "_is_ending",
        "_linger_until",
        "_protocol",
        "_reading",
        "_stream",
        "_unread",
        "_writer",
        "carrier",
    )

    lane: ClassVar[Lane] = STREAMS

    carrier: Wire
    """The outbox of the connection."""

    def __init__(self, connection: Carrying, stream: Stream) -> None:
        self._connection = connection
        self._writer = connection.writer
        self._stream = stream
        self._protocol: StreamProtocol | None = None
        self.carrier = connection.outbox
        self._held = _NOTHING
        self._unread: bytearray | None = None
        self._reading = True
        self._is_ending = self._is_closing = False
        self._linger_until: float | None = None
        stream.owner = self
        self._writer.write(stream.take_all())  # content that came with the handshake will be delivered too

    def set_protocol(self, protocol: asyncio.BaseProtocol, /) -> None:
        if self._protocol is None:
            self._connection.websockets += 1
            self._connection.context.admission.websocket_joined(self._connection.websockets)
        self._protocol = cast(StreamProtocol, protocol)
        if self._reading and not self._is_closing:
            self._writer.write(self._stream.take_all(self._protocol))

    def get_extra_info(self, name: str, default: Any = None, /) -> Any:
        return self._writer.stalled_since(self._stream, 0.0) if name == "moved_at" else default

    # Out ------------------------------------------------------------------------------------------------------

    def claim(self, size: int) -> int:
        stream = self._stream
        protocol = stream.protocol
        # The window of a stream that has ended is below 0.
        left, room = stream.window - size, protocol.window - size
        if left < 0 or room < 0 or size > FRAME_BYTES or self.carrier.blocked:
            return 0
        stream.window = left
        protocol.window = room
        return stream.number

    def send(self, data: bytes, /) -> int:
        size = len(data)
        number = self.claim(size)
        if not number:
            return 0
        frame = data_head(number, size) + data
        if len(self._stream.protocol.streams) == 1:
            send_now(self.carrier, frame)
        else:
            self.carrier.append(frame)
        return size

    def write(self, data: bytes | memoryview, /) -> None:
        if self._is_closing or self._protocol is None:
            return
        held = memoryview(data)
        sent, _ = self._writer.send(self._stream, held, False)
        if sent < len(held):
            self._held = held[sent:]
            self._writer.waiting[self] = None
            self._protocol.pause_writing()

    def go_on(self, now: float) -> bool:
        held = self._held
        sent, _ = self._writer.send(self._stream, held[:FRAME_BYTES], False)
        if sent:
            self._writer.moved_at = now
        self._held = held[sent:]
        if sent == len(held):
            self._writer.waiting.pop(self, None)
            if self._is_ending:
                self._end()
            if self._protocol is not None:
                self._protocol.resume_writing()
        return bool(sent and self._held and self._stream.writable)

    def get_write_buffer_size(self) -> int:
        return len(self._held)

    def set_write_buffer_limits(self, high: int) -> None:
        """Holding anything is too much."""

    # In -------------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes, ended: bool) -> None:
        if data and not self._is_closing and self._protocol is not None:
            if self._reading:
                self._protocol.data_received(data)
            elif self._unread is None:
                self._unread = bytearray(data)
            else:
                self._unread += data
        if ended:
            self._peer_ended()

    def _peer_ended(self) -> None:
        if self._is_closing or self._protocol is None:
            if self._linger_until is not None:
                self._linger_until = None
                self._gone()
        elif not self._reading:
            self._protocol.peer_has_left(False)
        elif not self._protocol.eof_received():
            self.close()

    def pause_reading(self) -> None:
        self._reading = False
        if not self._is_closing:
            self._stream.hold()

    def resume_reading(self) -> None:
        self._reading = True
        if self._protocol is None or self._is_closing:
            return
        unread, self._unread = self._unread, None
        if unread:
            self._protocol.data_received(bytes(unread))
        if self._reading:
            self._writer.write(self._stream.take_all(self._protocol))
            if self._stream.has_ended and not self._is_closing:
                self._peer_ended()

    # Ends -----------------------------------------------------------------------------------------------------

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if not (self._is_ending or self._is_closing):
            self._is_ending = True
            if not self._held:
                self._end()

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        if self._is_closing:
            return
        self._is_closing = True
        self._unread = None
        if not self._stream.response_started:
            self._gone(ErrorCode.CANCEL)
            return
        self._writer.write(self._stream.take_all())  # to be thrown away
        self._is_ending = True
        if not self._held:
            self._end()

    def _end(self) -> None:
        """End our side. Nothing is held any more."""
        stream, connection = self._stream, self._connection
        self._writer.write(stream.end())
        if not self._is_closing:
            return
        if stream.has_ended:
            self._gone()
            return
        self._linger_until = connection.context.touch() + connection.context.linger_seconds
        connection.schedule(self._linger_until)
        self._lose()

    def abort(self) -> None:
        if self._protocol is not None:
            self._gone(ErrorCode.CANCEL)

    def _gone(self, code: ErrorCode = ErrorCode.NO_ERROR) -> None:
        """Nothing is left of the stream: if it has not ended, reset it."""
        self._writer.write(self._stream.reset(code))
        self._stream.owner = None
        self._lose()
        self._connection.stream_ended()

    def _lose(self) -> None:
        """Forget everything, and call `connection_lost` in the next pass of the loop."""
        self._is_closing = True
        self._unread = None
        self._held = _NOTHING
        self._writer.waiting.pop(self, None)
        protocol, self._protocol = self._protocol, None
        if protocol is not None:
            connection = self._connection
            connection.websockets -= 1
            connection.context.admission.websocket_left(connection.websockets)
            connection.context.loop.call_soon(protocol.connection_lost, None)

    # For the connection (`fairway.server.http2.stream.StreamOwner`) --------------------------------------------

    def lost(self) -> None:
        self._stream.owner = None
        self._lose()

    def handle_deadline(self, now: float) -> float | None:
        until = self._linger_until
        if until is not None and now >= until:
            self._linger_until = None
            self._gone()
        return self._linger_until

    def expect_end(self) -> None:
        # A WebSocket whose client has ended its side is over.
        self.abort()

    def drain(self) -> None:
        """Do nothing: a WebSocket is a connection of its own, and is drained as one."""
