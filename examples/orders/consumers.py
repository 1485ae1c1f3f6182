from django.db import transaction

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from fairway.layers.sync import group_send_on_commit

from .models import Order


class OrderConsumer(AsyncJsonWebsocketConsumer):
    """A page that shows one order."""

    groups = ["shop"]

    async def connect(self):
        self.number = self.scope["url_route"]["kwargs"]["number"]
        await self.channel_layer.group_add(f"order-{self.number}", self.channel_name)
        await self.accept()

    async def disconnect(self, code):
        await self.channel_layer.group_discard(f"order-{self.number}", self.channel_name)

    async def order_changed(self, event):
        await self.send_json({"state": event["state"]})

    async def receive_json(self, content):
        if content == "cancel":
            await database_sync_to_async(cancel)(self.number)


@transaction.atomic
def cancel(number):
    order = Order.objects.select_for_update().get(number=number)
    order.state = "cancelled"
    order.save()
    group_send_on_commit(order.group, {"type": "order.changed", "state": order.state})
