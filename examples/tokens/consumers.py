from django.contrib.auth.signals import user_logged_out
from django.dispatch import receiver

from channels.generic.websocket import AsyncJsonWebsocketConsumer
from fairway.layers.sync import group_send


class Account(AsyncJsonWebsocketConsumer):
    async def connect(self):
        user = self.scope["user"]
        if not user.is_authenticated:
            await self.close()  # before accept(): the client sees a 403
            return
        self.groups = [f"account.{user.pk}"]  # left at the end
        await self.channel_layer.group_add(self.groups[0], self.channel_name)
        await self.accept()
        await self.send_json({"hello": user.get_username()})

    async def session_ended(self, event):
        await self.close(code=4001)


@receiver(user_logged_out)
def end_sockets(user, **kwargs):
    if user is not None:
        group_send(f"account.{user.pk}", {"type": "session.ended"})
