"""Brokers in the event loop of a test, and clients that speak the protocol by hand."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator

from fairway.layers.local import protocol
from fairway.layers.local.broker import Broker
from fairway.layers.local.place import Place
from fairway.layers.local.protocol import Answer, Decoder
from fairway.layers.local.starting import Claim, claim
from fairway.testing.backplane_contract import DEADLINE


class Running:
    """A broker in this event loop."""

    def __init__(self, place: Place, claimed: Claim, **options: float) -> None:
        self.broker = Broker(place, claimed.heritage, **options)  # type: ignore[arg-type]
        self.claimed = claimed
        self.task = asyncio.ensure_future(self.broker.serve(claimed.listen()))

    async def ended(self) -> None:
        async with asyncio.timeout(DEADLINE):
            await self.task
        self.claimed.release()


@contextlib.asynccontextmanager
async def running(place: Place, version: int = protocol.VERSION, **options: float) -> AsyncIterator[Running]:
    claimed = await asyncio.to_thread(claim, place, version)
    assert claimed is not None, "nobody else is there"
    it = Running(place, claimed, version=version, **options)
    try:
        yield it
    finally:
        it.broker.stop()
        await it.ended()


class Client:
    """Speaks the protocol by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.decoder = Decoder(Answer)
        self.frames: list[tuple[Answer, str, bytes]] = []

    @classmethod
    async def connected(cls, place: Place) -> Client:
        return cls(*await asyncio.open_unix_connection(place.path))

    async def says(self, *frames: bytes) -> None:
        self.writer.write(b"".join(frames))
        await self.writer.drain()

    async def hears(self) -> tuple[Answer, str, bytes] | None:
        """The next frame; None at the end."""
        async with asyncio.timeout(DEADLINE):
            while not self.frames:
                data = await self.reader.read(65536)
                if not data:
                    return None
                self.frames += self.decoder.feed(data)
        return self.frames.pop(0)

    async def refusal(self) -> str:
        heard = await self.hears()
        assert heard is not None, "it says why"
        assert heard[0] is Answer.REFUSED
        assert await self.hears() is None, "and that is the end"
        return protocol.read_refused(heard[2])

    async def greeted(self, prefix: str = "suite") -> Client:
        await self.says(protocol.hello(prefix))
        heard = await self.hears()
        assert heard is not None, "it answers"
        assert heard[0] is Answer.WELCOME
        assert protocol.read_welcome(heard[2]) == (protocol.VERSION, os.getpid())
        return self

    async def close(self) -> None:
        self.writer.close()
        await self.writer.wait_closed()


@contextlib.asynccontextmanager
async def client(place: Place) -> AsyncIterator[Client]:
    one = await Client.connected(place)
    try:
        yield one
    finally:
        with contextlib.suppress(OSError):
            await one.close()
