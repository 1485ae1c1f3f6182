"""A consumer for Server-Sent Events: one answer that stays open, and a browser that resumes it by itself.

What a browser does with the events, and when it comes back, is section 9.2 of the WHATWG HTML standard.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import json
from collections.abc import Iterable, Mapping
from typing import Any, Final, cast

from channels.exceptions import AcceptConnection, DenyConnection
from channels.generic.http import AsyncHttpConsumer, Headers
from channels.generic.websocket import layer_for_groups
from channels.middleware import Receive, Scope, Send
from fairway.consumers.handlers import HandlerGroup
from fairway.consumers.overrides import note_own
from fairway.delivery import Inbox, Message, Payload
from fairway.layers.places import Places
from fairway.logs import get_logger
from fairway.protocols.event_stream import (
    EventEncoder,
    accepts_event_stream,
    encode_comment,
    encode_event,
    header_of,
    last_event_id_of,
)
from fairway.timing.heartbeat import Heartbeat

__all__ = ["ServerSentEventsConsumer"]

logger = get_logger("fairway.sse")

_HEADERS: Final = {
    b"content-type": b"text/event-stream",
    b"cache-control": b"no-cache",
    b"x-accel-buffering": b"no",  # nginx: hand every piece on as it comes
}
_EVENTS = EventEncoder()
_NO_HEARTBEAT: Final = contextlib.nullcontext()
_NO_ID: Final = b"The last event's id cannot be one: it is too long, or has characters that ids have not."


class _Stage(enum.Enum):
    REQUESTED = enum.auto()
    OPEN = enum.auto()
    CLOSED = enum.auto()


class ServerSentEventsConsumer(AsyncHttpConsumer):
    """A stream of events to one client: override `connect`, call `send_event`.

    `connect()` comes first, and has ended before an event of the channel layer is handled or `disconnect()` is called;
    a client that leaves earlier cancels it. The handlers run one after the other, whatever `max_concurrency` says: a
    stream has one order. `disconnect()` is called once for every `connect()`.

    `groups`: names of groups that each stream joins before `connect()`, and leaves at its end.
    """

    groups: Iterable[str] | None = None

    heartbeat: float | None = 15.0
    """Seconds of silence after which a comment is sent, lest a proxy takes the stream for dead; None for never."""

    retry: int | None = None
    """Milliseconds until a browser comes back when the stream has ended; None leaves it to the browser (3 s or so)."""

    last_event_id_parameter: str | None = "lastEventId"
    """Where in the query a client that cannot set the header may put the id; the header wins. None for nowhere."""

    last_event_id: str = ""
    """The id of the last event that this client has seen; empty if it comes for the first time. It is the client's
    word: take it as a position, not as a permission.

    Broadcasts to a group with a history have their position as id. Events get it by `send_event(..., id=event[
    "layer.position"])`. Then `join(group, since=self.since(group))` of `fairway.AsyncGroupsMixin` goes on from there.
    With several groups, the id says where the client is in each of the 16 in which something came last.
    """

    _fairway_stage = _Stage.REQUESTED
    _fairway_places: Places | None = None  # from `connect()` on
    _fairway_connecting: asyncio.Task[Any] | None = None
    _fairway_has_left = False
    _fairway_heartbeat: Heartbeat | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.groups is None:
            self.groups = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request until the stream has ended."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            if self._fairway_heartbeat is not None:
                await self._fairway_heartbeat.end()

    # What subclasses override

    async def connect(self) -> None:
        """Return to open the stream, or send the first events; `reject()` to refuse it."""

    async def disconnect(self) -> None:
        """Clean up; called once, whoever ended the stream."""

    # What subclasses call

    async def accept(self, headers: Headers | None = None) -> None:
        """Open the stream, which happens by itself with the first event or when `connect()` returns.

        `headers` are added to those of an event stream, or replace them.
        """
        if self._fairway_stage is not _Stage.REQUESTED:
            raise RuntimeError("the stream was accepted or rejected already: accept() comes first")
        self._fairway_stage = _Stage.OPEN
        await self.send_headers(headers=_with_defaults(headers))
        # Servers may hold headers back until a first piece follows, and browsers fire `open` when they have come.
        await self._fairway_write(encode_comment() if self.retry is None else encode_event(retry=self.retry))
        if self.heartbeat is not None and self.scope["method"] != "HEAD":
            self._fairway_heartbeat = Heartbeat(self.heartbeat, self._fairway_beat)

    async def reject(self, status: int = 403, body: bytes = b"", headers: Headers | None = None) -> None:
        """Refuse the stream, in `connect()`. A browser's EventSource then does not come back."""
        if self._fairway_stage is not _Stage.REQUESTED:
            raise RuntimeError("the stream is open or over: close() ends it")
        self._fairway_stage = _Stage.CLOSED
        await self.send_response(status, body, headers=headers)

    async def send_event(
        self, data: str, event: str | None = None, id: str | int | None = None, retry: int | None = None
    ) -> None:
        """Send an event; a browser's listeners for `event` get `data`, those for "message" if it has no name.

        `id` is what `last_event_id` will be if the client has to come back after this event, `retry` how many
        milliseconds it then waits. Returns when the server takes more. Nothing happens, but for a count, when the
        client has gone.
        """
        if self._fairway_places is not None and self._fairway_places.has(id):
            id = self._fairway_places.id_of(cast(str, id))
        await self._fairway_write(encode_event(data, event, id, retry))

    async def send_event_json(
        self, content: Any, event: str | None = None, id: str | int | None = None, retry: int | None = None
    ) -> None:
        """Encode and send an event."""
        await self.send_event(await self.encode_json(content), event, id, retry)

    @classmethod
    async def encode_json(cls, content: Any) -> str:
        return json.dumps(content)

    async def send_comment(self, text: str = "") -> None:
        """Send a comment, which clients read over."""
        await self._fairway_write(encode_comment(text))

    async def close(self) -> None:
        """End the stream; before it is open, reject it. A browser comes back after `retry`: to keep it away, tell the
        page by an event, or answer its next request with `reject(204)`.
        """
        if self._fairway_stage is _Stage.REQUESTED:
            await self.reject()
        elif self._fairway_stage is _Stage.OPEN:
            self._fairway_stage = _Stage.CLOSED
            self._fairway_stop_heartbeat()
            await self.send_body(b"")

    # The request

    async def http_request(self, message: Message) -> None:
        """Open the stream when the request is complete. Its body has no meaning, and is not kept."""
        await super().http_request({**message, "body": b""})

    async def handle(self, body: bytes) -> None:
        """Judge the request, then call `connect()`."""
        refusal = _refusal_of(self.scope)
        if refusal is None:
            try:
                self.last_event_id = last_event_id_of(self.scope, self.last_event_id_parameter)
            except ValueError:
                refusal = 400, _NO_ID, []
        if refusal is not None:
            status, reason, headers = refusal
            await self.send_response(status, reason, headers=[(b"content-type", b"text/plain"), *headers])
            return
        try:
            await self._fairway_connect()
        except asyncio.CancelledError:
            if not self._fairway_has_left:
                raise
            cast("asyncio.Task[Any]", asyncio.current_task()).uncancel()
            return
        if self._fairway_stage is _Stage.REQUESTED:
            await self.accept()
        if self.scope["method"] == "HEAD":
            await self.close()

    async def fairway_broadcast(self, message: Message) -> None:
        """Handle a broadcast that came through a layer as a message."""
        await self._fairway_send_payload(Payload(message.get("text"), message.get("bytes")))

    async def http_disconnect(self, message: Message) -> None:
        """Leave the groups and call `disconnect()`: the stream has ended."""
        await self._fairway_stop_connecting()
        await super().http_disconnect(message)

    async def _fairway_connect(self) -> None:
        self._fairway_places = Places()
        self._fairway_connecting = asyncio.current_task()
        try:
            for group in self.groups or ():
                await layer_for_groups(self, "group_add").group_add(group, self.channel_name)
            await self.connect()
        except AcceptConnection:
            pass
        except DenyConnection:
            await self.close()
        finally:
            self._fairway_connecting = None

    async def _fairway_stop_connecting(self) -> None:
        task = self._fairway_connecting
        if task is not None and task is not asyncio.current_task():
            self._fairway_has_left = True
            task.cancel()
            await asyncio.wait({task}, timeout=self.disconnect_grace)

    async def _fairway_disconnect(self) -> None:
        if self._fairway_disconnected or self._fairway_places is None:
            return
        self._fairway_disconnected = True
        self._fairway_stop_heartbeat()
        try:
            for group in self.groups or ():
                await layer_for_groups(self, "group_discard").group_discard(group, self.channel_name)
        finally:
            await self.disconnect()

    # The stream

    def _fairway_bind(self, send: Send) -> None:
        super()._fairway_bind(send)
        self._fairway_stage = _Stage.REQUESTED
        self._fairway_has_left = False
        self._fairway_connecting = self._fairway_heartbeat = self._fairway_places = None
        self.last_event_id = ""

    def _fairway_handler_group(self, inbox: Inbox) -> HandlerGroup:
        # One slot: what comes while `connect()` runs waits for it, except the client's disconnect.
        return HandlerGroup(inbox, 1)

    def _fairway_in_turn(self, item: Any) -> bool:
        return type(item) is not dict or item.get("type") != "http.request" or bool(item.get("more_body"))

    async def _fairway_send_payload(self, payload: Payload) -> None:
        places = self._fairway_places
        id = places.id_of(payload.position) if payload.position and places is not None else None
        if "send_event" in self._fairway_overrides.names:
            more: dict[str, Any] = {} if id is None else {"id": id}
            await self.send_event(payload.text or "", **more)
        elif id is None or payload.text is None:
            await self._fairway_write(payload.form(_EVENTS))
        elif id != payload.position:
            await self._fairway_write(encode_event(payload.text, id=id))
        else:
            if _EVENTS not in payload.forms:
                payload.forms[_EVENTS] = encode_event(payload.text, id=id)
            await self._fairway_write(payload.form(_EVENTS))

    async def _fairway_write(self, piece: bytes) -> None:
        if self._fairway_stage is _Stage.REQUESTED:
            await self.accept()
        if self._fairway_stage is _Stage.CLOSED:
            self._fairway_came_too_late({"type": "http.response.body"}, "the consumer has closed the stream")
            return
        if self.scope["method"] == "HEAD":
            return
        with self._fairway_heartbeat or _NO_HEARTBEAT:
            await self.send_body(piece, more_body=True)

    async def _fairway_beat(self) -> None:
        # This does not go through the inbox: a handler that takes its time must not silence the stream.
        try:
            await self._fairway_write(encode_comment())
        except Exception as error:
            logger.warning("the heartbeat of %s stops: %s", self.scope["path"], error)
            self._fairway_stop_heartbeat()

    def _fairway_stop_heartbeat(self) -> None:
        if self._fairway_heartbeat is not None:
            self._fairway_heartbeat.stop()


note_own(ServerSentEventsConsumer, "__call__", "send_event")


def _refusal_of(scope: Scope) -> tuple[int, bytes, list[tuple[bytes, bytes]]] | None:
    """Return status, reason and further headers of the answer to a request that does not ask for an event stream; None
    if it does.
    """
    if scope["method"] not in ("GET", "HEAD"):
        return 405, b"An event stream is read with GET.", [(b"allow", b"GET, HEAD")]
    if not accepts_event_stream(header_of(scope, b"accept").decode("latin-1")):
        return 406, b"This is an event stream: accept text/event-stream.", []
    return None


def _with_defaults(headers: Headers | None) -> list[tuple[bytes, bytes]]:
    given = headers.items() if isinstance(headers, Mapping) else headers or ()
    pairs = [(name.lower(), value) for name, value in given]
    names = {name for name, _ in pairs}
    return [*(default for default in _HEADERS.items() if default[0] not in names), *pairs]
