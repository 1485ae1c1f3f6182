"""Reading what proxies say of a client, and importing an object by its path."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from typing import Any

from fairway.server.proxy import address_and_port, split_address

_ClientAddress = list[Any]


def import_by_path(path: str) -> Any:
    """Return what `package.module:attribute.path` names. Raises ImportError, AttributeError or ValueError."""
    module_name, colon, attributes = path.partition(":")
    if not colon or not attributes:
        raise ValueError(f"{path!r} names no object: write it as package.module:attribute")
    found: Any = importlib.import_module(module_name)
    for name in attributes.split("."):
        found = getattr(found, name)
    return found


def parse_x_forwarded_for(
    headers: Any,
    address_header_name: str | None = "X-Forwarded-For",
    port_header_name: str | None = "X-Forwarded-Port",
    proto_header_name: str | None = "X-Forwarded-Proto",
    original_addr: _ClientAddress | None = None,
    original_scheme: str | None = None,
) -> tuple[_ClientAddress | None, str | None]:
    """Return the client as `[address, port]` and its scheme, as the headers have them, or else the originals.

    The address is the first of the chain, as it is written there, its port 0 if none is given. Whoever sends the
    headers is believed, so ask only about those of a trusted proxy. `headers` maps names, in any case, to a value or a
    list of values, as `str` or `bytes`; an object with `getAllRawHeaders` will do.
    """
    if not address_header_name:
        return original_addr, original_scheme
    values = _values(headers)
    chain = values.get(address_header_name.lower())
    if not chain:
        return original_addr, original_scheme
    first = chain.partition(",")[0].strip()
    host, port = first, 0
    if (address := address_and_port(first)) is not None:
        host, port = split_address(first)[0], address[1]
    given = values.get(port_header_name.lower(), "").strip() if port_header_name else ""
    if given.isascii() and given.isdigit():
        port = int(given)
    scheme = values.get(proto_header_name.lower()) if proto_header_name else None
    return [host, port], scheme or original_scheme


def _values(headers: Any) -> dict[str, str]:
    """The first value of each header, by its name in lower case."""
    if hasattr(headers, "getAllRawHeaders"):
        pairs: Iterable[tuple[Any, Any]] = headers.getAllRawHeaders()
    else:
        pairs = headers.items() if isinstance(headers, Mapping) else headers
    found: dict[str, str] = {}
    for name, value in pairs:
        first = value[0] if isinstance(value, list | tuple) else value
        found.setdefault(_text(name).lower(), _text(first))
    return found


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value
