"""The opening handshake of a WebSocket over HTTP/1.1, seen from the server (RFC 6455 section 4.2).

`check` judges the request's headers and returns an `Offer`, or the `Refusal` to answer with; `accept_headers`
makes the headers of the 101 response. Pure functions of header lists with lower-case names.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64encode
from hashlib import sha1

from fairway.protocols.http.request import Headers
from fairway.protocols.lists import elements
from fairway.protocols.websocket.deflate import negotiate

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY = re.compile(rb"[A-Za-z0-9+/]{22}==")
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")

# Clients offer one extension or two, of which the only one here has four parameters; what is behind is not read.
_MAX_OFFERS = 16
_MAX_PARAMETERS = 8


class Offer:
    """What the client asks for: its key, its subprotocols in order, and the extensions' answer if one is acceptable."""

    __slots__ = ("deflate", "key", "subprotocols")

    def __init__(self, key: bytes, subprotocols: list[str], deflate: tuple[str, int] | None) -> None:
        self.key = key
        self.subprotocols = subprotocols
        self.deflate = deflate


class Refusal:
    """Why the handshake fails: status and headers of the answer, and the reason for the log, ending with the
    section.
    """

    __slots__ = ("headers", "reason", "status")

    def __init__(self, status: int, reason: str, headers: Headers | None = None) -> None:
        self.status = status
        self.reason = reason
        self.headers = headers or []


def check(
    method: str, version: str, headers: Headers, allow_deflate: bool = True, max_subprotocols: int = 50
) -> Offer | Refusal:
    """Judge a request that asks for `Upgrade: websocket`."""
    key = ws_version = None
    protocols: list[bytes] = []
    extensions: list[bytes] = []
    for name, value in headers:
        if not name.startswith(b"sec-websocket-"):
            continue
        if name == b"sec-websocket-key":
            if key is not None:
                return Refusal(400, "more than one Sec-WebSocket-Key (RFC 6455 section 11.3.1)")
            key = value
        elif name == b"sec-websocket-version":
            if ws_version is not None:
                return Refusal(400, "more than one Sec-WebSocket-Version (RFC 6455 section 11.3.5)")
            ws_version = value
        elif name == b"sec-websocket-protocol":
            protocols.append(value)
        elif name == b"sec-websocket-extensions":
            extensions.append(value)
    if method != "GET":
        return Refusal(405, "the handshake is not a GET (RFC 6455 section 4.1)", [(b"allow", b"GET")])
    if version != "1.1":
        return Refusal(400, "the handshake needs HTTP/1.1 (RFC 6455 section 4.1)")
    if ws_version != b"13":
        return Refusal(
            426,
            "the version is not 13 (RFC 6455 section 4.4)",
            [(b"sec-websocket-version", b"13"), (b"upgrade", b"websocket"), (b"connection", b"upgrade")],
        )
    if key is None or not _is_key(key):
        return Refusal(400, "the key is not 16 bytes of base64 (RFC 6455 section 4.2.1)")
    try:
        subprotocols = elements(b",".join(protocols))
    except ValueError as error:
        return Refusal(400, f"the subprotocols are {error} (RFC 9110 section 5.6.1)")
    if len(subprotocols) > max_subprotocols:
        return Refusal(400, f"more than {max_subprotocols} subprotocols are offered")
    if not all(map(_TOKEN.fullmatch, subprotocols)):
        return Refusal(400, "a subprotocol is not a token (RFC 6455 section 4.1)")
    deflate = negotiate(parse_extensions(extensions)) if allow_deflate and extensions else None
    return Offer(key, [name.decode("ascii") for name in subprotocols], deflate)


def _is_key(key: bytes) -> bool:
    if not _KEY.fullmatch(key):
        return False
    try:
        return len(binascii.a2b_base64(key, strict_mode=True)) == 16
    except binascii.Error:
        return False


def accept_key(key: bytes) -> bytes:
    """The value of Sec-WebSocket-Accept for a key (section 4.2.2)."""
    return b64encode(sha1(key + _GUID, usedforsecurity=False).digest())


def accept_headers(offer: Offer, subprotocol: str | None, headers: Headers) -> Headers:
    """The headers of the 101 response: the protocol's own, then the application's in their order."""
    own: Headers = [
        (b"upgrade", b"websocket"),
        (b"connection", b"Upgrade"),
        (b"sec-websocket-accept", accept_key(offer.key)),
    ]
    if subprotocol is not None:
        own.append((b"sec-websocket-protocol", subprotocol.encode("ascii")))
    if offer.deflate is not None:
        own.append((b"sec-websocket-extensions", offer.deflate[0].encode("ascii")))
    return own + headers


def parse_extensions(values: list[bytes]) -> list[tuple[str, dict[str, str | None]]]:
    """The offers of Sec-WebSocket-Extensions, in order; an offer that is malformed, or names a parameter twice, is
    left out.
    """
    offers = []
    for value in values:
        for element in value.decode("latin-1").split(",", _MAX_OFFERS)[:_MAX_OFFERS]:
            offer = _parse_offer(element)
            if offer is not None:
                offers.append(offer)
    return offers


def _parse_offer(element: str) -> tuple[str, dict[str, str | None]] | None:
    name, *rest = (part.strip() for part in element.split(";", _MAX_PARAMETERS))
    if not _is_token(name):
        return None
    parameters: dict[str, str | None] = {}
    for part in rest:
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not _is_token(key) or key in parameters:
            return None
        if equals and len(value) > 2 and value[0] == value[-1] == '"':
            value = value[1:-1]  # a quoted value must be a token inside (RFC 6455 section 9.1)
        if equals and not _is_token(value):
            return None
        parameters[key] = value if equals else None
    return name, parameters


def _is_token(text: str) -> bool:
    return _TOKEN.fullmatch(text.encode("latin-1")) is not None
