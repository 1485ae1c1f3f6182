"""Consumers for WebSockets: synchronous and asynchronous, plain and JSON.

The synchronous and the asynchronous classes have the same methods. The functions at the top of this module make the
events and errors for both.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Iterable
from typing import Any, TypeAlias, cast

from asgiref.sync import async_to_sync

from channels.consumer import AsyncConsumer, SyncConsumer
from channels.db import aclose_old_connections, connections_need_closing
from channels.exceptions import AcceptConnection, DenyConnection, InvalidChannelLayerError, StopConsumer
from channels.layers import broadcast
from fairway.asgi.types import HeadersLike
from fairway.consumers.overrides import note_own
from fairway.delivery import LONG_MESSAGE, NEXT_PASS, Message, Payload
from fairway.layers.outage import MISTAKES, outage_of
from fairway.layers.recovery import text_for

# Subclasses annotate these in several ways: an event as `dict` or as one of asgiref's `TypedDict`s, and `close`, which
# is True or a code, as `bool` or `bool | int`.
Event: TypeAlias = Any
Close: TypeAlias = Any


def accept_event(subprotocol: str | None, headers: HeadersLike | None) -> Message:
    event: Message = {"type": "websocket.accept", "subprotocol": subprotocol}
    if headers:
        event["headers"] = list(headers)
    return event


def send_event(text_data: str | None, bytes_data: bytes | None) -> Message:
    if text_data is not None:
        return {"type": "websocket.send", "text": text_data}
    if bytes_data is not None:
        return {"type": "websocket.send", "bytes": bytes_data}
    raise ValueError("You must pass one of bytes_data or text_data")


def close_event(code: int | bool | None, reason: str | None) -> Message:
    event: Message = {"type": "websocket.close"}
    if code is not None and code is not True:
        event["code"] = code
    if reason:
        event["reason"] = reason
    return event


def received(message: Message) -> dict[str, Any]:
    """Return the keyword arguments of `receive()`. Servers may send both keys, with None for one of them."""
    if message.get("text") is not None:
        return {"text_data": message["text"]}
    return {"bytes_data": message["bytes"]}


def text_of(text_data: str | None) -> str:
    if not text_data:
        raise ValueError("No text section for incoming WebSocket frame!")
    return text_data


_UNREADABLE = (ValueError, RecursionError)


def blame_client(error: Exception) -> None:
    """Let the server log this error in one line, without a traceback, because it is no fault of the application."""
    error.asgi_fault = "the client sent what cannot be read"  # type: ignore[attr-defined]  # the server reads it


def others_first(consumer: AsyncConsumer, size: int) -> Awaitable[None]:
    """Await this between two steps with a message of this size: each step with a megabyte takes milliseconds."""
    connection = consumer._fairway_connection
    waker = None if connection is None else connection.inbox.waker
    return NEXT_PASS if waker is None else waker.rest(size)


def layer_for_groups(consumer: AsyncConsumer, method: str) -> Any:
    """Return the consumer's layer. Raises `InvalidChannelLayerError` if it does not support groups."""
    layer = consumer.channel_layer
    if layer is None:
        raise InvalidChannelLayerError(
            f"{type(consumer).__name__}.groups needs a channel layer: configure CHANNEL_LAYERS["
            f"{consumer.channel_layer_alias!r}]"
        )
    if not hasattr(layer, method):
        raise InvalidChannelLayerError(
            f"{type(consumer).__name__}.groups needs a channel layer with groups, which {type(layer).__name__} is not"
        )
    return layer


async def leave_groups(consumer: AsyncConsumer, groups: Iterable[str]) -> None:
    """Leave these groups. An error of the layer is only logged, because memberships also expire by themselves."""
    for group in groups:
        group_discard = layer_for_groups(consumer, "group_discard").group_discard
        try:
            await group_discard(group, consumer.channel_name)
        except MISTAKES:
            raise
        except Exception as error:
            outage_of(consumer.channel_layer).note(error)


class WebsocketConsumer(SyncConsumer):
    """A synchronous WebSocket consumer: override `connect`, `receive` and `disconnect`.

    `groups` names groups that each connection joins before `connect()`, and leaves at its end.
    """

    groups: list[str] = None  # type: ignore[assignment]  # a list when there is an instance

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.groups = self.groups or []

    async def _fairway_send_payload(self, payload: Payload) -> None:
        await cast(Any, self.dispatch)(payload.as_message())

    def fairway_broadcast(self, message: Message) -> None:
        """Handle a broadcast that could not be written to the socket directly."""
        if self.channel_name not in message.get("exclude", ()):
            self.send(text_data=message.get("text"), bytes_data=message.get("bytes"))

    def group_broadcast(
        self,
        group: str,
        text_data: str | None = None,
        bytes_data: bytes | None = None,
        *,
        exclude: str | Iterable[str] = (),
    ) -> None:
        """Send the same message to every member of a group. It is encoded once, and no handler of the members runs.

        The message keeps its order among the other messages of a member. `exclude` names channels that do not get it,
        for example `self.channel_name`. As with `group_send`, a member whose inbox is full misses the message.
        """
        async_to_sync(broadcast)(self.channel_layer, group, text_data, bytes_data, exclude=exclude)

    def websocket_connect(self, message: Event) -> None:
        """Join the groups, then call `connect()`."""
        for group in self.groups or ():
            async_to_sync(layer_for_groups(self, "group_add").group_add)(group, self.channel_name)
        try:
            self.connect()
        except AcceptConnection:
            self.accept()
        except DenyConnection:
            self.close()

    def connect(self) -> None:
        """Accept or close the connection. By default, it is accepted."""
        self.accept()

    def accept(self, subprotocol: str | None = None, headers: HeadersLike | None = None) -> None:
        """Accept the connection."""
        self._fairway_send_event(accept_event(subprotocol, headers))

    def websocket_receive(self, message: Event) -> None:
        """Call `receive()` with text or bytes."""
        self.receive(**received(message))

    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Handle a message of the client."""

    def send(  # type: ignore[override]  # the public signature of this class
        self, text_data: str | None = None, bytes_data: bytes | None = None, close: Close = False
    ) -> None:
        """Send a message. If `close` is true or a close code, close the connection after it.

        If the client has gone, the message is counted and dropped.
        """
        self._fairway_send_event(send_event(text_data, bytes_data))
        if close:
            self.close(close)

    def _fairway_send_event(self, event: Message) -> None:
        if self._fairway_closed:
            self._fairway_came_too_late(event, "the consumer has closed the connection")
            return
        try:
            super().send(event)
        except OSError as error:
            self._fairway_came_too_late(event, error)

    def close(self, code: int | bool | None = None, reason: str | None = None) -> None:
        """Close the connection, or reject it if it has not been accepted yet."""
        self._fairway_send_event(close_event(code, reason))
        self._fairway_closed = True

    def websocket_disconnect(self, message: Event) -> None:
        """The connection has ended: leave the groups, and call `disconnect()`."""
        try:
            if self.groups:
                async_to_sync(leave_groups)(self, self.groups)
        finally:
            self.disconnect(message["code"])
        raise StopConsumer

    def disconnect(self, code: int) -> None:
        """Clean up. Called once, whichever side has ended the connection. With some servers, `code` is None."""


note_own(WebsocketConsumer, "send", "websocket_receive")


class JsonWebsocketConsumer(WebsocketConsumer):
    """A `WebsocketConsumer` for JSON messages: override `receive_json`, call `send_json`."""

    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None, **kwargs: Any) -> None:
        try:
            content = self.decode_json(text_of(text_data))
        except _UNREADABLE as error:
            blame_client(error)
            raise
        self.receive_json(content, **kwargs)

    def receive_json(self, content: Any, **kwargs: Any) -> None:
        """Handle a decoded message of the client."""

    def send_json(self, content: Any, close: Close = False) -> None:
        """Encode and send a message."""
        super().send(text_data=self.encode_json(content), close=close)

    def group_broadcast_json(self, group: str, content: Any, *, exclude: str | Iterable[str] = ()) -> None:
        """Encode `content` with `encode_json`, and send it with `group_broadcast`.

        If it is an object and the group has a history, its position is added under the key "layer.position".
        """
        self.group_broadcast(group, text_for(self.channel_layer, content, self.encode_json(content)), exclude=exclude)

    @classmethod
    def decode_json(cls, text_data: str) -> Any:
        """What a text of the client stands for. A ValueError is taken as the client's fault."""
        return json.loads(text_data)

    @classmethod
    def encode_json(cls, content: Any) -> str:
        """The text that is sent for `content`. Override it for another encoder."""
        return json.dumps(content)


class AsyncWebsocketConsumer(AsyncConsumer):
    """An asynchronous WebSocket consumer: override `connect`, `receive` and `disconnect`.

    `groups` names groups that each connection joins before `connect()`, and leaves at its end.
    """

    groups: list[str] = None  # type: ignore[assignment]  # a list when there is an instance

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.groups = self.groups or []

    def _fairway_receive(self, data: str | bytes) -> Awaitable[Any]:
        if self._fairway_overrides.sees_receive or self._fairway_must_close_connections():
            return super()._fairway_receive(data)
        if type(data) is str:
            return self.receive(text_data=data)
        return self.receive(bytes_data=cast(bytes, data))

    async def _fairway_send_payload(self, payload: Payload) -> None:
        await self.send(text_data=payload.text, bytes_data=payload.data)

    async def fairway_broadcast(self, message: Message) -> None:
        """Handle a broadcast that could not be written to the socket directly."""
        if self.channel_name not in message.get("exclude", ()):
            await self.send(text_data=message.get("text"), bytes_data=message.get("bytes"))

    async def group_broadcast(
        self,
        group: str,
        text_data: str | None = None,
        bytes_data: bytes | None = None,
        *,
        exclude: str | Iterable[str] = (),
    ) -> None:
        """Send the same message to every member of a group. It is encoded once, and no handler of the members runs.

        The message keeps its order among the other messages of a member. `exclude` names channels that do not get it,
        for example `self.channel_name`. As with `group_send`, a member whose inbox is full misses the message.
        """
        await broadcast(self.channel_layer, group, text_data, bytes_data, exclude=exclude)

    async def websocket_connect(self, message: Event) -> None:
        """Join the groups, then call `connect()`."""
        for group in self.groups or ():
            await layer_for_groups(self, "group_add").group_add(group, self.channel_name)
        try:
            await self.connect()
        except AcceptConnection:
            await self.accept()
        except DenyConnection:
            await self.close()

    async def connect(self) -> None:
        """Accept or close the connection. By default, it is accepted."""
        await self.accept()

    async def accept(self, subprotocol: str | None = None, headers: HeadersLike | None = None) -> None:
        """Accept the connection."""
        await self._fairway_send_event(accept_event(subprotocol, headers))

    async def websocket_receive(self, message: Event) -> None:
        """Call `receive()` with text or bytes."""
        await self.receive(**received(message))

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Handle a message of the client."""

    async def send(  # type: ignore[override]  # the public signature of this class
        self, text_data: str | None = None, bytes_data: bytes | None = None, close: Close = False
    ) -> None:
        """Send a message. If `close` is true or a close code, close the connection after it.

        Returns once the server accepts more data. If the client has gone, the message is counted and dropped.
        """
        connection = self._fairway_connection
        if (
            connection is not None
            and connection.is_open
            and text_data is not None
            and not self._fairway_overrides.sees_send
        ):
            wait = connection.send_text(text_data)
            if wait is not None:
                await wait
        else:
            await self._fairway_send_event(send_event(text_data, bytes_data))
        if close:
            await self.close(close)

    async def _fairway_send_event(self, event: Message) -> None:
        if self._fairway_closed:
            self._fairway_came_too_late(event, "the consumer has closed the connection")
            await asyncio.sleep(0)
            return
        try:
            await super().send(event)
        except OSError as error:
            self._fairway_came_too_late(event, error)
            # Without this, a handler that sends without end would never let other tasks run.
            await asyncio.sleep(0)

    async def close(self, code: int | bool | None = None, reason: str | None = None) -> None:
        """Close the connection, or reject it if it has not been accepted yet."""
        await self._fairway_send_event(close_event(code, reason))
        self._fairway_closed = True

    async def websocket_disconnect(self, message: Event) -> None:
        """The connection has ended: leave the groups, and call `disconnect()`."""
        try:
            if self.groups:
                await leave_groups(self, self.groups)
        finally:
            await self.disconnect(message["code"])
        if connections_need_closing():
            await aclose_old_connections()
        raise StopConsumer

    async def disconnect(self, code: int) -> None:
        """Clean up. Called once, whichever side has ended the connection. With some servers, `code` is None."""


note_own(AsyncWebsocketConsumer, "send", "websocket_receive")


class AsyncJsonWebsocketConsumer(AsyncWebsocketConsumer):
    """An `AsyncWebsocketConsumer` for JSON messages: override `receive_json`, call `send_json`."""

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None, **kwargs: Any) -> None:
        size = len(text_data or "")
        if size >= LONG_MESSAGE and not text_data.isascii():  # type: ignore[union-attr]  # it is not empty
            await others_first(self, size)  # to join its pieces was a step of its own
        try:
            content = await self.decode_json(text_of(text_data))
        except _UNREADABLE as error:
            blame_client(error)
            raise
        del text_data  # nobody needs it while the handler waits
        if size >= LONG_MESSAGE:
            await others_first(self, size)
        await self.receive_json(content, **kwargs)

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        """Handle a decoded message of the client."""

    async def send_json(self, content: Any, close: Close = False) -> None:
        """Encode and send a message."""
        await super().send(text_data=await self.encode_json(content), close=close)

    async def group_broadcast_json(self, group: str, content: Any, *, exclude: str | Iterable[str] = ()) -> None:
        """Encode `content` with `encode_json`, and send it with `group_broadcast`.

        If it is an object and the group has a history, its position is added under the key "layer.position".
        """
        text = await self.encode_json(content)
        await self.group_broadcast(group, text_for(self.channel_layer, content, text), exclude=exclude)

    @classmethod
    async def decode_json(cls, text_data: str) -> Any:
        """What a text of the client stands for. A ValueError is taken as the client's fault."""
        return json.loads(text_data)

    @classmethod
    async def encode_json(cls, content: Any) -> str:
        """The text that is sent for `content`. Override it for another encoder."""
        return json.dumps(content)
