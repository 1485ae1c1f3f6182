"""A consumer of the clock's messages, which hands them on to the sockets."""

from django.core.asgi import get_asgi_application

django_application = get_asgi_application()

from asgiref.sync import async_to_sync
from django.urls import path

from channels.consumer import SyncConsumer
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from channels.routing import ChannelNameRouter, ProtocolTypeRouter, URLRouter

urlpatterns = []


class Metronome(SyncConsumer):
    def clock_ticks(self, event):
        async_to_sync(self.channel_layer.group_send)("dancers", {"type": "beat", "beat": event["message"]["beat"]})


class Dancer(AsyncJsonWebsocketConsumer):
    groups = ["dancers"]

    async def beat(self, event):
        await self.send_json(event["beat"])


application = ProtocolTypeRouter(
    {
        "http": django_application,
        "websocket": URLRouter([path("dance/", Dancer.as_asgi())]),
        "channel": ChannelNameRouter({"metronome": Metronome.as_asgi()}),
    }
)
