"""Consumers for HTTP requests."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from channels.consumer import AsyncConsumer
from channels.db import aclose_old_connections, connections_need_closing
from channels.exceptions import StopConsumer
from channels.middleware import Receive, Scope, Send
from fairway.asgi.types import HeadersLike
from fairway.consumers.handlers import HandlerGroup
from fairway.consumers.overrides import Overrides, note_own
from fairway.delivery import Inbox, Message
from fairway.logs import get_logger

logger = get_logger("django.channels.http")

Headers = Mapping[bytes, bytes] | HeadersLike

# Smaller pieces of a body are joined at once, because each object needs memory of its own.
_MIN_PIECE_BYTES = 4096
_MAX_LOGGED_PATH = 200


class AsyncHttpConsumer(AsyncConsumer):
    """An asynchronous consumer of one HTTP request: override `handle`.

    If `handle` returns while the response is open, because its last body had `more_body=True`, the consumer continues,
    and may complete the response later, in a handler of a layer event. `disconnect()` is called once, at the end.

    `handle` runs in a task of its own, so that layer events are handled meanwhile. When the client leaves,
    `disconnect()` is called at once. After that, `handle` has `disconnect_grace` seconds to end before it is cancelled.

    The body is collected for `handle`, up to `max_body_bytes`. To stream it instead, override `http_request`. It is
    awaited for each piece before the next one is read. Pass the message on without its body:
    `await super().http_request({**message, "body": b""})`.
    """

    max_body_bytes: int | None = 16 * 1024 * 1024
    """The longest body that is collected, in bytes. None for no limit.

    A longer body is answered with 413 (RFC 9110 section 15.5.14). If its Content-Length is too large, it is not read.
    """

    _fairway_response_open = False
    _fairway_disconnected = False
    _fairway_body_bytes = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.body: list[bytes] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        # A subclass that overrides `http_request` may stream bodies that are too long to be collected.
        collects = "http_request" not in Overrides.of(type(self)).names
        if collects and self._fairway_exceeds(_content_length(scope)):
            self.scope = scope
            self._fairway_bind(send)
            await self._fairway_refuse()
            return
        entered = super().__call__(scope, receive, send)
        del scope, receive, send
        await entered

    def _fairway_bind(self, send: Send) -> None:
        super()._fairway_bind(send)
        self.body = []
        self._fairway_body_bytes = 0
        self._fairway_response_open = self._fairway_disconnected = False

    def _fairway_handler_group(self, inbox: Inbox) -> HandlerGroup:
        return HandlerGroup(inbox, self.max_concurrency + 1)

    def _fairway_in_turn(self, item: Any) -> bool:
        if type(item) is dict and item.get("type") == "http.request":
            return bool(item.get("more_body"))
        return self.max_concurrency == 1 or super()._fairway_in_turn(item)

    async def send_headers(self, *, status: int = 200, headers: Headers | None = None) -> None:
        """Send status and headers. Servers may hold them back until the first piece of the body.

        If the client has gone, the message is counted and dropped, as in `send_body`.
        """
        pairs = list(headers.items()) if isinstance(headers, Mapping) else list(headers or [])
        await self._fairway_answer({"type": "http.response.start", "status": status, "headers": pairs})

    async def send_body(self, body: bytes, *, more_body: bool = False) -> None:
        """Send a piece of the body. The last piece has `more_body=False`."""
        assert isinstance(body, bytes), "Body is not bytes"
        self._fairway_response_open = more_body
        await self._fairway_answer({"type": "http.response.body", "body": body, "more_body": more_body})

    async def _fairway_answer(self, event: Message) -> None:
        try:
            await self.send(event)
        except OSError as error:
            self._fairway_came_too_late(event, error)
            # Without this, a handler that sends without end would never let other tasks run, or be cancelled.
            await asyncio.sleep(0)

    async def send_response(self, status: int, body: bytes, **kwargs: Any) -> None:
        """Send a complete response. Keyword arguments are passed to `send_headers`."""
        await self.send_headers(status=status, **kwargs)
        await self.send_body(body)

    async def handle(self, body: bytes) -> None:
        """Answer the request, whose body is complete."""
        raise NotImplementedError(f"{type(self).__name__} needs a handle() method")

    async def disconnect(self) -> None:
        """Clean up: the response is complete, or the client has gone."""

    async def http_request(self, message: Any) -> None:
        """Collect the body, and call `handle()` when it is complete."""
        self._fairway_body_bytes += len(message.get("body", b""))
        if self._fairway_exceeds(self._fairway_body_bytes):
            self.body = []
            await self._fairway_refuse()
            await self._fairway_disconnect()
            raise StopConsumer
        self._fairway_collect(message.get("body", b""))
        if message.get("more_body"):
            return
        try:
            if len(self.body) > 1:
                self.body = [b"".join(self.body)]
            await self.handle(self.body[0] if self.body else b"")
        except StopConsumer:
            await self._fairway_disconnect()
            raise
        if not self._fairway_response_open:
            await self._fairway_disconnect()
            raise StopConsumer

    def _fairway_collect(self, piece: bytes) -> None:
        pieces = self.body
        if pieces and len(pieces[-1]) < _MIN_PIECE_BYTES:
            pieces[-1] += piece
        elif piece:
            pieces.append(piece)

    def _fairway_exceeds(self, length: int) -> bool:
        return self.max_body_bytes is not None and length > self.max_body_bytes

    async def _fairway_refuse(self) -> None:
        logger.warning(
            "HTTP request refused with 413: its body is longer than max_body_bytes of %s, %d [path %s]",
            type(self).__name__,
            self.max_body_bytes,
            ascii(self.scope.get("path", "")[:_MAX_LOGGED_PATH]),
        )
        headers = [(b"content-type", b"text/plain"), (b"connection", b"close")]
        await self.send_response(413, b"The body of this request is too long.", headers=headers)

    async def _fairway_disconnect(self) -> None:
        if not self._fairway_disconnected:
            self._fairway_disconnected = True
            await self.disconnect()

    async def http_disconnect(self, message: Any) -> None:
        """Call `disconnect()`, because the client has gone or the response is complete."""
        await self._fairway_disconnect()
        if connections_need_closing():
            await aclose_old_connections()
        raise StopConsumer


note_own(AsyncHttpConsumer, "__call__", "http_request")


def _content_length(scope: Scope) -> int:
    """Return the Content-Length of the request, or 0 if it has none."""
    # The server has checked the field.
    lengths = [value for name, value in scope.get("headers", ()) if name.lower() == b"content-length"]
    return max((int(value) for value in lengths if value.isdigit() and len(value) <= 18), default=0)
