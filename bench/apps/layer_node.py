"""One process of `bench/layers.py`: receives with so many members, or sends. Runs with Fairway and with channels_redis.

    layer_node.py receive|send|serve BACKEND URL MEMBERS consumers|readers

With `serve` there is a server in it, with so many sockets, whose clients are a process of their own; then `send` means
broadcasts.

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
TEXT = "x" * 256
EVENT = {"type": "bench.message", "text": "x" * 200, "number": 1, "flag": True}

CONFIG = {"socket": URL} if URL.startswith("/") else {"hosts": [URL]} if "://" in URL else {}
settings.configure(CHANNEL_LAYERS={"default": {"BACKEND": BACKEND, "CONFIG": CONFIG}})

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


CLIENTS = """
import selectors, socket, sys
port, count = int(sys.argv[1]), int(sys.argv[2])
request = (
    b"GET / HTTP/1.1\\r\\nHost: x\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\\r\\nSec-WebSocket-Version: 13\\r\\n\\r\\n"
)
poll = selectors.DefaultSelector()
for number in range(count):
    one = socket.create_connection(("127.0.0.1", port))
    one.sendall(request)
    assert one.recv(4096).startswith(b"HTTP/1.1 101")
    poll.register(one, selectors.EVENT_READ)
print("connected", flush=True)
while True:
    for key, _ in poll.select():
        if not key.fileobj.recv(65536):
            sys.exit()
"""


async def serve():
    """So many clients, in a process of their own, at a server in this one."""
    import socket

    from channels.generic.websocket import AsyncWebsocketConsumer
    from fairway.server.config import Config
    from fairway.server.listener import Server

    class Client(AsyncWebsocketConsumer):
        groups = [GROUP]  # noqa: RUF012

    listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
    server = Server(Client.as_asgi(), Config(access_log=False, lifespan="off"))
    await server.start([listening])
    clients = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CLIENTS, str(listening.getsockname()[1]), MEMBERS, stdout=asyncio.subprocess.PIPE
    )
    await clients.stdout.readline()
    return server, clients


def cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def main():
    global deliveries
    layer = get_channel_layer()
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    members, serving = [], None  # kept, as a server does
    if ROLE == "serve":
        serving = await serve()
    elif ROLE == "receive":
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
                    if serving is None:
                        await layer.group_send(GROUP, EVENT)
                    else:
                        await layer.group_broadcast(GROUP, TEXT)
                await asyncio.sleep(float(line[3]))
            answer = {"cpu": cpu() - began}
        print(json.dumps(answer), flush=True)
    if serving is not None:
        serving[1].kill()
        await serving[1].wait()


uvloop.run(main())
