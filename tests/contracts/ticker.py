"""The consumers of docs/howto/broadcast.md, which `test_ticker.py` runs."""

import json

from channels.generic.websocket import AsyncJsonWebsocketConsumer


class Prices(AsyncJsonWebsocketConsumer):
    """The same message for everybody: made once, no handler runs for each member."""

    groups = ["prices"]

    async def receive_json(self, content):
        await self.group_broadcast_json("prices", {"price": content["price"]}, exclude=self.channel_name)


class Greetings(AsyncJsonWebsocketConsumer):
    """A message that is different for each member: a handler makes it."""

    groups = ["greetings"]

    async def receive_json(self, content):
        await self.channel_layer.group_send("greetings", {"type": "greet", "text": content["text"]})

    async def greet(self, event):
        await self.send(json.dumps({"text": event["text"], "to": str(self.scope["user"])}))


class Search(AsyncJsonWebsocketConsumer):
    """Up to four questions of one client are answered at once, each when it is ready."""

    max_concurrency = 4

    async def receive_json(self, content):
        await self.send_json({"id": content["id"], "found": await self.look_up(content["words"])})

    async def look_up(self, words):
        return sorted(words)
