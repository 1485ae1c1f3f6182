"""The targets of the fuzzer under Hypothesis, and that each of them would notice."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fairway.protocols.http2.wire import GET, data, headers, post, settings, window_update
from tests.fuzz import targets

from fairway.protocols.http2.hpack.encoder import encode

HTTP1 = [
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"POST / HTTP/1.1\r\nHost: a\r\n", b"Content-Length: 5\r\n\r\nhello",
    b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", b"\r\n", b"\x00", b"Cookie: a; b; c\r\n",
]  # fmt: skip
HTTP2 = [
    headers(1), headers(3), post(1), post(5), headers(1, [(b"x", b"y")]), headers(7, [*GET, (b"x", b"y" * 400)]),
    data(1, b"x" * 30), data(1, b"", 1), data(5, b"x" * 101), settings((4, 0)), settings((1, 0)), window_update(1, 5),
    window_update(0, 1), b"\0\0\4\3\0\0\0\0\1\0\0\0\1", b"\0\0\2\1\4\0\0\0\7\x82\x84",
    b"\0\0\0\t\4\0\0\0\7",
]  # fmt: skip
WEBSOCKET = [
    b"\x81\x82\0\0\0\0ab", b"\x01\x81\0\0\0\0a", b"\x80\x81\0\0\0\0\xc3", b"\x88\x80\0\0\0\0", b"\x89\x80\0\0\0\0",
    b"\xc1\x83\0\0\0\0\x4a\x04\x00", b"\x81\xfe\0\x7e\0\0\0\0" + b"a" * 126,
]  # fmt: skip


def inputs(*parts):
    known = st.lists(st.sampled_from(parts) | st.binary(max_size=20), max_size=12).map(b"".join)
    return st.tuples(st.binary(min_size=8, max_size=8), known | st.binary(max_size=200)).map(b"".join)


@given(inputs(*HTTP1))
def test_http1(data):
    targets.http1(data[4:])


@given(inputs(*HTTP2, encode(GET)))
def test_http2(data):
    targets.http2(data)


@given(inputs(*WEBSOCKET))
def test_websocket(data):
    targets.websocket(data[4:])


@pytest.mark.parametrize(
    ("name", "sample", "reached"),
    [
        ("http1", b"\0\0\0\0" + HTTP1[0], "Http1Protocol"),
        ("http2", b"\1\0\1\0\0\0\0\0" + HTTP2[0], "Http2Protocol"),
        ("websocket", b"\0\0\0\0" + WEBSOCKET[0], "WebSocketProtocol"),
    ],
)
def test_what_raises_or_depends_on_the_cut_is_noticed(monkeypatch, name, sample, reached):
    target = targets.TARGETS[name]
    target(sample)

    class Broken(getattr(targets, reached)):
        def receive_data(self, data, *more):
            return [] if len(data) < 2 else super().receive_data(data, *more)

    monkeypatch.setattr(targets, reached, Broken)
    with pytest.raises(AssertionError, match="cut in pieces, it gives other events"):
        target(sample)
