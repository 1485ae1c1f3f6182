from asgiref.sync import async_to_sync

from channels.layers import get_channel_layer

channel_layer = get_channel_layer()
async_to_sync(channel_layer.send)("letterbox", {"type": "hello"})
print(async_to_sync(channel_layer.receive)("letterbox"))
