"""A network that can fail: a TCP proxy between the code under test and a service.

async with FaultProxy(host, port) as proxy:
    ...                         # connect to proxy.host, proxy.port
    proxy.cut()                 # every connection is reset
    proxy.refusing = True       # new connections are reset, too
    proxy.silent = True         # data is discarded in both directions, as if the cable were pulled
    proxy.delay = 0.1           # seconds before each piece of data is passed on
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from types import TracebackType
from typing import cast

_PASSES = 6
"""Passes of the event loop that it takes to reset a connection that has just been accepted."""


class FaultProxy:
    """Passes on data in both directions, until one of its attributes says otherwise."""

    host = "127.0.0.1"

    def __init__(self, target_host: str, target_port: int) -> None:
        self.target = (target_host, target_port)
        self.refusing = False
        self.silent = False
        self.delay = 0.0
        self.accepted = 0
        self.reads = 0  # how many pieces of data have come, from either side
        self.port = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> FaultProxy:
        self._server = await asyncio.start_server(self._accept, self.host, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._server is not None, "the proxy runs"
        # A connection that was just accepted reaches `_accept` some passes later. If the server is closed in between,
        # asyncio leaves the connection open (CPython 3.11, `Server._attach`).
        self.refusing = True
        for listening in self._server.sockets:
            asyncio.get_running_loop().remove_reader(listening.fileno())
        for _ in range(_PASSES):
            await asyncio.sleep(0)
        self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def cut(self) -> None:
        """Reset every connection."""
        for writer in self._writers:
            _reset(writer)
        self._writers.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        if self.refusing:
            _reset(writer)
            return
        accepting = cast(asyncio.Task[None], asyncio.current_task())
        self._tasks.add(accepting)  # so that leaving the block cancels it while it still connects
        accepting.add_done_callback(self._tasks.discard)
        try:
            far_reader, far_writer = await asyncio.open_connection(*self.target)
        except OSError:
            _reset(writer)
            return
        except asyncio.CancelledError:
            _reset(writer)
            raise
        self._writers |= {writer, far_writer}
        for source, target in ((reader, far_writer), (far_reader, writer)):
            task = asyncio.get_running_loop().create_task(self._pass_on(source, target))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError):
                while data := await reader.read(65536):
                    self.reads += 1
                    if self.delay:
                        await asyncio.sleep(self.delay)
                    if not self.silent:
                        writer.write(data)
                        await writer.drain()
        finally:
            writer.transport.abort()
            self._writers.discard(writer)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close the connection with a TCP reset."""
    connection = writer.transport.get_extra_info("socket")
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
