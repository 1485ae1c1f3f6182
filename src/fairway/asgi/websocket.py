"""One WebSocket as the application sees it, over any HTTP version: ASGI 3, WebSocket message format 2.5, with the
denial response extension.

Theory of operation. An exchange stands between an application and a carrier. The application gets the exchange's bound
methods as `receive` and `send`. The carrier is a subclass, and does what depends on the HTTP version. `phase` is the
state of the conversation, and `ALLOWED` lists the events that the application may send in each phase:

    CONNECTING ── websocket.accept ──────────────► OPEN ── websocket.close ──► CLOSING
        │                                           │                            │
        ├── websocket.http.response.start ► DENYING │                            │
        │                                    │  │   │                            │
        │           ANSWERING ◄── .body ─────┘  │   │                            │
        │               │                       │   │                            │
        └── websocket.close, an error ──────────┴───┴──────── ended ─────────────┴──► ENDED

In every phase, the conversation can end, but only once. `ended` gives the application a `websocket.disconnect`, which
`receive` then returns again and again, and wakes everybody who waits to send. After that, `send` raises
`ConnectionClosed`.

The carrier calls `start`, and puts into `inbox` what the client sends. It may call `refuse`, `ended` and `abort` at any
time. The exchange calls the methods at the end of this class, which the carrier implements. When such a method returns,
the event has been handled. If it raises `ProtocolMisuse`, nothing has changed.

When the application's task ends, the host calls the exchange (`__call__`). If the application has not answered the
handshake, the exchange answers with an error. If the conversation is open, the exchange closes it.

Everything runs in the event loop of the connection.
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

# The close codes that an exchange itself uses (RFC 6455 section 7.4.1, and its registry).
NORMAL_CLOSURE = 1000
ABNORMAL_CLOSURE = 1006
INTERNAL_ERROR = 1011
TRY_AGAIN_LATER = 1013


class Phase(enum.IntEnum):
    """The states of the conversation. The phase only increases, and always reaches ENDED in the end."""

    CONNECTING = 0  # the application has not answered `websocket.connect`
    DENYING = 1  # it has begun an HTTP response instead; nothing of it is sent before its body begins
    ANSWERING = 2  # the HTTP response is being sent
    OPEN = 3
    CLOSING = 4  # the application has closed; the client's Close frame is missing
    ENDED = 5  # the next event for the application is `websocket.disconnect`, or it has received it


# A global, because CPython 3.11 takes 0.1 µs to look up an enum member in its class.
_ENDED = Phase.ENDED

ALLOWED: Mapping[Phase, frozenset[str]] = {
    Phase.CONNECTING: frozenset({"websocket.accept", "websocket.close", "websocket.http.response.start"}),
    Phase.DENYING: frozenset({"websocket.http.response.body"}),
    Phase.ANSWERING: frozenset({"websocket.http.response.body"}),
    Phase.OPEN: frozenset({"websocket.send", "websocket.close"}),
    Phase.CLOSING: frozenset(),
    Phase.ENDED: frozenset(),
}
"""The events that an application may send in each phase."""

EVENTS = frozenset().union(*ALLOWED.values())
"""All events that an application may send in some phase."""


class NotClosing:
    """Stands for `Closing` while no end has begun. All exchanges share one instance, which cannot be changed."""

    __slots__ = ()

    at: float | None = None
    """When the application got its `websocket.disconnect`, in seconds of the host's clock."""

    event: Mapping[str, Any] = MappingProxyType({})
    """That `websocket.disconnect`."""


class Closing(NotClosing):
    """When and how an exchange has ended. Made when an end begins, so that open connections need no memory for it."""

    __slots__ = ("at", "event")

    def __init__(self) -> None:
        self.at = None
        self.event = {}


NOT_CLOSING = NotClosing()


class WebSocketHandshake(Protocol):
    """A request for a WebSocket, and all its answers except acceptance, for which there is `WebSocketExchange._open`.

    If the application's event is wrong, a method raises `ProtocolMisuse`, and nothing has been sent.
    """

    def answer(self, status: int, text: str) -> None:
        """Send a complete response of the server's own. `text` is its body: one line, or empty."""

    def begin_denial(self, message: Mapping[str, Any]) -> None:
        """Handle a `websocket.http.response.start`. Nothing is sent until the body begins, so that an error in between
        can still be answered.
        """

    def continue_denial(self, message: Mapping[str, Any]) -> int:
        """Handle a `websocket.http.response.body`: send it, after the head if it is the first one.

        Returns the status of the response.
        """


class WebSocketExchange(Connection):
    """The conversation between an application and the client of one WebSocket.

    The carrier sets all attributes that are declared here before it calls `start`: `phase` to CONNECTING, `is_open` to
    False.
    """

    __slots__ = ("_task", "closing", "handshake", "outbox", "phase", "scope", "started_at")

    handshake: WebSocketHandshake | None
    """The request, until it has been accepted. The carrier may release it when the conversation has ended."""

    outbox: Output
    phase: Phase
    scope: ScopeView
    """The scope, or the part of it that is kept for the log."""

    started_at: float
    closing: NotClosing
    _task: asyncio.Task[None] | None

    def start(self, scope: dict[str, Any]) -> None:
        """Start the application's task. Its first event is `websocket.connect`."""
        if self.host.logs_access:
            self.host.access.websocket_connecting(scope)
        self.inbox.put_client({"type": "websocket.connect"})
        # The last argument is the callback `__call__`. A bound method would be one more object for each connection.
        self._task = self.host.run(scope, self.receive, self.send, self, self)

    # To the application ---------------------------------------------------------------------------------------

    async def receive(self) -> Message:
        """ASGI `receive`. Cancelling loses nothing. After the end, it always returns `websocket.disconnect`."""
        # At the end, the inbox may still hold messages that the client sent before, and then the disconnect. After
        # these have been taken, the disconnect is repeated, as a copy, because an application may change what it gets.
        if self.phase is _ENDED and not self.inbox.client_waiting:
            await NEXT_PASS  # the application may ask again and again
            return dict(self.closing.event)
        # This is `Inbox.get`, inlined: its frame would take as much memory as a consumer's whole scope.
        inbox = self.inbox
        item = inbox.take_nowait()
        if item is None:
            waiter = inbox.wait()
            try:
                item = await waiter
            except asyncio.CancelledError:
                inbox.give_back(waiter)
                raise
        # The inbox holds messages as `str` and `bytes`, because our own consumers need no dicts. `receive` makes them.
        if type(item) is str:
            return {"type": "websocket.receive", "text": item}
        if type(item) is bytes:
            return {"type": "websocket.receive", "bytes": item}
        return item  # type: ignore[no-any-return]

    # From the application -------------------------------------------------------------------------------------

    async def send(self, message: Mapping[str, Any]) -> None:
        """ASGI `send`. Returns once less than the high water mark waits to be sent.

        Raises `ConnectionClosed` if the conversation has ended, and `ProtocolMisuse` for an event that is not allowed
        now. If the wait is cancelled, the message is still sent.
        """
        wait = self._handle(message)
        if wait is not None:
            await wait

    def send_nowait(self, message: Mapping[str, Any]) -> None:
        """Like `send`, but never waits. A client that is too slow is disconnected when its outbox is full."""
        self.check_bound()
        self._handle(message)

    def _handle(self, message: Mapping[str, Any]) -> Awaitable[None] | None:
        """Handle an event of the application. Await the result, if there is one, before sending more."""
        # Nearly every event is a message. Its path is faster without the table: `is_open` is true in phase OPEN only.
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

    # The next two methods are alike, but a shared helper would cost a call for each message. The sender must wait if
    # the socket is behind. It must also wait for one pass of the loop if `append` has written at once: then this sender
    # has written much in this pass, and other tasks get their turn.

    def send_text(self, text: str) -> Awaitable[None] | None:
        if not self.is_open:
            raise self._out_of_turn("websocket.send")
        if not isinstance(text, str):
            raise ProtocolMisuse(f"the text of websocket.send is a str, not {type(text).__name__}")
        outbox = self.outbox
        if outbox.append(self.encoder.begin_text(text)) or outbox.size >= outbox.high_water:
            return outbox.drained() if outbox.size >= outbox.high_water else NEXT_PASS
        return None

    def send_bytes(self, data: bytes) -> Awaitable[None] | None:
        if not self.is_open:
            raise self._out_of_turn("websocket.send")
        if not isinstance(data, bytes | bytearray | memoryview):
            raise ProtocolMisuse(f"the bytes of websocket.send are bytes, not {type(data).__name__}")
        outbox = self.outbox
        if outbox.append(self.encoder.begin_bytes(bytes(data))) or outbox.size >= outbox.high_water:
            return outbox.drained() if outbox.size >= outbox.high_water else NEXT_PASS
        return None

    def _out_of_turn(self, kind: Any) -> Exception:
        """The error for an event that `ALLOWED` does not list for this phase."""
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

    # Each of these calls the carrier first, and changes the phase afterwards. So if the carrier refuses the event,
    # nothing has changed, and the application may send another event.

    def _accept(self, message: Mapping[str, Any]) -> None:
        self._open(message)
        self.phase = Phase.OPEN
        self.is_open = True
        if self.host.logs_access:
            self.host.access.websocket_connected(self.scope)
        # This comes last, because it may end the conversation: the client may have sent a Close behind its request.
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
        # A broadcast never waits, so this decides what happens if the client is behind. A droppable frame first makes
        # room, by its policy. Then the outbox is compared with its bound, before the frame is added, so that one long
        # message does not make a client count as slow.
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
        """Disconnect the client if too much waits for it. Called before something is added."""
        if self.outbox.is_over_bound:
            self._drop_slow_consumer()

    def _drop_slow_consumer(self) -> None:
        # In phase CLOSING, the client does not even read our Close frame, so the connection is dropped.
        if self.phase is not Phase.OPEN:
            if self.phase is Phase.CLOSING:
                self._drop()
            return
        bound = self.outbox.bound
        text = f"client too slow: more than {bound} bytes wait for it; closed with {TRY_AGAIN_LATER}"
        counters = self.host.counters
        counters.slow_consumers += 1
        self._fault("slow client", text)
        # End the conversation first: the steps below may come to `check_bound` again, which must do nothing then.
        self.ended(TRY_AGAIN_LATER, "client too slow")
        # A message that was partly sent has to be completed, or the client would read our Close as a part of it.
        counters.dropped_frames += self.outbox.drop_waiting()
        self._part(TRY_AGAIN_LATER, "client too slow")

    # Ends -----------------------------------------------------------------------------------------------------

    def refuse(self, status: int, text: str = "") -> None:
        """Answer the handshake in place of the application, if it has not been answered yet.

        If the application's own response is being sent, the connection is dropped. Later, this does nothing.
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
        """The conversation is over: give the application its `websocket.disconnect`. Only the first call has an effect.

        The carrier ends the connection itself.
        """
        if self.phase is Phase.ENDED:
            return
        # The phase changes first, so that a sender that is woken below finds it changed when it sends again.
        was_open = self.phase in (Phase.OPEN, Phase.CLOSING)
        self._leave_open(Phase.ENDED)
        closing = self._begin_closing()
        closing.at = now = self.host.touch()
        closing.event = {"type": "websocket.disconnect", "code": code, "reason": reason}
        # If there is no task, the application has ended by itself, and nobody receives.
        if self._task is not None:
            self.inbox.put_disconnect(dict(closing.event))
            self._told(now)
        self.outbox.wake_waiters()
        if was_open and self.host.logs_access:
            self.host.access.websocket_disconnected(self.scope, code, now - self.started_at)

    def abort(self) -> None:
        """Drop the connection. The application gets a disconnect with code 1006."""
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
        """The application's task has ended: answer or close in its place, if it has not done so."""
        self._task = None
        self.host.forget(task, self.started_at, 0)
        error = None if task.cancelled() else task.exception()
        # Nobody will take what is left. The inbox also releases this exchange, which would otherwise be in a cycle.
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
        """The application raised `error`, or was cancelled if that is None."""
        # A router raises such an error if it has no route. It asks for a status, and is no fault of the application.
        status = status_of(error)
        if status is not None and (self.phase is Phase.CONNECTING or self.phase is Phase.DENYING):
            self._fault("refused", f"{str(error).rstrip('.')}; answered with {status}")
            self.refuse(status, "not found" if status == 404 else "refused")
            return
        # Many applications notice only when they send that the client has left. They need not catch this error.
        if error is not None and not isinstance(error, ConnectionClosed):
            self.host.application_error("WebSocket", self.scope, error)
        elif error is None and self.phase is not Phase.ENDED:
            self._fault("cancelled", "application was cancelled, not by the server")
        if self.phase is Phase.OPEN:
            self._shut(INTERNAL_ERROR, "")
        else:
            self.refuse(500, "internal server error")

    def _fault(self, kind: str, text: str) -> None:
        """Log a fault of the client or the application. Lines are counted and limited by `kind`."""
        self.host.fault(kind, self.scope, text)

    # What the carrier does ------------------------------------------------------------------------------------

    @property
    def host(self) -> Host:
        """Runs the application, and takes reports."""
        raise NotImplementedError

    def _open(self, message: Mapping[str, Any]) -> None:
        """Accept the handshake, and set `encoder`. Raises `ProtocolMisuse` for headers that cannot be sent."""
        raise NotImplementedError

    def _opened(self) -> None:
        """The conversation is open: handle what the client sent too early, or close it if the server stops."""

    def _finish(self) -> None:
        """The response that refuses the handshake is complete: end the connection once the client has received it."""
        raise NotImplementedError

    def _shut(self, code: int, reason: str) -> None:
        """Begin to close the open conversation, and call `_leave_open`. Call `ended` when the client has answered.

        Raises `ProtocolMisuse` for a code or reason that may not be sent.
        """
        raise NotImplementedError

    def _part(self, code: int, reason: str) -> None:
        """Close the connection with this code. For the application, the conversation has already ended."""
        raise NotImplementedError

    def _drop(self) -> None:
        """End the connection now."""
        raise NotImplementedError

    def _told(self, now: float) -> None:
        """The application got its `websocket.disconnect` at this time. The carrier may limit how long it still runs."""

    def _application_ended(self) -> None:
        """The application's task has ended."""


_HANDLERS: dict[str, Callable[[WebSocketExchange, Mapping[str, Any]], Awaitable[None] | None]] = {
    "websocket.accept": WebSocketExchange._accept,
    "websocket.close": WebSocketExchange._close,
    "websocket.http.response.body": WebSocketExchange._continue_denial,
    "websocket.http.response.start": WebSocketExchange._begin_denial,
}
