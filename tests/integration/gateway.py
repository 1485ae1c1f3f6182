"""What a proxy does between a client of HTTP/1.1 and a server of HTTP/2, for WebSockets: so that the same client, and
the same test, reaches the server over either. The HTTP/2 is that of `h2`, which objects to whatever is not allowed.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from base64 import b64encode
from collections.abc import Iterable
from hashlib import sha1

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

GOAWAY = 7

LINGER_SECONDS = 0.2

DEADLINE = 5.0

# What HTTP/2 has no use for (RFC 9113 section 8.2.2, RFC 8441 section 5).
_DROPPED = {b"host", b"upgrade", b"connection", b"sec-websocket-key"}


class Relayed:
    """One client, and its stream. What goes to the client is acknowledged when the client has taken it."""

    def __init__(self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: bytes) -> None:
        self.number = 0
        self.room = asyncio.Event()
        self._link = link
        self._reader, self._writer = reader, writer
        self._key = key
        self._down: asyncio.Queue[bytes | None] = asyncio.Queue()

    def answered(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        fields = list(headers)
        status = fields.pop(0)[1]
        if status == b"200":
            accept = b64encode(sha1(self._key + GUID, usedforsecurity=False).digest())
            lines = [b"HTTP/1.1 101 Switching Protocols", b"upgrade: websocket", b"connection: Upgrade"]
            lines.append(b"sec-websocket-accept: " + accept)
        else:
            lines = [b"HTTP/1.1 " + status + b" Denied", b"connection: close"]
        lines += [name + b": " + value for name, value in fields]
        self._writer.write(b"\r\n".join([*lines, b"", b""]))

    def received(self, data: bytes | None) -> None:
        """Bytes for the client; None at their end."""
        self._down.put_nowait(data)

    def reset(self) -> None:
        """The client is to see a reset."""
        with contextlib.suppress(OSError):
            endpoint = self._writer.get_extra_info("socket")
            endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self._writer.transport.abort()
        self.over()

    def over(self) -> None:
        """Nothing more comes from the server, or is taken by it."""
        self._down.put_nowait(None)
        self.room.set()

    async def to_client(self) -> None:
        with contextlib.suppress(OSError, RuntimeError):  # uvloop has the latter for what is closed
            while (data := await self._down.get()) is not None:
                self._writer.write(data)
                await self._writer.drain()
                self._link.acknowledge(self.number, len(data))
            self._writer.write_eof()

    async def to_server(self) -> None:
        try:
            while data := await self._reader.read(1 << 16):
                await self._link.send(self, data)
            self._link.end(self.number)
        except ConnectionError:
            self._link.reset(self.number)
            self.over()

    async def run(self) -> None:
        """Until the server has ended its side; what the client says after that is not for it."""
        up = asyncio.ensure_future(self.to_server())
        try:
            await self.to_client()
        finally:
            up.cancel()
            await asyncio.wait([up])
            self._link.end(self.number)

    async def close(self) -> None:
        # Read on for a while: unread bytes would make a reset of it, which could destroy what was sent before.
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(LINGER_SECONDS):
                while await self._reader.read(1 << 16):
                    pass
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


class Link:
    """A connection to the server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        config = h2.config.H2Configuration(client_side=True, header_encoding=None, validate_outbound_headers=False)
        self._h2 = h2.connection.H2Connection(config)
        self._h2.initiate_connection()
        # The connection's window is not what is tried out here: only that of the stream.
        self._h2.increment_flow_control_window(1 << 24)
        self._relayed: dict[int, Relayed] = {}
        self._greeted = asyncio.Event()
        self.is_over = False
        self._flush()
        self.reading = asyncio.ensure_future(self._read())

    @property
    def is_full(self) -> bool:
        return len(self._relayed) >= self._h2.remote_settings.max_concurrent_streams

    @property
    def is_idle(self) -> bool:
        return not self._relayed

    async def open(self, relayed: Relayed, path: bytes, host: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        self._relayed[0] = relayed  # until it has a number
        await self._greeted.wait()
        if self.is_over:
            raise ConnectionResetError
        assert self._h2.remote_settings.get(h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL) == 1
        number = self._h2.get_next_available_stream_id()
        pseudo = [
            (b":method", b"CONNECT"),
            (b":protocol", b"websocket"),
            (b":scheme", b"http"),
            (b":path", path),
            (b":authority", host),
        ]
        self._h2.send_headers(number, pseudo + headers)
        relayed.number = number
        self._relayed.pop(0, None)
        self._relayed[number] = relayed
        self._flush()

    async def send(self, relayed: Relayed, data: bytes) -> None:
        view = memoryview(data)
        while view and relayed.number in self._relayed:
            try:
                room = min(self._h2.local_flow_control_window(relayed.number), self._h2.max_outbound_frame_size)
                if room > 0:
                    self._h2.send_data(relayed.number, bytes(view[:room]))
            except h2.exceptions.ProtocolError:
                return
            view = view[max(room, 0) :]
            self._flush()
            if room <= 0:
                relayed.room.clear()
                await relayed.room.wait()
        await self._writer.drain()

    def end(self, number: int) -> None:
        with contextlib.suppress(h2.exceptions.ProtocolError):
            self._h2.end_stream(number)
        self._flush()

    def reset(self, number: int) -> None:
        with contextlib.suppress(h2.exceptions.ProtocolError):
            self._h2.reset_stream(number, h2.errors.ErrorCodes.CANCEL)
        self._flush()

    def acknowledge(self, number: int, size: int) -> None:
        with contextlib.suppress(h2.exceptions.ProtocolError):
            self._h2.acknowledge_received_data(size, number)
        self._flush()

    def leave(self, relayed: Relayed) -> None:
        self._relayed.pop(relayed.number, None)

    def _flush(self) -> None:
        if data := self._h2.data_to_send():
            self._writer.write(data)

    async def _read(self) -> None:
        try:
            while True:
                head = await self._reader.readexactly(9)
                content = await self._reader.readexactly(int.from_bytes(head[:3], "big"))
                if head[3] == GOAWAY:
                    continue  # it would take everything that follows for a fault, although streams that are open go on
                for event in self._h2.receive_data(head + content):
                    self._take(event)
                self._flush()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.is_over = True
            self._greeted.set()
            for relayed in list(self._relayed.values()):
                relayed.reset()

    def _take(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.RemoteSettingsChanged):
            self._greeted.set()
        if isinstance(event, h2.events.RemoteSettingsChanged | h2.events.WindowUpdated):
            for relayed in self._relayed.values():
                relayed.room.set()
        relayed = self._relayed.get(getattr(event, "stream_id", None) or -1)  # type: ignore[assignment]
        if relayed is None:
            if isinstance(event, h2.events.DataReceived):
                self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.ResponseReceived):
            relayed.answered(event.headers)  # type: ignore[arg-type]
        elif isinstance(event, h2.events.DataReceived):
            assert event.flow_controlled_length == len(event.data), "padding"
            relayed.received(event.data)
        elif isinstance(event, h2.events.StreamEnded):
            relayed.received(None)
        elif isinstance(event, h2.events.StreamReset):
            if event.error_code == h2.errors.ErrorCodes.NO_ERROR:
                relayed.over()
            else:
                relayed.reset()
            self.leave(relayed)

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()
        await asyncio.wait([self.reading])


class Gateway:
    """Listens on `port`. `shares`: all clients that are there at the same time use one connection to the server."""

    def __init__(self, server_port: int, shares: bool) -> None:
        self._server_port = server_port
        self._shares = shares
        self._shared: Link | None = None
        self._opening = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        # It keeps next to nothing of its own: a client that does not read is felt at the server.
        endpoint = socket.create_server(("127.0.0.1", 0), backlog=1024)
        endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
        self._server = await asyncio.start_server(self._accept, sock=endpoint)
        self.port: int = self._server.sockets[0].getsockname()[1]

    async def _link(self) -> Link:
        async with self._opening:
            link = self._shared
            if link is None or link.is_over or link.is_full or not self._shares:
                link = self._shared = Link(*await asyncio.open_connection("127.0.0.1", self._server_port))
            return link

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.set_write_buffer_limits(high=0)
        # A task of our own: the one of `start_server` logs what its client has done.
        task = asyncio.ensure_future(self._relay(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.transport.abort()
            return
        first, *lines = head[:-4].split(b"\r\n")
        fields = [(name.lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines)]
        named = dict(fields)
        link = await self._link()
        relayed = Relayed(link, reader, writer, named[b"sec-websocket-key"])
        headers = [field for field in fields if field[0] not in _DROPPED]
        try:
            await link.open(relayed, first.split()[1], named[b"host"], headers)
            await relayed.run()
        except ConnectionError:
            relayed.reset()
        finally:
            link.leave(relayed)
            if link.is_idle:
                if link is self._shared:
                    self._shared = None
                await link.close()
            await relayed.close()

    async def stop(self) -> None:
        """Return when all have left: the clients and the server have gone before."""
        self._server.close()
        if self._tasks:
            _, late = await asyncio.wait(list(self._tasks), timeout=DEADLINE)
            assert not late, late
