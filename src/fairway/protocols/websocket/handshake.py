"""The server's side of a WebSocket's opening handshake, over HTTP/1.1 (RFC 6455 section 4.2) and, as an extended
CONNECT, over HTTP/2 (RFC 8441 section 5).

`check` and `check_connect` check the headers of a request, and return an `Offer`, or the `Refusal` to answer with.
`accept_lines` and `accept_headers` return what the 101 response that accepts an offer has, and `agreed_headers` what an
acceptance over HTTP/2 has. All are pure functions of lists of headers with lower-case names.
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
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")

# Clients offer one or two extensions, and the only one that is known here has four parameters. Further offers and
# parameters are not read.
_MAX_OFFERS = 16
_MAX_PARAMETERS = 8


class Offer:
    """A valid handshake of a client.

    `key` is empty over HTTP/2. `subprotocols` are in the client's order. `deflate` is the answer to its offer of
    permessage-deflate and our window bits, or None.
    """

    __slots__ = ("deflate", "key", "subprotocols")

    def __init__(self, key: bytes, subprotocols: list[str], deflate: tuple[str, int] | None) -> None:
        self.key = key
        self.subprotocols = subprotocols
        self.deflate = deflate


class Refusal:
    """The answer to an invalid handshake: status and headers. `reason` is for the log, and names the section."""

    __slots__ = ("headers", "reason", "status")

    def __init__(self, status: int, reason: str, headers: Headers | None = None) -> None:
        self.status = status
        self.reason = reason
        self.headers = headers or []


def check(
    method: str, version: str, headers: Headers, allow_deflate: bool = True, max_subprotocols: int = 50
) -> Offer | Refusal:
    """Check a request that asks for `Upgrade: websocket`."""
    asked = _Asked(headers)
    if len(asked.keys) > 1:
        return Refusal(400, "more than one Sec-WebSocket-Key (RFC 6455 section 11.3.1)")
    if len(asked.versions) > 1:
        return _SEVERAL_VERSIONS
    if method != "GET":
        return Refusal(405, "the handshake is not a GET (RFC 6455 section 4.1)", [(b"allow", b"GET")])
    if version != "1.1":
        return Refusal(400, "the handshake needs HTTP/1.1 (RFC 6455 section 4.1)")
    if asked.versions != [b"13"]:
        return Refusal(
            426,
            "the version is not 13 (RFC 6455 section 4.4)",
            [(b"sec-websocket-version", b"13"), (b"upgrade", b"websocket"), (b"connection", b"upgrade")],
        )
    if not asked.keys or not _is_key(asked.keys[0]):
        return Refusal(400, "the key is not 16 bytes of base64 (RFC 6455 section 4.2.1)")
    return asked.offer(asked.keys[0], allow_deflate, max_subprotocols)


def check_connect(headers: Headers, allow_deflate: bool = True, max_subprotocols: int = 50) -> Offer | Refusal:
    """Check an extended CONNECT for `websocket`. A key is ignored, because it has no meaning in HTTP/2."""
    asked = _Asked(headers)
    if len(asked.versions) > 1:
        return _SEVERAL_VERSIONS
    if asked.versions != [b"13"]:
        # The status is not 426, because HTTP/2 has no upgrade.
        return Refusal(400, "the version is not 13 (RFC 6455 section 4.4)", [(b"sec-websocket-version", b"13")])
    return asked.offer(b"", allow_deflate, max_subprotocols)


_SEVERAL_VERSIONS = Refusal(400, "more than one Sec-WebSocket-Version (RFC 6455 section 11.3.5)")


class _Asked:
    """The fields of a handshake, by name."""

    __slots__ = ("_extensions", "_protocols", "keys", "versions")

    def __init__(self, headers: Headers) -> None:
        self.keys: list[bytes] = []
        self.versions: list[bytes] = []
        self._protocols: list[bytes] = []
        self._extensions: list[bytes] = []
        for name, value in headers:
            if not name.startswith(b"sec-websocket-"):
                continue
            if name == b"sec-websocket-key":
                self.keys.append(value)
            elif name == b"sec-websocket-version":
                self.versions.append(value)
            elif name == b"sec-websocket-protocol":
                self._protocols.append(value)
            elif name == b"sec-websocket-extensions":
                self._extensions.append(value)

    def offer(self, key: bytes, allow_deflate: bool, max_subprotocols: int) -> Offer | Refusal:
        """Check the subprotocols and extensions. Return the offer with this key, or a refusal."""
        try:
            subprotocols = elements(b",".join(self._protocols)) if self._protocols else []
        except ValueError as error:
            return Refusal(400, f"the subprotocols are {error} (RFC 9110 section 5.6.1)")
        if len(subprotocols) > max_subprotocols:
            return Refusal(400, f"more than {max_subprotocols} subprotocols are offered")
        if not all(map(_TOKEN.fullmatch, subprotocols)):
            return Refusal(400, "a subprotocol is not a token (RFC 6455 section 4.1)")
        deflate = negotiate(parse_extensions(self._extensions)) if allow_deflate and self._extensions else None
        return Offer(key, [name.decode("ascii") for name in subprotocols], deflate)


def _is_key(key: bytes) -> bool:
    try:
        # 24 characters decode to 16 bytes only if they end with "==".
        return len(key) == 24 and len(binascii.a2b_base64(key, strict_mode=True)) == 16
    except binascii.Error:
        return False


def accept_key(key: bytes) -> bytes:
    """The value of Sec-WebSocket-Accept for a key (section 4.2.2)."""
    return b64encode(sha1(key + _GUID, usedforsecurity=False).digest())


def accept_lines(offer: Offer) -> bytes:
    """The field lines of the 101 response that follow from the offer alone."""
    lines = b"upgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: " + accept_key(offer.key) + b"\r\n"
    if offer.deflate is None:
        return lines
    return lines + b"sec-websocket-extensions: " + offer.deflate[0].encode("ascii") + b"\r\n"


def accept_headers(subprotocol: str | None, headers: Headers) -> Headers:
    """The other headers of the 101 response: the chosen subprotocol, then the application's in their order."""
    if subprotocol is None:
        return headers
    return [(b"sec-websocket-protocol", subprotocol.encode("ascii")), *headers]


def agreed_headers(offer: Offer, subprotocol: str | None, headers: Headers) -> Headers:
    """The headers that accept an offer over HTTP/2: chosen subprotocol and extension, then the application's."""
    if offer.deflate is not None:
        headers = [(b"sec-websocket-extensions", offer.deflate[0].encode("ascii")), *headers]
    return accept_headers(subprotocol, headers)


def parse_extensions(values: list[bytes]) -> list[tuple[str, dict[str, str | None]]]:
    """The offers in Sec-WebSocket-Extensions, in order, without those that are malformed or repeat a parameter."""
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
