"""The PROXY protocol, versions 1 and 2: what a balancer says of a client, in front of what the client says.

A balancer that passes bytes on, because TLS ends behind it, cannot write a header into them. So it writes one line, or
a few bytes, before the first byte of the client. Nothing in them can be verified: whether a sender is trusted is for
the caller to know (the specification, section 2.1; haproxy.org/download/3.0/doc/proxy-protocol.txt).
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

MAX_BYTES = 4096
"""Longest header that is read. The second version may carry anything behind the addresses; nobody sends as much."""

_LONGEST_LINE = 107
_LINE = b"PROXY "
_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_BEGIN = len(_SIGNATURE) + 4

_FAMILIES = {"TCP4": IPv4Address, "TCP6": IPv6Address}
_LOCAL, _PROXY = 0, 1
_OVER_IPV4, _OVER_IPV6 = 1, 2
_STREAM = 1

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """A whole header. `size` bytes of what was read belong to it; what follows is the client's.

    `source` is the client and `destination` the address that it has connected to. Both are None if the header says
    nothing of them: the balancer speaks for itself, to look whether we are well, or the client came in another way.
    """

    size: int
    source: Address | None = None
    destination: Address | None = None


@dataclass(frozen=True, slots=True)
class Malformed:
    """What was read cannot become a header."""

    reason: str


def parse(data: bytes) -> ProxyHeader | Malformed | None:
    """Read a header from the beginning of what has arrived; None if it is not complete."""
    if data.startswith(_LINE) or _LINE.startswith(data):
        return _parse_line(data)
    if data.startswith(_SIGNATURE) or _SIGNATURE.startswith(data):
        return _parse_binary(data)
    return Malformed("neither version of the PROXY protocol")


def _parse_line(data: bytes) -> ProxyHeader | Malformed | None:
    end = data.find(b"\r\n", 0, _LONGEST_LINE)
    if end < 0:
        return None if len(data) < _LONGEST_LINE else Malformed("a line of more than 107 bytes")
    words = data[len(_LINE) : end].decode("latin-1").split(" ")
    size = end + 2
    if words[0] == "UNKNOWN":
        return ProxyHeader(size)
    if words[0] not in _FAMILIES:
        return Malformed("a family that is not TCP4, TCP6 or UNKNOWN")
    if len(words) != 5:
        return Malformed("not two addresses and two ports")
    family = _FAMILIES[words[0]]
    try:
        if "%" in words[1] + words[2]:
            raise ValueError("a zone means something on one machine only")
        hosts = [str(family(word)) for word in words[1:3]]
    except ValueError:
        return Malformed("an address that is none of its family")
    ports = [_port(word) for word in words[3:]]
    if None in ports:
        return Malformed("a port that is none")
    return ProxyHeader(size, (hosts[0], ports[0] or 0), (hosts[1], ports[1] or 0))


def _port(word: str) -> int | None:
    if not (word.isascii() and word.isdigit()) or len(word) > 5 or (word[0] == "0" and word != "0"):
        return None
    return int(word) if int(word) <= 65535 else None


def _parse_binary(data: bytes) -> ProxyHeader | Malformed | None:
    if len(data) < _BEGIN:
        return None
    version, command = divmod(data[len(_SIGNATURE)], 16)
    if version != 2 or command not in (_LOCAL, _PROXY):
        return Malformed("a version or a command that does not exist")
    family, transport = divmod(data[len(_SIGNATURE) + 1], 16)
    if family > 3 or transport > 2:
        return Malformed("a family that does not exist")
    size = _BEGIN + int.from_bytes(data[_BEGIN - 2 : _BEGIN], "big")
    if size > MAX_BYTES:
        return Malformed(f"more than {MAX_BYTES} bytes")
    if len(data) < size:
        return None
    body = data[_BEGIN:size]
    # Whatever else a header carries is passed over, as the specification asks.
    if command == _LOCAL or transport != _STREAM or family not in (_OVER_IPV4, _OVER_IPV6):
        return ProxyHeader(size)
    length = 4 if family == _OVER_IPV4 else 16
    if len(body) < 2 * length + 4:
        return Malformed("too short for its addresses")
    kind = IPv4Address if family == _OVER_IPV4 else IPv6Address
    hosts = [str(kind(body[at : at + length])) for at in (0, length)]
    ports = [int.from_bytes(body[at : at + 2], "big") for at in (2 * length, 2 * length + 2)]
    return ProxyHeader(size, (hosts[0], ports[0]), (hosts[1], ports[1]))
