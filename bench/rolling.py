"""SIGHUP under load: does a request fail, and is every WebSocket asked to come back?

    python bench/rolling.py [--sockets 2000] [--workers 4] [--drain 10] [--seconds 20]

h2load asks over HTTP/1.1 and over HTTP/2 all the while, so many WebSockets are open, and the site is changed before the
signal. Afterwards no request may have failed, every socket must have been closed with 1012 within the drain window of
its worker, and all answers must come from the new version. Exits with 1 otherwise. Needs h2load (nghttp2-client).

h2load counts a request as failed that it was about to send when a GOAWAY came, and does not send. Its log shows these
by a start of 0, and they do not count here: no server has seen them.
"""

from __future__ import annotations

import argparse
import re
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from workers import served

SITE = """
VERSION = b"first"
async def application(scope, receive, send):
    if scope["type"] == "http":
        length = b"%d" % len(VERSION)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
        await send({"type": "http.response.body", "body": VERSION})
    elif scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass
    else:
        for _ in range(2):
            await send({"type": (await receive())["type"] + ".complete"})
"""
HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
CLOSE = 0x88
STARTING = 15.0
"""Seconds that all the new workers may take to start, one after the other."""


class Sockets:
    """WebSockets that wait to be closed. `codes` and `ends` are those of the sockets that were."""

    def __init__(self, port: int, count: int):
        self.selector = selectors.DefaultSelector()
        self.codes = Counter()
        self.ends = []
        for _ in range(count):
            client = socket.create_connection(("127.0.0.1", port))
            client.sendall(HANDSHAKE)
            answer = b""
            while b"\r\n\r\n" not in answer:
                answer += client.recv(4096)
            assert answer.startswith(b"HTTP/1.1 101"), answer
            self.selector.register(client, selectors.EVENT_READ)

    def read(self, seconds: float) -> None:
        """Take note of what is closed within this time."""
        deadline = time.monotonic() + seconds
        while self.selector.get_map() and (left := deadline - time.monotonic()) > 0:
            for key, _ in self.selector.select(left):
                client = key.fileobj
                data = client.recv(4096)
                if not data or data[0] == CLOSE:
                    self.codes[int.from_bytes(data[2:4], "big") if len(data) >= 4 else "cut"] += 1
                    self.ends.append(time.monotonic())
                    self.selector.unregister(client)
                    client.sendall(b"\x88\x82\0\0\0\0" + data[2:4]) if data else None
                    client.close()


def start_asking(port: int, seconds: int, log: Path, *flags: str) -> subprocess.Popen[str]:
    """h2load with ten connections, each with one request after the other."""
    command = ["h2load", "-c", "10", "-D", str(seconds), "--log-file", str(log), *flags, f"http://127.0.0.1:{port}/"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def never_sent(log: Path) -> int:
    """How many requests h2load counts although it has not sent them."""
    return sum(line.split("\t")[:2] == ["0", "-1"] for line in log.read_text().splitlines())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sockets", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--drain", type=float, default=10.0)
    parser.add_argument("--seconds", type=int, default=20, help="how long h2load asks")
    options = parser.parse_args()
    holds = []

    def tell(text: str, good: bool) -> None:
        holds.append(good)
        print(f"{'ok  ' if good else 'FAIL'} {text}", flush=True)

    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "rolled.py").write_text(SITE)
        arguments = ["--drain-seconds", str(options.drain)]
        with served(directory, "rolled:application", options.workers, arguments=arguments) as (process, port):
            sockets = Sockets(port, options.sockets)
            loads = {
                kind: start_asking(port, options.seconds, directory / kind, *flags)
                for kind, *flags in (("h1", "--h1"), ("h2",))
            }
            sockets.read(2.0)
            tell(f"no socket is closed before the signal: {sum(sockets.codes.values())}", not sockets.codes)
            (directory / "rolled.py").write_text(SITE.replace("first", "second"))
            at = time.monotonic()
            process.send_signal(signal.SIGHUP)
            sockets.read(options.drain + STARTING)
            tell(f"close codes: {dict(sockets.codes)}", sockets.codes == {1012: options.sockets})
            ends = [end - at for end in sockets.ends] or [0.0]
            tell(f"from {min(ends):.1f} to {max(ends):.1f} s after the signal", max(ends) < options.drain + STARTING)
            for kind, load in loads.items():
                said = load.communicate(timeout=options.seconds + 60)[0]
                line = next((one for one in said.splitlines() if one.startswith("requests:")), said)
                numbers = {word: int(number) for number, word in re.findall(r"(\d+) (\w+)", line)}
                unsent = never_sent(directory / kind)
                good = numbers.get("succeeded", 0) > 0 and numbers.get("failed") == unsent
                tell(f"{kind}: {line} ({unsent} never sent)", good)
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                answer = b"".join(iter(lambda: client.recv(4096), b""))
            tell(f"the new version answers: {answer[-6:]!r}", answer.endswith(b"second"))
            log = (directory / "log").read_text()
            tell("the log is without errors", not re.search("ERROR|Traceback", log))
    return 0 if all(holds) else 1


if __name__ == "__main__":
    sys.exit(main())
