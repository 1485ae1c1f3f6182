"""One WebSocket as the application sees it, whatever carries it: ASGI 3, WebSocket message format 2.5, with the denial
response extension.

An exchange is between an application, which has its bound methods as `receive` and `send`, and a carrier, which derives
from it. Where the conversation stands is its `phase`, and `ALLOWED` says what the application may send in each:

    CONNECTING ── websocket.accept ──────────────► OPEN ── websocket.close ──► CLOSING
        │                                           │                            │
        ├── websocket.http.response.start ► DENYING │                            │
        │                                    │  │   │                            │
        │           ANSWERING ◄── .body ─────┘  │   │                            │
        │               │                       │   │                            │
        └── websocket.close, an error ──────────┴───┴──────── ended ─────────────┴──► ENDED

Whatever the phase, it ends once: `ended` tells the application by a `websocket.disconnect`, which `receive` then
repeats for ever, and wakes whoever waits to send. What is sent afterwards raises `ConnectionClosed`.

The carrier calls `start`, puts into `inbox` what the client says, and calls `refuse`, `ended` or `abort` at any time.
The exchange calls the carrier's methods at the end of this class; an event is complete when they return, and if one
raises `ProtocolMisuse` nothing has changed. The end of the application's task is an end like the others (`__call__`):
an answer that is missing is given in its place, and an open conversation is closed.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any, Protocol

from fairway.asgi.errors import ConnectionClosed, ProtocolMisuse, status_of
from fairway.asgi.reporter import Host
from fairway.asgi.types import Message, ScopeView
from fairway.delivery import NEXT_PASS, Connection, Fanout, Output, Payload, SlowPolicy

# Close codes of RFC 6455 (section 7.4.1, and its registry) for which an exchange itself has reasons.
NORMAL_CLOSURE = 1000
ABNORMAL_CLOSURE = 1006
INTERNAL_ERROR = 1011
TRY_AGAIN_LATER = 1013


class Phase(enum.IntEnum):
    """Where the conversation stands. It moves forward only, and every way leads to ENDED."""

    CONNECTING = 0  # the application has not answered `websocket.connect`
    DENYING = 1  # it has begun an HTTP response instead, of which nothing was sent before there is a body
    ANSWERING = 2  # it is sending it
    OPEN = 3
    CLOSING = 4  # the application has closed; the peer's Close is awaited
    ENDED = 5  # the application has been told, or will find, `websocket.disconnect`


# CPython 3.11 takes 0.1 µs to look a member up in its class.
_ENDED = Phase.ENDED

ALLOWED: Mapping[Phase, frozenset[str]] = {
    Phase.CONNECTING: frozenset({"websocket.accept", "websocket.close", "websocket.http.response.start"}),
    Phase.DENYING: frozenset({"websocket.http.response.body"}),
    Phase.ANSWERING: frozenset({"websocket.http.response.body"}),
    Phase.OPEN: frozenset({"websocket.send", "websocket.close"}),
    Phase.CLOSING: frozenset(),
    Phase.ENDED: frozenset(),
}
"""What an application may send in each phase."""

EVENTS = frozenset().union(*ALLOWED.values())
"""What an application may send at all."""


class NotClosing:
    """Says that no end has begun. Exchanges share one, which has no room for anything that could be changed."""

    __slots__ = ()

    at: float | None = None
    """When the application was told."""

    event: Mapping[str, Any] = MappingProxyType({})
    """What it was told."""


class Closing(NotClosing):
    """What is known of an end. There is one for each exchange that ends."""

    __slots__ = ("at", "event")

    def __init__(self) -> None:
        self.at = None
        self.event = {}


NOT_CLOSING = NotClosing()


class WebSocketHandshake(Protocol):
    """A request for a WebSocket, and every answer to it but acceptance, which is `WebSocketExchange._open`.

    Errors of the application are raised as `ProtocolMisuse`; then nothing has been sent.
    """

    def answer(self, status: int, text: str) -> None:
        """Send a whole response of the server's own. `text` is one line, or empty."""

    def begin_denial(self, message: Mapping[str, Any]) -> None:
        """Take a `websocket.http.response.start`. It is held back until the body begins, so that an error in between
        can still be answered.
        """

    def continue_denial(self, message: Mapping[str, Any]) -> int:
        """Send the body of a `websocket.http.response.body`, behind the start if this is the first. Return the status
        of the response.
        """


class WebSocketExchange(Connection):
    """The carrier sets what is declared here before it calls `start`: `phase` CONNECTING, `is_open` false."""

    __slots__ = ("_task", "closing", "handshake", "outbox", "phase", "scope", "started_at")

    handshake: WebSocketHandshake | None
    """The request, while it has not been accepted. The carrier may let go of it when the conversation has ended."""

    outbox: Output
    phase: Phase
    scope: ScopeView
    """Whose conversation it is, for the log."""

    started_at: float
    closing: NotClosing
    _task: asyncio.Task[None] | None

    def start(self, scope: dict[str, Any]) -> None:
        """Start the application; it finds `websocket.connect` waiting."""
        if self.host.logs_access:
            self.host.access.websocket_connecting(scope)
        self.inbox.put_client({"type": "websocket.connect"})
        # The exchange itself is the last callback: a bound method is one more object.
        self._task = self.host.run(scope, self.receive, self.send, self, self)

    # To the application ---------------------------------------------------------------------------------------

    async def receive(self) -> Message:
        """ASGI `receive`. Cancelling loses nothing; after the end it keeps returning `websocket.disconnect`."""
        # After the end the inbox may still hold what the client had said before, with the disconnect behind it. Only
        # when that is taken the event is given again; a copy, since an application may change what it receives.
        if self.phase is _ENDED and not self.inbox.client_waiting:
            return dict(self.closing.event)
        # `Inbox.get`, in line: its frame would be as large as a consumer's whole scope.
        inbox = self.inbox
        item = inbox.take_nowait()
        if item is None:
            waiter = inbox.wait()
            try:
                item = await waiter
            except asyncio.CancelledError:
                inbox.give_back(waiter)
                raise
        # Messages lie there bare, because our own consumers need no dict around them. This one asked for it.
        if type(item) is str:
            return {"type": "websocket.receive", "text": item}
        if type(item) is bytes:
            return {"type": "websocket.receive", "bytes": item}
        return item  # type: ignore[no-any-return]

    # From the application -------------------------------------------------------------------------------------

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

    def _handle(self, message: Mapping[str, Any]) -> Awaitable[None] | None:
        """Do what an event says; what is returned, if anything, is to be awaited before sending more."""
        # Nearly every event is a message: it needs no table, since `is_open` says the same as the phase.
        kind: Any = message.get("type")
        if kind == "websocket.send":
            return self._send_message(message)
        if kind not in ALLOWED[self.phase]:
            raise self._out_of_turn(kind)
        return _HANDLERS[kind](self, message)

    def _send_message(self, message: Mapping[str, Any]) -> Awaitable[None] | None:
        text, data = message.get("text"), message.get("bytes")
        if (text is None) == (data is None):
            raise ProtocolMisuse("websocket.send needs exactly one of text and bytes")
        if text is not None:
            return self.send_text(text)
        return self.send_bytes(data)  # type: ignore[arg-type]

    # The next two are one method, written out twice: every message would pay for a call between them. Each waits where
    # the socket is behind, and where `append` has written at once: then this sender has had its share, and others get a
    # pass.

    def send_text(self, text: str) -> Awaitable[None] | None:
        if not self.is_open:
            raise self._out_of_turn("websocket.send")
        if not isinstance(text, str):
            raise ProtocolMisuse(f"the text of websocket.send is a str, not {type(text).__name__}")
        outbox = self.outbox
        if outbox.append(self.encoder.encode_text(text)) or outbox.size >= outbox.high_water:
            return outbox.drained() if outbox.size >= outbox.high_water else NEXT_PASS
        return None

    def send_bytes(self, data: bytes) -> Awaitable[None] | None:
        if not self.is_open:
            raise self._out_of_turn("websocket.send")
        if not isinstance(data, bytes | bytearray | memoryview):
            raise ProtocolMisuse(f"the bytes of websocket.send are bytes, not {type(data).__name__}")
        outbox = self.outbox
        if outbox.append(self.encoder.encode_bytes(bytes(data))) or outbox.size >= outbox.high_water:
            return outbox.drained() if outbox.size >= outbox.high_water else NEXT_PASS
        return None

    def _out_of_turn(self, kind: Any) -> Exception:
        """The error for an event that `ALLOWED` does not have in this phase."""
        if kind not in EVENTS:
            known = ", ".join(sorted(EVENTS))
            return ProtocolMisuse(f"unknown event {kind!r}: a websocket application sends {known}")
        if self.phase in (Phase.CLOSING, Phase.ENDED):
            return ConnectionClosed("the websocket is closed")
        if kind == "websocket.send":
            why = "before websocket.accept"
            if self.phase is not Phase.CONNECTING:
                why = "after the response to the handshake was begun"
            return ProtocolMisuse(f"{kind} {why}")
        return ProtocolMisuse(f"{kind} is not allowed now: the websocket is {self.phase.name.lower()}")

    # In each of these the carrier comes first, and the phase changes when it has returned: so an event that the carrier
    # refuses has changed nothing, and the application may send another one.

    def _accept(self, message: Mapping[str, Any]) -> None:
        self._open(message)
        self.phase = Phase.OPEN
        self.is_open = True
        if self.host.logs_access:
            self.host.access.websocket_connected(self.scope)
        # Last, because it may already end the conversation: the client may have sent a Close behind its request.
        self._opened()

    def _close(self, message: Mapping[str, Any]) -> None:
        if self.phase is Phase.CONNECTING:
            self.refuse(403)
            return
        code, reason = message.get("code"), message.get("reason")
        if not (code is None or isinstance(code, int)) or not (reason is None or isinstance(reason, str)):
            raise ProtocolMisuse(f"websocket.close has an int as code and a str as reason, not {code!r} and {reason!r}")
        self._shut(NORMAL_CLOSURE if code is None else code, reason or "")

    def _begin_denial(self, message: Mapping[str, Any]) -> None:
        assert self.handshake is not None
        self.handshake.begin_denial(message)
        self.phase = Phase.DENYING

    def _continue_denial(self, message: Mapping[str, Any]) -> Awaitable[None] | None:
        assert self.handshake is not None
        status = self.handshake.continue_denial(message)
        if self.phase is Phase.DENYING:
            self.phase = Phase.ANSWERING
            if self.host.logs_access:
                self.host.access.websocket_rejected(self.scope, status)
        if not message.get("more_body", False):
            self._end_answer()
        outbox = self.outbox
        return outbox.drained() if outbox.size >= outbox.high_water else None

    # Broadcasts -----------------------------------------------------------------------------------------------

    @property
    def fanout(self) -> Fanout | None:
        return self.outbox.fanout

    def broadcast(self, payload: Payload) -> None:
        # A broadcast waits for nobody, so what happens to a client that is behind is decided here: a frame that may be
        # dropped makes room by its policy, and any other counts against the bound. What is checked is what waits
        # already, so that one long message does not make a client slow.
        frame = payload.form(self.encoder)
        outbox = self.outbox
        if payload.is_droppable:
            dropped = outbox.make_room(len(frame), payload.group, payload.policy is SlowPolicy.KEEP_LATEST)
            if dropped:
                self.host.counters.dropped_frames += dropped
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

    def _drop_slow_consumer(self) -> None:
        # A client that was told of the end already, and does not even take that, has nothing more to be told.
        if self.phase is not Phase.OPEN:
            if self.phase is Phase.CLOSING:
                self._drop()
            return
        bound = self.outbox.bound
        text = f"client too slow: more than {bound} bytes wait for it; closed with {TRY_AGAIN_LATER}"
        counters = self.host.counters
        counters.slow_consumers += 1
        self._fault("slow client", text)
        # First: what is under way for it to be dropped comes by `check_bound`, and must find that it has ended.
        self.ended(TRY_AGAIN_LATER, "client too slow")
        # The message that has begun has to be finished, or the client would take our Close for a part of it.
        counters.dropped_frames += self.outbox.drop_waiting()
        self._part(TRY_AGAIN_LATER, "client too slow")

    # Ends -----------------------------------------------------------------------------------------------------

    def refuse(self, status: int, text: str = "") -> None:
        """Answer the handshake in place of the application, if it is not answered yet; an answer of its own that has
        begun is cut.
        """
        if self.phase is Phase.ANSWERING:
            self._drop()
        if self.phase not in (Phase.CONNECTING, Phase.DENYING):
            return
        assert self.handshake is not None
        self.handshake.answer(status, text)
        self.phase = Phase.ANSWERING
        if self.host.logs_access:
            self.host.access.websocket_rejected(self.scope, status)
        self._end_answer()

    def _end_answer(self) -> None:
        self.ended(ABNORMAL_CLOSURE, "handshake refused")
        self._finish()

    def ended(self, code: int, reason: str) -> None:
        """It is over: tell the application, once. How the connection itself ends is the carrier's business."""
        if self.phase is Phase.ENDED:
            return
        # The phase changes before anybody is told: whoever is woken below and sends again finds the end.
        was_open = self.phase in (Phase.OPEN, Phase.CLOSING)
        self._leave_open(Phase.ENDED)
        closing = self._begin_closing()
        closing.at = now = self.host.touch()
        closing.event = {"type": "websocket.disconnect", "code": code, "reason": reason}
        # Without a task the application has ended by itself, and nobody is there to receive.
        if self._task is not None:
            self.inbox.put_disconnect(dict(closing.event))
            self._told(now)
        self.outbox.wake_waiters()
        if was_open and self.host.logs_access:
            self.host.access.websocket_disconnected(self.scope, code, now - self.started_at)

    def abort(self) -> None:
        """Drop the connection; the application gets a disconnect with 1006."""
        self.ended(ABNORMAL_CLOSURE, "connection dropped")
        self._drop()

    def _leave_open(self, phase: Phase) -> None:
        self.phase = phase
        self.is_open = False
        self.outbox.write_through_transport()

    def _begin_closing(self) -> Closing:
        closing = self.closing
        if not isinstance(closing, Closing):
            closing = self.closing = Closing()
        return closing

    def __call__(self, task: asyncio.Task[None]) -> None:
        """The application has ended."""
        self._task = None
        self.host.forget(task, self.started_at, 0)
        error = None if task.cancelled() else task.exception()
        # Nobody will take what is left. The inbox also lets go of this exchange, which would else be kept in a cycle.
        self.inbox.clear()
        if task.cancelled() or error is not None:
            self._application_failed(error)
        elif self.phase is Phase.CONNECTING:
            self._fault("no answer", "application returned without answering websocket.connect")
            self.refuse(500, "the application gave no answer")
        elif self.phase is Phase.DENYING or self.phase is Phase.ANSWERING:
            self._fault("no answer", "application returned in the middle of its response to the handshake")
            self.refuse(500, "the application gave no answer")
        elif self.phase is Phase.OPEN:
            self._shut(NORMAL_CLOSURE, "")
        self._application_ended()

    def _application_failed(self, error: BaseException | None) -> None:
        """`error` is None if it was cancelled."""
        # A router without a route asks for its status this way. It is an answer, and no fault of the application.
        status = status_of(error)
        if status is not None and (self.phase is Phase.CONNECTING or self.phase is Phase.DENYING):
            self._fault("refused", f"{str(error).rstrip('.')}; answered with {status}")
            self.refuse(status, "not found" if status == 404 else "refused")
            return
        # To send to a client that has gone is how many applications notice that it has; they need not catch it.
        if error is not None and not isinstance(error, ConnectionClosed):
            self.host.application_error("WebSocket", self.scope, error)
        elif error is None and self.phase is not Phase.ENDED:
            self._fault("cancelled", "application was cancelled, not by the server")
        if self.phase is Phase.OPEN:
            self._shut(INTERNAL_ERROR, "")
        else:
            self.refuse(500, "internal server error")

    def _fault(self, kind: str, text: str) -> None:
        """One line about a fault that is not ours; `kind` is what the lines are counted and limited by."""
        self.host.fault(kind, self.scope, text)

    # What the carrier does ------------------------------------------------------------------------------------

    @property
    def host(self) -> Host:
        """Runs the application, and is told of what happens."""
        raise NotImplementedError

    def _open(self, message: Mapping[str, Any]) -> None:
        """Accept the handshake, and set `encoder`; or raise `ProtocolMisuse` for headers that cannot be sent."""
        raise NotImplementedError

    def _opened(self) -> None:
        """The conversation is open: go on with what the client said too early, or with closing."""

    def _finish(self) -> None:
        """The response to the handshake is complete: end the connection when the client has it."""
        raise NotImplementedError

    def _shut(self, code: int, reason: str) -> None:
        """Begin to close the open conversation, and say so by `_leave_open`; or raise `ProtocolMisuse` for a code that
        may not be sent. `ended` follows when the peer agrees.
        """
        raise NotImplementedError

    def _part(self, code: int, reason: str) -> None:
        """Close the connection, of which the application thinks already that it has ended."""
        raise NotImplementedError

    def _drop(self) -> None:
        """End the connection now."""
        raise NotImplementedError

    def _told(self, now: float) -> None:
        """The application has been told of the end: it has to end in its time."""

    def _application_ended(self) -> None:
        """Nobody receives and sends any more."""


_HANDLERS: dict[str, Callable[[WebSocketExchange, Mapping[str, Any]], Awaitable[None] | None]] = {
    "websocket.accept": WebSocketExchange._accept,
    "websocket.close": WebSocketExchange._close,
    "websocket.http.response.body": WebSocketExchange._continue_denial,
    "websocket.http.response.start": WebSocketExchange._begin_denial,
}
