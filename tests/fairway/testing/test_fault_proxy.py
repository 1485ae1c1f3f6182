"""A network that can fail: each of the ways in which it does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from fairway.testing.fault_proxy import FaultProxy

DEADLINE = 10.0


@pytest.fixture
async def proxy() -> AsyncIterator[FaultProxy]:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server, FaultProxy(*server.sockets[0].getsockname()) as proxy:
        yield proxy


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    writer.write(b"hello")
    async with asyncio.timeout(DEADLINE):
        return await reader.read(100)


async def test_it_passes_on_what_comes(proxy: FaultProxy) -> None:
    reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
    assert await ask(reader, writer) == b"hello"
    assert (proxy.accepted, proxy.reads) == (1, 2)
    writer.close()


async def test_cut_resets_what_is_open(proxy: FaultProxy) -> None:
    reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
    await ask(reader, writer)
    proxy.cut()
    with pytest.raises(ConnectionResetError):
        await reader.read(100)
    writer.close()


async def test_refusing_resets_what_is_new(proxy: FaultProxy) -> None:
    proxy.refusing = True
    reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
    with pytest.raises(ConnectionResetError):
        await reader.read(100)
    writer.close()


async def test_silent_swallows_everything(proxy: FaultProxy) -> None:
    reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
    proxy.silent = True
    writer.write(b"lost")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await reader.read(100)
    proxy.silent = False
    assert await ask(reader, writer) == b"hello"
    writer.close()


async def test_delay_keeps_the_order_and_takes_its_time(proxy: FaultProxy) -> None:
    reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
    proxy.delay = 0.05
    began = asyncio.get_running_loop().time()
    assert await ask(reader, writer) == b"hello"
    assert asyncio.get_running_loop().time() - began >= 0.1
    writer.close()


async def test_a_target_that_is_away_is_a_reset() -> None:
    async with FaultProxy("127.0.0.1", 1) as proxy:
        reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
        with pytest.raises(ConnectionResetError):
            await reader.read(100)
        writer.close()
