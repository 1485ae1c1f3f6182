"""What a cron job does: `python -m chat.announce <room> <times>` sends through the layer from synchronous code.

Prints, as JSON, how many connections Redis had after each message, its own probe not counted.
"""

import json
import sys
import threading

import django
import redis
from asgiref.sync import async_to_sync
from django.conf import settings

django.setup()

from channels.layers import get_channel_layer


def announce(room, times):
    (address,) = settings.CHANNEL_LAYERS["default"]["CONFIG"]["hosts"]
    counts = []
    with redis.Redis(*address) as probe:
        me = probe.client_id()
        for number in range(times):
            async_to_sync(get_channel_layer().group_send)(room, {"type": "chat.message", "text": f"number {number}"})
            counts.append(sum(int(client["id"]) != me for client in probe.client_list()))
    print(json.dumps(counts))


if __name__ == "__main__":
    room, times = sys.argv[1:]
    thread = threading.Thread(target=announce, args=(room, int(times)))
    thread.start()
    thread.join()
