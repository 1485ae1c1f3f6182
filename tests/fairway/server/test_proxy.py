"""`ProxyHeaders`: whose word counts, and what becomes of a scope."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from fairway.server import proxy
from fairway.server.limits import ConfigurationError
from fairway.server.proxy import LOOPBACK, PRIVATE, ProxyHeaders, address_and_port, trusted_networks

FOR, PORT, PROTO = b"x-forwarded-for", b"x-forwarded-port", b"x-forwarded-proto"


async def corrected(
    *headers: tuple[bytes, bytes], kind: str = "http", peer: Any = ("127.0.0.1", 5000), **options: Any
) -> tuple[Any, str]:
    """Client and scheme as the application sees them."""
    seen: dict[str, Any] = {}

    async def application(scope: Any, receive: Any, send: Any) -> None:
        seen.update(scope)

    trusted = trusted_networks(options.pop("trusted", LOOPBACK))
    scheme = {"http": "http", "websocket": "ws"}.get(kind, "")
    scope = {"type": kind, "client": peer, "scheme": scheme, "headers": list(headers)}
    await ProxyHeaders(application, trusted, **options)(scope, None, None)
    return seen["client"], seen["scheme"]


@pytest.mark.parametrize(
    ("chain", "client"),
    [
        ([b"203.0.113.7"], ("203.0.113.7", 0)),
        ([b"203.0.113.7:4711"], ("203.0.113.7", 4711)),
        ([b"2001:db8::7"], ("2001:db8::7", 0)),
        ([b"[2001:db8::7]:4711"], ("2001:db8::7", 4711)),
        ([b"198.51.100.1, 203.0.113.7"], ("203.0.113.7", 0)),
        ([b"198.51.100.1", b"203.0.113.7"], ("203.0.113.7", 0)),
        ([b"198.51.100.1, 203.0.113.7, 127.0.0.1"], ("203.0.113.7", 0)),
        ([b"127.0.0.2, 127.0.0.1"], ("127.0.0.2", 0)),
        ([b"rubbish, 203.0.113.7"], ("203.0.113.7", 0)),
        ([b"203.0.113.7, rubbish"], ("127.0.0.1", 5000)),
        ([b"rubbish, 127.0.0.9"], ("127.0.0.9", 0)),
        ([b""], ("127.0.0.1", 5000)),
        ([b"203.0.113.7:99999"], ("203.0.113.7", 0)),
        ([b"203.0.113.7, "], ("203.0.113.7", 0)),
        ([b"198.51.100.1", b"203.0.113.7, , 127.0.0.1", b""], ("203.0.113.7", 0)),
    ],
)
async def test_client_is_the_last_that_is_no_proxy(chain: list[bytes], client: tuple[str, int]):
    assert await corrected(*((FOR, value) for value in chain)) == (client, "http")


@pytest.mark.parametrize(
    ("kind", "proto", "scheme"),
    [
        ("http", b"https", "https"),
        ("http", b"HTTPS", "https"),
        ("http", b"https, http", "http"),
        ("http", b"http,https, ,", "https"),
        ("http", b"wss", "https"),
        ("http", b"gopher", "http"),
        ("websocket", b"https", "wss"),
        ("websocket", b"wss", "wss"),
        ("websocket", b"http", "ws"),
    ],
)
async def test_scheme_is_the_clients(kind: str, proto: bytes, scheme: str):
    assert await corrected((PROTO, proto), kind=kind) == (("127.0.0.1", 5000), scheme)


async def test_port_is_taken_from_its_header_if_one_is_named():
    headers = (FOR, b"203.0.113.7"), (PORT, b"4711")

    assert (await corrected(*headers))[0] == ("203.0.113.7", 0)
    assert (await corrected(*headers, port_header=PORT))[0] == ("203.0.113.7", 4711)
    assert (await corrected((PORT, b"4711"), port_header=PORT))[0] == ("127.0.0.1", 5000)


async def test_headers_have_the_names_they_are_given():
    headers = (b"x-real-ip", b"203.0.113.7"), (FOR, b"198.51.100.1"), (PROTO, b"https")

    options = {"address_header": b"x-real-ip", "proto_header": None}
    assert await corrected(*headers, **options) == (("203.0.113.7", 0), "http")
    assert await corrected(*headers, address_header=None) == (("127.0.0.1", 5000), "https")


@pytest.mark.parametrize("peer", [None, ("::1", 1), ("::ffff:127.0.0.1", 1), ("127.8.8.8", 1)])
async def test_loopback_and_unix_sockets_are_trusted(peer: Any):
    assert (await corrected((FOR, b"203.0.113.7"), peer=peer))[0] == ("203.0.113.7", 0)


@pytest.mark.parametrize("host", ["10.1.2.3", "172.20.0.5", "192.168.1.1", "fd00::1"])
async def test_private_addresses_are_trusted_where_they_are_named(host: str):
    headers = (FOR, b"203.0.113.7")

    assert (await corrected(headers, peer=(host, 1), trusted=PRIVATE))[0] == ("203.0.113.7", 0)
    assert (await corrected(headers, peer=(host, 1)))[0] == (host, 1)


async def test_everybody_is_trusted_if_asked_for():
    for host in ("203.0.113.9", "2001:db8::9"):
        assert (await corrected((FOR, b"198.51.100.1"), peer=(host, 1), trusted=["*"]))[0] == ("198.51.100.1", 0)


async def test_untrusted_peer_is_warned_of_once(caplog: pytest.LogCaptureFixture):
    async def application(scope: Any, receive: Any, send: Any) -> None:
        assert (scope["client"], scope["scheme"]) == (("203.0.113.9", 1), "http")

    proxied = ProxyHeaders(application, trusted_networks(LOOPBACK))
    for _ in range(3):
        headers = [(FOR, b"198.51.100.1"), (PROTO, b"https")]
        await proxied({"type": "http", "client": ("203.0.113.9", 1), "scheme": "http", "headers": headers}, None, None)

    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (
            logging.WARNING,
            "ignoring x-forwarded-for, x-forwarded-proto from 203.0.113.9, which is not a trusted proxy; if it is your "
            "proxy, add 203.0.113.9 to FORWARDED_ALLOW_IPS in the environment or to --forwarded-allow-ips (this is "
            "logged once)",
        )
    ]


async def test_untrusted_peer_without_such_headers_is_nothing_to_speak_of(caplog: pytest.LogCaptureFixture):
    assert await corrected((b"host", b"a"), peer=("203.0.113.9", 1)) == (("203.0.113.9", 1), "http")
    assert caplog.records == []


async def test_lifespan_passes():
    assert await corrected((FOR, b"203.0.113.7"), kind="lifespan", peer=None) == (None, "")


async def test_receive_and_send_are_handed_on_as_they_are():
    def application(scope: Any, receive: Any, send: Any) -> Any:
        return receive, send

    assert ProxyHeaders(application, ())({"type": "lifespan"}, "receive", "send") == ("receive", "send")


def test_mistaken_address_is_one_sentence():
    with pytest.raises(
        ConfigurationError, match=r"^a trusted proxy is an address, a network such as 10\.0\.0\.0/8, or"
    ):
        trusted_networks(["proxy.internal"])


@pytest.mark.parametrize(
    "text",
    ["", "localhost", "1.2.3", "1.2.3.4:5:6", "[x]:1", "fe80::1%eth0", '[::1%" 200 forged]:80', "::1%\u00e9"],
)
def test_what_is_no_address(text: str):
    assert address_and_port(text) is None


@pytest.mark.parametrize(
    ("chain", "protos", "scheme"),
    [
        # One proxy, which appends to what the client has written itself.
        ([b"203.0.113.7"], [b"https", b"http"], "http"),
        ([b"198.51.100.1", b"203.0.113.7"], [b"https", b"http"], "http"),
        ([], [b"https", b"http"], "http"),
        # Two proxies, both of which append: the client has spoken to the first.
        ([b"203.0.113.7, 127.0.0.1"], [b"https, http"], "https"),
        ([b"198.51.100.1, 203.0.113.7", b"127.0.0.1"], [b"http, https", b"http"], "https"),
        # Two, of which one says the scheme.
        ([b"203.0.113.7, 127.0.0.1"], [b"https"], "https"),
    ],
)
async def test_the_scheme_is_the_one_that_was_written_with_the_clients_address(
    chain: list[bytes], protos: list[bytes], scheme: str
):
    headers = [*((FOR, value) for value in chain), *((PROTO, value) for value in protos)]
    assert (await corrected(*headers))[1] == scheme


async def test_the_port_is_the_one_that_was_written_with_the_clients_address():
    headers = [(FOR, b"203.0.113.7"), (PORT, b"1"), (PORT, b"4711")]
    assert (await corrected(*headers, port_header=PORT))[0] == ("203.0.113.7", 4711)


async def test_of_a_long_chain_only_the_last_hops_are_looked_at(monkeypatch: pytest.MonkeyPatch):
    read: list[str] = []

    def counted(text: str) -> Any:
        read.append(text)
        return address_and_port(text)

    monkeypatch.setattr(proxy, "address_and_port", counted)
    chain = b", ".join(b"10.%d.%d.1" % divmod(number, 256) for number in range(6000))
    client, _ = await corrected((FOR, chain), trusted=["*"])
    assert client == ("10.23.80.1", 0)
    assert len(read) == 32
