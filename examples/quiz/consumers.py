from channels.generic.websocket import AsyncJsonWebsocketConsumer
from fairway.rooms import AsyncRoomsMixin

from .rooms import Quiz


class Contestant(AsyncRoomsMixin, AsyncJsonWebsocketConsumer):
    async def connect(self):
        if not self.scope["user"].is_authenticated:
            await self.close()
            return
        self.who = self.scope["user"].username
        self.quiz = await self.enter(Quiz, f"quiz.{self.scope['url_route']['kwargs']['name']}")
        await self.accept()
        await self.quiz.send({"who": self.who, "choice": None})

    async def receive_json(self, content):
        match content:
            case {"choice": int() as choice}:
                await self.quiz.send({"who": self.who, "choice": choice})
