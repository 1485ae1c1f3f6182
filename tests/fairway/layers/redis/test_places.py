"""Places that are not simply a host and a port: behind TLS, a Unix socket, the master that Sentinels name."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import trustme
from tests.fairway.layers.redis.test_backplane import Processes
from tests.services.redis import RedisServer, free_port
from tests.services.sentinel import Watched, watched

from fairway.layers.backplane import Unavailable
from fairway.testing.backplane_contract import DEADLINE


@pytest.fixture
async def processes() -> AsyncIterator[Processes]:
    those = Processes()
    yield those
    for process in those.started:
        await process.backplane.close()


# TLS ----------------------------------------------------------------------------------------------------------


@pytest.fixture
async def behind_tls(redis: RedisServer) -> AsyncIterator[tuple[int, trustme.CA]]:
    """A port at which TLS is spoken before Redis is."""
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    tasks: set[asyncio.Task[None]] = set()

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
        writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(*redis.address)
        for ends in ((reader, far_writer), (far_reader, writer)):
            tasks.add(asyncio.get_running_loop().create_task(pass_on(*ends)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context)
    yield server.sockets[0].getsockname()[1], authority
    server.close()
    if tasks:
        await asyncio.wait(tasks, timeout=DEADLINE)


async def test_a_server_with_a_certificate_that_is_trusted_is_used(
    behind_tls: tuple[int, trustme.CA], processes: Processes, tmp_path: Path
) -> None:
    port, authority = behind_tls
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    process = processes.start(f"rediss://localhost:{port}?ssl_ca_certs={tmp_path / 'ca.pem'}")
    await process.backplane.subscribe(["g.room"])
    process.backplane.post("g.room", b"x" * 300_000)
    assert await process.events.received(1) == [("g.room", b"x" * 300_000)]
    await process.backplane.close()


@pytest.mark.slow
@pytest.mark.parametrize("query", ["", "?ssl_ca_certs={ca}&ssl_check_hostname=true"], ids=["unknown", "other name"])
async def test_a_server_with_another_certificate_is_not(
    behind_tls: tuple[int, trustme.CA], processes: Processes, tmp_path: Path, query: str
) -> None:
    port, authority = behind_tls
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    host = "127.0.0.1" if query else "localhost"
    process = processes.start(f"rediss://{host}:{port}{query.format(ca=tmp_path / 'ca.pem')}", answer_timeout=1.0)
    with pytest.raises(Unavailable, match="certificate verify failed"):
        await process.backplane.publish("g.room", b"")
    await process.backplane.close()


# Sentinel -----------------------------------------------------------------------------------------------------


@pytest.fixture
def pair() -> Iterator[Watched]:
    with watched() as pair:
        yield pair


@pytest.mark.slow
async def test_the_master_that_the_sentinels_name_is_used_and_its_successor(
    pair: Watched, processes: Processes
) -> None:
    master, replica = pair.master, pair.replica
    sentinels = [("127.0.0.1", free_port()), pair.sentinel.address]  # nobody is at the first
    hosts = {**pair.hosts, "sentinels": sentinels}
    sender, other = processes.start(hosts), processes.start(hosts)
    await other.backplane.subscribe(["g.room"])
    await sender.backplane.publish("g.room", b"before")
    assert await other.events.received(1) == [("g.room", b"before")]

    await asyncio.to_thread(master.kill)
    for process in (sender, other):
        await process.events.until(process.is_up_again)
    await sender.backplane.publish("g.room", b"after")
    assert await other.events.received(2) == [("g.room", b"before"), ("g.room", b"after")]
    with replica.client() as client:
        assert client.role()[0] == "master"
    await asyncio.to_thread(master.restart)
    for process in (sender, other):
        await process.backplane.close()


async def test_a_master_that_no_sentinel_knows_is_said_to_be_away(redis: RedisServer, processes: Processes) -> None:
    hosts = {"sentinels": [("127.0.0.1", free_port())], "master_name": "main"}
    process = processes.start(hosts, answer_timeout=0.5)
    with pytest.raises(Unavailable, match=r"is away: no Sentinel names the master main \(127\.0\.0\.1:\d+: "):
        await process.backplane.publish("g.room", b"")
    await process.backplane.close()
