from channels.consumer import AsyncConsumer

from .images import make_thumbnail


class ThumbnailConsumer(AsyncConsumer):
    async def thumbnail_make(self, message):
        url = await make_thumbnail(message["image"], width=200)
        await self.channel_layer.send(message["reply_to"], {"type": "thumbnail.ready", "url": url})
