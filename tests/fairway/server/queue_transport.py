"""A connection in memory: two queues, and a transport at our end of them."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any


class QueueTransport:
    """Our end of a connection whose two directions are queues; the methods after `abort` are the peer's.

    `room` is how many bytes the way to the peer holds before it has taken any; what is beyond that stays in here.
    """

    def __init__(self, room: int = 1 << 40) -> None:
        self.to_peer: deque[bytes] = deque()
        self.to_us: deque[bytes | None] = deque()
        self.room = room
        self.held = b""
        self.protocol: Any = None
        self.reading = True
        self.ended = self.closing = self.aborted = self.gone = False

    def set_protocol(self, protocol: Any, /) -> None:
        self.protocol = protocol

    def get_extra_info(self, name: str, default: Any = None, /) -> Any:
        return default

    def write(self, data: bytes | memoryview, /) -> None:
        if self.closing:
            return
        assert not self.held, "it was asked not to write more"
        assert not self.ended, "its side has been ended"
        self.held = bytes(data)
        self._pump()
        if self.held:
            self.protocol.pause_writing()

    def _pump(self) -> None:
        sent, self.held = self.held[: self.room], self.held[self.room :]
        self.room -= len(sent)
        if sent:
            self.to_peer.append(sent)

    def get_write_buffer_size(self) -> int:
        return len(self.held)

    def set_write_buffer_limits(self, high: int) -> None:
        assert high == 0

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True
        self._receive()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = self.ended = True
        if not self.held:
            self._lose()

    def abort(self) -> None:
        self.closing = self.aborted = True
        self.held = b""
        self._lose()

    def _lose(self) -> None:
        if not self.gone:
            self.gone = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    def send(self, data: bytes) -> None:
        self.to_us.append(data)
        self._receive()

    def end(self) -> None:
        """The peer says nothing more."""
        self.to_us.append(None)
        self._receive()

    def _receive(self) -> None:
        while self.to_us and self.reading and not self.closing:
            data = self.to_us.popleft()
            self.protocol.eof_received() if data is None else self.protocol.data_received(data)

    def take(self, size: int = 1 << 40) -> bytes:
        """The peer takes up to so many bytes that have arrived; as many more find room."""
        arrived = b"".join(self.to_peer)
        taken = arrived[:size]
        self.to_peer = deque([arrived[size:]] if arrived[size:] else [])
        self.room += len(taken)
        had = bool(self.held)
        self._pump()
        if had and not self.held:
            if self.closing:
                self._lose()
            else:
                self.protocol.resume_writing()
        return taken

    def take_all(self) -> bytes:
        taken = b""
        while data := self.take():
            taken += data
        return taken
