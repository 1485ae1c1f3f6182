"""What a delivery of a broadcast costs: to sockets, to a stream of HTTP/2 on each of as many connections, and to ten.

Run ``python bench/micro/lanes.py``. The broadcast goes to 1,000 socket pairs in slices, as a sweep's does. Between two
broadcasts the peers take what was sent, which displaces the processor's caches as a server's other work does; so the
time is larger than what the steps in Python take alone. The best and the median of the rounds.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import statistics
import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from batch import FRAME, SocketTransport, tcp_pairs
from measuring import report

from fairway.protocols.http2 import Http2Protocol, Stream
from fairway.protocols.http2.limits import Http2Limits
from fairway.server.http2.transport import StreamTransport
from fairway.server.output.batch import MOST_WRITES, Batch
from fairway.server.output.lanes import SOCKETS, STREAMS, Lane
from fairway.server.output.outbox import Outbox

SOCKET_PAIRS = 1000
ROUNDS = 60
WINDOW = 1 << 30


def streams_on(sockets: Sequence[Any], each: int, loop: asyncio.AbstractEventLoop) -> list[StreamTransport]:
    """So many streams on a connection over each of these sockets."""
    scheduler = Batch(loop).carriers
    streams: list[StreamTransport] = []
    for one in sockets:
        protocol = Http2Protocol(Http2Limits(), 0.0)
        protocol.window = WINDOW
        outbox = Outbox(SocketTransport(one), scheduler, 65536, 1 << 20, one)
        connection: Any = SimpleNamespace(outbox=outbox, writer=SimpleNamespace(write=bool), protocol=protocol)
        numbers = range(1, 2 * each, 2)
        streams += [StreamTransport(connection, Stream(protocol, number, WINDOW, 65535)) for number in numbers]
    return streams


def deliver(lane: Lane, endpoints: Sequence[Any]) -> float:
    """Seconds of the processor for a broadcast."""
    began = time.thread_time()
    for begin in range(0, len(endpoints), MOST_WRITES):
        lane.write(endpoints[begin : begin + MOST_WRITES], FRAME)
    return time.thread_time() - began


async def main() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096) if hard > 0 else 4096, hard))
    loop = asyncio.get_running_loop()
    pairs = tcp_pairs(SOCKET_PAIRS)
    sockets = [server for server, _ in pairs]
    ways: dict[str, tuple[Lane, Sequence[Any]]] = {
        "sockets": (SOCKETS, sockets),
        "streams, one on a connection": (STREAMS, streams_on(sockets, 1, loop)),
        "streams, ten on a connection": (STREAMS, streams_on(sockets[: SOCKET_PAIRS // 10], 10, loop)),
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, (lane, endpoints) in ways.items():
            taken[name].append(deliver(lane, endpoints) / len(endpoints) * 1e6)
            for _, client in pairs:
                with contextlib.suppress(BlockingIOError):
                    client.recv(65536)
    print(f"a broadcast of {len(FRAME)} bytes, per delivery")
    for name, values in taken.items():
        report(name, min(values), f"median {statistics.median(values):.3f}")
    for pair in pairs:
        for sock in pair:
            sock.close()


if __name__ == "__main__":
    asyncio.run(main())
