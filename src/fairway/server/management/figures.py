"""What one process of a server counts and measures: a record that can be sent to another as JSON.

It is made when it is asked for, about once a second, and nothing is counted for it that would not be counted anyway.
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
from fairway.server.websocket.connection import WebSocketConnection

Figures: TypeAlias = dict[str, Any]
"""Numbers by name, and dictionaries of numbers: see `figures_of`."""

_KINDS: dict[type, str] = {Http1Connection: "http1", Http2Connection: "http2", WebSocketConnection: "websocket"}
ARRIVING = "arriving"
"""What is no connection yet: a TLS handshake, or a proxy's introduction, is under way."""

KINDS = (*_KINDS.values(), ARRIVING)


def figures_of(context: ServerContext, lateness: Lateness) -> Figures:
    """The figures of the process whose server this is. May be called in another thread than its loop's."""
    statistics = process_statistics()
    # Copied in one step, because the loop adds to it and takes from it.
    types = Counter(map(type, list(context.connections)))
    connections = dict.fromkeys(KINDS, 0)
    for each, count in types.items():
        connections[_KINDS.get(each, ARRIVING)] += count
    return {
        "connections": connections,
        "connections_limit": context.max_connections,
        "tasks": len(context.tasks),
        "delivered": context.batch.fanout.delivered,
        "counters": {kind: dict(record) for kind, record in statistics.counters.items()},
        "up": dict(statistics.up),
        "lag": {name: round(seconds, 6) for name, seconds in statistics.lag.items()},
        "loop_lag": round(lateness.take(time.monotonic()), 4),
        "loop_late": round(lateness.total, 4),
        "resident": resident_bytes(),
        "cpu": round(time.process_time(), 3),
    }


def resident_bytes() -> int:
    """How much of the machine's memory this process has, shared parts included; the most it ever had where the system
    tells nothing else; 0 where it tells nothing.
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
