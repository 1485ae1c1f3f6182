"""A process without an event loop for `bench/layers.py --scenario sync`: it sends as a WSGI worker does.

    sync_sender.py sync|async_to_sync BACKEND URL

It says `ready`, and then answers each line of its standard input, `send COUNT`, with a line of JSON: the CPU time that
this took, of all its threads.
"""

from __future__ import annotations

import json
import resource
import sys

from django.conf import settings

WAY, BACKEND, URL = sys.argv[1:]
GROUP = "bench"
EVENT = {"type": "bench.message", "text": "x" * 200, "number": 1, "flag": True}

CONFIG = {"socket": URL} if URL.startswith("/") else {"hosts": [URL]}
settings.configure(CHANNEL_LAYERS={"default": {"BACKEND": BACKEND, "CONFIG": CONFIG}})

if WAY == "sync":
    from fairway.layers.sync import group_send
else:
    from asgiref.sync import async_to_sync

    from channels.layers import get_channel_layer

    group_send = async_to_sync(get_channel_layer().group_send)


def cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


group_send(GROUP, EVENT)
print("ready", flush=True)
for line in sys.stdin:
    count = int(line.split()[1])
    began = cpu()
    for _ in range(count):
        group_send(GROUP, EVENT)
    print(json.dumps({"cpu": cpu() - began}), flush=True)
