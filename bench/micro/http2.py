"""What HTTP/2 costs without a kernel and without an application: bytes of a request in, bytes of a response out.

Run ``python bench/micro/http2.py``. Behind each figure stand that of h2 for the same bytes, if it is installed, and how
many times as much that is; the two are measured in turn. `varying` gives each request another path, as a literal in
Huffman's code. The response is a 200 with 13 bytes of content. At last, what an idle connection takes in memory.
"""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from measuring import microseconds

from fairway.protocols.http2 import DataReceived, Http2Limits, Http2Protocol, PlainBlocks, RequestReceived, Stream
from fairway.protocols.http2.frames import data_frames, settings_frame, window_update_frame

try:
    import h2.config
    import h2.connection
    import h2.events
    import hpack
except ImportError:
    raise SystemExit("bench/micro/http2.py needs h2: pip install h2") from None

REQUESTS = 200
PIECES = 100
CONTENT = b"Hello, world!"
FIVE = [
    (":method", "GET"), (":scheme", "http"), (":authority", "127.0.0.1:8000"), (":path", "/"),
    ("user-agent", "h2load nghttp2/1.52.0"),
]  # fmt: skip
CHROME = [
    (":method", "GET"), (":authority", "example.org"), (":scheme", "https"), (":path", "/"),
    ("cache-control", "max-age=0"),
    ("sec-ch-ua", '"Chromium";v="140", "Not=A?Brand";v="24", "Google Chrome";v="140"'),
    ("sec-ch-ua-mobile", "?0"), ("sec-ch-ua-platform", '"Linux"'), ("upgrade-insecure-requests", "1"),
    ("user-agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0"),
    ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"),
    ("sec-fetch-site", "none"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document"),
    ("accept-encoding", "gzip, deflate, br, zstd"), ("accept-language", "en-GB,en;q=0.9"),
    ("cookie", "csrftoken=abcdefghijklmnopqrstuvwxyz012345"), ("cookie", "sessionid=abcdefghijklmnopqrstuvwxyz012345"),
]  # fmt: skip
RESPONSE = ((b"content-type", b"text/plain"), (b"content-length", b"13"))
DEFAULTS = ((b"date", b"Sat, 28 Nov 2026 12:00:00 GMT"), (b"server", b"fairway"))
HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings_frame([]) + b"\0\0\0\4\1\0\0\0\0"
LIMITS = Http2Limits(patience=10**9)
BLOCKS = PlainBlocks(DEFAULTS)


def headers_frame(number: int, block: bytes, flags: int = 5) -> bytes:
    return len(block).to_bytes(3, "big") + bytes((1, flags)) + number.to_bytes(4, "big") + block


def blocks(fields: list[tuple[str, str]], paths: Iterable[str]) -> Iterator[bytes]:
    """As one client would send them on a connection; the paths are not put into the table."""
    encoder = hpack.Encoder()
    for path in paths:
        kept = [(name, path if name == ":path" else value, name == ":path" and path != "/") for name, value in fields]
        yield encoder.encode([hpack.NeverIndexedHeaderTuple(*one[:2]) if one[2] else one[:2] for one in kept])


class Own:
    """Our protocol, as the server drives it."""

    def __init__(self) -> None:
        self.protocol = Http2Protocol(LIMITS, 0.0)
        self.protocol.data_to_send()
        self.protocol.receive_data(HELLO, 0.0)
        self.protocol.data_to_send()

    def receive(self, data: bytes) -> Any:
        events = self.protocol.receive_data(data, 0.0)
        self.protocol.data_to_send()
        return events[0]

    def answer(self, event: RequestReceived) -> bytes:
        answer = event.stream.send_whole(200, RESPONSE, CONTENT, BLOCKS)
        assert answer is not None
        return answer

    def start(self, event: RequestReceived) -> None:
        event.stream.send_response(200, ())
        event.stream.window = self.protocol.window = 2**31 - 1

    def send(self, event: RequestReceived, data: bytes) -> bytes:
        return event.stream.data(data)

    def take(self, data: bytes) -> bytes:
        event = self.receive(data)
        assert type(event) is DataReceived
        stream: Stream = event.stream
        return stream.credit(len(event.data))


class Theirs:
    """h2, as a server drives it that knows its ways."""

    def __init__(self) -> None:
        config = h2.config.H2Configuration(client_side=False, header_encoding=None)
        self.protocol = h2.connection.H2Connection(config)
        self.protocol.initiate_connection()
        self.protocol.receive_data(HELLO)
        self.protocol.data_to_send()

    def receive(self, data: bytes) -> Any:
        return self.protocol.receive_data(data)[0]

    def answer(self, event: Any) -> bytes:
        self.protocol.send_headers(event.stream_id, [(b":status", b"200"), *DEFAULTS, *RESPONSE])
        self.protocol.send_data(event.stream_id, CONTENT, end_stream=True)
        return self.protocol.data_to_send()

    def start(self, event: Any) -> None:
        self.protocol.send_headers(event.stream_id, [(b":status", b"200")])
        self.protocol.receive_data(window_update_frame(0, 2**30) + window_update_frame(event.stream_id, 2**30))
        self.protocol.data_to_send()

    def send(self, event: Any, data: bytes) -> bytes:
        self.protocol.send_data(event.stream_id, data)
        return self.protocol.data_to_send()

    def take(self, data: bytes) -> bytes:
        event = self.receive(data)
        self.protocol.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        return self.protocol.data_to_send()


def requests(side: type[Own] | type[Theirs], sent: list[bytes]) -> Callable[[], None]:
    """A call that makes a connection and serves all requests on it; the first fills the tables."""

    def serve() -> None:
        connection = side()
        for data in sent:
            connection.answer(connection.receive(data))

    return serve


def pieces(side: type[Own] | type[Theirs], size: int, incoming: bool) -> Callable[[], None]:
    connection = side()
    event = connection.receive(headers_frame(1, next(blocks([(":method", "POST"), *FIVE[1:]], ["/"])), 4))
    connection.start(event)
    data = data_frames(1, b"x" * size)
    content = b"x" * size

    def receive() -> None:
        for _ in range(PIECES):
            connection.take(data)

    def send() -> None:
        for _ in range(PIECES):
            connection.send(event, content)

    return receive if incoming else send


def compare(name: str, make: Callable[[Any], Callable[[], None]], per: int) -> None:
    """Measure both in turn, and keep the best of each."""
    own, theirs = float("inf"), float("inf")
    calls = make(Own), make(Theirs)
    for _ in range(5):
        own = min(own, microseconds(calls[0], per, rounds=3, seconds=0.01))
        theirs = min(theirs, microseconds(calls[1], per, rounds=3, seconds=0.01))
    print(f"  {name:<44}{own:9.2f} µs   h2 {theirs:9.2f} µs   {theirs / own:6.1f} x")


def idle_bytes(make: Callable[[], object]) -> float:
    count = 200
    make()
    gc.collect()
    tracemalloc.start()
    kept = [make() for _ in range(count)]
    size = tracemalloc.get_traced_memory()[0] / count
    tracemalloc.stop()
    del kept
    return size


def after_requests(side: type[Own] | type[Theirs], sent: list[bytes]) -> Callable[[], object]:
    def make() -> object:
        connection = side()
        for data in sent:
            connection.answer(connection.receive(data))
        return connection.protocol

    return make


def main() -> None:
    numbers = range(1, 2 * REQUESTS, 2)
    same = ["/"] * REQUESTS
    varying = [f"/chat/room/{number}/messages/{number * 7919 % 1000}" for number in numbers]
    print(f"one request, the mean of {REQUESTS} on a connection")
    for name, fields, paths in (
        ("5 fields, same path", FIVE, same),
        ("5 fields, varying path", FIVE, varying),
        ("18 fields of Chrome, same path", CHROME, same),
        ("18 fields of Chrome, varying path", CHROME, varying),
    ):
        sent = [headers_frame(number, block) for number, block in zip(numbers, blocks(fields, paths), strict=True)]
        compare(name, lambda side, sent=sent: requests(side, sent), REQUESTS)
    first = [headers_frame(1, next(blocks(CHROME, ["/"])))]
    compare("18 fields, the first of its connection", lambda side: requests(side, first), 1)
    print("one DATA frame")
    for size in (66, 1024):
        compare(f"{size} bytes, in and credited", lambda side, size=size: pieces(side, size, True), PIECES)
        compare(f"{size} bytes, out", lambda side, size=size: pieces(side, size, False), PIECES)
    print("memory of one connection")
    chrome = [headers_frame(number, block) for number, block in zip(numbers, blocks(CHROME, same[:3]), strict=False)]
    for name, own, theirs in (
        ("idle", lambda: Own().protocol, lambda: Theirs().protocol),
        ("after 3 requests of Chrome", after_requests(Own, chrome), after_requests(Theirs, chrome)),
    ):
        print(f"  {name:<44}{idle_bytes(own):9.0f} B    h2 {idle_bytes(theirs):9.0f} B")


if __name__ == "__main__":
    main()
