"""One WebSocket over a wire (RFC 6455): the carrier of an exchange.

`fairway.asgi.websocket` has the conversation with the application, `fairway.protocols.websocket` the meaning of bytes,
and `fairway.server.wire` the socket. This module joins them, and decides when to read and when to tell the application
of the end. Over HTTP/1.1, an `Http1Connection` hands over its wire; over HTTP/2, the wire stands on a stream.

*Opening.* Until the application accepts, there is a `Handshake`; afterwards there is a protocol core; never both.

*Reading* stops for three reasons, and each has something that resumes it: the inbox is full (the consumer resumes,
`Inbox.pause`), bytes wait to be decoded (the backlog), or the client does not take the answers to its Pings
(`resume_writing`).

*Ending.* A Close, a broken rule or the end of the stream ends the connection. The application is told after it has
taken the messages that came before (`closing.last`): when its consumer waits again, when its task ends, or at the
latest after `close_timeout`.

*Lifetime.* The connection refers to inbox, wire, core and task; the task refers to the connection through the
application's frames. `_release` cuts these cycles, once the wire is lost and the task has ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from math import inf
from sys import getsizeof
from typing import TYPE_CHECKING, Any

from fairway.asgi.errors import ProtocolMisuse
from fairway.asgi.scope import ScopeForLog
from fairway.asgi.websocket import Phase, WebSocketExchange
from fairway.delivery import LONG_MESSAGE, Inbox
from fairway.protocols.websocket.frames import ABNORMAL_CLOSURE, PLAIN, TRY_AGAIN_LATER
from fairway.protocols.websocket.protocol import MESSAGE_TOO_SLOW, Closed, State, WebSocketProtocol
from fairway.server.backlog import DECODED_PER_PASS, LARGE_READ
from fairway.server.output.workshop import is_making
from fairway.server.websocket.closing import NOT_CLOSING, Closing, NotClosing
from fairway.server.websocket.handshake import Handshake
from fairway.server.wire import Wire

if TYPE_CHECKING:
    from fairway.server.context import ServerContext


class WebSocketConnection(asyncio.Protocol, WebSocketExchange):
    """The protocol object of a transport, from the request for an upgrade until the transport is lost.

    Its state has three parts: the `phase` of the exchange is what the application knows, the core is what both peers
    have said to each other, and the wire is the socket. They agree except while the connection ends. Then `closing`
    tells these cases apart:

    * The application has closed. The phase is CLOSING. The core has sent our Close, and waits for the peer's until its
      deadline.
    * The peer has closed or broken a rule, after messages that the application has not taken. The phase is still OPEN.
      The application will be told of `closing.last` when it has taken them, or at `closing.until`.
    * The application has been told, at `closing.at`, and has `disconnect_timeout` to end. The phase is ENDED, even if
      the socket is still open.
    """

    __slots__ = ("_context", "_core", "wheel_slot")

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
        # This is called for every read, so frequent cases return early: the Pong of an idle client, then one message
        # that the consumer gets at once. What follows the loop matters only for reads that hold more.
        size = len(data)
        self.outbox.scheduler.received += size
        core = self._core
        if core is None:
            self._keep_early(data)
            return
        if size == 6 and core.receive_pong(data, self._context.now):
            return
        if core.decoder.pending:
            core.keep(data, self._context.now)  # the transport had read it before reading stopped
            return
        if size >= LARGE_READ and not core.decoder.is_finished and not self._context.backlog.may_decode(size):
            core.keep(data, self._context.now)
            self._context.backlog.has_read(size)
            self._pause_reading()
            return
        inbox = self.inbox
        events = core.receive_data(data, self._context.now, DECODED_PER_PASS, inbox.bounds[1] - inbox.client_size)
        received = len(events)
        for event in events:
            if (type(event) is str or type(event) is bytes) and len(event) < LONG_MESSAGE:
                inbox.put_client(event)
            elif isinstance(event, Closed):
                received -= 1
                self._close_after_messages(event, received > 0)
            else:
                inbox.put_long(event)
                self._context.backlog.joined(getsizeof(event))
        self._context.counters.messages_received += received
        # Not while the application does not know of the peer's Close: the core's answer has to follow what the
        # application still sends.
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
            or (size >= LARGE_READ and self._context.backlog.has_read(size) and not decoder.is_finished)
        ):
            self._pause_reading()

    def _take(self, events: Sequence[Any]) -> None:
        received = len(events)
        for event in events:
            if isinstance(event, Closed):
                received -= 1
                self._close_after_messages(event, received > 0)
            elif len(event) < LONG_MESSAGE:
                self.inbox.put_client(event)
            else:
                self.inbox.put_long(event)
                self._context.backlog.joined(getsizeof(event))
        self._context.counters.messages_received += received
        if self._core is not None and self._core.out and self.closing.last is None:
            self._send_control()

    def _close_after_messages(self, closed: Closed, follows_message: bool) -> None:
        """End the connection, but first let the application take and answer the messages that came before the end."""
        # There is nothing to wait for if the consumer has taken everything, or if no answer can be sent any more.
        is_last = self.inbox.parked and not follows_message
        if is_last or self.phase is not Phase.OPEN or self.outbox.transport is None:
            self._core_closed(closed)
            return
        closing = self._begin_closing()
        closing.last = closed
        if not (follows_message or self.inbox.client_waiting):
            # HTTP/2 and TLS may deliver two pieces in one pass of the loop. Then the consumer has got the messages of
            # the first piece, but has not run yet. It runs before this call.
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
        """Send the core's own frames, such as Pongs. A client that does not read them is dropped as usual."""
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
        """Stop reading until the bytes that were read are decoded and the inbox has room."""
        core = self._core
        if self._is_full:
            self.inbox.pause()  # the consumer will resume reading, since it has messages to take
        elif core is None or not self._has_answers_waiting(core):  # else `resume_writing` will resume reading
            self.resume_reading()  # nobody else would
        self.outbox.pause_reading()

    @property
    def _is_full(self) -> bool:
        # Once either side has closed, messages are thrown away, and no consumer will make room.
        return self.phase is Phase.OPEN and self.inbox.full

    def _has_answers_waiting(self, core: WebSocketProtocol) -> bool:
        # A client that does not take its Pongs is not read: its Pings would fill the outbox.
        outbox = self.outbox
        return core.decoder.controls and outbox.blocked and outbox.size >= outbox.high_water

    def resume_reading(self) -> None:
        """Let the backlog decode the waiting bytes, then read on. (`fairway.delivery.Source`)

        Nothing is decoded in this call, because a consumer that has made room may be cancelled between taking a message
        and handling it.
        """
        self._context.backlog.add(self)

    def go_on_reading(self) -> bool:
        """Decode as much as the budgets allow. (`fairway.server.backlog.Reader`)"""
        # First decode the waiting bytes, as far as there is room. If some are left, pause again. Otherwise read on, and
        # count the client's silence from now: it could not be heard while nothing was read.
        core, inbox = self._core, self.inbox
        if core is None or self.outbox.transport is None:
            return False
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
                closing.last = closing.until = None  # the bytes that are read now say how it ends
            self.outbox.resume_reading()
        return core.decoder.is_inflating

    def peer_has_left(self, is_reset: bool) -> None:
        """The stream has ended while reading was paused. (`fairway.server.paused.PausedConnection`)

        The unread bytes before its end are still read if the application makes room within `close_timeout`.
        """
        if is_reset:
            self.outbox.abort()
        elif self._core is not None:  # without a core it lingers, and reads on by itself
            self._close_after_messages(Closed(ABNORMAL_CLOSURE, "connection lost"), True)

    def parking(self) -> None:
        """The consumer is about to wait for its next message. (`fairway.delivery.Source`)"""
        if self.closing.last is not None and self.outbox.reading and not self.inbox.client_waiting:
            # Not in the consumer's own step: the disconnect has to find it waiting.
            self._context.loop.call_soon(self._close_now)
        self._context.batch.parked()

    def eof_received(self) -> bool:
        # A WebSocket without the peer's side is over, and a handshake without it cannot become one (ASGI WebSocket,
        # "Disconnect"). But the client may still want a refusal that is being sent.
        self.outbox.eof = True
        if self.phase is Phase.CONNECTING:
            self.ended(ABNORMAL_CLOSURE, "connection lost before the handshake was answered")
        if self._core is not None and not self.outbox.pending.is_finishing:
            self._take(self._core.receive_eof())
        return self._core is None and self.phase is not Phase.ENDED

    def connection_lost(self, exc: Exception | None) -> None:
        # The wire first, so that nothing below is written. If the end of the connection was known before, the
        # application is told of that end, otherwise of this one.
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
        """Act on all deadlines that have passed, and return the next one. (`fairway.timing.wheel.Entry`)"""
        if self.phase is not Phase.OPEN or self.outbox.blocked or self.closing.last is not None:
            self._judge_deadlines(now)
            return self._next_deadline()
        # Only a ping can be due. Nothing else ever happens on an idle connection.
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
        # A connection has one wheel entry for all its deadlines, so all are checked. An earlier one may end the
        # connection, so each step looks at the state again.
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
        """Make sure that `handle_deadline` is called at this time. (`fairway.server.wire.Owner`)"""
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
        """End our side, and discard what is read until the client ends its own. (`Wire.finish`)"""
        wire = self.outbox
        if not (wire.reading or wire.eof):
            self.resume_reading()
        wire.finish()

    def _shut(self, code: int, reason: str) -> None:
        # If the peer has closed already, that was the end, and our Close is only the answer.
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
            self.outbox.abort()  # the peer has sent its Close, and needs nothing more
            return
        # If the client reads again, it gets the rest of the message that is partly written, and a Close.
        core.close(code, reason, self._context.now, self._context.linger_seconds)
        self.outbox.append(core.data_to_send())
        self._schedule_core(core)
        if self.outbox.blocked:
            # The client is not read until it has taken everything, however much it sends: see `resume_writing`.
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
        # Tell the application first. Its last messages are in the outbox by now, and our Close has to follow them.
        self.ended(closed.code, closed.reason)
        self._send_control_last()
        if closed.fault:
            self._finish()
        elif self.outbox.blocked and not is_making(self.outbox):
            self.outbox.abort()  # the peer does not read, and has closed or is gone
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
        """How many bytes this connection keeps: unsent frames, messages not taken, and bytes not decoded."""
        core, wire, handshake = self._core, self.outbox, self.handshake
        held = wire.held_bytes + self.inbox.client_size
        if handshake is not None:
            return held + handshake.held_bytes
        return held if core is None else held + core.decoder.held_bytes

    # For the server -------------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Close with the server's farewell. A handshake is finished first, and closed then."""
        if self.phase is Phase.OPEN and self.closing.last is None:
            self._shut(*self._context.farewell)
