from channels.generic.websocket import AsyncJsonWebsocketConsumer


class GalleryConsumer(AsyncJsonWebsocketConsumer):
    async def receive_json(self, content):
        message = {"type": "thumbnail.make", "image": content["image"], "reply_to": self.channel_name}
        await self.channel_layer.send("thumbnails", message)

    async def thumbnail_ready(self, event):
        await self.send_json({"url": event["url"]})
