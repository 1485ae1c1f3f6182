"""A server's own end of a WebSocket, as far as consumers and layers may know it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import MethodType
from typing import Any

from fairway.delivery.inbox import Inbox
from fairway.delivery.payload import Encoder, Message, Payload
from fairway.delivery.recipients import Fanout


class Connection:
    """A server's own end of a WebSocket, as far as consumers and layers may know it.

    Drivers derive from it. Its bound methods `receive` and `send` are the ASGI callables given to an
    application; where an application gets them unwrapped, `connection_of` finds the connection again, and the
    methods below save the message dicts, and for a broadcast the consumer's task.
    """

    __slots__ = ("encoder", "inbox", "is_open")

    encoder: Encoder
    inbox: Inbox
    is_open: bool
    """Accepted, and neither side has begun to close."""

    @property
    def fanout(self) -> Fanout | None:
        """With which others it can be broadcast to, once it is open."""
        return None

    async def receive(self) -> Message:
        """ASGI `receive`."""
        raise NotImplementedError

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


def connection_of(method: Callable[..., Any], name: str) -> Connection | None:
    """The connection whose own `receive` or `send` (`name`) this callable is; None for anything wrapped.

    The bound method itself is the proof: a wrapper may copy attributes, but not `__self__`.
    """
    if type(method) is not MethodType:
        return None
    owner = method.__self__
    if isinstance(owner, Connection) and method.__func__ is getattr(type(owner), name):
        return owner
    return None
