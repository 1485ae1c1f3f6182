"""Microseconds for one request head: this parser against httptools and h11, each as far as it can be imported.

Run ``python bench/micro/http1_head.py``. All parsers get the same bytes and have to produce the same things: method,
target, and a list of lower-case names and values. The best of several rounds is printed; the machine's noise only
ever adds. The second block is the rest of the cheap path: a whole exchange of our own connection.
"""

from __future__ import annotations

import sys
import timeit
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from fairway.protocols.http1 import Http1Protocol
from fairway.protocols.http1.head import HeadReader

ROUNDS = 7
CALLS = 2_000

BROWSER = (
    b"GET /chat/room/?x=1 HTTP/1.1\r\n"
    b"Host: example.org:8000\r\n"
    b"Connection: keep-alive\r\n"
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0\r\n"
    b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n"
    b"Accept-Encoding: gzip, deflate, br, zstd\r\n"
    b"Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\n"
    b"Cookie: csrftoken=abcdefghijklmnopqrstuvwxyz012345; sessionid=abcdefghijklmnopqrstuvwxyz012345\r\n"
    b"Cache-Control: max-age=0\r\n"
    b"\r\n"
)
HANDSHAKE = (
    b"GET /ws/chat/room/ HTTP/1.1\r\n"
    b"Host: example.org:8000\r\n"
    b"Connection: Upgrade\r\n"
    b"Pragma: no-cache\r\n"
    b"Cache-Control: no-cache\r\n"
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0\r\n"
    b"Upgrade: websocket\r\n"
    b"Origin: http://example.org:8000\r\n"
    b"Sec-WebSocket-Version: 13\r\n"
    b"Accept-Encoding: gzip, deflate, br, zstd\r\n"
    b"Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\n"
    b"Cookie: csrftoken=abcdefghijklmnopqrstuvwxyz012345; sessionid=abcdefghijklmnopqrstuvwxyz012345\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
    b"\r\n"
)
DEFAULT_HEADERS = b"server: fairway\r\ndate: Mon, 23 Nov 2026 09:00:00 GMT\r\n"
RESPONSE_HEADERS = [
    (b"Content-Type", b"text/html; charset=utf-8"),
    (b"X-Frame-Options", b"DENY"),
    (b"Content-Length", b"12"),
    (b"Vary", b"Cookie"),
]


def fairway_parser(data: bytes) -> Callable[[], object]:
    reader = HeadReader(8192, 65536, 100)
    return lambda: reader.receive(data)


def fairway_in_pieces(data: bytes) -> Callable[[], object]:
    reader = HeadReader(8192, 65536, 100)
    half = len(data) // 2
    first, second = data[:half], data[half:]
    return lambda: (reader.receive(first), reader.receive(second))


def httptools_parser(data: bytes) -> Callable[[], object]:
    import httptools

    class Receiver:
        def __init__(self) -> None:
            self.target = b""
            self.headers: list[tuple[bytes, bytes]] = []

        def on_url(self, url: bytes) -> None:
            self.target += url

        def on_header(self, name: bytes, value: bytes) -> None:
            self.headers.append((name.lower(), value))

    def parse() -> object:
        receiver = Receiver()
        parser = httptools.HttpRequestParser(receiver)
        with suppress(httptools.HttpParserUpgrade):
            parser.feed_data(data)
        return parser.get_method(), httptools.parse_url(receiver.target), parser.get_http_version()

    return parse


def h11_parser(data: bytes) -> Callable[[], object]:
    import h11

    def parse() -> object:
        connection = h11.Connection(h11.SERVER)
        connection.receive_data(data)
        return connection.next_event()

    return parse


def exchange() -> Callable[[], object]:
    connection = Http1Protocol()

    def run() -> object:
        connection.receive_data(BROWSER)
        data = connection.send_response(200, RESPONSE_HEADERS, default_headers=DEFAULT_HEADERS)
        data += connection.send_body(b"hello, world", False)
        connection.next_request()
        return data

    return run


def measure(name: str, call: Callable[[], object]) -> None:
    best = min(timeit.repeat(call, number=CALLS, repeat=ROUNDS)) / CALLS
    print(f"  {name:<28}{best * 1e6:8.2f} µs")


def main() -> None:
    for title, data in (("browser, 8 fields", BROWSER), ("WebSocket handshake, 13 fields", HANDSHAKE)):
        print(f"{title}, {len(data)} bytes")
        measure("fairway", fairway_parser(data))
        measure("fairway, in two pieces", fairway_in_pieces(data))
        for name, make in (("httptools", httptools_parser), ("h11", h11_parser)):
            try:
                call = make(data)
            except ImportError:
                print(f"  {name:<28}not installed")
                continue
            measure(name, call)
    print("request, response, 12 bytes of content")
    measure("fairway", exchange())


if __name__ == "__main__":
    main()
