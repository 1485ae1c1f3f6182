"""Private messages, below a path for each kind of token."""

from django.core.asgi import get_asgi_application

django_application = get_asgi_application()

from channels_auth_token_middlewares.middleware import (
    CookieAuthTokenMiddleware,
    DRFAuthTokenMiddlewareStack,
    SimpleJWTAuthTokenMiddlewareStack,
)
from django.contrib.auth.models import User
from django.urls import path

from channels.auth import AuthMiddlewareStack
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter

urlpatterns = []


class PrivateMessages(AsyncJsonWebsocketConsumer):
    async def connect(self):
        self.user = self.scope["user"]
        if self.user.is_anonymous:
            await self.close()
            return
        await self.channel_layer.group_add(self.user.username, self.channel_name)
        await self.accept()

    async def disconnect(self, code):
        if not self.user.is_anonymous:
            await self.channel_layer.group_discard(self.user.username, self.channel_name)

    async def receive_json(self, content):
        message = {"type": "private.message", "by": self.user.username, "text": content["text"]}
        await self.channel_layer.group_send(content["to"], message)

    async def private_message(self, event):
        await self.send_json({"by": event["by"], "text": event["text"]})


class UserIdInCookie(CookieAuthTokenMiddleware):
    """A kind of token of our own, as trusting as an example may be."""

    cookie_name = "user_id"
    token_regex = "[0-9]+"

    @database_sync_to_async
    def get_user_instance(self, token_key):
        return User.objects.filter(pk=token_key).first()


messages = PrivateMessages.as_asgi()
application = ProtocolTypeRouter(
    {
        "http": django_application,
        "websocket": URLRouter(
            [
                path("drf/", DRFAuthTokenMiddlewareStack(messages)),
                path("behind-sessions/", AuthMiddlewareStack(DRFAuthTokenMiddlewareStack(messages))),
                path("jwt/", SimpleJWTAuthTokenMiddlewareStack(messages)),
                path("cookie/", UserIdInCookie(messages)),
            ]
        ),
    }
)
