from channels.generic.websocket import AsyncJsonWebsocketConsumer
from fairway.rooms import AsyncRoomsMixin

from .rooms import Four


class Player(AsyncRoomsMixin, AsyncJsonWebsocketConsumer):
    async def connect(self):
        self.who = self.scope["session"].get("who")
        if not self.who:  # this browser has not loaded the page
            await self.close()
            return
        self.four = await self.enter(Four, f"four.{self.scope['url_route']['kwargs']['name']}")
        await self.accept()
        await self.send_json({"you": self.who})
        await self.four.send({"who": self.who, "does": "enter"})

    async def receive_json(self, content):
        match content:
            case {"does": int() | "again" | "stay" as does}:
                await self.four.send({"who": self.who, "does": does})

    async def room_failed(self, event):
        await self.send_json({"pause": event["again_in"]})
