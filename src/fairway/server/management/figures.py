"""What one process of a server counts and measures, as a record that can be sent to another process as JSON.

The record is made on request, about once a second. All its numbers are counted or measured anyway.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from typing import Any, TypeAlias

from fairway.delivery import process_statistics
from fairway.server.context import ServerContext
from fairway.server.http1.connection import Http1Connection
from fairway.server.http2.connection import Http2Connection
from fairway.server.lateness import Lateness
from fairway.server.management.waiting import Waiting
from fairway.server.websocket.connection import WebSocketConnection

Figures: TypeAlias = dict[str, Any]
"""Numbers by name, and dictionaries of numbers: see `figures_of`."""

HTTP1, HTTP2 = "http1", "http2"
"""Where bytes are counted: on HTTP/1.1 connections and WebSockets, and on HTTP/2 connections. What a WebSocket over
HTTP/2 receives is counted in both, and so is what its outbox sends, instead of passing it on at once.
"""

_KINDS: dict[type, str] = {Http1Connection: HTTP1, Http2Connection: HTTP2, WebSocketConnection: "websocket"}
ARRIVING = "arriving"
"""The kind of sockets in a TLS handshake, or in the header of the PROXY protocol: not connections yet."""

KINDS = (*_KINDS.values(), ARRIVING)


def figures_of(context: ServerContext, lateness: Lateness, waiting: Waiting) -> Figures:
    """The figures of this process. May be called from any thread, but by one caller: it resets the longest lag."""
    statistics = process_statistics()
    batch = context.batch
    # `list` copies in one step, while the loop may add and remove connections.
    types = Counter(map(type, list(context.connections)))
    connections = dict.fromkeys(KINDS, 0)
    for each, count in types.items():
        connections[_KINDS.get(each, ARRIVING)] += count
    return {
        "connections": connections,
        "connections_limit": context.admission.max_connections,
        "tasks": len(context.tasks),
        "delivered": batch.fanout.delivered,
        "received_bytes": {HTTP1: batch.received, HTTP2: batch.carriers.received},
        "sent_bytes": {HTTP1: batch.written + batch.fanout.written, HTTP2: batch.carriers.written},
        "waiting": waiting.look(),
        "counters": {kind: dict(record) for kind, record in statistics.counters.items()},
        "up": dict(statistics.up),
        "unused": sorted(statistics.unused),
        "lag": {name: round(seconds, 6) for name, seconds in statistics.lag.items()},
        "loop_lag": round(lateness.take(time.monotonic()), 4),
        "loop_late": round(lateness.total, 4),
        "resident": resident_bytes(),
        "cpu": round(time.process_time(), 3),
    }


def resident_bytes() -> int:
    """The resident memory of this process, shared parts included. Where the system does not tell this, the most that it
    ever was, or 0.
    """
    try:
        with open("/proc/self/statm", "rb") as numbers:
            return int(numbers.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        pass
    try:
        import resource
    except ImportError:  # Windows
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
