"""Consumers for HTTP requests."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from channels.consumer import AsyncConsumer, Send, is_after_end
from channels.db import aclose_old_connections, connections_need_closing
from channels.exceptions import StopConsumer
from fairway.concurrency import Crew
from fairway.delivery import Inbox, Message

Headers = Mapping[bytes, bytes] | Iterable[Iterable[bytes]]


class AsyncHttpConsumer(AsyncConsumer):
    """An asynchronous consumer of one HTTP request: override `handle`.

    If `handle` returns while the response is still open (its last body had `more_body=True`), the consumer lives
    on and may complete the response later, from a layer event. `disconnect()` is called once, at the end.

    `handle` runs in a task of its own, so that layer events are handled meanwhile, and `disconnect()` is called as soon
    as the client has left; after that `handle` has `disconnect_grace` seconds to end before it is cancelled.
    """

    _fairway_response_open = False
    _fairway_disconnected = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.body: list[bytes] = []

    def _fairway_bind(self, send: Send) -> None:
        super()._fairway_bind(send)
        self.body = []
        self._fairway_response_open = self._fairway_disconnected = False

    def _fairway_crew(self, inbox: Inbox) -> Crew:
        return Crew(inbox, self.max_concurrency + 1)

    def _fairway_in_turn(self, item: Any) -> bool:
        if type(item) is dict and item.get("type") == "http.request":
            return bool(item.get("more_body"))
        return self.max_concurrency == 1 or super()._fairway_in_turn(item)

    async def send_headers(self, *, status: int = 200, headers: Headers | None = None) -> None:
        """Send status and headers; servers may hold them back until the first body.

        As in `send_body`, nothing happens, but for a count, when the client has gone.
        """
        pairs = list(headers.items()) if isinstance(headers, Mapping) else list(headers or [])
        await self._fairway_answer({"type": "http.response.start", "status": status, "headers": pairs})

    async def send_body(self, body: bytes, *, more_body: bool = False) -> None:
        """Send a piece of the body; the last one has `more_body=False`."""
        assert isinstance(body, bytes), "Body is not bytes"
        self._fairway_response_open = more_body
        await self._fairway_answer({"type": "http.response.body", "body": body, "more_body": more_body})

    async def _fairway_answer(self, event: Message) -> None:
        try:
            await self.send(event)
        except OSError as error:
            is_after_end(event, error)
            # Nobody slows down a handler that goes on sending: others, and its own end, must have their turn.
            await asyncio.sleep(0)

    async def send_response(self, status: int, body: bytes, **kwargs: Any) -> None:
        """Send a complete response; keyword arguments go to `send_headers`."""
        await self.send_headers(status=status, **kwargs)
        await self.send_body(body)

    async def handle(self, body: bytes) -> None:
        """Answer the request, whose body is complete."""
        raise NotImplementedError(f"{type(self).__name__} needs a handle() method")

    async def disconnect(self) -> None:
        """Clean up: the response is complete, or the client has gone."""

    async def http_request(self, message: Any) -> None:
        """Collect the body; call `handle()` when it is complete."""
        if "body" in message:
            self.body.append(message["body"])
        if message.get("more_body"):
            return
        try:
            await self.handle(b"".join(self.body))
        except StopConsumer:
            await self._fairway_disconnect()
            raise
        if not self._fairway_response_open:
            await self._fairway_disconnect()
            raise StopConsumer

    async def _fairway_disconnect(self) -> None:
        if not self._fairway_disconnected:
            self._fairway_disconnected = True
            await self.disconnect()

    async def http_disconnect(self, message: Any) -> None:
        """Call `disconnect()`: the exchange is over."""
        await self._fairway_disconnect()
        if connections_need_closing():
            await aclose_old_connections()
        raise StopConsumer
