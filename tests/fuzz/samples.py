"""Pieces of what a peer may send, in order and not: what inputs are made of."""

from __future__ import annotations

from tests.fairway.protocols.http2.wire import GET, data, headers, post, settings, window_update

from fairway.protocols.http2.hpack.encoder import encode

HTTP1 = [
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"POST / HTTP/1.1\r\nHost: a\r\n", b"Content-Length: 5\r\n\r\nhello",
    b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", b"\r\n", b"\x00", b"Cookie: a; b; c\r\n",
]  # fmt: skip
HTTP2 = [
    headers(1), headers(3), post(1), post(5), headers(1, [(b"x", b"y")]), headers(7, [*GET, (b"x", b"y" * 400)]),
    data(1, b"x" * 30), data(1, b"", 1), data(5, b"x" * 101), settings((4, 0)), settings((1, 0)), window_update(1, 5),
    window_update(0, 1), b"\0\0\4\3\0\0\0\0\1\0\0\0\1", b"\0\0\2\1\4\0\0\0\7\x82\x84",
    b"\0\0\0\t\4\0\0\0\7", encode(GET),
]  # fmt: skip
WEBSOCKET = [
    b"\x81\x82\0\0\0\0ab", b"\x01\x81\0\0\0\0a", b"\x80\x81\0\0\0\0\xc3", b"\x88\x80\0\0\0\0", b"\x89\x80\0\0\0\0",
    b"\xc1\x83\0\0\0\0\x4a\x04\x00", b"\x81\xfe\0\x7e\0\0\0\0" + b"a" * 126,
]  # fmt: skip

SAMPLES = {"http1": HTTP1, "http2": HTTP2, "websocket": WEBSOCKET}
