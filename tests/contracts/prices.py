"""The small consumers of docs/howto/stream-and-long-poll.md."""

from __future__ import annotations

import hashlib
import json

from channels.generic.http import AsyncHttpConsumer
from fairway.generic.sse import ServerSentEventsConsumer


class Prices(ServerSentEventsConsumer):
    groups = ["prices"]

    async def price_changed(self, event):
        await self.send_event_json(event["price"], event="price")


class NextPrice(AsyncHttpConsumer):
    async def handle(self, body):
        await self.channel_layer.group_add("prices", self.channel_name)
        await self.send_headers(headers={b"content-type": b"application/json", b"cache-control": b"no-store"})
        await self.send_body(b"", more_body=True)  # handle() returns, and the answer stays open

    async def price_changed(self, event):
        await self.send_body(json.dumps(event["price"]).encode())

    async def disconnect(self):
        await self.channel_layer.group_discard("prices", self.channel_name)


class Fingerprint(AsyncHttpConsumer):
    async def http_request(self, message):
        self.digest = getattr(self, "digest", None) or hashlib.sha256()
        self.digest.update(message.get("body", b""))  # the next piece is read when this has been dealt with
        await super().http_request({**message, "body": b""})

    async def handle(self, body):
        await self.send_response(200, self.digest.hexdigest().encode())
