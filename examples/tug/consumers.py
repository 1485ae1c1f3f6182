from channels.generic.websocket import AsyncJsonWebsocketConsumer
from fairway.rooms import AsyncRoomsMixin

from .rooms import Tug


class Player(AsyncRoomsMixin, AsyncJsonWebsocketConsumer):
    async def connect(self):
        if not self.scope["user"].is_authenticated:
            await self.close()
            return
        self.who = self.scope["user"].username
        self.tug = await self.enter(Tug, f"tug.{self.scope['url_route']['kwargs']['name']}")
        await self.accept()
        await self.send_json({"you": self.who})
        await self.tug.send({"who": self.who, "pull": False})

    async def receive_json(self, content):
        await self.tug.send({"who": self.who, "pull": content == "pull"})

    async def room_failed(self, event):
        await self.send_json({"pause": event["again_in"]})
