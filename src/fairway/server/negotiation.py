"""Which version of HTTP a connection speaks.

Over TLS the client names those it knows, and ALPN (RFC 7301) has chosen one before the first byte. In clear every
connection begins with HTTP/1.1, which hands over one that begins with the preface of HTTP/2 (`Http1Connection`); an
`Upgrade: h2c` is ignored, since RFC 9113 has it no more.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

from fairway.server.http1.connection import Http1Connection
from fairway.server.http2.connection import Http2Connection
from fairway.server.limits import Limits

if TYPE_CHECKING:
    from fairway.server.context import ServerContext


def alpn_protocols(limits: Limits) -> list[str]:
    """What a server offers, the best first."""
    return ["h2", "http/1.1"] if limits.http2 else ["http/1.1"]


def connection_for(alpn: str | None, context: ServerContext, endpoint: socket.socket | None) -> asyncio.Protocol:
    """The protocol object of a connection for which this was chosen; None if the client did not ask."""
    return Http2Connection(context, endpoint) if alpn == "h2" else Http1Connection(context, endpoint)
