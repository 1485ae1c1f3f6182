"""The PROXY protocol: whole, cut anywhere, with something behind it, and malformed in every way."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairway.protocols.proxy import MAX_BYTES, Malformed, ProxyHeader, parse

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"


def binary(command: int, family: int, body: bytes, version: int = 2) -> bytes:
    return SIGNATURE + bytes([version << 4 | command, family]) + struct.pack("!H", len(body)) + body


IPV4 = IPv4Address("203.0.113.7").packed + IPv4Address("192.0.2.1").packed + struct.pack("!HH", 5123, 443)
IPV6 = IPv6Address("2001:db8::7").packed + IPv6Address("2001:db8::1").packed + struct.pack("!HH", 5123, 443)
FOUR = (("203.0.113.7", 5123), ("192.0.2.1", 443))
SIX = (("2001:db8::7", 5123), ("2001:db8::1", 443))

HEADERS = [
    (b"PROXY TCP4 203.0.113.7 192.0.2.1 5123 443\r\n", *FOUR),
    (b"PROXY TCP6 2001:db8::7 2001:db8::1 5123 443\r\n", *SIX),
    (b"PROXY TCP6 2001:0DB8:0:0:0:0:0:7 2001:db8::1 5123 443\r\n", *SIX),
    (b"PROXY UNKNOWN\r\n", None, None),
    (b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", None, None),
    (binary(1, 0x11, IPV4), *FOUR),
    (binary(1, 0x21, IPV6), *SIX),
    (binary(1, 0x11, IPV4 + b"\x04\x00\x03abc"), *FOUR),
    (binary(0, 0x00, b""), None, None),
    (binary(0, 0x11, IPV4), None, None),
    (binary(1, 0x00, b"anything"), None, None),
    (binary(1, 0x12, IPV4), None, None),
    (binary(1, 0x31, bytes(216)), None, None),
]


@pytest.mark.parametrize(("data", "source", "destination"), HEADERS)
def test_a_header_says_who_the_client_is_and_where_it_ends(data: bytes, source: object, destination: object) -> None:
    expected = ProxyHeader(len(data), source, destination)  # type: ignore[arg-type]
    assert parse(data) == expected
    assert parse(data + b"GET / HTTP/1.1\r\n\r\n") == expected
    for size in range(len(data)):
        assert parse(data[:size]) is None, "it waits for the rest"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"GET / HTTP/1.1\r\n", "neither version of the PROXY protocol"),
        (b"PROXX", "neither version of the PROXY protocol"),
        (b"\x16\x03\x01", "neither version of the PROXY protocol"),
        (b"\r\n\r\n\x01", "neither version of the PROXY protocol"),
        (b"PROXY " + b"x" * 101, "a line of more than 107 bytes"),
        (b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n", "a line of more than 107 bytes"),
        (b"PROXY \r\n", "a family that is not TCP4, TCP6 or UNKNOWN"),
        (b"PROXY UDP4 203.0.113.7 192.0.2.1 5123 443\r\n", "a family that is not TCP4, TCP6 or UNKNOWN"),
        (b"PROXY TCP4\r\n", "not two addresses and two ports"),
        (b"PROXY TCP4 203.0.113.7 192.0.2.1 5123\r\n", "not two addresses and two ports"),
        (b"PROXY TCP4  203.0.113.7 192.0.2.1 5123 443\r\n", "not two addresses and two ports"),
        (b"PROXY TCP4 203.0.113.7 192.0.2.1 5123 443 \r\n", "not two addresses and two ports"),
        (b"PROXY TCP4 203.0.113.256 192.0.2.1 5123 443\r\n", "an address that is none of its family"),
        (b"PROXY TCP4 203.0.113.07 192.0.2.1 5123 443\r\n", "an address that is none of its family"),
        (b"PROXY TCP4 2001:db8::7 2001:db8::1 5123 443\r\n", "an address that is none of its family"),
        (b"PROXY TCP6 203.0.113.7 192.0.2.1 5123 443\r\n", "an address that is none of its family"),
        (b"PROXY TCP6 fe80::1%evil 2001:db8::1 5123 443\r\n", "an address that is none of its family"),
        (b"PROXY TCP4 evil\x1b[31m 192.0.2.1 5123 443\r\n", "an address that is none of its family"),
        (b"PROXY TCP4 203.0.113.7 192.0.2.1 65536 443\r\n", "a port that is none"),
        (b"PROXY TCP4 203.0.113.7 192.0.2.1 05 443\r\n", "a port that is none"),
        (b"PROXY TCP4 203.0.113.7 192.0.2.1 -1 443\r\n", "a port that is none"),
        (b"PROXY TCP4 203.0.113.7 192.0.2.1 \xb2 443\r\n", "a port that is none"),
        (binary(1, 0x11, IPV4, version=1), "a version or a command that does not exist"),
        (binary(2, 0x11, IPV4), "a version or a command that does not exist"),
        (binary(1, 0x41, IPV4), "a family that does not exist"),
        (binary(1, 0x13, IPV4), "a family that does not exist"),
        (binary(1, 0x11, IPV4[:-1]), "too short for its addresses"),
        (binary(1, 0x21, IPV4), "too short for its addresses"),
        (binary(0, 0x00, bytes(MAX_BYTES))[:16], "more than 4096 bytes"),
    ],
)
def test_what_is_malformed_is_said_why_and_raises_nothing(data: bytes, reason: str) -> None:
    assert parse(data) == Malformed(reason)


@given(st.binary(max_size=300), st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE, SIGNATURE + b"\x21\x11"]))
def test_whatever_comes_it_raises_nothing_and_a_header_stays_one(rest: bytes, begin: bytes) -> None:
    data = begin + rest
    found = parse(data)
    if isinstance(found, ProxyHeader):
        assert found.size <= len(data)
        assert parse(data[: found.size]) == found
        assert all(parse(data[:size]) is None for size in range(found.size))
    elif found is None:
        assert len(data) < MAX_BYTES
    else:
        assert parse(data + b"more") == found


ports = st.integers(0, 65535)


@given(st.ip_addresses(v=4) | st.ip_addresses(v=6), ports, ports)
def test_both_versions_say_the_same(address: object, port: int, other: int) -> None:
    host = ip_address(str(address))
    line = f"PROXY TCP{host.version} {host} {host} {port} {other}\r\n".encode()
    packed = host.packed * 2 + struct.pack("!HH", port, other)
    first, second = parse(line), parse(binary(1, 0x11 if host.version == 4 else 0x21, packed))
    assert isinstance(first, ProxyHeader)
    assert isinstance(second, ProxyHeader)
    assert (first.source, first.destination) == (second.source, second.destination)
    assert first.source == (str(host), port)
