"""What tests of `fairway.delivery` stand in for: a source of messages, a connection, an encoder."""

from __future__ import annotations

import asyncio

import pytest
from tests.fairway.loops import passes

from fairway.delivery import Connection


class Encoding:
    def __init__(self):
        self.calls = 0

    def encode_text(self, text):
        self.calls += 1
        return b"t" + text.encode()

    def encode_bytes(self, data):
        self.calls += 1
        return b"b" + data


class FakeSource:
    """A source that counts what the inbox tells it."""

    def __init__(self):
        self.resumed = 0
        self.parked = 0

    def resume_reading(self):
        self.resumed += 1

    def parking(self):
        self.parked += 1


class FakeConnection(Connection):
    def __init__(self):
        self.is_open = True
        self.written = []

    async def receive(self):
        return {"type": "websocket.disconnect"}

    async def send(self, message):
        self.written.append(message)

    def broadcast(self, payload):
        self.written.append(payload)


def take_all(inbox):
    items = []
    while (item := inbox.take_nowait()) is not None:
        items.append(item)
    return items


async def waiting(inbox):
    """A task that waits in `get`."""
    task = asyncio.ensure_future(inbox.get())
    await passes()
    assert inbox.parked
    return task


async def end(task):
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
