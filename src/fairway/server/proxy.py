"""What a reverse proxy says about the client it speaks for: `X-Forwarded-For` and `X-Forwarded-Proto`.

`ProxyHeaders` stands around an application and corrects `client` and `scheme` of each scope, before anybody has read
them. Anybody can send such headers, so only those of trusted peers count: addresses and networks that are named, and
whoever connects to a Unix socket, which has permissions of its own. A peer that is not trusted is told of in the log,
once, since the likeliest reason is a proxy that nobody has named.

`send` and `receive` are handed on as they are.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

from fairway.asgi.calling import enter_application
from fairway.asgi.types import Application, Scope
from fairway.logs import get_logger
from fairway.server.access import escaped
from fairway.server.limits import ConfigurationError

logger = get_logger("fairway.server")

Network = IPv4Network | IPv6Network

_MAX_HOPS = 32
"""Of a chain; what stands further left is not looked at, since each address takes time to read."""

LOOPBACK = ("127.0.0.0/8", "::1")

PRIVATE = (*LOOPBACK, "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
"""Addresses that no packet from the Internet can come from: where the proxies of containers and machine rooms are."""

_SCHEMES = {
    "http": {"http": "http", "https": "https", "ws": "http", "wss": "https"},
    "websocket": {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"},
}


def trusted_networks(addresses: Iterable[str]) -> tuple[Network, ...]:
    """Read addresses and networks such as "10.0.0.0/8"; "*" is every one. Raises `ConfigurationError`."""
    networks: list[Network] = []
    for address in addresses:
        if address == "*":
            networks += [IPv4Network("0.0.0.0/0"), IPv6Network("::/0")]
            continue
        try:
            networks.append(ip_network(address))
        except ValueError as error:
            raise ConfigurationError(
                f"a trusted proxy is an address, a network such as 10.0.0.0/8, or *, not {address!r}: {error}"
            ) from None
    return tuple(networks)


def is_within(host: str, networks: Iterable[Network]) -> bool:
    """Whether this is an address of one of them."""
    try:
        address = ip_address(host)
    except ValueError:
        return False
    address = getattr(address, "ipv4_mapped", None) or address
    return any(address in network for network in networks)


class ProxyHeaders:
    """`app`, with `client` and `scheme` as trusted proxies report them.

    The client is the last address in the chain of `address_header` that is not a trusted proxy itself, or the first of
    all (or of the last `_MAX_HOPS`) if each one is: what stands further left was written by the client. Its port is the
    one that stands with the address, or else in `port_header`, or else 0. Of several schemes and ports the one counts
    that stands as far from the end as the client's address does: proxies that append write all of them, and what a
    client has written stands before. Names of headers are in lower case.
    """

    def __init__(
        self,
        app: Application,
        trusted: Iterable[Network],
        *,
        address_header: bytes | None = b"x-forwarded-for",
        port_header: bytes | None = None,
        proto_header: bytes | None = b"x-forwarded-proto",
    ) -> None:
        self._app = app
        self._trusted = tuple(trusted)
        self._address_header = address_header
        self._port_header = port_header
        self._proto_header = proto_header
        self._names = frozenset(name for name in (address_header, port_header, proto_header) if name is not None)
        self._has_warned = False

    def __call__(self, scope: Scope, receive: Any, send: Any) -> Awaitable[None]:
        if scope["type"] in _SCHEMES:
            self._correct(scope)
        return enter_application(self._app, scope, receive, send)

    def _correct(self, scope: Scope) -> None:
        found = self._found(scope["headers"])
        if not found:
            return
        peer = scope.get("client")
        if peer is not None and not self._trusts(peer[0]):
            self._warn(peer[0], found)
            return
        client, hop = self._client(found)
        if client is not None:
            scope["client"] = client
        scheme = _counted(found.get(self._proto_header, ""), hop).lower() if self._proto_header else ""
        scope["scheme"] = _SCHEMES[scope["type"]].get(scheme, scope["scheme"])

    def _found(self, headers: Iterable[tuple[bytes, bytes]]) -> dict[bytes, str]:
        """The headers in question; several lines of one are one list (RFC 9110, 5.3)."""
        found: dict[bytes, str] = {}
        for name, value in headers:
            if name in self._names:
                text = value.decode("latin-1")
                found[name] = f"{found[name]},{text}" if name in found else text
        return found

    def _client(self, found: dict[bytes, str]) -> tuple[tuple[str, int] | None, int]:
        """The client and how far from the end of the chain it stands; None if the chain is missing or ends in none."""
        chain = found.get(self._address_header, "") if self._address_header else ""
        client: tuple[str, int] | None = None
        hop = 1
        for number, text in enumerate(_from_the_end(chain), 1):
            address = address_and_port(text)
            if address is None:
                break
            client, hop = address, number
            if not self._trusts(address[0]):
                break
        if client is None or client[1] or self._port_header is None:
            return client, hop
        return (client[0], _port(_counted(found.get(self._port_header, ""), hop))), hop

    def _trusts(self, host: str) -> bool:
        return is_within(host, self._trusted)

    def _warn(self, host: str, found: dict[bytes, str]) -> None:
        if self._has_warned:
            return
        self._has_warned = True
        logger.warning(
            "%s of %s is not believed, because it is not a trusted proxy; if it is your proxy, add %s to "
            "FORWARDED_ALLOW_IPS in the environment or to --forwarded-allow-ips (this is said once)",
            escaped(", ".join(sorted(name.decode("latin-1") for name in found))),
            escaped(host),
            escaped(host),
        )


def address_and_port(text: str) -> tuple[str, int] | None:
    """Read `1.2.3.4`, `1.2.3.4:5678`, `::1` or `[::1]:5678`; the port is 0 if there is none. None if it is neither."""
    host, port = split_address(text)
    try:
        address: IPv4Address | IPv6Address = ip_address(host)
    except ValueError:
        return None
    return str(address), _port(port)


def split_address(text: str) -> tuple[str, str]:
    """The text of the address and that of the port, empty if there is none; neither is looked at."""
    if text.startswith("["):
        host, _, port = text[1:].partition("]")
        return host, port.removeprefix(":")
    if text.count(":") == 1:
        host, _, port = text.partition(":")
        return host, port
    return text, ""


def _from_the_end(chain: str) -> list[str]:
    """The last elements of a list, backwards; empty ones do not count (RFC 9110, 5.6.1.2)."""
    last = chain.rsplit(",", _MAX_HOPS)[-_MAX_HOPS:]
    return [element for text in reversed(last) if (element := text.strip())]


def _counted(chain: str, hop: int) -> str:
    """The element that stands so far from the end, or else the first one; empty if there is none."""
    elements = _from_the_end(chain)
    return elements[min(hop, len(elements)) - 1] if elements else ""


def _port(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65535 else 0
