"""A crowd of simulated visitors. They are real WebSocket connections to this very server, opened by a task inside it.

It is bounded: one crowd at a time in a process, as many visitors as the settings allow, for some seconds.
"""

from __future__ import annotations

import asyncio
import base64
import os
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any
from urllib.parse import urlencode

from django.core.signing import BadSignature, TimestampSigner

from speed.logs import PATH, crowd_left

SECONDS = 10  # how long a crowd stays

_signer = TimestampSigner(salt="speed.visitor")
_CLOSE = b"\x88\x80" + bytes(4)  # a close frame as clients send it: masked, here with zeros

Tell = Callable[[dict[str, Any]], Awaitable[None]]


def ticket() -> str:
    """Lets a visitor in, in whichever process of the site it arrives."""
    return _signer.sign("crowd")


def is_ticket(text: str) -> bool:
    with suppress(BadSignature):
        return _signer.unsign(text, max_age=2 * SECONDS) == "crowd"
    return False


class Visitor(asyncio.Protocol):
    """Asks for a WebSocket, and from then on only counts what arrives."""

    def __init__(self, crowd: Crowd) -> None:
        self.crowd = crowd

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.crowd.connected.add(self)
        transport.write(request())

    def data_received(self, data: bytes) -> None:
        if self not in self.crowd.visitors:
            if not data.startswith(b"HTTP/1.1 101 "):
                self.transport.close()
                return
            self.crowd.visitors.add(self)
            self.crowd.came += 1
        # Each message is a JSON object with no other in it. So it has one brace, wherever the network cuts the bytes.
        self.crowd.arrived += data.count(b"{")

    def connection_lost(self, error: Exception | None) -> None:
        self.crowd.connected.discard(self)
        self.crowd.visitors.discard(self)

    def leave(self) -> None:
        self.transport.write(_CLOSE)
        self.transport.close()


def request() -> bytes:
    lines = [
        f"GET {PATH}?{urlencode({'ticket': ticket()})} HTTP/1.1",
        "Host: localhost",
        "Origin: http://localhost",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}",
    ]
    return "\r\n".join([*lines, "", ""]).encode()


class Crowd:
    """The visitors of this process. `came` counts those that were let in, `arrived` the messages they have received."""

    def __init__(self) -> None:
        self.connected: set[Visitor] = set()  # whether they were let in or not
        self.visitors: set[Visitor] = set()
        self.came = 0
        self.arrived = 0
        self._task: asyncio.Task[None] | None = None

    @property
    def is_here(self) -> bool:
        return self._task is not None and not self._task.done()

    def come(self, count: int, host: str, port: int, is_tls: bool, tell: Tell) -> None:
        """Call it only when no crowd is here. `tell` is called once a second with what has happened in it."""
        self._task = asyncio.create_task(self._stay(count, host, port, is_tls, tell))

    async def _stay(self, count: int, host: str, port: int, is_tls: bool, tell: Tell) -> None:
        loop = asyncio.get_running_loop()
        # They talk to their own process, whose certificate may be for any name.
        context = ssl._create_unverified_context() if is_tls else None
        self.came = 0
        try:
            end = loop.time() + SECONDS
            # As many as have come in time; the server may have a limit of its own.
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout_at(end):
                    for _ in range(count):
                        await loop.create_connection(partial(Visitor, self), host, port, ssl=context)
            before, at = self.arrived, loop.time()
            while loop.time() < end:
                await asyncio.sleep(1)
                arrived, now = self.arrived, loop.time()
                rate = round((arrived - before) / (now - at))
                await tell({"type": "crowd", "visitors": len(self.visitors), "deliveries": rate, "left": end - now})
                before, at = arrived, now
        finally:
            for visitor in list(self.connected):
                visitor.leave()
            crowd_left(self.came)
            await tell({"type": "crowd", "visitors": 0, "deliveries": 0, "left": 0})


crowd = Crowd()
