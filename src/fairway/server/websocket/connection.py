"""One WebSocket over a wire (RFC 6455): the carrier of an exchange.

The conversation with the application is in `fairway.asgi.websocket`, what the bytes mean in
`fairway.protocols.websocket`, the socket in `fairway.server.wire`. This module joins them, and decides how far to read,
and when an end that has come is told. It begins where an `Http1Connection` hands over its wire.

Until the application has accepted there is a `Handshake`, afterwards a protocol core, never both. Reading stops while
the inbox is full, while bytes wait to be decoded, and while a client takes none of the answers to its Pings; each of
these knows who goes on: the consumer (`Inbox.pause`), the backlog, `resume_writing`.

What ends the connection, a Close, a broken rule or the end of the stream, is told to the application behind what the
client had said before it (`closing.last`): when the consumer has taken that and waits again, when it ends, or when
`close_timeout` has passed.

Lifetime: connection -> inbox, wire, core, task; task -> (application's frames) -> connection. The cycles are cut in
`_release`, when both the wire is lost and the task has ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from math import inf
from typing import TYPE_CHECKING, Any

from fairway.asgi.errors import ProtocolMisuse
from fairway.asgi.scope import ScopeForLog
from fairway.asgi.websocket import Phase, WebSocketExchange
from fairway.delivery import LONG_MESSAGE, Inbox
from fairway.protocols.websocket.frames import ABNORMAL_CLOSURE, PLAIN, TRY_AGAIN_LATER
from fairway.protocols.websocket.protocol import MESSAGE_TOO_SLOW, Closed, State, WebSocketProtocol
from fairway.server.backlog import DECODED_PER_PASS, LARGE_READ
from fairway.server.websocket.closing import NOT_CLOSING, Closing, NotClosing
from fairway.server.websocket.handshake import Handshake
from fairway.server.wire import Wire

if TYPE_CHECKING:
    from fairway.server.context import ServerContext


class WebSocketConnection(asyncio.Protocol, WebSocketExchange):
    """The protocol object of a transport, from the request for an upgrade on.

    Its state is that of three others: the `phase` of the exchange, which is what the application knows; the core, which
    is what the peers have said to each other; and the wire. They differ only while something ends, and `closing` has
    what is then known:

    * the application has closed: the phase is CLOSING, the core has sent our Close and awaits the peer's until its
      deadline;
    * the peer has closed, or broken a rule, behind messages that the application has not taken: the phase is still
      OPEN, and `closing.last` says what the application will be told when it has taken them, or at `closing.until`;
    * the application has been told (`closing.at`), and has `disconnect_timeout` to end: the phase is ENDED, whatever
      becomes of the socket meanwhile.
    """

    __slots__ = ("_context", "_core", "_decode_scheduled", "wheel_slot")

    outbox: Wire
    handshake: Handshake | None
    closing: NotClosing | Closing

    def __init__(self, context: ServerContext, wire: Wire, handshake: Handshake, scope: dict[str, Any]) -> None:
        limits = context.limits
        self._context = context
        self.outbox = wire
        wire.owner = self
        self.inbox = Inbox(context.loop, self, limits.inbox_messages, limits.inbox_bytes, context.batch)
        self.is_open = False
        self.encoder = PLAIN
        self.scope = scope  # until `start`
        self.wheel_slot: int | None = None
        self.handshake = handshake
        self._core: WebSocketProtocol | None = None
        self.phase = Phase.CONNECTING
        self.closing = NOT_CLOSING
        self._decode_scheduled = False
        self.started_at = context.touch()
        self._task = None
        context.counters.websockets += 1
        context.add(self)

    def start(self, scope: dict[str, Any]) -> None:
        self._context.schedule(self, self.started_at + self._context.limits.connect_timeout)
        super().start(scope)
        self.scope = ScopeForLog(scope)  # a middleware may have said who the client is, behind a proxy

    # From the socket ------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        # Every read comes here, so the frequent ones leave early: an idle client's Pong, then one message that the
        # consumer is given at once. Everything below the loop is for reads that hold more than that.
        core = self._core
        if core is None:
            self._keep_early(data)
            return
        if len(data) == 6 and core.receive_pong(data, self._context.now):
            return
        if core.decoder.pending:
            core.keep(data, self._context.now)  # it was read before the reading stopped
            return
        if len(data) >= LARGE_READ and not core.decoder.is_finished and not self._context.backlog.may_decode(len(data)):
            core.keep(data, self._context.now)
            self._pause_reading()
            return
        inbox = self.inbox
        events = core.receive_data(data, self._context.now, DECODED_PER_PASS, inbox.bounds[1] - inbox.client_size)
        received = len(events)
        for event in events:
            if type(event) is str or type(event) is bytes:
                (inbox.put_client if len(event) < LONG_MESSAGE else inbox.put_long)(event)
            else:
                received -= 1
                self._close_after_messages(event, received > 0)  # type: ignore[arg-type]
        self._context.counters.messages_received += received
        # Not behind a Close that the application has not been told of: what the core would answer belongs behind what
        # the application still has to say.
        if core.out and self.closing.last is None:
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
        received = len(events)
        for event in events:
            if type(event) is str or type(event) is bytes:
                (self.inbox.put_client if len(event) < LONG_MESSAGE else self.inbox.put_long)(event)
            else:
                received -= 1
                self._close_after_messages(event, received > 0)
        self._context.counters.messages_received += received
        if self._core is not None and self._core.out and self.closing.last is None:
            self._send_control()

    def _close_after_messages(self, closed: Closed, follows_message: bool) -> None:
        """Let the application answer what the client had said before its Close, or before it broke a rule."""
        # If the consumer has taken everything there is nothing to wait for. The same holds if nobody can answer any
        # more.
        is_last = self.inbox.parked and not follows_message
        if is_last or self.phase is not Phase.OPEN or self.outbox.transport is None:
            self._core_closed(closed)
            return
        closing = self._begin_closing()
        closing.last = closed
        if not (follows_message or self.inbox.client_waiting):
            # A stream of HTTP/2, or TLS, may bring two pieces in one pass: the consumer has been given what came in the
            # first, and has not run yet. It runs before this.
            self._context.loop.call_soon(self._close_now)
        closing.until = self._context.touch() + self._context.limits.close_timeout
        self.schedule(closing.until)

    def _begin_closing(self) -> Closing:
        closing = self.closing
        if not isinstance(closing, Closing):
            closing = self.closing = Closing()
        return closing

    def _close_now(self) -> None:
        closed = self.closing.last
        if closed is not None:
            closing = self._begin_closing()
            closing.last = None
            if self._core is not None:
                closing.until = None
                self._core_closed(closed)

    def _send_control(self) -> None:
        """Send what the protocol itself has to say; a client that reads nothing of it is dropped like any other."""
        assert self._core is not None
        self.check_bound()
        self.outbox.append(self._core.data_to_send())

    def _keep_early(self, data: bytes) -> None:
        if self.phase is Phase.ENDED:
            self.outbox.discard()
            return
        if self.handshake is not None and not self.handshake.keep(data):
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
        return self.phase is Phase.OPEN and self.inbox.full

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
        # Three steps: decode what was read before, as far as there is room; if that was not all, wait again for whoever
        # makes room; else read on, and count silence from now, since what was not read cannot have been heard.
        core, inbox = self._core, self.inbox
        if core is None or self.outbox.transport is None:
            return
        if core.decoder.pending and not self._is_full and not self._has_answers_waiting(core):
            room = inbox.room if self.phase is Phase.OPEN else inf
            self._take(core.receive_data(b"", core.heard_at, DECODED_PER_PASS, room))
        if core.decoder.pending or self._is_full or self._has_answers_waiting(core):
            self._pause_reading()
        elif not self.outbox.reading:
            core.heard_at = self._context.now
            core.decoder.forgive()
            if self.closing.last is not None and core.state is State.OPEN:
                closing = self._begin_closing()
                closing.last = closing.until = None  # what is read now says how it ends
            self.outbox.resume_reading()

    def peer_has_left(self, is_reset: bool) -> None:
        """The end of the stream has come while nothing was read. (`fairway.server.paused.PausedConnection`)

        What lies in front of it is still read if the application makes room for it within the time for a Close.
        """
        if is_reset:
            self.outbox.abort()
        elif self._core is not None:  # else it lingers, and reads on by itself
            self._close_after_messages(Closed(ABNORMAL_CLOSURE, "connection lost"), True)

    def parking(self) -> None:
        """The consumer has nothing left to do. (`fairway.delivery.Source`)"""
        if self.closing.last is not None and self.outbox.reading and not self.inbox.client_waiting:
            # Not from within the consumer's own step: it is about to wait, and the disconnect has to find it waiting.
            self._context.loop.call_soon(self._close_now)
        self._context.batch.parked()

    def eof_received(self) -> bool:
        # A WebSocket that cannot be read any more is over, and none can come of a handshake whose client has ended its
        # side (ASGI WebSocket, "Disconnect"); a refusal that is under way it may still want.
        self.outbox.eof = True
        if self.phase is Phase.CONNECTING:
            self.ended(ABNORMAL_CLOSURE, "connection lost before the handshake was answered")
        if self._core is not None and not self.outbox.pending.is_finishing:
            self._take(self._core.receive_eof())
        return self._core is None and self.phase is not Phase.ENDED

    def connection_lost(self, exc: Exception | None) -> None:
        # The wire first, so that nothing of what follows is written. Then the end that was already known, or else this
        # one.
        self._context.counters.dropped_frames += self.outbox.lost()
        self._close_now()
        self._begin_closing().until = None
        core = self._core
        if core is not None:
            self._take(core.receive_eof())
        self.ended(ABNORMAL_CLOSURE, "connection lost")
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
        if self.phase is not Phase.OPEN or self.outbox.blocked or self.closing.last is not None:
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
        # One wheel entry for all deadlines of a connection: each is judged, whichever has come due, in the order in
        # which they may end it. Whoever judges looks again at what the one before has left.
        limits, told_at = self._context.limits, self.closing.at
        if self.outbox.transport is None and self._task is None:
            return
        if told_at is not None and self._task is not None and now >= told_at + limits.disconnect_timeout:
            if not self._task.done():
                self._context.cancel_hanging(self._task, self.scope)
            self._begin_closing().at = None
        if self.phase <= Phase.DENYING and now >= self.started_at + limits.connect_timeout:  # nothing has been sent
            self._fault(
                "no answer", f"application did not answer websocket.connect within {limits.connect_timeout:g} s"
            )
            self.refuse(500, "the application did not answer in time")
        if self.outbox.handle_deadline(now):
            self._context.client_stalled(self.scope)
            self.ended(TRY_AGAIN_LATER, "client too slow")
        core = self._core
        if core is not None and self.outbox.transport is not None:
            self._take(core.handle_deadline(now, self.outbox.reading))
        until = self.closing.until
        if until is not None and now >= until:
            self._close_now()

    def _next_deadline(self) -> float | None:
        limits, closing = self._context.limits, self.closing
        deadlines = [closing.until, self.outbox.next_deadline()]
        if self.phase <= Phase.DENYING:
            deadlines.append(self.started_at + limits.connect_timeout)
        if closing.at is not None and self._task is not None:
            deadlines.append(closing.at + limits.disconnect_timeout)
        if self._core is not None and self.outbox.transport is not None:
            deadlines.append(self._core.next_deadline())
        return min((one for one in deadlines if one is not None), default=None)

    def schedule(self, deadline: float) -> None:
        """Have `handle_deadline` called then. (`fairway.server.wire.Owner`)"""
        self._context.schedule(self, deadline)

    # For the exchange (`fairway.asgi.websocket`) --------------------------------------------------------------

    @property
    def host(self) -> ServerContext:
        return self._context

    def _open(self, message: Mapping[str, Any]) -> None:
        handshake = self.handshake
        assert handshake is not None
        handshake.accept(message)
        subprotocol = message.get("subprotocol")
        if not handshake.was_offered(subprotocol):
            self._fault(
                "subprotocol", f"application accepted subprotocol {subprotocol!r}, which the client did not offer"
            )
        self.encoder = handshake.encoder()
        self._core = handshake.connection()

    def _opened(self) -> None:
        handshake, core = self.handshake, self._core
        assert handshake is not None
        assert core is not None
        self.handshake = None
        self._schedule_core(core)
        if self._context.draining:
            self.drain()
        elif early := handshake.early_data():
            self.data_received(early)

    def _finish(self) -> None:
        """End our side, read on and throw away, until the client ends its own."""
        wire = self.outbox
        if not (wire.reading or wire.eof):
            self.resume_reading()
        wire.finish()

    def _shut(self, code: int, reason: str) -> None:
        # If the peer has closed already, that was the end, and ours is the answer to it.
        if self.closing.last is not None:
            self._close_now()
            return
        core = self._core
        assert core is not None
        try:
            core.close(code, reason, self._context.touch(), self._context.linger_seconds)
        except ValueError as error:
            raise ProtocolMisuse(f"websocket.close: {error}") from None
        self._leave_open(Phase.CLOSING)
        self._send_control()
        self._schedule_core(core)
        if not self.outbox.reading:
            self.resume_reading()

    def _part(self, code: int, reason: str) -> None:
        core = self._core
        assert core is not None
        if core.state is not State.OPEN:
            self.outbox.abort()  # it has said its Close already, and takes nothing more
            return
        # If it goes on reading it gets the message that has begun, and a Close; it has as long as for any Close.
        core.close(code, reason, self._context.now, self._context.linger_seconds)
        self.outbox.append(core.data_to_send())
        self._schedule_core(core)
        if self.outbox.blocked:
            # However much it sends, it is not read before it has taken what there is for it: see `resume_writing`.
            self.outbox.pause_reading()
            self.outbox.finish()
        else:
            self._finish()

    def _schedule_core(self, core: WebSocketProtocol) -> None:
        deadline = core.next_deadline()
        if deadline is not None:
            self.schedule(deadline)

    def _drop(self) -> None:
        self.outbox.abort()

    def _told(self, now: float) -> None:
        self.schedule(now + self._context.limits.disconnect_timeout)

    def _application_ended(self) -> None:
        self._close_now()
        if self.outbox.transport is None:
            self._release()

    # Endings --------------------------------------------------------------------------------------------------

    def _core_closed(self, closed: Closed) -> None:
        """The closing handshake is complete, or the connection is lost, or the peer broke a rule."""
        assert self._core is not None
        if closed.fault:
            if closed.reason == MESSAGE_TOO_SLOW:
                self._context.counters.slow_senders += 1
            self._fault("protocol error", f"{closed.reason}; closed with {closed.code}")
        # The application first: its last messages are in the outbox by now, and our Close comes behind them.
        self.ended(closed.code, closed.reason)
        self._send_control_last()
        if closed.fault:
            self._finish()
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

    def _release(self) -> None:
        self._context.wheel.cancel(self)
        self.inbox.clear()
        self._core = self.handshake = None

    @property
    def held_bytes(self) -> int:
        """What waits here for the client, or because of it."""
        core, wire = self._core, self.outbox
        held = wire.held_bytes + self.inbox.client_size
        return held if core is None else held + core.decoder.held_bytes

    # For the server -------------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Say farewell; a handshake that is still open is finished first."""
        if self.phase is Phase.OPEN and self.closing.last is None:
            self._shut(*self._context.farewell)
