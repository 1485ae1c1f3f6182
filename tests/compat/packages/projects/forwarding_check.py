"""Three processes in one, over channels_redis, both layers, and ours: everybody hears everybody, once."""

import asyncio
import sys
from importlib import import_module

from fairway.layers.forwarding import ForwardingChannelLayer
from fairway.layers.redis import RedisChannelLayer

hosts = [("127.0.0.1", int(sys.argv[1]))]
module, _, name = sys.argv[2].rpartition(".")
OldLayer = getattr(import_module(module), name)


async def check():
    layers = [
        OldLayer(hosts=hosts),
        ForwardingChannelLayer(OldLayer(hosts=hosts), RedisChannelLayer(hosts=hosts, prefix="site"), "old"),
        ForwardingChannelLayer(OldLayer(hosts=hosts), RedisChannelLayer(hosts=hosts, prefix="site"), "new"),
    ]
    names = [await layer.new_channel() for layer in layers]
    for layer, channel in zip(layers, names, strict=True):
        await layer.group_add("room", channel)
    for number, layer in enumerate(layers):
        await layer.group_send("room", {"type": "a", "number": number})
    # One that has the old layer only cannot speak to a channel that has its name from the new one.
    for sender, channel in ((0, 0), (0, 1), (1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2)):
        await layers[sender].send(names[channel], {"type": "direct", "number": 10 + sender})
    expected = [[0, 1, 2, 10, 11, 12], [0, 1, 2, 10, 11, 12], [0, 1, 2, 11, 12]]
    for layer, channel, numbers in zip(layers, names, expected, strict=True):
        async with asyncio.timeout(20):
            heard = [(await layer.receive(channel))["number"] for _ in numbers]
        assert sorted(heard) == numbers, (channel, heard)
        try:
            async with asyncio.timeout(0.3):
                raise AssertionError(await layer.receive(channel))
        except TimeoutError:
            pass
    for layer in layers:
        await layer.flush()
    for layer in layers[1:]:
        await layer.close()


asyncio.run(check())
