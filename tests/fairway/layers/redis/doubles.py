"""A Redis that says what a test tells it to, and the owner of a link."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from fairway.layers.backplane import BackplaneStatistics
from fairway.layers.redis.link import Link, ReplyError


class FakeTransport(asyncio.Transport):
    """Keeps what is written, write by write."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.is_reading = True
        self.is_aborted = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def pause_reading(self) -> None:
        self.is_reading = False

    def resume_reading(self) -> None:
        self.is_reading = True

    def abort(self) -> None:
        self.is_aborted = True

    def is_closing(self) -> bool:
        return self.is_aborted


class FakeOwner:
    """Keeps what a link tells."""

    def __init__(self) -> None:
        self.statistics = BackplaneStatistics()
        self.longest_reply = 100_000
        self.messages: list[tuple[bytes, bytes]] = []
        self.errors: list[ReplyError] = []
        self.losses: list[Exception] = []
        self.gate: Callable[[], Awaitable[None] | None] = lambda: None

    def pushed(self, name: bytes, data: bytes) -> Awaitable[None] | None:
        self.messages.append((name, data))
        return self.gate()

    def failed(self, error: ReplyError) -> None:
        self.errors.append(error)

    def lost(self, link: Link, error: Exception) -> None:
        self.losses.append(error)


def new_link() -> tuple[Link, FakeTransport, FakeOwner]:
    owner, transport = FakeOwner(), FakeTransport()
    link = Link(owner)
    link.connection_made(transport)
    return link, transport, owner


def message(name: bytes, data: bytes) -> bytes:
    """The push of a message, as Redis writes it."""
    return b">3\r\n$7\r\nmessage\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n" % (len(name), name, len(data), data)


def acknowledgement(kind: bytes, name: bytes, count: int) -> bytes:
    return b">3\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n:%d\r\n" % (len(kind), kind, len(name), name, count)
