"""The loop that serves a consumer, from the first message of its client to the last.

A connection has one task, and this is what the task does; `__call__` reads in this order:

* *enter*: get a channel from the layer, and let the inbox be filled. On the project's own server the inbox is the
  connection's, and a layer of ours writes straight into it; for any other server or layer a pump fetches;
* take the *next item*, or wait for it, and *handle* it: one after the other, or several side by side where the consumer
  allows that (`HandlerGroup`). A message of the client arrives bare, as `str` or `bytes`, an event as a dict, and a
  broadcast that could not be written straight to the socket as a `Payload`;
* *leave*: handle the client's last event, after which no other is handled, and let the handlers that still run end;
* if the consumer has failed or is cancelled, say *farewell*: one that is connected is given its last event all the
  same, so that it can clean up; what it raises then never hides the first error;
* *detach*, whatever has happened: nobody reaches the consumer through the layer any more, nor it the connection.

A consumer is *connected* from the first event that is not its last until the last one: before and after that there is
nothing to say farewell to. Who runs its handlers is noted in `_fairway_runner`: nobody before the loop and after it,
the task of the loop, the thread of the latest handler if the consumer is synchronous, and `LEAVING` from the last event
on. So a handler that keeps sending to a client that has left, and holds up the disconnect, can be told from the handler
of the disconnect, and ended (`Overstayed`).

All of this happens in the task of the loop. Three things come in from outside. The server and the layer put items into
the inbox. A test or a wrapper may put another `base_send` in place. And the tasks and threads that a consumer has
started may call its `send` even after its end.

While a connection is idle, the frame of `__call__` is all that this loop keeps for it, and every connection pays for
each local variable there. What is needed only now and then is therefore in methods that return.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
import time
from collections.abc import Awaitable, Coroutine, Iterable
from typing import Any, ClassVar, Final
from weakref import WeakKeyDictionary

from fairway.asgi.types import Receive, Scope, Send
from fairway.consumers.errors import NoHandler, Overstayed, StopConsumer
from fairway.consumers.handlers import HandlerGroup
from fairway.consumers.names import handler_of
from fairway.consumers.overrides import Overrides, note_own
from fairway.consumers.tangles import untangle
from fairway.delivery import (
    Connection,
    Inbox,
    Member,
    Message,
    Payload,
    Pump,
    SourceFailed,
    connection_of,
    reader_of,
    statistics,
)
from fairway.layers.hub import Hub
from fairway.layers.hub_layer import hub_of
from fairway.layers.outage import outage_of, receive_through
from fairway.logs import ErrorLog, get_logger

logger = get_logger("django.channels.consumer")
# One for each event loop, so that a server that starts again reports everything again.
_errors: WeakKeyDictionary[asyncio.AbstractEventLoop, ErrorLog] = WeakKeyDictionary()

OVERSTAY = 1.0
"""Seconds for which a handler may go on sending, to nobody, after its client has left."""

CLEANUP_TIMEOUT = 10.0
"""Seconds that a consumer has to handle the disconnect which follows its own error."""

LEAVING: Final = object()
"""Stands for the runner of a consumer's handlers while it handles its disconnect."""

# By scope type: the event that ends a conversation, which a consumer that failed is still given.
_LAST_EVENTS: Final = {"websocket": "websocket.disconnect", "http": "http.disconnect"}
# The events that no handler runs beside, however many may run at once.
_ORDERED_EVENTS: Final = (*_LAST_EVENTS.values(), "websocket.connect")  # compared, not hashed: a type may be anything
_CODE_OF_ERROR, _CODE_OF_CANCELLATION, _CODE_WITHOUT_ERROR = 1011, 1006, 1000
# A server that is not ours gives an event that it has within a few passes of the loop.
_PASSES_TO_THE_END: Final = 10


class ConsumerLoop:
    """What consumers are made of, but for their public side and Django. An instance serves one scope at a time.

    Its names begin with `_fairway_`: the others belong to those who write consumers, and to the types of messages.
    """

    # The public side.
    _sync: ClassVar[bool]
    max_concurrency: int
    disconnect_grace: float
    scope: Scope
    channel_layer: Any
    channel_name: Any
    channel_receive: Any

    # These have defaults in the class, and `__dict__` is never asked for: that would make a dict for the instance,
    # which costs more than the attributes in it.
    _fairway_base_send: Send | None = None
    # Set only while `send` goes, unseen by anybody, to a connection of the project's own server.
    _fairway_connection: Connection | None = None
    _fairway_member: Member | None = None
    _fairway_loop: asyncio.AbstractEventLoop | None = None
    # Whether the consumer has closed or rejected the connection: what it sends later has nowhere to go.
    _fairway_closed: bool = False
    # Who runs the handlers, while one may be running that the disconnect has to wait for: a task, or a thread's number.
    _fairway_runner: object = None
    # When, after the client had left, something was first sent to it.
    _fairway_late_since: float | None = None
    # What the class has overridden, as it was when its last connection began.
    _fairway_overrides: ClassVar[Overrides]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one scope until the client has gone or `StopConsumer` is raised."""
        self._fairway_begin(scope)
        inbox = _inbox_for(receive)
        handlers = self._fairway_handler_group(inbox)
        last_event = _LAST_EVENTS.get(scope.get("type"), "")
        connected = False
        pumps: tuple[Pump, ...] = ()
        try:
            pumps = await self._fairway_enter(receive, send, inbox, ahead=handlers is not None)
            # The connection spends its life in what follows: what is not needed there must not live as long.
            del scope, receive, send
            try:
                while True:
                    # Two ways to the next item, and the short one makes neither a task nor a coroutine: with one
                    # handler at a time an item that is there is taken and handled in this frame.
                    item = inbox.take_nowait() if handlers is None else await handlers.next()
                    if item is None:
                        item = await inbox.wait()
                    # Only events can be the last one; messages of the client come bare. `connected` is set here and
                    # nowhere else: from now on a failure owes the consumer its last event.
                    if type(item) is dict:
                        connected = item.get("type") != last_event
                        if not connected:
                            break
                    if handlers is None or self._fairway_in_turn(item):
                        await self._fairway_handle(item)
                    else:
                        await handlers.start(self._fairway_handle(item))
                    if pumps:
                        _proceed(pumps)
                await self._fairway_leave(item if inbox.has_ended else _sent_away(type(self), item))
            # A handler ends the consumer by this, in the middle or with its last event: no error, and no farewell.
            except StopConsumer as stop:
                untangle(stop)
            if handlers is not None:
                await _finish(handlers, self.disconnect_grace)
        # Cancelling counts as well: a server that stops cancels its tasks, and their consumers have to clean up, too.
        except BaseException as error:
            untangle(error)
            if handlers is not None:
                await handlers.cancel()
            if connected and last_event:
                await _apart(self._fairway_farewell(last_event, _code_of(error), inbox, pumps))
            # That one was raised to end a handler, has been counted, and is nothing that a server could act on.
            if not isinstance(error, Overstayed):
                raise
        finally:
            self._fairway_detach()
            if pumps:
                await _stop(pumps)

    # The steps of the loop

    def _fairway_begin(self, scope: Scope) -> None:
        self.scope = scope
        self._fairway_closed = False
        # Asked once, and handed on: each question is a system call in CPython 3.11.
        loop = self._fairway_loop = asyncio.get_running_loop()
        self._fairway_runner = asyncio.current_task(loop)
        if self._fairway_late_since is not None:
            self._fairway_late_since = None
        # Asked for each connection, because tools that instrument code replace methods long after a class was made.
        Overrides.of(type(self))
        self.channel_layer = self._fairway_find_layer()

    async def _fairway_enter(self, receive: Receive, send: Send, inbox: Inbox, ahead: bool) -> tuple[Pump, ...]:
        """Get a channel, and see to it that the inbox is filled. Return the pumps that are needed for that."""
        if self.channel_layer is not None:
            self.channel_name = await self.channel_layer.new_channel()
        self._fairway_bind(send)
        from_layer = None
        hub = hub_of(self.channel_layer)
        if hub is not None:
            self._fairway_attach(hub, inbox)
        elif self.channel_layer is not None:
            # A layer that fails does not end the connection.
            from_layer = functools.partial(
                receive_through, outage_of(self.channel_layer), self.channel_receive, unless=(StopConsumer,)
            )
        # The client's pump goes first: if both have something at once, `connect` must come before events of the layer.
        from_client = () if reader_of(receive) is not None else (Pump(receive, inbox, ahead=ahead),)
        return from_client if from_layer is None else (*from_client, Pump(from_layer, inbox, for_layer=True))

    def _fairway_attach(self, hub: Hub, inbox: Inbox) -> None:
        connection = None if self._fairway_overrides.sees_messages else self._fairway_connection
        capacity = self.channel_layer.get_capacity(self.channel_name)
        member = Member(self.channel_name, inbox, capacity, connection)
        hub.attach(member)
        if hasattr(self, "layer_gap"):
            hub.gaps.add(member)
        self._fairway_member = member

    def _fairway_handle(self, item: Any) -> Awaitable[Any]:
        """Return the awaitable that handles an item of the inbox."""
        kind = type(item)
        if kind is str or kind is bytes:
            return self._fairway_receive(item)
        if kind is dict:
            if self._fairway_overrides.sees_dispatch or self._fairway_must_close_connections():
                return self.dispatch(item)
            return handler_of(self, item)(item)
        if kind is Payload:
            return self._fairway_handle_payload(item)
        if kind is SourceFailed:
            raise item.error
        return self.dispatch(item)

    async def _fairway_handle_payload(self, payload: Payload) -> None:
        # It could not be written when it was sent, because something lay in front of it. Now it is this consumer's
        # turn, so it may go straight to the socket after all, unless somebody wants to see it.
        connection = None if self._fairway_overrides.sees_messages else self._fairway_connection
        if connection is not None and connection.is_open:
            connection.broadcast(payload)
            return
        if connection is None:
            self._fairway_note_detour()
        await self._fairway_send_payload(payload)

    async def _fairway_leave(self, event: Message) -> None:
        """Handle the client's last event, after which none is handled; a consumer need not have a handler for it."""
        self._fairway_runner = LEAVING
        try:
            await self._fairway_handle(event)
        # Only for the last event itself: a handler of it that dispatches something unknown has made a mistake.
        except NoHandler as missing:
            if missing.message_type != event["type"]:
                raise

    async def _fairway_farewell(self, kind: str, code: int, inbox: Inbox, pumps: Iterable[Pump]) -> None:
        """The consumer failed or is being cancelled: let it clean up as after any other end, but not for ever.

        It sees the code with which the client has left, if it has, else this one.
        """
        event = await _find_last_event(kind, inbox, pumps) or {"type": kind, "code": code, "reason": ""}
        try:
            async with asyncio.timeout(CLEANUP_TIMEOUT):
                await self._fairway_leave(event)
        except StopConsumer as stop:
            untangle(stop)
        except Exception as error:
            # The error that brought us here is the one to be raised.
            text = "%s failed again while it was handling its disconnect"
            errors = _errors.setdefault(asyncio.get_running_loop(), ErrorLog(logger))
            errors.report(time.monotonic(), error, text, type(self).__name__)

    def _fairway_detach(self) -> None:
        if self._fairway_connection is not None:
            # From now on the connection decides whether sending fails.
            self._fairway_base_send = self.base_send
        member = self._fairway_member
        self._fairway_connection = self._fairway_member = self._fairway_runner = None
        if member is not None:
            member.detach()

    # What is sent

    @property
    def base_send(self) -> Send:
        """The `send` of the server or of the middleware around this consumer."""
        if self._fairway_base_send is not None:
            return self._fairway_base_send
        if self._fairway_connection is not None:
            return self._fairway_connection.send
        raise AttributeError(f"{type(self).__name__} has no base_send before it is called")

    @base_send.setter
    def base_send(self, send: Send) -> None:
        # Whoever replaces it wants to see what is sent.
        self._fairway_base_send = send
        self._fairway_connection = None
        if self._fairway_member is not None:
            self._fairway_member.detour()

    def _fairway_came_too_late(self, message: Message, reason: object) -> None:
        """Count what was sent to a client that has left.

        A handler that goes on so is ended, by `Overstayed`, since `disconnect()` waits for it. Anything else that goes
        on after the consumer has ended is named, once for each class.
        """
        statistics.sends_after_close += 1
        logger.debug("%s was not sent, it came too late: %s", message["type"], reason)
        # The first message that comes too late is ordinary: the client left while it was being made. Who still sends
        # after `OVERSTAY` does not know. If it is the handler that the disconnect waits for, only an exception can end
        # it.
        now = time.monotonic()
        if self._fairway_late_since is None:
            self._fairway_late_since = now
        elif now - self._fairway_late_since < OVERSTAY:
            return
        elif self._fairway_runner is None:
            _say_once(type(self), _SENDS_FOR_EVER, type(self).__qualname__)
        elif self._fairway_runner == (threading.get_ident() if self._sync else asyncio.current_task()):
            raise Overstayed

    # What the classes above fill in or change

    async def dispatch(self, message: Message) -> None:
        """Call the method that handles the message."""
        raise NotImplementedError

    async def send(self, message: Message) -> None:
        """Send an ASGI event to the client."""
        raise NotImplementedError

    def _fairway_find_layer(self) -> Any:
        """The channel layer of this consumer; None without one."""
        raise NotImplementedError

    def _fairway_must_close_connections(self) -> bool:
        """Whether `dispatch` has something to do before a handler is called."""
        return False

    def _fairway_note_detour(self) -> None:
        """A broadcast is about to be sent by this consumer, because somebody looks at what it sends."""

    def _fairway_handler_group(self, inbox: Inbox) -> HandlerGroup | None:
        return HandlerGroup(inbox, self.max_concurrency) if self.max_concurrency > 1 else None

    def _fairway_in_turn(self, item: Any) -> bool:
        """Whether the items behind this one wait until it has been handled, even if handlers may run at once."""
        kind = type(item)
        return (kind is dict and item.get("type") in _ORDERED_EVENTS) or not (
            kind is str or kind is bytes or kind is dict
        )

    def _fairway_bind(self, send: Send) -> None:
        connection = connection_of(send)
        if connection is None:
            self.base_send = send
        else:
            # Its bound method is not kept: `base_send` makes it when somebody asks.
            self._fairway_base_send = None
            self._fairway_connection = connection

    def _fairway_receive(self, data: str | bytes) -> Awaitable[Any]:
        """Dispatch a message of the client that arrived bare."""
        key = "text" if type(data) is str else "bytes"
        return self.dispatch({"type": "websocket.receive", key: data})

    async def _fairway_send_payload(self, payload: Payload) -> None:
        await self.send({"type": "websocket.send", **payload.as_event()})


note_own(ConsumerLoop, "__call__", "dispatch", "send")


def _inbox_for(receive: Receive) -> Inbox:
    reader = reader_of(receive)
    return reader.inbox if reader is not None else Inbox(asyncio.get_running_loop())


def _proceed(pumps: Iterable[Pump]) -> None:
    for pump in pumps:
        pump.proceed_if_taken()


def _code_of(error: BaseException) -> int:
    return _CODE_OF_CANCELLATION if isinstance(error, asyncio.CancelledError) else _CODE_OF_ERROR


def _sent_away(consumer_class: type, event: Message) -> Message:
    """An event that looks like the client's last one has come through the layer. Log it, and give it the code that it
    lacks.
    """
    _say_once(consumer_class, _SENT_AWAY, event["type"], consumer_class.__qualname__)
    return {"code": _CODE_WITHOUT_ERROR, **event}


async def _apart(farewell: Coroutine[Any, Any, None]) -> None:
    """Await it in a task of its own, which does not run inside the caller's exception, and does not keep it alive. If
    the caller is cancelled meanwhile, as a demultiplexer does, it still raises what had failed.
    """
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.create_task(farewell)


async def _stop(pumps: Iterable[Pump]) -> None:
    for pump in pumps:
        await pump.stop()


async def _finish(handlers: HandlerGroup, seconds: float) -> None:
    try:
        await handlers.finish(seconds)
    except StopConsumer as stop:
        untangle(stop)


async def _find_last_event(kind: str, inbox: Inbox, pumps: Iterable[Pump]) -> Message | None:
    """Return the event with which the client has left, if it has. What it had sent before is skipped."""
    for _ in range(_PASSES_TO_THE_END):
        while (item := inbox.take_nowait(in_turn=True)) is not None:
            if type(item) is dict and item.get("type") == kind:
                return item
        if not pumps:
            break
        _proceed(pumps)
        await asyncio.sleep(0)
    return None


_SENT_AWAY: Final = (
    "A message of type %s from the channel layer has ended a consumer, %s, whose client had not left. Whoever can "
    "choose the type of messages can do so to others (this is said once for each class)"
)
_SENDS_FOR_EVER: Final = (
    "Something goes on sending to clients of %s that have left, which does nothing: a task or thread that the consumer "
    "has started should be ended in disconnect()"
)
_said: WeakKeyDictionary[type, set[str]] = WeakKeyDictionary()


def _say_once(consumer_class: type, text: str, *arguments: str) -> None:
    """Warn, once for each class of consumers."""
    said = _said.setdefault(consumer_class, set())
    if text not in said:
        said.add(text)
        logger.warning(text, *arguments)
