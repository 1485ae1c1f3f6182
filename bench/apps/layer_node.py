"""One process of `bench/layers.py`: receives with so many members, or sends. Runs with Fairway and with channels_redis.

    layer_node.py receive|send BACKEND URL MEMBERS consumers|readers

It says `ready`, and then answers each line of its standard input with one of JSON: to `begin` with nothing in it, to
`end` with the CPU time and the deliveries since then, to `send BURSTS SENDS PAUSE` with the CPU time that sending took.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys

import uvloop
from django.conf import settings

ROLE, BACKEND, URL, MEMBERS, READING = sys.argv[1:]
GROUP = "bench"
EVENT = {"type": "bench.message", "text": "x" * 200, "number": 1, "flag": True}

settings.configure(CHANNEL_LAYERS={"default": {"BACKEND": BACKEND, "CONFIG": {"hosts": [URL]}}})

from channels.consumer import AsyncConsumer  # noqa: E402  # after the settings
from channels.layers import get_channel_layer  # noqa: E402

deliveries = 0


class Member(AsyncConsumer):
    async def bench_join(self, event):
        await self.channel_layer.group_add(GROUP, self.channel_name)
        self.scope["joined"].set_result(None)

    async def bench_message(self, event):
        global deliveries
        deliveries += 1


async def consume():
    """A consumer without a socket: its client says one thing, and then nothing."""
    loop = asyncio.get_running_loop()
    joined, silence = loop.create_future(), loop.create_future()
    events = iter([{"type": "bench.join"}])

    async def receive():
        for event in events:
            return event
        return await silence

    async def send(event):
        raise AssertionError("nothing is sent to the client")

    task = asyncio.ensure_future(Member()({"type": "bench", "joined": joined}, receive, send))
    await joined
    return task


async def read():
    """Whoever calls `receive` himself."""
    layer = get_channel_layer()
    name = await layer.new_channel()
    await layer.group_add(GROUP, name)

    async def read_on():
        global deliveries
        while True:
            await layer.receive(name)
            deliveries += 1

    return asyncio.ensure_future(read_on())


def cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def main():
    global deliveries
    layer = get_channel_layer()
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    members = []  # kept, as a server does
    if ROLE == "receive":
        members = [await (consume() if READING == "consumers" else read()) for _ in range(int(MEMBERS))]
    else:
        await layer.new_channel()  # as every process that has consumers does
        await layer.group_send("warm", EVENT)
    print("ready", flush=True)
    assert all(not member.done() for member in members)
    began = cpu()
    while line := (await lines.readline()).decode().split():
        answer = {}
        if line[0] == "begin":
            deliveries, began = 0, cpu()
        elif line[0] == "end":
            answer = {"cpu": cpu() - began, "deliveries": deliveries}
        else:
            began = cpu()
            for _ in range(int(line[1])):
                for _ in range(int(line[2])):
                    await layer.group_send(GROUP, EVENT)
                await asyncio.sleep(float(line[3]))
            answer = {"cpu": cpu() - began}
        print(json.dumps(answer), flush=True)


uvloop.run(main())
