"""The objects behind the ASGI callables `receive` and `send`, as far as consumers and layers may know them.

An application gets the two callables. If they are bound methods of these classes, no middleware has wrapped them, and a
consumer may use the inbox and the connection behind them directly.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import MethodType
from typing import Any, TypeVar

from fairway.delivery.inbox import Inbox
from fairway.delivery.payload import Encoder, Message, Payload
from fairway.delivery.recipients import Fanout


class Reader:
    """Gives an application its messages. Its bound method `receive` is the ASGI callable.

    A consumer that finds the reader with `reader_of` takes the messages from the inbox, without a call of `receive` for
    each.
    """

    __slots__ = ("inbox",)

    inbox: Inbox

    async def receive(self) -> Message:
        """ASGI `receive`."""
        raise NotImplementedError


class Connection(Reader):
    """The server's end of a WebSocket, as far as consumers and layers may know it.

    Its bound methods `receive` and `send` are the ASGI callables of the application. If `send` has not been wrapped,
    `connection_of` returns the connection, and a consumer or layer can use the other methods: these need no message
    dicts, and `broadcast` does not even run the consumer's task.
    """

    __slots__ = ("encoder", "is_open")

    encoder: Encoder
    is_open: bool
    """Whether the WebSocket was accepted, and neither side has begun to close it."""

    @property
    def fanout(self) -> Fanout | None:
        """The fanout that can write to this and other connections in one call. None if there is none, or not yet."""
        return None

    async def send(self, message: Mapping[str, Any]) -> None:
        """ASGI `send`. Returns once less than the high water mark waits to be sent."""
        raise NotImplementedError

    def send_nowait(self, message: Mapping[str, Any]) -> None:
        """Like `send`, but never waits. If the client is slow, the bound of the outbox decides what happens."""
        raise NotImplementedError

    def send_text(self, text: str) -> Awaitable[None] | None:
        """Send a text message. Await the result, if there is one, before sending more."""
        raise NotImplementedError

    def send_bytes(self, data: bytes) -> Awaitable[None] | None:
        """Send a binary message. Await the result, if there is one, before sending more."""
        raise NotImplementedError

    def broadcast(self, payload: Payload) -> None:
        """Write a payload that many connections share. Never waits."""
        raise NotImplementedError


_Owner = TypeVar("_Owner", bound=Reader)


def reader_of(receive: Callable[..., Any]) -> Reader | None:
    """The reader that this `receive` is the bound method of. None for any other callable, such as a wrapper."""
    return _owner_of(receive, "receive", Reader)


def connection_of(send: Callable[..., Any]) -> Connection | None:
    """The connection that this `send` is the bound method of. None for any other callable, such as a wrapper."""
    return _owner_of(send, "send", Connection)


def _owner_of(method: Callable[..., Any], name: str, kind: type[_Owner]) -> _Owner | None:
    # Only the bound method itself passes this check: a wrapper may copy other attributes, but not its type.
    if type(method) is not MethodType:
        return None
    owner = method.__self__
    if isinstance(owner, kind) and method.__func__ is getattr(type(owner), name):
        return owner
    return None
