"""The two constants of sending: flush after so many dirty sockets (`MAX_DIRTY`), write so much at once (`CHUNK_BYTES`).

Run ``python bench/micro/batch.py``. The first part needs the kernel, because the cost of cold sockets is balanced
against messages that share a write: a broadcast to 1,000 socket pairs, by the number of dirty sockets after which
the batch is flushed; the latency is that of the first member. The second part sends 1 MiB through one socket pair in
chunks of several sizes. The third is what `Outbox` and `Batch` cost without a kernel.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import time
from collections.abc import Callable

from measuring import microseconds, report

from fairway.protocols.websocket.frames import PLAIN
from fairway.server.output import batch as batches
from fairway.server.output.batch import Batch
from fairway.server.output.outbox import Outbox

SOCKETS = 1000
FRAME = PLAIN.encode_text("x" * 200)
MEBIBYTE = 1 << 20


class SocketTransport(asyncio.Transport):
    """Writes at once; notes when it did so for the first time."""

    def __init__(self, sock: socket.socket | None) -> None:
        super().__init__()
        self._send: Callable[[bytes], int] = sock.send if sock is not None else len
        self.written_at = 0.0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def write(self, data: bytes) -> None:  # type: ignore[override]
        self.written_at = time.perf_counter()
        self._send(data)


def tcp_pairs(count: int) -> list[tuple[socket.socket, socket.socket]]:
    pairs = []
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        for _ in range(count):
            client = socket.create_connection(listener.getsockname())
            server, _ = listener.accept()
            server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client.setblocking(False)
            pairs.append((server, client))
    return pairs


def by_dirty_sockets(loop: asyncio.AbstractEventLoop, pairs: list[tuple[socket.socket, socket.socket]]) -> None:
    print(f"broadcast of {len(FRAME)} bytes to {SOCKETS} sockets: per socket, by MAX_DIRTY")
    for max_dirty in (1, 16, 64, 256, 1000):
        batches.MAX_DIRTY = max_dirty
        batch = Batch(loop)
        transports = [SocketTransport(server) for server, _ in pairs]
        outboxes = [Outbox(transport, batch, 65536, 1 << 20) for transport in transports]
        best = first = float("inf")
        for _ in range(15):
            batch.is_scheduled = True  # the loop does not run here: the end of the pass is below
            began = time.perf_counter()
            for outbox in outboxes:
                outbox.append(FRAME)
                if max_dirty == 1:
                    batch.flush()
            batch.flush()
            best = min(best, time.perf_counter() - began)
            first = min(first, transports[0].written_at - began)
            for _, client in pairs:
                with contextlib.suppress(BlockingIOError):
                    client.recv(65536)
        report(f"{max_dirty}", best / SOCKETS * 1e6, f"first after {first * 1e6:.0f} µs")


def by_chunk(pair: tuple[socket.socket, socket.socket]) -> None:
    print("1 MiB through one socket in writes of that size, per KiB: sent and taken")
    server, client = pair
    client.setblocking(True)
    for size in (4096, 16384, 65536, 262144):
        data = bytes(size)

        def pump(data: bytes = data, size: int = size) -> None:
            for _ in range(MEBIBYTE // size):
                server.sendall(data)
                left = size
                while left:
                    left -= len(client.recv(left))

        report(f"{size}", microseconds(pump, 1024))


def python_alone(loop: asyncio.AbstractEventLoop) -> None:
    print("Outbox and Batch without a kernel")
    batch = Batch(loop)
    batch.is_scheduled = True
    batches.MAX_DIRTY = 64
    outbox = Outbox(SocketTransport(None), batch, 65536, 1 << 20)

    def alone() -> None:
        outbox.append(FRAME)
        outbox.flush_alone()

    def eight() -> None:
        for _ in range(8):
            outbox.append(FRAME)
        batch.flush()

    report("append, written alone", microseconds(alone))
    report("append, eight frames in one write, per frame", microseconds(eight, 8))


async def main() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096) if hard > 0 else 4096, hard))
    loop = asyncio.get_running_loop()
    pairs = tcp_pairs(SOCKETS)
    try:
        by_dirty_sockets(loop, pairs)
        by_chunk(pairs[0])
        python_alone(loop)
    finally:
        for pair in pairs:
            for sock in pair:
                sock.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


if __name__ == "__main__":
    asyncio.run(main())
