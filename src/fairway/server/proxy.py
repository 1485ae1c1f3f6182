"""What a reverse proxy says about its client: `X-Forwarded-For` and `X-Forwarded-Proto`.

`ProxyHeaders` wraps an application and corrects `client` and `scheme` of each scope before anybody reads them. Anybody
can send such headers, so they count only from trusted peers: those at configured addresses and networks, and everybody
who connects to a Unix socket, which has its own permissions. Headers from any other peer are logged, once, because the
likeliest reason is a proxy that nobody has configured.

`send` and `receive` are passed on unchanged.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Mapping
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
"""How much of a chain is read, from its end. Each address takes time to parse, so the rest is ignored."""

LOOPBACK = ("127.0.0.0/8", "::1")

PRIVATE = (*LOOPBACK, "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
"""Addresses that no packet from the Internet can come from: those of proxies in containers and machine rooms."""

_SCHEMES = {
    "http": {"http": "http", "https": "https", "ws": "http", "wss": "https"},
    "websocket": {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"},
}


def trusted_networks(addresses: Iterable[str]) -> tuple[Network, ...]:
    """Parse addresses and networks such as "10.0.0.0/8". "*" means every address. Raises `ConfigurationError`."""
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
    """Whether `host` is an address in one of the networks."""
    try:
        address = ip_address(host)
    except ValueError:
        return False
    address = getattr(address, "ipv4_mapped", None) or address
    return any(address in network for network in networks)


class ProxyHeaders:
    """`app`, with `client` and `scheme` as trusted proxies report them.

    *The client* is the last address in the chain of `address_header` that is not itself a trusted proxy. If all are, it
    is the first one, of the last `_MAX_HOPS`. Everything further left may have been written by the client itself.

    *The port* stands with the address, or else in `port_header`; otherwise it is 0.

    *Lists.* If there are several schemes or ports, the one at the client's position counts, counted from the end: a
    proxy that appends an address appends a scheme and a port as well, and whatever the client wrote stands before them.

    Header names are in lower case.
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

    def client_of(self, scope: Mapping[str, Any]) -> tuple[str, int] | None:
        """The client that the headers name. The caller must have checked that the peer is trusted. The scope is not
        changed.
        """
        return self._client(self._found(scope["headers"]))[0]

    def _found(self, headers: Iterable[tuple[bytes, bytes]]) -> dict[bytes, str]:
        """The headers that matter here. Several lines with one name form one list (RFC 9110, 5.3)."""
        found: dict[bytes, str] = {}
        for name, value in headers:
            if name in self._names:
                text = value.decode("latin-1")
                found[name] = f"{found[name]},{text}" if name in found else text
        return found

    def _client(self, found: dict[bytes, str]) -> tuple[tuple[str, int] | None, int]:
        """The client, and its position from the end of the chain. None if the chain is missing, or ends in nonsense."""
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
            "ignoring %s from %s, which is not a trusted proxy; if it is your proxy, add %s to "
            "FORWARDED_ALLOW_IPS in the environment or to --forwarded-allow-ips (this is logged once)",
            escaped(", ".join(sorted(name.decode("latin-1") for name in found))),
            escaped(host),
            escaped(host),
        )


def address_and_port(text: str) -> tuple[str, int] | None:
    """Parse `1.2.3.4`, `1.2.3.4:5678`, `::1` or `[::1]:5678`. A missing port is 0. None for any other text.

    An address with a zone is other text, too: a zone means something on one machine only (RFC 4007 section 11.2), and
    Python takes whatever stands behind the percent sign for one.
    """
    host, port = split_address(text)
    try:
        address: IPv4Address | IPv6Address = ip_address(host)
    except ValueError:
        return None
    if "%" in host:
        return None
    return str(address), _port(port)


def split_address(text: str) -> tuple[str, str]:
    """The texts of address and port, the latter empty if it is missing. Neither is checked."""
    if text.startswith("["):
        host, _, port = text[1:].partition("]")
        return host, port.removeprefix(":")
    if text.count(":") == 1:
        host, _, port = text.partition(":")
        return host, port
    return text, ""


def _from_the_end(chain: str) -> list[str]:
    """The last elements of a list, backwards. Empty elements are ignored (RFC 9110, 5.6.1.2)."""
    last = chain.rsplit(",", _MAX_HOPS)[-_MAX_HOPS:]
    return [element for text in reversed(last) if (element := text.strip())]


def _counted(chain: str, hop: int) -> str:
    """The element at this position from the end, or the first one if there are fewer. Empty if there are none."""
    elements = _from_the_end(chain)
    return elements[min(hop, len(elements)) - 1] if elements else ""


def _port(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65535 else 0
