"""Synchronous code: the ORM, the one thread, and that no thread is used where there is no synchronous code."""

from __future__ import annotations

import asyncio
import socket
import threading

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth import get_user_model

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer, WebsocketConsumer
from tests.conftest import Hops
from tests.contracts.carriers import Carrier, FairwayCarrier
from tests.contracts.journal import DEADLINE, Journal

orm = pytest.mark.django_db(transaction=True)


@orm
async def test_a_synchronous_consumer_uses_the_orm_and_its_group(carrier: Carrier, layer):
    class Registering(WebsocketConsumer):
        groups = ["room"]

        def receive(self, text_data=None, bytes_data=None):
            get_user_model().objects.create_user(text_data)
            count = get_user_model().objects.count()
            async_to_sync(self.channel_layer.group_send)("room", {"type": "count", "count": count})

        def count(self, event):
            self.send(f"{event['count']} {get_user_model().objects.count()}")

    await carrier.serve(Registering.as_asgi())
    clients = [await carrier.connect() for _ in range(2)]
    await clients[0].send_text("anna")
    assert [await client.receive() for client in clients] == ["1 1", "1 1"]
    await clients[1].send_text("ben")
    assert [await client.receive() for client in clients] == ["2 2", "2 2"]
    assert await get_user_model().objects.acount() == 2


@orm
async def test_an_error_of_the_database_reaches_the_consumer(carrier: Carrier, layer):
    class Unique(WebsocketConsumer):
        def receive(self, text_data=None, bytes_data=None):
            try:
                get_user_model().objects.create_user(text_data)
            except Exception as error:
                self.send(type(error).__name__)
            else:
                self.send("created")

    await carrier.serve(Unique.as_asgi())
    client = await carrier.connect()
    for _ in range(2):
        await client.send_text("anna")
    assert [await client.receive(), await client.receive()] == ["created", "IntegrityError"]


async def test_synchronous_consumers_share_one_thread(carrier: Carrier, layer, journal: Journal):
    class Telling(WebsocketConsumer):
        def receive(self, text_data=None, bytes_data=None):
            journal.note(threading.get_ident())
            self.send(text_data)

    await carrier.serve(Telling.as_asgi())
    clients = [await carrier.connect() for _ in range(2)]
    for number in range(20):
        for client in clients:
            await client.send_text(str(number))
    for client in clients:
        assert [await client.receive() for _ in range(20)] == [str(number) for number in range(20)]
    assert len(set(journal)) == 1
    assert journal[0] != threading.get_ident()


async def test_a_stalled_client_does_not_stop_the_thread(fairway: FairwayCarrier, layer, journal: Journal):
    class Flooding(WebsocketConsumer):
        def receive(self, text_data=None, bytes_data=None):
            if self.scope["path"] == "/stalled":
                for _ in range(600):
                    self.send(bytes_data=bytes(8192))
                journal.note("flooded")
            else:
                self.send(text_data)

    await fairway.serve(Flooding.as_asgi())
    stalled = socket.create_connection(fairway.endpoint)
    stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    if fairway.trust is not None:
        stalled = await asyncio.to_thread(fairway.trust.wrap_socket, stalled, server_hostname="localhost")
    stalled.sendall(
        b"GET /stalled HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        b"\x81\x82\x00\x00\x00\x00go"
    )
    try:
        client = await fairway.connect()
        await journal.until("flooded")
        await client.send_text("still here?")
        assert await client.receive() == "still here?"
    finally:
        stalled.close()


@orm
async def test_no_thread_is_used_for_messages_without_the_orm(carrier: Carrier, layer, hops: Hops):
    class Mostly(AsyncWebsocketConsumer):
        async def receive(self, text_data=None, bytes_data=None):
            if text_data == "orm":
                text_data = str(await database_sync_to_async(get_user_model().objects.count)())
            await self.send(text_data)

    await carrier.serve(Mostly.as_asgi())
    client = await carrier.connect()
    await client.send_text("orm")
    assert await client.receive() == "0"
    await client.send_text("settle")
    assert await client.receive() == "settle"
    before = hops.count
    for number in range(1000):
        await client.send_text(str(number))
        assert await client.receive() == str(number)
    assert hops.count - before == 0


async def test_two_synchronous_consumers_talk_to_each_other(carrier: Carrier, layer):
    class Pingpong(WebsocketConsumer):
        groups = ["room"]

        def receive(self, text_data=None, bytes_data=None):
            async_to_sync(self.channel_layer.group_send)("room", {"type": "ball", "from": self.channel_name, "n": 0})

        def ball(self, event):
            if event["n"] >= 20:
                self.send("over")
            elif event["from"] != self.channel_name:
                async_to_sync(self.channel_layer.group_send)(
                    "room", {"type": "ball", "from": self.channel_name, "n": event["n"] + 1}
                )

    await carrier.serve(Pingpong.as_asgi())
    clients = [await carrier.connect() for _ in range(2)]
    await clients[0].send_text("serve")
    async with asyncio.timeout(DEADLINE):
        assert [await client.receive() for client in clients] == ["over", "over"]
