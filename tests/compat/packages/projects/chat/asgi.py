"""Rooms in which every member hears every other, in whatever process they are."""

from django.core.asgi import get_asgi_application

django_application = get_asgi_application()

from asgiref.sync import async_to_sync
from django.urls import path

from channels.auth import AuthMiddlewareStack
from channels.generic.websocket import AsyncJsonWebsocketConsumer, JsonWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter


class Chat(AsyncJsonWebsocketConsumer):
    async def connect(self):
        self.room = self.scope["url_route"]["kwargs"]["room"]
        await self.channel_layer.group_add(self.room, self.channel_name)
        await self.accept()
        await self.send_json({"channel": self.channel_name})

    async def disconnect(self, code):
        await self.channel_layer.group_discard(self.room, self.channel_name)

    async def receive_json(self, content):
        message = {"type": "chat.message", "text": content["text"]}
        if "to" in content:
            await self.channel_layer.send(content["to"], message)
        else:
            await self.channel_layer.group_send(self.room, message)

    async def chat_message(self, event):
        await self.send_json({"text": event["text"]})


class SynchronousChat(JsonWebsocketConsumer):
    """The same, in threads."""

    def connect(self):
        self.room = self.scope["url_route"]["kwargs"]["room"]
        async_to_sync(self.channel_layer.group_add)(self.room, self.channel_name)
        self.accept()
        self.send_json({"channel": self.channel_name})

    def disconnect(self, code):
        async_to_sync(self.channel_layer.group_discard)(self.room, self.channel_name)

    def receive_json(self, content):
        async_to_sync(self.channel_layer.group_send)(self.room, {"type": "chat.message", "text": content["text"]})

    def chat_message(self, event):
        self.send_json({"text": event["text"]})


rooms = URLRouter([path("rooms/<room>/", Chat.as_asgi()), path("sync-rooms/<room>/", SynchronousChat.as_asgi())])
application = ProtocolTypeRouter({"http": django_application, "websocket": AuthMiddlewareStack(rooms)})
