"""What a connection costs, by Python's own account (tracemalloc): it must not grow unnoticed.

The slope between two numbers of connections, each with a browser's headers and one message exchanged, after a
collection. What the kernel holds is not in it.
"""

from __future__ import annotations

import base64
import json
import os
import platform
import secrets
import socket
import ssl
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.examples.running import ROOT, Running, running
from tests.fairway.server.tls import certificates
from tests.integration.raw import TEXT, frame

BUDGETS = {"plain": 4_620, "anonymous": 5_160, "signed in": 6_100}
"""Bytes with CPython 3.11 on Linux. The part of each is in src/fairway/server/README.md."""
TOLERANCE = 1.1
FIRST, SECOND = 200, 700

HEAD = """\
GET /{path} HTTP/1.1\r
Host: 127.0.0.1:{port}\r
Connection: Upgrade\r
Pragma: no-cache\r
Cache-Control: no-cache\r
User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\r
Upgrade: websocket\r
Origin: http://127.0.0.1:{port}\r
Sec-WebSocket-Version: 13\r
Accept-Encoding: gzip, deflate, br, zstd\r
Accept-Language: en-GB,en;q=0.9,de;q=0.8\r
Cookie: csrftoken={token}{cookie}\r
Sec-WebSocket-Key: {key}\r
Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r
\r
"""

END = "\r\n"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(platform.python_version_tuple()[:2] != ("3", "11"), reason="the budgets are for CPython 3.11"),
]


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    database = str(tmp_path_factory.mktemp("memory") / "db.sqlite3")
    site = "tests.integration.memory_site:application"
    args = [sys.executable, "-X", "tracemalloc=1", "-m", "fairway", site, "--port", "0", "--no-access-log"]
    with running(args, Path(ROOT), MEMORY_SITE_DATABASE=database) as server:
        yield Running.port(server)


def report(port: int) -> dict[str, int | str]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as answer:
        return json.load(answer)  # type: ignore[no-any-return]


def connected(
    port: int, path: str, cookie: str, expected: str, more: str = "", trust: ssl.SSLContext | None = None
) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port), timeout=30)
    if trust is not None:
        client = trust.wrap_socket(client, server_hostname="localhost")
    key, token = base64.b64encode(os.urandom(16)).decode(), secrets.token_hex(16)
    head = HEAD.format(path=path, port=port, token=token, cookie=cookie, key=key)
    client.sendall(f"{head.removesuffix(END)}{more}{END}".encode())
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        received = client.recv(4096)
        assert received, answer
        answer += received
    assert answer.startswith(b"HTTP/1.1 101 "), answer
    client.sendall(frame(TEXT, b"hello"))
    text = client.recv(4096)[2:].decode()
    assert text == f"{expected} hello"
    return client


@pytest.mark.parametrize(
    ("kind", "path", "has_session", "expected"),
    [
        ("plain", "plain", False, "plain"),
        ("anonymous", "chat", False, "AnonymousUser"),
        ("signed in", "chat", True, "ann"),
    ],
)
def test_an_idle_connection_stays_within_its_budget(
    port: int, kind: str, path: str, has_session: bool, expected: str
) -> None:
    cookie = f"; sessionid={report(port)['session']}" if has_session else ""
    with ExitStack() as stack:
        traced = []
        for count in (FIRST, SECOND - FIRST):
            for _ in range(count):
                stack.enter_context(connected(port, path, cookie, expected))
            traced.append(int(report(port)["traced"]))
    each = (traced[1] - traced[0]) / (SECOND - FIRST)
    assert each <= BUDGETS[kind] * TOLERANCE, f"{each:.0f} bytes for each connection"
    assert each >= BUDGETS[kind] / TOLERANCE, f"only {each:.0f} bytes for each connection: lower the budget"


TLS_BUDGET = 22_000
"""Bytes of private memory for the whole of an idle WebSocket over TLS: most of it is OpenSSL's."""


def private_memory(process: int) -> int:
    text = Path(f"/proc/{process}/smaps_rollup").read_text()
    return sum(1024 * int(line.split()[1]) for line in text.splitlines() if line.startswith("Private_"))


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="the system does not tell")
def test_an_idle_connection_over_tls_stays_within_its_budget(tmp_path: Path) -> None:
    trust = certificates.client_context()
    site = "tests.integration.memory_site:application"
    certfile = str(certificates.certificate(tmp_path))
    args = [sys.executable, "-m", "fairway", site, "--port", "0", "--no-access-log", "--certfile", certfile]
    database = str(tmp_path / "db.sqlite3")
    with running(args, Path(ROOT), MEMORY_SITE_DATABASE=database) as server, ExitStack() as stack:
        port = Running.port(server)
        held = []
        for count in (FIRST, SECOND - FIRST):
            for _ in range(count):
                stack.enter_context(connected(port, "plain", "", "plain", trust=trust))
            held.append(private_memory(server.process.pid))
    each = (held[1] - held[0]) / (SECOND - FIRST)
    assert each <= TLS_BUDGET, f"{each:.0f} bytes for each connection"


HANDSHAKES = {
    "as many cookies": ("".join(f"; c{number}=1" for number in range(198)), ""),
    "as many subprotocols": ("", "Sec-WebSocket-Protocol: " + ", ".join(f"p{n}" for n in range(50)) + END),
    "long fields": ("", "".join(f"X-Field-{number}: {'x' * 600}{END}" for number in range(80))),
    "a long name of a cookie": ("; " + "n" * 57_000 + "=1", ""),
}


@pytest.mark.parametrize(("cookie", "more"), HANDSHAKES.values(), ids=HANDSHAKES)
def test_what_a_large_handshake_leaves_is_near_its_size(port: int, cookie: str, more: str) -> None:
    size = len(cookie) + len(more)
    with ExitStack() as stack:
        traced = []
        for count in (20, 40):
            for _ in range(count):
                stack.enter_context(connected(port, "chat", cookie, "AnonymousUser", more))
            traced.append(int(report(port)["traced"]))
    each = (traced[1] - traced[0]) / 40
    # Each cookie and subprotocol is a few objects: 25 KB for as many as may be.
    assert each <= BUDGETS["anonymous"] * TOLERANCE + 2.2 * size + 25_000, f"{each:.0f} bytes for {size} more"


def test_what_large_handshakes_leave_goes_with_them(port: int) -> None:
    def once(number: int) -> None:
        name = f"{number:x}".zfill(57_000)
        connected(port, "chat", f"; {name}=1", "AnonymousUser").close()

    for number in range(10):
        once(number)
    before = int(report(port)["traced"])
    for number in range(10, 60):
        once(number)
    assert int(report(port)["traced"]) - before < 1_000_000, "names of cookies are kept for ever"
