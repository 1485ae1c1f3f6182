from channels.generic.websocket import AsyncJsonWebsocketConsumer
from fairway import AsyncGroupsMixin


class Notes(AsyncGroupsMixin, AsyncJsonWebsocketConsumer):
    async def connect(self):
        await self.accept()
        recovery = await self.join("notes", since=self.since("notes", "all"))
        position = None if recovery.count else recovery.position
        await self.send_json({"recovered": recovery.recovered, "position": position})

    async def receive_json(self, content):
        match content:
            case {"ref": str(ref), "text": str(text)} if len(ref) <= 40:
                await self.send_json({"ref": ref, **await self.write(ref, text.strip())})
            case _:
                await self.close(code=1008)  # our page sends nothing else

    async def write(self, ref, text):
        if not 0 < len(text) <= 1000:
            return {"error": "A note has 1 to 1,000 characters."}
        # With this key it is kept and sent once, however often it is asked for.
        await self.channel_layer.group_send("notes", {"type": "note.written", "text": text}, key=ref)
        return {"saved": True}

    async def note_written(self, event):
        await self.send_json({"note": event["text"], "position": event["layer.position"]})
