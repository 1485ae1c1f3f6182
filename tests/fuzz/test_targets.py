"""The targets of the fuzzer under Hypothesis, and that each of them would notice."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fuzz import targets
from tests.fuzz.samples import HTTP1, HTTP2, WEBSOCKET


def inputs(*parts):
    known = st.lists(st.sampled_from(parts) | st.binary(max_size=20), max_size=12).map(b"".join)
    return st.tuples(st.binary(min_size=8, max_size=8), known | st.binary(max_size=200)).map(b"".join)


@given(inputs(*HTTP1))
def test_http1(data):
    targets.http1(data[4:])


@given(inputs(*HTTP2))
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
