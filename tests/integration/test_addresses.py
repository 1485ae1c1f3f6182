"""Too many connections of one address: in clear, over TLS, behind proxies of both kinds, and over HTTP/2."""

from __future__ import annotations

import asyncio
import contextlib
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from fairway.server.config import Config
from fairway.server.limits import Limits
from fairway.server.listener import Server
from fairway.server.tls.files import files_of
from tests.fairway.server.tls import certificates
from tests.integration import http2
from tests.integration.applications import Recorder, answer
from tests.integration.conftest import Start, in_clear_and_over_tls
from tests.integration.raw import DEADLINE, HANDSHAKE, Client, Served, next_pass

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
LOOPBACK = (ip_network("127.0.0.0/8"),)
TOLD = "127.0.0.1:%d -: more than 2 connections of this address: %s"


def name_of(client: Client) -> int:
    port: int = client.writer.get_extra_info("sockname")[1]
    return port


async def places_are_free(served: Served) -> None:
    assert served.context.admission.addresses is not None
    async with asyncio.timeout(DEADLINE):
        while len(served.context.admission.addresses):
            await next_pass()


async def test_one_too_many_is_answered_429_and_as_many_again_are_closed(start: Start) -> None:
    served = await start(Recorder(answer), max_connections_per_address=2)
    first, second = [await served.connect() for _ in range(2)]
    await first.open()
    await second.send(GET)
    assert (await second.response()).status == 200
    told = [await served.connect() for _ in range(2)]
    for client in told:
        await client.send(GET)
        response = await client.response()
        assert (response.status, response.headers["retry-after"]) == (429, "10")
        assert response.body == b"too many connections of this address\n"
        assert await client.at_end()
    closed = await served.connect()
    assert await closed.at_end()
    assert served.log == [
        *(TOLD % (name_of(client), "429") for client in told), TOLD % (name_of(closed), "closed"),
    ]  # fmt: skip
    counters = served.context.counters
    assert (counters.address_refusals, counters.refused, counters.connections) == (3, 0, 2)

    # One goes, and another may come, although those that were refused have not left.
    await second.close()
    async with asyncio.timeout(DEADLINE):
        while len(served.context.connections) - served.context.admission.refusing > 1:
            await next_pass()
    client = await served.connect()
    await client.send(GET)
    assert (await client.response()).status == 200
    for client in served.clients:
        await client.close()
    await served.idle()
    assert served.context.admission.refusing == 0
    await places_are_free(served)


@pytest.mark.slow
async def test_who_is_refused_and_never_leaves_or_never_stops_talking_is_cut(start: Start) -> None:
    served = await start(Recorder(answer), max_connections_per_address=1, close_timeout=0.3)
    holder = await served.connect()
    await holder.open()
    silent = await served.connect()
    await silent.send(GET)
    assert (await silent.response()).status == 429
    await served_only(served, 1)
    loud = await served.connect()
    assert (await loud.response()).status == 429
    with contextlib.suppress(OSError):
        async with asyncio.timeout(DEADLINE):
            while True:
                await loud.send(bytes(65536))
    await served_only(served, 1)
    assert served.tracebacks == 0


async def served_only(served: Served, count: int) -> None:
    async with asyncio.timeout(DEADLINE):
        while len(served.context.connections) > count:
            await next_pass()


@in_clear_and_over_tls
async def test_a_storm_from_one_address_leaves_nothing_behind(start: Start) -> None:
    served = await start(Recorder(answer), max_connections_per_address=3, close_timeout=0.3)
    keepers = [await served.connect() for _ in range(3)]
    for client in keepers:
        await client.open()
    for _ in range(40):
        try:
            client = await served.connect(at_once=GET if served.trust is None else b"")
            client.reset()
        except OSError:
            pass  # over TLS it is closed in the handshake
    await served_only(served, 3)
    assert served.context.counters.address_refusals == 40
    assert len(served.log) <= 11
    for client in keepers:
        await client.close()
    await served.idle()
    await places_are_free(served)


async def test_over_tls_a_handshake_that_fails_gives_its_place_back(tmp_path: Path, caplog: Any) -> None:
    bounds = Limits(max_connections_per_address=1, certfile=str(certificates.certificate(tmp_path)))
    config = Config(port=0, limits=bounds, tls=files_of(bounds))
    sockets = config.bind()
    server = Server(Recorder(answer), config)
    await server.start(sockets)
    served = Served(server, sockets, caplog)
    broken = await served.connect(at_once=GET)
    assert await broken.at_end()
    await places_are_free(served)
    served.trust = certificates.client_context()
    client = await served.connect()
    await client.send(GET)
    assert (await client.response()).status == 200
    assert len(server.context.admission.addresses or ()) == 1
    await served.stop()
    await places_are_free(served)


async def serve_behind_proxies(caplog: Any, introduces: bool = False) -> Served:
    config = Config(
        port=0,
        limits=Limits(max_connections_per_address=1),
        proxies=LOOPBACK,
        introducers=LOOPBACK if introduces else None,
    )
    sockets = config.bind()
    server = Server(Recorder(answer), config)
    await server.start(sockets)
    return Served(server, sockets, caplog)


async def test_whom_a_proxy_introduces_counts_for_itself(caplog: Any) -> None:
    served = await serve_behind_proxies(caplog, introduces=True)
    line = b"PROXY TCP4 203.0.113.%d 192.0.2.1 5123 443\r\n"
    statuses = []
    for number in (7, 7, 8):
        client = await served.connect(at_once=line % number + GET)
        statuses.append((await client.response()).status)
    assert statuses == [200, 429, 200]
    unknown = [await served.connect(at_once=b"PROXY UNKNOWN\r\n" + GET) for _ in range(3)]
    assert [(await client.response()).status for client in unknown] == [200] * 3
    assert served.log == ["203.0.113.7:5123 -: more than 1 connections of this address: 429"]
    await served.stop()
    await places_are_free(served)


async def test_websockets_that_a_proxy_passes_on_count_for_its_clients(caplog: Any) -> None:
    served = await serve_behind_proxies(caplog)
    forwarded = HANDSHAKE[:-2] + b"X-Forwarded-For: 198.51.100.1, 203.0.113.%d\r\n\r\n"
    first, second, third = [await served.connect() for _ in range(3)]
    await first.open(forwarded % 7)
    await second.send(forwarded % 7)
    assert (await second.response()).status == 429
    await third.open(forwarded % 8)
    requests = await served.connect()
    for _ in range(3):
        await requests.send(GET)
        assert (await requests.response()).status == 200
    assert served.log == ["203.0.113.7:0 /chat: more than 1 connections of this address: 429"]
    await first.close()
    async with asyncio.timeout(DEADLINE):
        while len(served.websockets) > 1:
            await next_pass()
    await (await served.connect()).open(forwarded % 7)
    await served.stop()
    await places_are_free(served)


async def test_the_first_websocket_of_http2_has_the_place_of_its_socket_and_others_their_own(start: Start) -> None:
    served = await start(Recorder(answer), max_connections_per_address=2)
    client = await http2.connect(served)
    numbers = []
    for status in (200, 200, 429):
        number = client.h2.get_next_available_stream_id()
        client.answers[number] = http2.Answer()
        pseudo = [(b":method", b"CONNECT"), (b":protocol", b"websocket"), (b":scheme", b"http")]
        fields = [(b":path", b"/chat"), (b":authority", b"a"), (b"sec-websocket-version", b"13")]
        client.h2.send_headers(number, [*pseudo, *fields])
        await client.flush()
        await client.until(lambda number=number: client.answers[number].status)  # type: ignore[misc]
        assert client.answers[number].status == status
        numbers.append(number)
    assert served.context.counters.address_refusals == 1
    await client.reset(numbers[1])
    async with asyncio.timeout(DEADLINE):
        while len(served.websockets) > 1:
            await client.flush()
            await next_pass()
