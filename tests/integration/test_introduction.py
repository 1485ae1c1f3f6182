"""Proxies that introduce their clients by the PROXY protocol: who is believed, and what becomes of malformed words."""

from __future__ import annotations

import asyncio
import json
import socket
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from fairway.server.config import Config
from fairway.server.limits import Limits
from fairway.server.listener import Server
from fairway.server.tls.files import files_of
from tests.fairway.server.tls import certificates
from tests.integration.raw import DEADLINE, Client, Served, next_pass

LINE = b"PROXY TCP4 203.0.113.7 192.0.2.1 5123 443\r\n"
BINARY = b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + bytes([203, 0, 113, 7, 192, 0, 2, 1]) + b"\x14\x03\x01\xbb"
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
TRUSTED = (ip_network("127.0.0.0/8"),)


async def addresses(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        raise NotImplementedError
    facts = {"client": scope["client"], "server": scope["server"], "scheme": scope["scheme"]}
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps(facts).encode()})


@pytest.fixture(params=["clear", "tls"])
async def served(request: pytest.FixtureRequest, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Any:
    bounds = Limits(request_head_timeout=DEADLINE)
    trust = None
    if request.param == "tls":
        bounds = replace(bounds, certfile=str(certificates.certificate(tmp_path)))
        trust = certificates.client_context()
    config = Config(port=0, limits=bounds, tls=files_of(bounds), introducers=TRUSTED)
    sockets = config.bind()
    server = Server(addresses, config)
    await server.start(sockets)
    served = Served(server, sockets, caplog)
    served.trust = trust
    yield served
    await served.stop()


async def introduced(served: Served, *pieces: bytes) -> Client:
    """A client behind a proxy that says these words first, one after the other."""
    endpoint = socket.create_connection(("127.0.0.1", served.port))
    endpoint.setblocking(False)
    loop = asyncio.get_running_loop()
    for piece in pieces:
        await loop.sock_sendall(endpoint, piece)
        await next_pass()
    name = "localhost" if served.trust is not None else None
    client = Client(*await asyncio.open_connection(sock=endpoint, ssl=served.trust, server_hostname=name))
    served.clients.append(client)
    return client


async def facts(client: Client) -> dict[str, Any]:
    await client.send(GET)
    return json.loads((await client.response()).body)  # type: ignore[no-any-return]


@pytest.mark.parametrize("words", [LINE, BINARY], ids=["version 1", "version 2"])
async def test_a_trusted_proxy_says_who_the_client_is(served: Served, words: bytes) -> None:
    client = await introduced(served, words)
    for _ in range(2):
        said = await facts(client)
        assert (said["client"], said["server"]) == (["203.0.113.7", 5123], ["192.0.2.1", 443])
    assert said["scheme"] == ("http" if served.trust is None else "https")
    assert served.log == []


@pytest.mark.parametrize("words", [LINE, BINARY], ids=["version 1", "version 2"])
async def test_its_words_may_come_in_pieces(served: Served, words: bytes) -> None:
    client = await introduced(served, *[words[at : at + 1] for at in range(len(words))])
    assert (await facts(client))["client"] == ["203.0.113.7", 5123]


@pytest.mark.parametrize("words", [b"PROXY UNKNOWN\r\n", b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"])
async def test_a_proxy_that_speaks_for_itself_is_the_client(served: Served, words: bytes) -> None:
    said = await facts(await introduced(served, words))
    assert said["client"][0] == "127.0.0.1"
    assert said["server"] == ["127.0.0.1", served.port]


@pytest.mark.parametrize("words", [GET, b"PROXY TCP4 nowhere\r\n", b"\x16\x03\x01\x00\x05hello"])
async def test_malformed_words_are_one_line_and_the_end(served: Served, words: bytes) -> None:
    served.trust = None
    client = await introduced(served, words)
    assert await client.at_end()
    await served.idle()
    [line] = served.log
    assert "a trusted proxy did not introduce its client: " in line


async def test_who_says_nothing_or_leaves_is_let_go(served: Served) -> None:
    served.trust = None
    client = await introduced(served, LINE[:10])
    await client.close()
    waiting = await introduced(served, LINE[:10])
    async with asyncio.timeout(DEADLINE):
        while len(served.context.connections) != 1:
            await next_pass()
        await served.server.end_connections(DEADLINE)
    assert await waiting.at_end()
    assert served.log == []


async def test_who_is_not_trusted_introduces_nobody(caplog: pytest.LogCaptureFixture) -> None:
    config = Config(port=0, introducers=(ip_network("192.0.2.0/24"),))
    sockets = config.bind()
    server = Server(addresses, config)
    await server.start(sockets)
    served = Served(server, sockets, caplog)
    client = await introduced(served)
    assert (await facts(client))["client"][0] == "127.0.0.1"
    liar = await introduced(served, LINE)
    assert (await liar.response()).status == 400
    await served.stop()
