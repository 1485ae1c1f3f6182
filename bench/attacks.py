"""What attackers cost the server, and what they cost a well-behaved neighbour.

    python bench/attacks.py [--only WORD] [--seconds 5] [--out attacks-2026-01-01]

For each attack a fresh server with default settings on core 0, and on core 1 a neighbour (an echo every 20 ms, a GET
every 40 ms) and the attackers. The neighbour is measured for some seconds without the attack and then for as long with
it. Then all attackers leave. Written down are the most memory that the server took above what it had before, the CPU
time, the neighbour's p99 without and with, the descriptors that are still open once an application that hangs
has been cancelled, and the lines logged.

Exits with 1 if a bound was missed: see `Attack.most_mib`, `MOST_P99_RATIO`, `MOST_LINES`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peers
import processes
from servers import LOAD_CORE, SERVER_CORE

MOST_P99_RATIO = 3.0
MOST_LINES = 60
"""For a few seconds: ten of a kind in each second, a count of the rest, and what was logged at the start."""
MIB = 1 << 20
HOST = b"Host: localhost\r\nOrigin: http://localhost\r\n"
TEXT, BINARY, PING, PONG = 1, 2, 9, 10

SETTLED = 12.0

_FORK = multiprocessing.get_context("fork")


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0) -> bytes:
    """Masked with zeros."""
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    size = len(payload)
    if size < 126:
        head = bytes((first, 0x80 | size))
    elif size < 65536:
        head = bytes((first, 0x80 | 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((first, 0x80 | 127)) + size.to_bytes(8, "big")
    return head + bytes(4) + payload


def bomb(opcode: int, message: bytes) -> bytes:
    deflating = zlib.compressobj(9, zlib.DEFLATED, -15)
    return frame(opcode, (deflating.compress(message) + deflating.flush(zlib.Z_SYNC_FLUSH))[:-4], rsv=4)


def handshake(path: str, *lines: bytes) -> bytes:
    return (
        b"GET %s HTTP/1.1\r\n%sUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        % (path.encode(), HOST)
        + b"".join(line + b"\r\n" for line in lines)
        + b"\r\n"
    )


DEFLATE = b"Sec-WebSocket-Extensions: permessage-deflate"


def http2(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def literal(name: bytes, value: bytes) -> bytes:
    """A field, or with the number of a known name, its value."""
    return name + bytes((len(value),)) + value


HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + http2(4, 0, 0) + http2(4, 1, 0)
_HTTP = b"\x86" + literal(b"\x01", b"localhost")  # :scheme, :authority
ASKED = http2(1, 4, 1, b"\x83" + _HTTP + literal(b"\x04", b"/upload/"))
OPENED = http2(
    1,
    4,
    1,
    literal(b"\x02", b"CONNECT")
    + literal(b"\x00\x09:protocol", b"websocket")
    + _HTTP
    + literal(b"\x04", b"/echo/")
    + literal(b"\x00\x15sec-websocket-version", b"13")
    + literal(b"\x00\x06origin", b"http://localhost"),
)
"""The head of a request that has a body, and that of a handshake (RFC 8441): nothing is put into the table."""


class Attackers:
    """The sockets of one attack. Whatever the server does to them is fine: errors are not counted."""

    def __init__(self, port: int, seconds: float) -> None:
        self.port = port
        self.ends_at = time.monotonic() + seconds
        self.sockets: list[socket.socket] = []

    def connect(self, first: bytes = b"", answer: bool = True) -> socket.socket:
        one = socket.create_connection(("127.0.0.1", self.port), timeout=5)
        self.sockets.append(one)
        if first:
            with contextlib.suppress(OSError):
                one.sendall(first)
                if answer:
                    one.recv(4096)
        return one

    def open(self, count: int, path: str, *lines: bytes) -> list[socket.socket]:
        return [self.connect(handshake(path, *lines)) for _ in range(count)]

    def flood(self, sockets: list[socket.socket], data: bytes, read: bool = False) -> None:
        """Send it on each again and again until the time is over."""
        for one in sockets:
            one.setblocking(False)
        rests = [memoryview(data)] * len(sockets)
        while time.monotonic() < self.ends_at:
            idle = True
            for index, one in enumerate(sockets):
                with contextlib.suppress(OSError):
                    if read:
                        with contextlib.suppress(BlockingIOError):
                            one.recv(1 << 16)
                    sent = one.send(rests[index])
                    rests[index] = rests[index][sent:] or memoryview(data)
                    idle = False
            if idle:
                time.sleep(0.002)

    def each(self, sockets: list[socket.socket], data: bytes) -> None:
        """Send it once on each, and stay."""
        for one in sockets:
            with contextlib.suppress(OSError):
                one.sendall(data)
        self.stay()

    def send_pieces(self, one: socket.socket, piece: bytes) -> None:
        """Send it again and again, as long as it is taken."""
        with contextlib.suppress(OSError):
            while time.monotonic() < self.ends_at:
                one.sendall(piece)
        self.stay()

    def storm(self, data: bytes, per_second: float = 400) -> None:
        """New connections, one after the other, each with this."""
        due = time.monotonic()
        while due < self.ends_at:
            time.sleep(max(0, due - time.monotonic()))
            due += 1 / per_second
            with contextlib.suppress(OSError):
                self.connect(data).close()
                self.sockets.pop()

    def stay(self) -> None:
        time.sleep(max(0, self.ends_at - time.monotonic()))


@dataclass
class Attack:
    name: str
    run: Callable[[Attackers], object]
    most_mib: float
    """Bound of the memory above what the server had before."""


ATTACKS: list[Attack] = []


def attack(name: str, most_mib: float) -> Callable[[Callable[[Attackers], object]], Callable[[Attackers], object]]:
    def register(run: Callable[[Attackers], object]) -> Callable[[Attackers], object]:
        ATTACKS.append(Attack(name, run, most_mib))
        return run

    return register


@attack("65 pings, 20 clients stay", 4)
def pings(a: Attackers) -> None:
    a.each(a.open(20, "/echo/"), frame(PING) * 65)


@attack("a message and 64 pings, storm", 6)
def ping_storm(a: Attackers) -> None:
    a.storm(handshake("/echo/") + frame(TEXT, b"1") + frame(PING) * 64, 100)


@attack("ping flood, never read, 20 clients", 12)
def ping_flood(a: Attackers) -> None:
    a.flood(a.open(20, "/echo/"), frame(PING, b"x" * 100) * 600)


@attack("bombs, binary, 20 clients that wait", 80)
def binary_bombs(a: Attackers) -> None:
    a.each(a.open(20, "/idle/", DEFLATE), bomb(BINARY, bytes(MIB)) * 60)


@attack("bombs, wide text, 20 clients that wait", 240)
def text_bombs(a: Attackers) -> None:
    a.each(a.open(20, "/idle/", DEFLATE), bomb(TEXT, b"a" * (MIB - 4) + "🛥".encode()) * 60)


@attack("bombs to an echo, 5 clients", 60)
def echoed_bombs(a: Attackers) -> None:
    a.flood(a.open(5, "/echo/", DEFLATE), bomb(TEXT, b'"' + b"a" * (MIB - 2) + b'"'), read=True)


@attack("1 MB of wide text, never read, 20 clients", 280)
def never_read_echo(a: Attackers) -> None:
    a.flood(a.open(20, "/echo/"), frame(TEXT, b'"' + b"a" * 900_000 + "🛥".encode() + b'"'))


@attack("one-byte texts, 10 clients", 20)
def short_texts(a: Attackers) -> None:
    a.flood(a.open(10, "/echo/"), frame(TEXT, b"1") * 4000, read=True)


@attack("empty fragments, 10 clients", 6)
def fragments(a: Attackers) -> None:
    a.flood(a.open(10, "/echo/"), frame(TEXT, b"", fin=False) + frame(0, b"", fin=False) * 4000)


@attack("6,000 cookies, 400 handshakes", 40)
def cookies(a: Attackers) -> None:
    a.open(400, "/idle/", b"Cookie: " + b"; ".join(b"a%d=b" % number for number in range(6000)))
    a.stay()


@attack("8,000 subprotocols, 400 handshakes", 40)
def subprotocols(a: Attackers) -> None:
    a.open(400, "/idle/", b"Sec-WebSocket-Protocol: " + b",".join(b"p%d" % number for number in range(8000)))
    a.stay()


@attack("90 headers of 600 bytes, 400 handshakes", 60)
def headers(a: Attackers) -> None:
    a.open(400, "/idle/", *(b"X-Header-%d: %s" % (number, b"x" * 600) for number in range(90)))
    a.stay()


@attack("a body of 400 MB to an HTTP consumer", 24)
def upload(a: Attackers) -> None:
    one = a.connect(b"POST /upload/ HTTP/1.1\r\n%sContent-Length: %d\r\n\r\n" % (HOST, 400 * MIB), answer=False)
    a.send_pieces(one, bytes(MIB))


@attack("an endless chunked body to it", 40)
def chunked_upload(a: Attackers) -> None:
    one = a.connect(b"POST /upload/ HTTP/1.1\r\n%sTransfer-Encoding: chunked\r\n\r\n" % HOST, answer=False)
    a.send_pieces(one, b"%x\r\n" % MIB + bytes(MIB) + b"\r\n")


UPLOAD = b"POST /upload/ HTTP/1.1\r\n%sTransfer-Encoding: chunked\r\n\r\n" % HOST


@attack("tiny chunks, 4 clients", 40)
def tiny_chunks(a: Attackers) -> None:
    a.flood([a.connect(UPLOAD, answer=False) for _ in range(4)], b"1\r\na\r\n" * 40_000)


@attack("tiny DATA frames, 4 connections", 40)
def tiny_frames(a: Attackers) -> None:
    a.flood([a.connect(HTTP2 + ASKED, answer=False) for _ in range(4)], http2(0, 0, 1, b"a") * 20_000, read=True)


@attack("tiny messages over HTTP/2, 4 connections", 20)
def tiny_messages(a: Attackers) -> None:
    a.flood([a.connect(HTTP2 + OPENED) for _ in range(4)], http2(0, 0, 1, frame(TEXT, b"1")) * 10_000, read=True)


@attack("pipelined requests, 4 clients", 8)
def pipelined(a: Attackers) -> None:
    a.flood([a.connect() for _ in range(4)], b"OPTIONS * HTTP/1.1\r\n%s\r\n" % HOST * 4000, read=True)


@attack("storm of malformed heads", 6)
def malformed(a: Attackers) -> None:
    a.storm(b"\r\r\r\r")


@attack("storm of unknown paths", 6)
def unknown(a: Attackers) -> None:
    a.storm(handshake("/nowhere/"))


@attack("storm of foreign origins", 6)
def foreign(a: Attackers) -> None:
    a.storm(handshake("/echo/").replace(b"http://localhost", b"http://evil.example"))


@attack("storm of bad frames", 6)
def bad_frames(a: Attackers) -> None:
    a.storm(handshake("/echo/") + b"\xff" * 20)


@attack("storm of bad JSON", 8)
def bad_json(a: Attackers) -> None:
    a.storm(handshake("/echo/") + frame(TEXT, b"{not json"), 200)


@attack("storm of errors with the client's words", 8)
def forged_errors(a: Attackers) -> None:
    a.storm(handshake("/raise/") + frame(TEXT, b'\n127.0.0.1:1 "GET /forged HTTP/1.1" 200\x1b[2J'), 200)


@attack("storm of bad room names", 8)
def bad_rooms(a: Attackers) -> None:
    a.storm(handshake("/rooms/%C3%BC/"), 200)


@attack("X-Forwarded-For of 6,000 hops", 12)
def hops(a: Attackers) -> None:
    forwarded = b",".join([b"127.0.0.1"] * 6000)
    a.storm(b"GET / HTTP/1.1\r\n%sX-Forwarded-For: %s\r\nConnection: close\r\n\r\n" % (HOST, forwarded), 50)


@attack("300 members that never read a broadcast", 60)
def never_read_broadcast(a: Attackers) -> None:
    a.open(300, "/hall/")
    (sender,) = a.open(1, "/hall/")
    for _ in range(400):
        with contextlib.suppress(OSError):
            sender.sendall(frame(TEXT, b"x" * 10_000))
            sender.recv(1 << 18)
    a.stay()


@attack("600 bodies that trickle in", 12)
def slow_bodies(a: Attackers) -> None:
    for _ in range(600):
        a.connect(b"POST /upload/ HTTP/1.1\r\n%sContent-Length: 1000\r\n\r\nx" % HOST, answer=False)
    a.stay()


@attack("9,000 idle sockets come", 60)
def idle(a: Attackers) -> None:
    for _ in range(9000):
        a.connect()
    a.stay()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="WORD", help="attacks with this in their name")
    parser.add_argument("--seconds", type=float, default=5, help="without each attack, and with it")
    parser.add_argument("--out", default=time.strftime("attacks-%Y-%m-%d"))
    options = parser.parse_args()
    os.sched_setaffinity(0, {LOAD_CORE})
    rows = []
    for one in ATTACKS:
        if options.only in one.name:
            row = measure(one, options.seconds)
            rows.append(row)
            print(line(row), flush=True)
    if not options.only:
        raw = peers.HERE / "results" / f"{options.out}.json"
        raw.write_text(
            json.dumps({**vars(options), "date": time.strftime("%Y-%m-%d %H:%M"), "attacks": rows}, indent=1)
        )
        print(raw)
    return 0 if all(row["held"] for row in rows) else 1


def measure(one: Attack, seconds: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder, served(Path(folder)) as (server, port, log):
        latencies, ends = neighbour(port, 2 * seconds + 1)
        time.sleep(1)  # it warms up
        before, descriptors = resident(server.pid), processes.descriptors(server.pid)
        cpu = processes.cpu_seconds(server.pid)
        Path(f"/proc/{server.pid}/clear_refs").write_text("5")  # the most memory is counted from here
        time.sleep(seconds)
        calm_until = time.monotonic()
        attackers = _FORK.Process(target=attacking, args=(one, port, seconds))
        attackers.start()
        attackers.join()
        ends.join()
        most, cpu = resident(server.pid, "VmHWM"), processes.cpu_seconds(server.pid) - cpu
        left = settled_descriptors(server.pid, descriptors)
        with contextlib.suppress(EOFError):
            samples = latencies.recv()
        lines = log.read_text(errors="replace").splitlines()
    calm = [duration for at, duration in samples if at < calm_until]
    stormy = [duration for at, duration in samples if at >= calm_until]
    row = {
        "attack": one.name,
        "most_mib": (most - before) / 1024,
        "bound_mib": one.most_mib,
        "cpu_seconds": cpu,
        "p99_without_ms": p99(calm) * 1000,
        "p99_with_ms": p99(stormy) * 1000,
        "worst_with_ms": max(stormy) * 1000,
        "descriptors_left": left,
        "lines": len(lines),
        "longest_line": max(map(len, lines), default=0),
        "log": lines[:12],
    }
    row["held"] = (
        row["most_mib"] <= one.most_mib
        and row["p99_with_ms"] <= MOST_P99_RATIO * row["p99_without_ms"]
        and left <= 0
        and len(lines) <= MOST_LINES
    )
    return row


@contextlib.contextmanager
def served(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], int, Path]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = folder / "log"
    environment = {
        **os.environ,
        "BENCH_DATABASE": str(folder / "db.sqlite3"),
        "PYTHONPATH": os.pathsep.join([str(peers.APPS), os.environ.get("PYTHONPATH", "")]),
    }
    command = [sys.executable, "-m", "fairway", "attacked_app:application", "--port", str(port), "--no-access-log"]
    with log.open("wb") as out:
        server = subprocess.Popen(
            command, stdout=out, stderr=out, env=environment, preexec_fn=lambda: os.sched_setaffinity(0, {SERVER_CORE})
        )
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        yield server, port, log
    finally:
        server.terminate()
        server.wait(timeout=20)


def neighbour(port: int, seconds: float) -> tuple[Any, Any]:
    receiving, sending = _FORK.Pipe(duplex=False)
    process = _FORK.Process(target=be_a_neighbour, args=(port, seconds, sending))
    process.start()
    sending.close()
    return receiving, process


def be_a_neighbour(port: int, seconds: float, out: Any) -> None:
    echo = socket.create_connection(("127.0.0.1", port), timeout=30)
    echo.sendall(handshake("/echo/"))
    echo.recv(4096)
    get = socket.create_connection(("127.0.0.1", port), timeout=30)
    samples = []
    end, number = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        began = time.monotonic()
        echo.sendall(frame(TEXT, b'"hello"'))
        echo.recv(4096)
        samples.append((began, time.monotonic() - began))
        if number % 2:
            began = time.monotonic()
            get.sendall(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
            get.recv(4096)
            samples.append((began, time.monotonic() - began))
        number += 1
        time.sleep(max(0, began + 0.02 - time.monotonic()))
    out.send(samples)


def attacking(one: Attack, port: int, seconds: float) -> None:
    # They share a core with the neighbour, which measures the server, and not how busy they are.
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    attackers = Attackers(port, seconds)
    with contextlib.suppress(OSError):
        one.run(attackers)
    for client in attackers.sockets:
        with contextlib.suppress(OSError):
            client.close()


def resident(pid: int, name: str = "VmRSS") -> int:
    """KiB; `VmHWM` is the most there was."""
    found = re.search(rf"{name}:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1])


def settled_descriptors(pid: int, before: int) -> int:
    """How many more there are than before, once everybody has left; the neighbour's two are gone as well.

    An application that hangs has `DISCONNECT_TIMEOUT` to end, and is cancelled then.
    """
    deadline = time.monotonic() + SETTLED
    while (left := processes.descriptors(pid) + 2 - before) > 0 and time.monotonic() < deadline:
        time.sleep(0.2)
    return left


def p99(durations: list[float]) -> float:
    return statistics.quantiles(durations, n=100)[98]


def line(row: dict[str, Any]) -> str:
    verdict = "held  " if row["held"] else "MISSED"
    return (
        f"{verdict} {row['attack']:<42} {row['most_mib']:+7.1f} of {row['bound_mib']:3g} MiB"
        f"  {row['cpu_seconds']:5.1f} s CPU  p99 {row['p99_without_ms']:6.1f} -> {row['p99_with_ms']:6.1f} ms"
        f" (worst {row['worst_with_ms']:7.1f})  {row['descriptors_left']:+d} descriptors  {row['lines']} lines"
    )


if __name__ == "__main__":
    sys.exit(main())
