import asyncio
import json
from urllib.parse import parse_qs

from channels.layers import get_channel_layer


async def lobby(scope, receive, send):
    layer = get_channel_layer()
    channel = await layer.new_channel()
    query = parse_qs(scope["query_string"].decode())
    await receive()
    await send({"type": "websocket.accept"})
    try:
        recovery = await layer.group_join("chat.lobby", channel, query.get("since", [None])[0])
        hears = ["presence.state", "presence.diff"]
        await layer.presence.track("chat.lobby", channel, {"name": query["name"][0]}, hears=hears)
        position = None if recovery.count else recovery.position
        await send_json(send, {"recovered": recovery.recovered, "position": position})
        async with asyncio.TaskGroup() as tasks:
            telling = tasks.create_task(tell(layer, channel, send))
            while (message := await receive())["type"] == "websocket.receive":
                await layer.group_send("chat.lobby", {"type": "said", "text": message["text"]})
            telling.cancel()
    finally:
        await layer.presence.untrack("chat.lobby", channel)
        await layer.group_discard("chat.lobby", channel)


async def tell(layer, channel, send):
    while True:
        await send_json(send, await layer.receive(channel))


async def send_json(send, content):
    await send({"type": "websocket.send", "text": json.dumps(content)})
