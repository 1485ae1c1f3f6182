"""A server's end of an HTTP/2 connection over two queues, and a client that makes its frames by hand."""

from __future__ import annotations

import asyncio
from typing import Any

import hpack
from tests.fairway.server.queue_transport import QueueTransport

from fairway.server.access import AccessLog
from fairway.server.config import Config
from fairway.server.context import ServerContext
from fairway.server.http2.connection import Http2Connection
from fairway.server.limits import Limits

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, END_HEADERS = 1, 4
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def window(stream: int, increment: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream, increment.to_bytes(4, "big"))


def ask(stream: int, method: bytes = b"GET", path: bytes = b"/", ended: bool = True) -> bytes:
    fields = [(b":method", method), (b":scheme", b"http"), (b":authority", b"a"), (b":path", path)]
    block = hpack.Encoder().encode([hpack.NeverIndexedHeaderTuple(*field) for field in fields])
    return frame(HEADERS, END_HEADERS | ended, stream, block)


def frames_of(data: bytes) -> list[tuple[int, int, int, bytes]]:
    """Kind, flags, stream and payload of each."""
    found = []
    while data:
        end = 9 + int.from_bytes(data[:3], "big")
        found.append((data[3], data[4], int.from_bytes(data[5:9], "big"), data[9:end]))
        data = data[end:]
    return found


class Line:
    """A client has begun, with this as the first window of its streams, and everything was acknowledged."""

    def __init__(
        self,
        app: Any,
        first_window: int = 65535,
        room: int = 1 << 40,
        context: ServerContext | None = None,
        **limits: Any,
    ) -> None:
        config = Config(limits=Limits(**limits))
        self.context = context or ServerContext(app, config, asyncio.get_running_loop(), AccessLog(False))
        self.transport = QueueTransport(room)
        self.connection = Http2Connection(self.context)
        self.transport.set_protocol(self.connection)
        self.connection.connection_made(self.transport)  # type: ignore[arg-type]
        setting = b"\0\4" + first_window.to_bytes(4, "big")
        self.transport.send(PREFACE + frame(SETTINGS, 0, 0, setting) + frame(SETTINGS, 1))
        self.context.batch.flush_dirty()
        self.greeting = self.take()

    def send(self, data: bytes) -> None:
        self.transport.send(data)

    @property
    def writes(self) -> int:
        """How many writes have arrived and were not taken."""
        return len(self.transport.to_peer)

    def take(self) -> list[tuple[int, int, int, bytes]]:
        return frames_of(self.transport.take_all())

    async def close(self) -> None:
        self.connection.abort()
        await passes()
        for task in self.context.tasks:
            task.cancel()
        await passes()
        self.context.close()


async def passes(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)
