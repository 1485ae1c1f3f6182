"""What an application receives from and sends to, as far as consumers and layers may know it.

An application gets two callables, `receive` and `send`. Where they are bound methods of these classes, nobody stands in
between, and a consumer may use the inbox and the connection behind them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import MethodType
from typing import Any, TypeVar

from fairway.delivery.inbox import Inbox
from fairway.delivery.payload import Encoder, Message, Payload
from fairway.delivery.recipients import Fanout


class Reader:
    """What gives an application its messages, by its bound method `receive`.

    An application that finds it again by `reader_of` takes them from the inbox, without a call for each.
    """

    __slots__ = ("inbox",)

    inbox: Inbox

    async def receive(self) -> Message:
        """ASGI `receive`."""
        raise NotImplementedError


class Connection(Reader):
    """A server's own end of a WebSocket, as far as consumers and layers may know it.

    Its bound methods `receive` and `send` are the ASGI callables given to an application; where an application gets
    `send` unwrapped, `connection_of` finds the connection again, and the methods below save the message dicts, and for
    a broadcast the consumer's task.
    """

    __slots__ = ("encoder", "is_open")

    encoder: Encoder
    is_open: bool
    """Accepted, and neither side has begun to close."""

    @property
    def fanout(self) -> Fanout | None:
        """By what it is written to together with others, once it is open; None if it cannot be."""
        return None

    async def send(self, message: Mapping[str, Any]) -> None:
        """ASGI `send`: returns when the socket is below its high water mark."""
        raise NotImplementedError

    def send_nowait(self, message: Mapping[str, Any]) -> None:
        """As `send`, without ever waiting: the bound of the outbox decides about a slow client."""
        raise NotImplementedError

    def send_text(self, text: str) -> Awaitable[None] | None:
        """Send a text message. What is returned, if anything, is to be awaited before sending more."""
        raise NotImplementedError

    def send_bytes(self, data: bytes) -> Awaitable[None] | None:
        """Send a binary message. What is returned, if anything, is to be awaited before sending more."""
        raise NotImplementedError

    def broadcast(self, payload: Payload) -> None:
        """Write a payload that many connections share, at once and without waiting."""
        raise NotImplementedError


_Owner = TypeVar("_Owner", bound=Reader)


def reader_of(receive: Callable[..., Any]) -> Reader | None:
    """The reader whose own `receive` this callable is; None for anything wrapped."""
    return _owner_of(receive, "receive", Reader)


def connection_of(send: Callable[..., Any]) -> Connection | None:
    """The connection whose own `send` this callable is; None for anything wrapped."""
    return _owner_of(send, "send", Connection)


def _owner_of(method: Callable[..., Any], name: str, kind: type[_Owner]) -> _Owner | None:
    # The bound method itself is the proof: a wrapper may copy attributes, but not `__self__`.
    if type(method) is not MethodType:
        return None
    owner = method.__self__
    if isinstance(owner, kind) and method.__func__ is getattr(type(owner), name):
        return owner
    return None
