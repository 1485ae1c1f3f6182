"""Trips of messages through the source, recorded: which modules they touch, and how often they change module.

    python bench/trips.py [SRC] [--print]

A server and its clients run in this process, on the loop of asyncio. While a message travels, every Python call into
`fairway` and `channels` is noted; calls of the timing wheel are left out. SRC is `src` by default; give that of
another checkout to compare. With `--print` the trips are printed call by call.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path
from types import FrameType
from typing import Any

KEY = b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
UPGRADE = b"GET /%s HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" + KEY + b"\r\n"


def frame(text: bytes) -> bytes:
    return bytes((0x81, 0x80 | len(text))) + bytes(4) + text


class Recorder:
    """Notes calls between `start` and `stop`: (module, function), in order."""

    def __init__(self, source: Path) -> None:
        self._prefix = f"{source}/"
        self.calls: list[tuple[str, str]] = []

    def _note(self, frame: FrameType, event: str, argument: object) -> None:
        name = frame.f_code.co_filename
        if event == "call" and name.startswith(self._prefix) and "wheel" not in name:
            self.calls.append((name.removeprefix(self._prefix).removesuffix(".py"), frame.f_code.co_name))

    def start(self) -> None:
        self.calls = []
        sys.setprofile(self._note)

    def stop(self) -> None:
        sys.setprofile(None)

    @property
    def modules(self) -> list[str]:
        """The modules visited, one entry for each change."""
        return [module for module, _ in groupby(module for module, _ in self.calls)]


async def main(options: argparse.Namespace) -> None:
    import django
    from django.conf import settings

    settings.configure(CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}})
    django.setup()
    from channels.generic.websocket import AsyncWebsocketConsumer
    from channels.layers import get_channel_layer
    from fairway.server.config import Config
    from fairway.server.listener import Server

    class Room(AsyncWebsocketConsumer):
        groups = ("room",)

        async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
            if text_data == "echo":
                await self.send(text_data)
            else:
                await self.channel_layer.group_send("room", {"type": "hear", "text": text_data})

        async def hear(self, event: dict[str, Any]) -> None:
            await self.send(event["text"])

    room = Room.as_asgi()

    async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
            await send({"type": "http.response.body", "body": b"ok"})
        elif scope["type"] == "websocket":
            await room(scope, receive, send)

    recorder = Recorder(options.source)
    listening = socket.create_server(("127.0.0.1", 0))
    server = Server(application, Config(lifespan="off"))
    await server.start([listening])
    try:
        layer = get_channel_layer()

        async def broadcast() -> None:
            await layer.group_broadcast("room", "hello")

        for name, count, speak in (
            ("an echo", 1, b"echo"),
            ("group_send to 4 handlers", 4, b"hello"),
            ("a broadcast to 4", 4, broadcast),
            ("a broadcast to 44", 44, broadcast),
        ):
            await record(recorder, name, options, lambda: trip(listening, recorder, count, speak))  # noqa: B023
        await record(recorder, "a plain 200", options, lambda: request(listening, recorder))
    finally:
        await server.stop(1)
        listening.close()


async def record(
    recorder: Recorder, name: str, options: argparse.Namespace, travel: Callable[[], Awaitable[None]]
) -> None:
    await travel()
    print(
        f"{name:<26}{len(recorder.calls):4} calls, {len(set(recorder.modules)):3} modules,"
        f"{len(recorder.modules) - 1:4} changes of module"
    )
    if options.print:
        for module, calls in groupby(recorder.calls, key=lambda call: call[0]):
            print(f"    {module:<40}{' '.join(function for _, function in calls)}")


async def trip(
    listening: socket.socket, recorder: Recorder, count: int, speak: bytes | Callable[[], Awaitable[None]]
) -> None:
    """Open so many members; let one speak, or somebody else, twice; record the second time, until all have heard."""
    with ExitStack() as stack:
        clients = [await connected(stack, listening) for _ in range(count)]
        for client in clients:
            await asyncio.get_running_loop().sock_sendall(client, UPGRADE % b"room")
            await received(client, b"\r\n\r\n")
        for is_recorded in (False, True):
            if is_recorded:
                recorder.start()
            if isinstance(speak, bytes):
                clients[0].send(frame(speak))
            else:
                await speak()
            for client in clients:
                await received(client, b"echo" if speak == b"echo" else b"hello")
            recorder.stop()


async def request(listening: socket.socket, recorder: Recorder) -> None:
    with ExitStack() as stack:
        client = await connected(stack, listening)
        for is_recorded in (False, True):
            if is_recorded:
                recorder.start()
            client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await received(client, b"\r\n\r\nok")
            recorder.stop()


async def connected(stack: ExitStack, listening: socket.socket) -> socket.socket:
    client = stack.enter_context(socket.socket())
    client.setblocking(False)
    await asyncio.get_running_loop().sock_connect(client, listening.getsockname())
    return client


async def received(client: socket.socket, end: bytes) -> None:
    data = b""
    while not data.endswith(end):
        piece = await asyncio.get_running_loop().sock_recv(client, 65536)
        if not piece:
            raise SystemExit(f"the server closed after {data!r}")
        data += piece


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, nargs="?", default=Path(__file__).parents[1] / "src")
    parser.add_argument("--print", action="store_true", help="the calls")
    arguments = parser.parse_args()
    arguments.source = arguments.source.resolve()
    sys.path.insert(0, str(arguments.source))
    asyncio.run(main(arguments))
