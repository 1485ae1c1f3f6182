"""The authority that a request is for: a host, with or without a port."""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv6Address

# Possessive: the nested repeats would otherwise take exponential time to fail.
_REGISTERED_NAME = re.compile(rb"(?:[A-Za-z0-9\-._~!$&'()*+,;=]++|%[0-9A-Fa-f]{2})++(?::([0-9]{0,5}))?")
_IP_LITERAL = re.compile(rb"\[([0-9A-Fa-f:.]{2,45})\](?::([0-9]{0,5}))?")
_MAX_PORT = 65535


def is_host(value: bytes) -> bool:
    """Whether `value` is a host that is not empty, with or without a port (RFC 9110 section 7.2)."""
    match = _REGISTERED_NAME.fullmatch(value)
    if match is not None:
        return _is_port(match[1])
    literal = _IP_LITERAL.fullmatch(value)
    if literal is None:
        return False
    try:
        IPv6Address(literal[1].decode("ascii"))
    except AddressValueError:
        return False
    return _is_port(literal[2])


def _is_port(digits: bytes | None) -> bool:
    return not digits or int(digits) <= _MAX_PORT
