"""Which version of HTTP a connection speaks.

Over TLS the client lists the versions it knows, and ALPN (RFC 7301) chooses one before the first byte. In clear every
connection begins as HTTP/1.1; if its first bytes are the preface of HTTP/2, `Http1Connection` hands it over. `Upgrade:
h2c` is ignored, because RFC 9113 no longer has it.
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
    """The protocols that a server offers, best first."""
    return ["h2", "http/1.1"] if limits.http2 else ["http/1.1"]


def connection_for(alpn: str | None, context: ServerContext, endpoint: socket.socket | None) -> asyncio.Protocol:
    """The protocol object for the version that ALPN chose; `alpn` is None if the client did not ask."""
    return Http2Connection(context, endpoint) if alpn == "h2" else Http1Connection(context, endpoint)
