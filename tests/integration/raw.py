"""A server to attack, and a client that sends exactly the bytes it is given."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import zlib
from dataclasses import dataclass
from typing import Any

import pytest

from fairway.server.config import Config
from fairway.server.limits import Limits
from fairway.server.listener import Server
from fairway.server.negotiation import alpn_protocols
from fairway.server.tls.files import files_of
from fairway.server.websocket.connection import WebSocketConnection
from tests.integration.gateway import Gateway

DEADLINE = 20.0
"""Seconds until a test that waits for something fails. Nothing takes that long, on however loaded a machine."""

_PATIENT = {"close_timeout": 3 * DEADLINE}
"""Limits unless a test says otherwise: what ends only because a limit is over does not end in time."""

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
HANDSHAKE = (
    b"GET /chat HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: " + KEY + b"\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, masked: bool = True) -> bytes:
    """A client's frame; the mask is random."""
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    flag = 0x80 if masked else 0
    if len(payload) < 126:
        head = bytes((first, flag | len(payload)))
    elif len(payload) < 65536:
        head = bytes((first, flag | 126)) + len(payload).to_bytes(2, "big")
    else:
        head = bytes((first, flag | 127)) + len(payload).to_bytes(8, "big")
    if not masked:
        return head + payload
    mask = os.urandom(4)
    return head + mask + bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))


@dataclass
class Response:
    status: int
    headers: dict[str, str]
    body: bytes


class Client:
    """One connection; every wait has a deadline."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def response(self) -> Response:
        """An HTTP response, with its content if it has a length."""
        async with asyncio.timeout(DEADLINE):
            head = await self.reader.readuntil(b"\r\n\r\n")
            first, *lines = head.decode("latin-1").split("\r\n")[:-2]
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
            length = int(headers.get("content-length", "0"))
            return Response(int(first.split()[1]), headers, await self.reader.readexactly(length))

    async def frame(self, deflated: bool = False) -> tuple[int, bytes]:
        """A frame of the server: opcode and payload. It is whole and unmasked, and uncompressed unless it may be
        `deflated`.
        """
        async with asyncio.timeout(DEADLINE):
            first, second = await self.reader.readexactly(2)
            assert second < 0x80, "a server must not mask"
            length = second
            if second == 126:
                length = int.from_bytes(await self.reader.readexactly(2), "big")
            elif second == 127:
                length = int.from_bytes(await self.reader.readexactly(8), "big")
            payload = await self.reader.readexactly(length)
            if deflated and first & 0x40:
                first -= 0x40
                payload = zlib.decompressobj(-zlib.MAX_WBITS).decompress(payload + b"\x00\x00\xff\xff")
            assert first & 0xF0 == 0x80
            return first & 0x0F, payload

    async def close_frame(self) -> tuple[int, str]:
        opcode, payload = await self.frame()
        assert opcode == CLOSE
        return int.from_bytes(payload[:2], "big"), payload[2:].decode()

    async def open(self, handshake: bytes = HANDSHAKE) -> None:
        """Open a WebSocket."""
        await self.send(handshake)
        assert (await self.response()).status == 101

    async def at_end(self) -> bool:
        """Whether the server ends the connection, with nothing more to say."""
        async with asyncio.timeout(DEADLINE):
            try:
                return await self.reader.read() == b""
            except ConnectionResetError:
                return True

    async def close(self) -> None:
        self.writer.close()
        try:
            async with asyncio.timeout(DEADLINE):
                await self.writer.wait_closed()
        except TimeoutError:
            self.writer.transport.abort()
        except OSError:
            pass

    def reset(self) -> None:
        """Vanish: the peer gets a reset."""
        endpoint = self.writer.get_extra_info("socket")
        endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.writer.transport.abort()


class Served:
    """A running server, its clients, and what it logged."""

    def __init__(self, server: Server, sockets: list[socket.socket], caplog: pytest.LogCaptureFixture) -> None:
        self.server = server
        self.context = server.context
        self.port = sockets[0].getsockname()[1]
        self.trust: ssl.SSLContext | None = None
        """What clients need to speak TLS; without it they speak clear text."""
        self._sockets = sockets
        self._caplog = caplog
        self.clients: list[Client] = []
        self.gateway: Gateway | None = None

    async def enter_through(self, gateway: Gateway) -> None:
        """Have clients connect to a gateway."""
        await gateway.start()
        self.gateway = gateway
        self.port = gateway.port

    async def connect(self, receive_buffer: int | None = None, at_once: bytes = b"", port: int | None = None) -> Client:
        """Connect a client; `at_once` are a few bytes that lie there before the server can accept it. `port` is that of
        a relay in between.
        """
        endpoint = socket.socket()
        if receive_buffer is not None:
            endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        endpoint.connect(("127.0.0.1", port or self.port))  # to the backlog of a socket that listens: it does not wait
        endpoint.sendall(at_once)
        endpoint.setblocking(False)
        name = "localhost" if self.trust is not None else None
        # asyncio's TLS waits for what a test has left unread, for half a minute if it may.
        patience = 0.5 if self.trust is not None else None
        client = Client(
            *await asyncio.open_connection(
                sock=endpoint, ssl=self.trust, server_hostname=name, ssl_shutdown_timeout=patience
            )
        )
        self.clients.append(client)
        return client

    @property
    def websockets(self) -> list[WebSocketConnection]:
        """Those that are there."""
        return [one for one in self.context.connections if isinstance(one, WebSocketConnection)]

    @property
    def log(self) -> list[str]:
        """Warnings and errors, without the access log."""
        return [record.getMessage() for record in self._caplog.records if record.name == "fairway.server"]

    @property
    def tracebacks(self) -> int:
        return sum(record.exc_info is not None for record in self._caplog.records)

    async def idle(self) -> None:
        """Wait until no connection and no application task is left."""
        async with asyncio.timeout(DEADLINE):
            await self.context.wait_no_connections()
            while self.context.tasks:
                await asyncio.wait(list(self.context.tasks))
                # The callbacks of the tasks run in the next pass.
                await next_pass()

    async def stop(self) -> None:
        for client in self.clients:
            await client.close()
        await self.server.stop(1.0)
        if self.gateway is not None:
            await self.gateway.stop()
        for listening in self._sockets:
            listening.close()


async def next_pass() -> None:
    await asyncio.sleep(0)


async def serve(app: Any, caplog: pytest.LogCaptureFixture, **limits: Any) -> Served:
    bounds = Limits(**{**_PATIENT, **limits})
    config = Config(port=0, limits=bounds, tls=files_of(bounds, alpn_protocols(bounds)))
    sockets = config.bind()
    server = Server(app, config)
    await server.start(sockets)
    return Served(server, sockets, caplog)
