from channels.generic.websocket import AsyncJsonWebsocketConsumer
from fairway import AsyncGroupsMixin


class Lobby(AsyncGroupsMixin, AsyncJsonWebsocketConsumer):
    async def connect(self):
        await self.accept()
        await self.track("lobby", {"name": self.scope["user"].username})

    async def receive_json(self, content):
        await self.track("lobby", {"name": self.scope["user"].username, "away": content["away"]})

    async def presence_state(self, event):
        await self.send_json(event)

    async def presence_diff(self, event):
        await self.send_json(event)
