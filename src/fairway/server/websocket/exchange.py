"""The sending half of a WebSocket connection: messages and broadcasts, on their way to the outbox."""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Mapping
from typing import TYPE_CHECKING, Any

from fairway.asgi.errors import ConnectionClosed, ProtocolMisuse
from fairway.delivery import Connection, Fanout, Payload, SlowPolicy
from fairway.server.output.outbox import NEXT_PASS, Outbox

if TYPE_CHECKING:
    from fairway.server.context import Context


class Phase(enum.IntEnum):
    """Where the ASGI conversation stands."""

    CONNECTING = 0  # the application has not answered `websocket.connect`
    DENYING = 1  # it is sending an HTTP response instead
    OPEN = 2
    CLOSING = 3  # the application has closed; the peer's Close is awaited
    ENDED = 4  # the application has been told, or will find, `websocket.disconnect`


class WebSocketExchange(Connection):
    """Base of `WebSocketConnection`, which moves the phases on, and ends a connection that takes too little."""

    __slots__ = ("_context", "_phase", "outbox")

    _context: Context
    _phase: Phase
    outbox: Outbox

    async def send(self, message: Mapping[str, Any]) -> None:
        """ASGI `send`. Returns when the socket is below its high water mark.

        Raises `ConnectionClosed` when the connection has ended, `ProtocolMisuse` for an event that is not allowed.
        Cancelling the wait loses nothing: the message is in the outbox.
        """
        wait = self._handle(message)
        if wait is not None:
            await wait

    def send_nowait(self, message: Mapping[str, Any]) -> None:
        """As `send`, but never waits: a client that is too slow is dropped when its outbox is full."""
        self.check_bound()
        self._handle(message)

    def _send_message(self, message: Mapping[str, Any]) -> Awaitable[None] | None:
        text, data = message.get("text"), message.get("bytes")
        if (text is None) == (data is None):
            raise ProtocolMisuse("websocket.send needs exactly one of text and bytes")
        if text is not None:
            return self.send_text(text)
        return self.send_bytes(data)  # type: ignore[arg-type]

    def send_text(self, text: str) -> Awaitable[None] | None:
        if not self.is_open:
            raise self._not_open("websocket.send")
        if not isinstance(text, str):
            raise ProtocolMisuse(f"the text of websocket.send is a str, not {type(text).__name__}")
        outbox = self.outbox
        if outbox.append(self.encoder.encode_text(text)) or outbox.size >= outbox.high_water:
            return outbox.drained() if outbox.size >= outbox.high_water else NEXT_PASS
        return None

    def send_bytes(self, data: bytes) -> Awaitable[None] | None:
        if not self.is_open:
            raise self._not_open("websocket.send")
        if not isinstance(data, bytes | bytearray | memoryview):
            raise ProtocolMisuse(f"the bytes of websocket.send are bytes, not {type(data).__name__}")
        outbox = self.outbox
        if outbox.append(self.encoder.encode_bytes(bytes(data))) or outbox.size >= outbox.high_water:
            return outbox.drained() if outbox.size >= outbox.high_water else NEXT_PASS
        return None

    @property
    def fanout(self) -> Fanout | None:
        return self.outbox.fanout

    def broadcast(self, payload: Payload) -> None:
        frame = payload.form(self.encoder)
        outbox = self.outbox
        if payload.is_droppable:
            only_latest = payload.policy is SlowPolicy.KEEP_LATEST
            self._context.counters.dropped_frames += outbox.make_room(len(frame), payload.group, only_latest)
        if outbox.size > outbox.high_water:
            self.check_bound()
            if not self.is_open:
                return
        if payload.is_droppable:
            outbox.append_droppable(frame, payload.group)
        else:
            outbox.append(frame, is_broadcast=True)

    def check_bound(self) -> None:
        """Drop a client for which too much waits, before more is added."""
        if self.outbox.is_over_bound:
            self._drop_slow_consumer()

    def _not_open(self, kind: str) -> Exception:
        if self._phase is Phase.CONNECTING:
            return ProtocolMisuse(f"{kind} before websocket.accept")
        if self._phase is Phase.DENYING:
            return ProtocolMisuse(f"{kind} after the response to the handshake was begun")
        return ConnectionClosed("the websocket is closed")

    def _out_of_turn(self, kind: str) -> Exception:
        if self._phase in (Phase.CLOSING, Phase.ENDED):
            return ConnectionClosed("the websocket is closed")
        return ProtocolMisuse(f"{kind} is not allowed now: the websocket is {self._phase.name.lower()}")

    def _handle(self, message: Mapping[str, Any]) -> Awaitable[None] | None:
        """Do what an ASGI event says; what is returned, if anything, is to be awaited before sending more."""
        raise NotImplementedError

    def _drop_slow_consumer(self) -> None:
        """End the connection: more than `outbox.bound` bytes wait for the client."""
        raise NotImplementedError
