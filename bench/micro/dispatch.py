"""Microseconds for a message through a consumer: from its inbox to the handler, and the answer to the connection.

Run ``python bench/micro/dispatch.py``. The connection is fake and counts what it is given: no bytes, no sockets. *Many
at once*: all messages wait in the inbox, the consumer takes one after the other. *One at a time*: each comes only after
the answer to the last, so that the consumer is woken for it; that includes a pass of the event loop, uvloop as in the
server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import measuring
import uvloop
from django.conf import settings

settings.configure(CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}})

from channels.generic.websocket import (  # noqa: E402  # they read the settings
    AsyncJsonWebsocketConsumer,
    AsyncWebsocketConsumer,
    WebsocketConsumer,
)
from fairway.delivery import Connection, Inbox, Message  # noqa: E402

TEXT = '{"type": "chat", "room": 7, "author": "somebody", "text": "' + "x" * 60 + '"}'
EVENT = {"type": "chat.message", "text": TEXT}


class Counting(Connection):
    """As much of a connection as a consumer touches; `done` when so many answers have come."""

    __slots__ = ("again", "done", "left")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.inbox = Inbox(loop)
        self.is_open = False
        self.again: Callable[[], object] | None = None
        self.expect(1)

    def expect(self, answers: int) -> asyncio.Future[None]:
        self.left = answers
        self.done = self.inbox.loop.create_future()
        return self.done

    def _answered(self) -> None:
        self.left -= 1
        if not self.left:
            self.done.set_result(None)
        elif self.again is not None:
            self.inbox.loop.call_soon(self.again)

    async def receive(self) -> Message:
        item = await self.inbox.get()
        return item if type(item) is dict else {"type": "websocket.receive", "text": item}

    async def send(self, message: Mapping[str, Any]) -> None:
        self.send_nowait(message)

    def send_nowait(self, message: Mapping[str, Any]) -> None:
        self.is_open = True
        self._answered()

    def send_text(self, text: str) -> None:
        self._answered()


class Echo(AsyncWebsocketConsumer):
    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await self.send(text_data)

    async def chat_message(self, event: Message) -> None:
        await self.send(event["text"])


class JsonEcho(AsyncJsonWebsocketConsumer):
    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        await self.send_json(content)


class SyncEcho(WebsocketConsumer):
    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        self.send(text_data)


def measure(name: str, consumer: Any, *, event: bool = False, foreign: bool = False, count: int = 1000) -> None:
    loop = uvloop.new_event_loop()
    client = Counting(loop)
    receive, send = client.receive, client.send
    if foreign:
        # What is not the connection's own method is treated like another server's.
        receive, send = foreign_side(client)
    client.inbox.put_client({"type": "websocket.connect"})
    task = loop.create_task(consumer.as_asgi()({"type": "websocket", "path": "/"}, receive, send))
    loop.run_until_complete(client.done)

    def put() -> None:
        if event:
            client.inbox.put_layer(EVENT, count)
        else:
            client.inbox.put_client(TEXT)

    def many_at_once() -> None:
        done = client.expect(count)
        client.again = None
        for _ in range(count):
            put()
        loop.run_until_complete(done)

    def one_at_a_time() -> None:
        done = client.expect(count)
        client.again = put
        put()
        loop.run_until_complete(done)

    apart = measuring.microseconds(one_at_a_time, count)
    measuring.report(name, measuring.microseconds(many_at_once, count), f"one at a time {apart:.3f}")
    client.inbox.put_disconnect({"type": "websocket.disconnect", "code": 1000})
    loop.run_until_complete(asyncio.wait([task]))
    loop.close()


def foreign_side(client: Counting) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
    async def receive() -> Message:
        return await client.receive()

    async def send(message: Message) -> None:
        await client.send(message)

    return receive, send


def main() -> None:
    print(f"a text of {len(TEXT)} characters and its answer, per message, many at once")
    measure("AsyncWebsocketConsumer", Echo)
    measure("AsyncWebsocketConsumer, event of a layer", Echo, event=True)
    measure("AsyncWebsocketConsumer, on a foreign server", Echo, foreign=True)
    measure("AsyncJsonWebsocketConsumer", JsonEcho)
    measure("WebsocketConsumer, in its thread", SyncEcho, count=100)


if __name__ == "__main__":
    main()
