"""One WebSocket connection of the server: transport, protocol core, outbox and inbox joined to an application.

After a request for an upgrade the `WebSocketConnection` replaces the HTTP protocol object of the transport. Its bound
methods are the ASGI `receive` and `send` of the application's one task. The rules of the wire are in
`fairway.protocols.websocket`; those of the ASGI conversation are here, in `_HANDLERS`: which event is allowed in
which phase, and what it does.

Lifetime: driver -> inbox, outbox, core, task; task -> (application's frames) -> driver. The cycle is cut in
`_release`, when both the transport and the task have ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from math import inf
from typing import TYPE_CHECKING, Any

from fairway.asgi.errors import ConnectionClosed, ProtocolMisuse
from fairway.asgi.scope import ScopeForLog
from fairway.delivery import Encoder, Inbox, Message
from fairway.protocols.websocket.frames import (
    ABNORMAL_CLOSURE,
    GOING_AWAY,
    INTERNAL_ERROR,
    NORMAL_CLOSURE,
    PLAIN,
    TRY_AGAIN_LATER,
)
from fairway.protocols.websocket.protocol import Closed, State, WebSocketProtocol
from fairway.server.backlog import DECODED_PER_PASS
from fairway.server.websocket.closing import NOT_CLOSING, Closing, NotClosing
from fairway.server.websocket.exchange import Phase, WebSocketExchange
from fairway.server.websocket.handshake import Handshake
from fairway.server.wire import Wire

if TYPE_CHECKING:
    from fairway.server.context import Context


class WebSocketConnection(asyncio.Protocol, WebSocketExchange):
    """Speaks ASGI 3, WebSocket message format 2.5, with the denial response extension."""

    __slots__ = (
        "_connected_at",
        "_core",
        "_decode_scheduled",
        "_ending",
        "_opening",
        "_task",
        "scope",
        "wheel_slot",
    )

    outbox: Wire

    def __init__(self, context: Context, wire: Wire, opening: Handshake, scope: dict[str, Any]) -> None:
        limits = context.limits
        self._context = context
        self.outbox = wire
        wire.owner = self
        self.inbox = Inbox(context.loop, self, limits.inbox_messages, limits.inbox_bytes, context.batch)
        self.is_open = False
        self.encoder: Encoder = PLAIN
        self.scope = ScopeForLog(scope)
        self.wheel_slot: int | None = None
        self._opening: Handshake | None = opening
        self._core: WebSocketProtocol | None = None
        self._phase = Phase.CONNECTING
        self._ending: NotClosing = NOT_CLOSING
        self._decode_scheduled = False
        self._connected_at = context.touch()
        self._task: asyncio.Task[None] | None = None
        context.counters.websockets += 1
        context.add(self)
        context.schedule(self, self._connected_at + limits.connect_timeout)

    def start(self, scope: dict[str, Any]) -> None:
        """Start the application; it finds `websocket.connect` waiting."""
        context = self._context
        context.access.websocket_connecting(scope)
        self.inbox.put_client({"type": "websocket.connect"})
        self._task = context.run(scope, self.receive, self.send, self, self)
        self.scope = ScopeForLog(scope)

    # From the socket ------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        core = self._core
        if core is None:
            self._keep_early(data)
            return
        if len(data) == 6 and core.receive_pong(data, self._context.now):
            return
        if core.decoder.pending:
            core.keep(data, self._context.now)  # it was read before the reading stopped
            return
        inbox = self.inbox
        events = core.receive_data(data, self._context.now, DECODED_PER_PASS, inbox.bounds[1] - inbox.client_size)
        for event in events:
            if type(event) is str or type(event) is bytes:
                inbox.put_client(event)
            else:
                self._close_after_messages(event, len(events) > 1)  # type: ignore[arg-type]
        if core.out and self._ending.last is None:
            self._send_control()
        if not events and self.outbox.pending.is_finishing and not core.decoder.pending:
            self.outbox.discard()
            return
        decoder = core.decoder
        if (
            decoder.pending
            or (inbox.client is not None and inbox.full)
            or (decoder.controls and self._has_answers_waiting(core))
        ):
            self._pause_reading()

    def _take(self, events: Sequence[Any]) -> None:
        for event in events:
            if type(event) is str or type(event) is bytes:
                self.inbox.put_client(event)
            else:
                self._close_after_messages(event, len(events) > 1)
        if self._core is not None and self._core.out and self._ending.last is None:
            self._send_control()

    def _close_after_messages(self, closed: Closed, follows_message: bool) -> None:
        """Let the application answer what the client had said before its Close, or before it broke a rule."""
        is_last = not (follows_message or self.inbox.client_waiting)
        if is_last or self._phase is not Phase.OPEN or self.outbox.transport is None:
            self._core_closed(closed)
            return
        ending = self._begin_ending()
        ending.last = closed
        ending.until = self._context.touch() + self._context.limits.close_timeout
        self.schedule(ending.until)

    def _begin_ending(self) -> Closing:
        ending = self._ending
        if not isinstance(ending, Closing):
            ending = self._ending = Closing()
        return ending

    def _close_now(self) -> None:
        closed = self._ending.last
        if closed is not None:
            ending = self._begin_ending()
            ending.last = None
            if self._core is not None:
                ending.until = None
                self._core_closed(closed)

    def _send_control(self) -> None:
        """Send what the protocol itself has to say; a client that reads nothing of it is dropped like any other."""
        assert self._core is not None
        self.check_bound()
        self.outbox.append(self._core.data_to_send())

    def _keep_early(self, data: bytes) -> None:
        if self._phase is Phase.ENDED:
            self.outbox.discard()
            return
        if self._opening is not None and not self._opening.keep(data):
            self._fault("early data", "too much data before the end of the handshake (RFC 6455 section 4.1)")
            self.abort()

    def _pause_reading(self) -> None:
        """Read no more until what has been read is decoded, and its messages have found room."""
        core = self._core
        if self._is_full:
            self.inbox.pause()  # the consumer will resume: there is something for it to take
        elif core is None or not self._has_answers_waiting(core):  # else `resume_writing` will resume
            self.resume_reading()  # nobody else would
        self.outbox.pause_reading()

    @property
    def _is_full(self) -> bool:
        # Once either side has closed, messages are thrown away, and no consumer will make room for more.
        return self._phase is Phase.OPEN and self.inbox.full

    def _has_answers_waiting(self, core: WebSocketProtocol) -> bool:
        # Whoever takes no Pongs is not read, or its own Pings would fill its outbox.
        outbox = self.outbox
        return core.decoder.controls and outbox.blocked and outbox.size >= outbox.high_water

    def resume_reading(self) -> None:
        """Decode what is left, then read on. (`fairway.delivery.Source`)

        Not at once: a consumer that has made room may be cancelled between taking and handling.
        """
        if not self._decode_scheduled:
            self._decode_scheduled = True
            self._context.backlog.add(self)

    def go_on_reading(self) -> None:
        """Decode as much as the budgets allow. (`fairway.server.backlog.Reader`)"""
        self._decode_scheduled = False
        core, inbox = self._core, self.inbox
        if core is None or self.outbox.transport is None:
            return
        if core.decoder.pending and not self._is_full and not self._has_answers_waiting(core):
            room = inbox.room if self._phase is Phase.OPEN else inf
            self._take(core.receive_data(b"", core.heard_at, DECODED_PER_PASS, room))
        if core.decoder.pending or self._is_full or self._has_answers_waiting(core):
            self._pause_reading()
        elif not self.outbox.reading:
            core.heard_at = self._context.now
            if self._ending.last is not None and core.state is State.OPEN:
                ending = self._begin_ending()
                ending.last = ending.until = None  # what is read now says how it ends
            self.outbox.resume_reading()

    def peer_has_left(self, is_reset: bool) -> None:
        """The end of the stream has come while nothing was read. (`fairway.server.paused.PausedConnection`)

        What lies in front of it is still read if the application makes room for it within the time for a Close.
        """
        if is_reset:
            self.outbox.abort()
        else:
            self._close_after_messages(Closed(ABNORMAL_CLOSURE, "connection lost"), True)

    def parking(self) -> None:
        """The consumer has nothing left to do. (`fairway.delivery.Source`)"""
        if self._ending.last is not None and self.outbox.reading and not self.inbox.client_waiting:
            # Not from within the consumer's own step: it is about to wait, and the disconnect has to find it waiting.
            self._context.loop.call_soon(self._close_now)
        self._context.batch.parked()

    def eof_received(self) -> bool:
        # A WebSocket that cannot be read any more is over, and none can come of a handshake whose client has ended its
        # side (ASGI WebSocket, "Disconnect"); a refusal that is under way it may still want.
        self.outbox.eof = True
        if self._phase is Phase.CONNECTING:
            self._disconnected(ABNORMAL_CLOSURE, "connection lost before the handshake was answered")
        if self._core is not None and not self.outbox.pending.is_finishing:
            self._take(self._core.receive_eof())
        return self._core is None and self._phase is not Phase.ENDED

    def connection_lost(self, exc: Exception | None) -> None:
        self._context.counters.dropped_frames += self.outbox.lost()
        self._close_now()
        self._begin_ending().until = None
        core = self._core
        if core is not None:
            self._take(core.receive_eof())
        self._disconnected(ABNORMAL_CLOSURE, "connection lost")
        self._context.remove(self)
        if self._task is None:
            self._release()

    def pause_writing(self) -> None:
        self.outbox.pause_writing()

    def resume_writing(self) -> None:
        wire = self.outbox
        wire.resume_writing()
        if not wire.reading and not wire.blocked:
            self.resume_reading()

    # Deadlines ------------------------------------------------------------------------------------------------

    def handle_deadline(self, now: float) -> float | None:
        """Judge whichever deadline has passed; the next one. (`fairway.timing.wheel.Entry`)"""
        if self._phase is not Phase.OPEN or self.outbox.blocked or self._ending.last is not None:
            self._judge_deadlines(now)
            return self._next_deadline()
        # Nothing but a ping can be due: for an idle connection that is all that ever happens.
        core = self._core
        assert core is not None
        events = core.handle_deadline(now, self.outbox.reading)
        if events:
            self._take(events)
            return self._next_deadline()
        if core.out:
            self._send_control()
        return core.next_deadline()

    def _judge_deadlines(self, now: float) -> None:
        limits, ending = self._context.limits, self._ending
        if self.outbox.transport is None and self._task is None:
            return
        if ending.at is not None and self._task is not None and now >= ending.at + limits.disconnect_timeout:
            if not self._task.done():
                self._context.cancel_hanging(self._task, self.scope)
            self._begin_ending().at = None
        if self._phase is Phase.CONNECTING and now >= self._connected_at + limits.connect_timeout:
            self._fault(
                "no answer", f"application did not answer websocket.connect within {limits.connect_timeout:g} s"
            )
            self._refuse(500, "the application did not answer in time")
        if self.outbox.handle_deadline(now):
            self._context.client_stalled(self.scope)
            self._disconnected(TRY_AGAIN_LATER, "client too slow")
        core = self._core
        if core is not None and self.outbox.transport is not None:
            self._take(core.handle_deadline(now, self.outbox.reading))
        until = self._ending.until
        if until is not None and now >= until:
            self._close_now()

    def _next_deadline(self) -> float | None:
        limits, ending = self._context.limits, self._ending
        deadlines = [ending.until, self.outbox.next_deadline()]
        if self._phase is Phase.CONNECTING:
            deadlines.append(self._connected_at + limits.connect_timeout)
        if ending.at is not None and self._task is not None:
            deadlines.append(ending.at + limits.disconnect_timeout)
        if self._core is not None and self.outbox.transport is not None:
            deadlines.append(self._core.next_deadline())
        return min((one for one in deadlines if one is not None), default=None)

    def schedule(self, deadline: float) -> None:
        """Have `handle_deadline` called then. (`fairway.server.wire.Owner`)"""
        self._context.schedule(self, deadline)

    # To the application ---------------------------------------------------------------------------------------

    async def receive(self) -> Message:
        """ASGI `receive`. Cancelling loses nothing; after the end it keeps returning `websocket.disconnect`."""
        if self._phase is Phase.ENDED and not self.inbox.client_waiting:
            return dict(self._ending.event)
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
        if type(item) is str:
            return {"type": "websocket.receive", "text": item}
        if type(item) is bytes:
            return {"type": "websocket.receive", "bytes": item}
        return item  # type: ignore[no-any-return]

    def _handle(self, message: Mapping[str, Any]) -> Awaitable[None] | None:
        kind = message.get("type")
        if kind == "websocket.send":
            return self._send_message(message)
        handler = _HANDLERS.get(kind)  # type: ignore[arg-type]
        if handler is None:
            raise ProtocolMisuse(
                f"unknown event {kind!r}: a websocket application sends {', '.join(sorted(_HANDLERS))}"
            )
        return handler(self, message)

    def _accept(self, message: Mapping[str, Any]) -> None:
        if self._phase is not Phase.CONNECTING:
            raise self._out_of_turn("websocket.accept")
        opening, context = self._opening, self._context
        assert opening is not None
        response = opening.accept(message)
        if not opening.was_offered(subprotocol := message.get("subprotocol")):
            self._fault(
                "subprotocol", f"application accepted subprotocol {subprotocol!r}, which the client did not offer"
            )
        early = opening.early_data()
        self.encoder = opening.encoder()
        self._core = opening.connection()
        self._opening = None
        self._phase = Phase.OPEN
        self.is_open = True
        self.outbox.append(response)
        context.access.websocket_connected(self.scope)
        self._schedule_core(self._core)
        if context.draining:
            self.drain()
        elif early:
            self.data_received(early)

    def _close(self, message: Mapping[str, Any]) -> None:
        if self._phase is Phase.CONNECTING:
            self._refuse(403)
            return
        if self._phase is not Phase.OPEN:
            raise self._out_of_turn("websocket.close")
        code, reason = message.get("code"), message.get("reason")
        if not (code is None or isinstance(code, int)) or not (reason is None or isinstance(reason, str)):
            raise ProtocolMisuse(f"websocket.close has an int as code and a str as reason, not {code!r} and {reason!r}")
        if self._ending.last is not None:
            self._close_now()
            return
        self._begin_closing(NORMAL_CLOSURE if code is None else code, reason or "")

    def _begin_closing(self, code: int, reason: str) -> None:
        core = self._core
        assert core is not None
        try:
            core.close(code, reason, self._context.touch())
        except ValueError as error:
            raise ProtocolMisuse(f"websocket.close: {error}") from None
        self._phase = Phase.CLOSING
        self._not_open_any_more()
        self._send_control()
        self._schedule_core(core)
        if not self.outbox.reading:
            self.resume_reading()

    def _not_open_any_more(self) -> None:
        self.is_open = False
        self.outbox.write_through_transport()

    def _schedule_core(self, core: WebSocketProtocol) -> None:
        deadline = core.next_deadline()
        if deadline is not None:
            self.schedule(deadline)

    def _response_start(self, message: Mapping[str, Any]) -> None:
        if self._phase is not Phase.CONNECTING:
            raise self._out_of_turn("websocket.http.response.start")
        assert self._opening is not None
        status, head = self._opening.response_start(message)
        self.outbox.append(head)
        self._phase = Phase.DENYING
        self._context.access.websocket_rejected(self.scope, status)

    def _response_body(self, message: Mapping[str, Any]) -> Awaitable[None] | None:
        if self._phase is not Phase.DENYING:
            raise self._out_of_turn("websocket.http.response.body")
        assert self._opening is not None
        self.outbox.append(self._opening.response_body(message))
        if not message.get("more_body", False):
            self._finish_answer()
        return self.outbox.drained() if self.outbox.is_crowded else None

    # Endings --------------------------------------------------------------------------------------------------

    def _refuse(self, status: int, text: str = "") -> None:
        """Answer the handshake in place of the application."""
        if self._opening is None or self._phase is not Phase.CONNECTING:
            return
        self.outbox.append(self._opening.refusal(status, text and text + "\n"))
        self._phase = Phase.DENYING
        self._context.access.websocket_rejected(self.scope, status)
        self._finish_answer()

    def _finish_answer(self) -> None:
        self._disconnected(ABNORMAL_CLOSURE, "handshake refused")
        self._linger()

    def _core_closed(self, closed: Closed) -> None:
        """The closing handshake is complete, or the connection is lost, or the peer broke a rule."""
        assert self._core is not None
        if closed.fault:
            self._fault("protocol error", f"{closed.reason}; closed with {closed.code}")
        self._disconnected(closed.code, closed.reason)
        self._send_control_last()
        if closed.fault:
            self._linger()
        elif self.outbox.blocked:
            self.outbox.abort()  # the peer does not read: its Close or its absence has been seen
        else:
            self.outbox.close()

    def _send_control_last(self) -> None:
        assert self._core is not None
        data = self._core.data_to_send()
        if data and self.outbox.transport is not None:
            self.outbox.append(data)
            self.outbox.flush()

    def _linger(self) -> None:
        """End our side, read on and throw away, until the client ends its own."""
        wire = self.outbox
        if not (wire.reading or wire.eof):
            self.resume_reading()
        wire.finish()

    def _drop_slow_consumer(self) -> None:
        if self._phase is not Phase.OPEN:
            if self._phase is Phase.CLOSING:
                self.outbox.abort()
            return
        self._context.counters.slow_consumers += 1
        self._fault(
            "slow client",
            f"client too slow: more than {self.outbox.bound} bytes wait for it; closed with {TRY_AGAIN_LATER}",
        )
        core = self._core
        assert core is not None
        self._context.counters.dropped_frames += self.outbox.drop_waiting()
        self._disconnected(TRY_AGAIN_LATER, "client too slow")
        if core.state is not State.OPEN:
            self.outbox.abort()  # it has said its Close already, and takes nothing more
            return
        # If it goes on reading it gets the message that has begun, and a Close; it has as long as for any Close.
        core.close(TRY_AGAIN_LATER, "client too slow", self._context.now)
        self.outbox.append(core.data_to_send())
        self._schedule_core(core)
        if self.outbox.blocked:
            # However much it sends, it is not read before it has taken what there is for it: see `resume_writing`.
            self.outbox.pause_reading()
            self.outbox.finish()
        else:
            self._linger()

    def _disconnected(self, code: int, reason: str) -> None:
        """Tell the application, once."""
        if self._phase is Phase.ENDED:
            return
        was_open = self._core is not None
        self._phase = Phase.ENDED
        self._not_open_any_more()
        context, ending = self._context, self._begin_ending()
        ending.at = now = context.touch()
        ending.event = {"type": "websocket.disconnect", "code": code, "reason": reason}
        if self._task is not None:
            self.inbox.put_disconnect(dict(ending.event))
            context.schedule(self, now + context.limits.disconnect_timeout)
        self.outbox.wake_waiters()
        if was_open:
            context.access.websocket_disconnected(self.scope, code, now - self._connected_at)

    def __call__(self, task: asyncio.Task[None]) -> None:
        """The application has ended. The driver itself is the callback: a bound method is one more object."""
        self._task = None
        self._context.forget(task, self._connected_at)
        error = None if task.cancelled() else task.exception()
        self.inbox.clear()
        if task.cancelled() or error is not None:
            self._application_failed(error)
        elif self._phase is Phase.CONNECTING:
            self._fault("no answer", "application returned without answering websocket.connect")
            self._refuse(500, "the application gave no answer")
        elif self._phase is Phase.DENYING:
            self._fault("no answer", "application returned in the middle of its response to the handshake")
            self.outbox.abort()
        elif self._ending.last is not None:
            self._close_now()
        elif self._phase is Phase.OPEN:
            self._begin_closing(NORMAL_CLOSURE, "")
        if self.outbox.transport is None:
            self._release()

    def _application_failed(self, error: BaseException | None) -> None:
        status = getattr(error, "asgi_status", None)
        if self._phase is Phase.CONNECTING and isinstance(status, int):
            self._fault("refused", f"{str(error).rstrip('.')}; answered with {status}")
            self._refuse(status, "not found" if status == 404 else "refused")
            return
        if error is not None and not isinstance(error, ConnectionClosed):
            self._context.application_error("WebSocket", self.scope, error)
        elif error is None and self._phase is not Phase.ENDED:
            self._fault("cancelled", "application was cancelled, not by the server")
        if self._phase is Phase.CONNECTING:
            self._refuse(500, "internal server error")
        elif self._phase is Phase.DENYING:
            self.outbox.abort()
        elif self._ending.last is not None:
            self._close_now()
        elif self._phase is Phase.OPEN:
            self._begin_closing(INTERNAL_ERROR, "")

    def _release(self) -> None:
        self._context.wheel.cancel(self)
        self.inbox.clear()
        self._core = self._opening = None

    def _fault(self, kind: str, text: str) -> None:
        """One line about a fault that is not ours; `kind` is what the lines are counted and limited by."""
        self._context.fault(kind, self.scope, text)

    # For the server -------------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Close with 1001; a handshake that is still open is finished first."""
        if self._phase is Phase.OPEN and self._ending.last is None:
            self._begin_closing(GOING_AWAY, "server is shutting down")

    def abort(self) -> None:
        """Drop the connection; the application gets a disconnect with 1006."""
        self._disconnected(ABNORMAL_CLOSURE, "connection dropped")
        self.outbox.abort()


_HANDLERS: dict[str, Callable[[WebSocketConnection, Mapping[str, Any]], Awaitable[None] | None]] = {
    "websocket.accept": WebSocketConnection._accept,
    "websocket.close": WebSocketConnection._close,
    "websocket.http.response.body": WebSocketConnection._response_body,
    "websocket.http.response.start": WebSocketConnection._response_start,
    "websocket.send": WebSocketConnection._send_message,
}
