from channels.generic.websocket import AsyncJsonWebsocketConsumer, AsyncWebsocketConsumer, JsonWebsocketConsumer
from fairway import AsyncGroupsMixin, GroupsMixin
from fairway.generic.sse import ServerSentEventsConsumer


class Chat(AsyncGroupsMixin, AsyncJsonWebsocketConsumer):
    async def connect(self):
        self.room = f"chat.{self.scope['url_route']['kwargs']['room']}"
        await self.accept()
        recovery = await self.join(self.room, since=self.since(self.room))
        position = None if recovery.count else recovery.position
        await self.send_json({"recovered": recovery.recovered, "position": position})

    async def receive_json(self, content):
        await self.channel_layer.group_send(self.room, {"type": "chat.said", "text": content["text"]})

    async def chat_said(self, event):
        await self.send_json({"text": event["text"], "position": event["layer.position"]})

    async def layer_gap(self, event):
        await self.send_json({"recovered": False})


class Board(AsyncGroupsMixin, AsyncWebsocketConsumer):
    async def connect(self):
        await self.accept()
        await self.join("board.sales", since="all")


class Notices(GroupsMixin, JsonWebsocketConsumer):
    def connect(self):
        user = self.scope["user"]
        self.accept()
        group = f"notices.{user.pk}"
        self.join(group, since=self.since(group, "all"), not_before=user.last_login)

    def notice(self, event):
        self.send_json({"text": event["text"], "position": event["layer.position"]})


class Progress(AsyncGroupsMixin, ServerSentEventsConsumer):
    async def connect(self):
        group = f"job.{self.scope['url_route']['kwargs']['number']}"
        await self.join(group, since=self.since(group, "all"))

    async def job_step(self, event):
        await self.send_event(event["step"], id=event["layer.position"])
