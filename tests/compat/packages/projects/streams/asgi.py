"""An echo, a room and a consumer that never accepts, each a stream of the same socket."""

from channelsmultiplexer import AsyncJsonWebsocketDemultiplexer
from django.core.asgi import get_asgi_application

django_application = get_asgi_application()

from django.urls import path

from channels.auth import AuthMiddlewareStack
from channels.generic.websocket import AsyncJsonWebsocketConsumer, JsonWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter

urlpatterns = []


class Echo(JsonWebsocketConsumer):
    def connect(self):
        self.accept()
        # The socket is open as soon as any consumer has accepted; from now on this one may be spoken to as well.
        self.send_json("ready")

    def receive_json(self, content):
        self.send_json({"echo": content})


class Room(AsyncJsonWebsocketConsumer):
    async def connect(self):
        self.name = self.scope["query_string"].decode()
        await self.channel_layer.group_add(self.name, self.channel_name)
        await self.accept()
        await self.send_json("ready")

    async def receive_json(self, content):
        await self.channel_layer.group_send(self.name, {"type": "room.message", "text": content["text"]})

    async def room_message(self, event):
        await self.send_json({"text": event["text"]})

    async def disconnect(self, code):
        await self.channel_layer.group_discard(self.name, self.channel_name)
        await self.channel_layer.group_send(self.name, {"type": "room.message", "text": "somebody has left"})


class Once(AsyncJsonWebsocketConsumer):
    async def receive_json(self, content):
        await self.send_json(content, close=4001)


class NeverAccepts(AsyncJsonWebsocketConsumer):
    async def connect(self):
        pass


class Streams(AsyncJsonWebsocketDemultiplexer):
    applications = {"echo": Echo.as_asgi(), "room": Room.as_asgi(), "mute": NeverAccepts.as_asgi()}


class OnlyOnce(AsyncJsonWebsocketDemultiplexer):
    applications = {"once": Once.as_asgi()}


# As the package's page has it: instances of consumers, for a demultiplexer that is an instance too.
instances = AsyncJsonWebsocketDemultiplexer(echo=Echo(), room=Room())

application = ProtocolTypeRouter(
    {
        "http": django_application,
        "websocket": AuthMiddlewareStack(
            URLRouter(
                [
                    path("streams/", Streams.as_asgi()),
                    path("once/", OnlyOnce.as_asgi()),
                    path("instances/", instances),
                ]
            )
        ),
    }
)
