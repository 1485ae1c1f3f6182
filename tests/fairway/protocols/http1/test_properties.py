"""Properties: cuts do not matter, noise does not raise, memory stays within the limits, replies can be read back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise

import h11
from hypothesis import given
from hypothesis import strategies as st
from tests.fairway.protocols.http1.test_smuggling import SAMPLES, TAKEN
from tests.fairway.protocols.http1.wire import BEHIND, chunked, feed, head, merged

from fairway.protocols.http1 import (
    BodyReceived,
    Http1Protocol,
    LocalProtocolError,
    PlainHeads,
    PrefaceReceived,
    RequestEnded,
    RequestFailed,
)
from fairway.protocols.http1.body import CHUNKS_AT_ONCE

FRAGMENTS = [
    b"GET / HTTP/1.1\r\n", b"POST /a?b HTTP/1.1\r\n", b"GET / HTTP/1.0\r\n", b"Host: a\r\n", b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n", b"Connection: keep-alive\r\n",
    b"Expect: 100-continue\r\n",
    b"\r\n", b"\r", b"\n", b" ", b"\t", b":", b"5\r\n", b"hello", b"0\r\n", b"0\r\n\r\n", b";a=b", b'"', b"\x00",
    b"\x85",
    b"Upgrade: websocket\r\n", b"X: " + b"y" * 40, b"GET", b"http://a/", b"*", b"#",
]  # fmt: skip

fragments = st.lists(st.sampled_from(FRAGMENTS) | st.binary(max_size=8), max_size=30).map(b"".join)
samples = st.sampled_from([data for _, data in SAMPLES.values()] + list(TAKEN.values()))
wire = fragments | samples | st.binary(max_size=200)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    bounds = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in pairwise(bounds)]


def without_data(events: Iterable[object]) -> list[object]:
    """The events without what the preface of another protocol came with: all that had been sent until it was whole."""
    return [replace(event, data=b"") if isinstance(event, PrefaceReceived) else event for event in events]


def finish_all(connection: Http1Protocol, events: list[object]) -> list[object]:
    """Answer each request at once, so that all pipelined ones are read."""
    while connection.request is not None and not connection.should_close and not connection.response_started:
        connection.send_response(204, [])
        connection.send_body(b"", False)
        events += connection.next_request()
    return events


def held_bytes(connection: Http1Protocol) -> int:
    """Bytes of unfinished lines and kept fields, wherever the connection keeps them."""
    reader = connection.reader
    held = len(reader._lines._held) + sum(len(name) + len(value) for name, value in reader._headers)
    if reader._request_line is not None:
        held += len(reader._request_line.target)
    body = connection._body
    return held + (len(body._lines._held) if hasattr(body, "_lines") else 0)


@given(wire, st.lists(st.integers(0, 500), max_size=20))
def test_any_cut_gives_the_same_events(data, places):
    _, whole = feed([data])
    _, in_pieces = feed(cut(data, places))

    assert without_data(in_pieces) == without_data(whole)


@given(wire, st.lists(st.integers(0, 500), max_size=20), st.integers(1, 60), st.integers(1, 120), st.integers(0, 4))
def test_any_cut_gives_the_same_events_near_the_limits(data, places, line, total, count):
    limits = {"max_request_line_bytes": line, "max_header_bytes": total, "max_header_count": count}

    assert without_data(feed(cut(data, places), **limits)[1]) == without_data(feed([data], **limits)[1])


@given(st.lists(wire, max_size=4).map(b"".join), st.lists(st.integers(0, 800), max_size=20))
def test_any_cut_of_pipelined_requests_gives_the_same_events(data, places):
    def all_events(pieces):
        connection = Http1Protocol()
        events: list[object] = []
        for piece in pieces:
            events += connection.receive_data(piece)
            finish_all(connection, events)
        return without_data(merged(events + connection.receive_eof()))

    assert all_events(cut(data, places)) == all_events([data])


tiny = st.tuples(
    st.sampled_from([b"1\r\na\r\n", b"02\r\nbc\r\n", b"1;x\r\nd\r\n"]),
    st.sampled_from([1, 7, 100, CHUNKS_AT_ONCE, 1500]),
)


@given(
    st.lists(tiny, max_size=4),
    st.sampled_from([b"0\r\n\r\n", b"0\r\nX: y\r\n\r\n", b"0\r\n", b"3\r\nab", b"x\r\n", b"1\r\nab"]),
    st.sampled_from([b"", BEHIND]),
    st.lists(st.integers(0, 20000), max_size=5),
    st.lists(st.booleans(), min_size=1, max_size=10),
)
def test_a_body_of_tiny_chunks_has_the_same_events_whether_it_is_parted_or_not(runs, end, behind, places, goes_on):
    data = chunked(b"".join(chunk * count for chunk, count in runs) + end) + behind
    step = 64  # never parted
    unparted, whole = feed(data[start : start + step] for start in range(0, len(data), step))
    whole += unparted.receive_eof()
    connection = Http1Protocol()
    events: list[object] = []
    for number, piece in enumerate(cut(data, places)):
        events += connection.receive_data(piece)
        if goes_on[number % len(goes_on)]:
            events += connection.receive_data(b"")
        assert connection.buffered <= len(data)
    events += connection.receive_eof()
    while connection.is_parted:
        events += connection.receive_data(b"")

    assert merged(events) == whole
    assert connection.buffered == unparted.buffered
    assert RequestEnded() in whole or isinstance(whole[-1], RequestFailed)


@given(st.lists(wire, max_size=8), st.integers(1, 60), st.integers(1, 120), st.integers(0, 4))
def test_noise_never_raises_and_memory_is_bounded(pieces, line, total, count):
    connection = Http1Protocol(max_request_line_bytes=line, max_header_bytes=total, max_header_count=count)
    received = 0

    for piece in pieces:
        events = connection.receive_data(piece)
        received += len(piece)
        assert held_bytes(connection) <= total + 1024
        assert connection.buffered <= received
        assert all(event.data for event in events if isinstance(event, BodyReceived))
        failures = [event for event in events if isinstance(event, RequestFailed)]
        assert all(400 <= event.status <= 505 and "RFC " in event.reason for event in failures)
        assert not failures or connection.receive_data(piece) == []
    connection.receive_eof()


@given(st.binary(min_size=1, max_size=64), st.integers(1, 2000))
def test_an_endless_head_is_never_held_beyond_its_limit(unit, repeats):
    connection = Http1Protocol(max_header_bytes=500)

    connection.receive_data(b"GET / HTTP/1.1\r\nHost: a\r\n")
    for _ in range(repeats):
        connection.receive_data(unit)
        assert held_bytes(connection) <= 500
        if connection.request is not None or connection.should_close:
            break


header_lists = st.lists(
    st.tuples(
        st.sampled_from(
            [b"content-type", b"Set-Cookie", b"x-a", b"content-length", b"connection", b"transfer-encoding"]
        )
        | st.binary(max_size=4),
        st.sampled_from([b"", b"5", b"close", b"a b", b"keep-alive"]) | st.binary(max_size=6),
    ),
    max_size=5,
)


@given(
    st.sampled_from([b"GET / HTTP/1.1", b"HEAD / HTTP/1.1", b"GET / HTTP/1.0"]),
    st.sampled_from([200, 204, 205, 304, 404, 599]),
    header_lists,
    st.lists(st.binary(max_size=20), min_size=1, max_size=4),
)
def test_every_response_that_is_sent_is_read_back_by_another_implementation(first, status, headers, pieces):
    connection = Http1Protocol()
    connection.receive_data(head(first=first))
    try:
        data = connection.send_response(status, headers)
        for piece in pieces[:-1]:
            data += connection.send_body(piece, True)
        data += connection.send_body(pieces[-1], False)
    except LocalProtocolError:
        return
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=first.split()[0], target="/", headers=[("Host", "a")]))
    client.send(h11.EndOfMessage())
    client.receive_data(data)
    client.receive_data(b"")

    response = client.next_event()
    content = b""
    while isinstance(event := client.next_event(), h11.Data):
        content += event.data

    assert response.status_code == status
    assert isinstance(event, h11.EndOfMessage)
    has_content = first.startswith(b"GET") and status not in (204, 205, 304)
    assert content == (b"".join(pieces) if has_content else b"")
    assert client.trailing_data[0] == b"", "nothing may follow the response"


REQUESTS = [
    head(), head(b"Connection: keep-alive"), head(b"Connection: close"), head(b"TE: trailers"),
    head(first=b"GET / HTTP/1.0"), head(b"Connection: keep-alive", first=b"GET / HTTP/1.0"),
    head(first=b"HEAD / HTTP/1.1"), head(b"Connection: Upgrade", b"Upgrade: websocket"),
    head(b"Content-Length: 5", first=b"POST / HTTP/1.1") + b"hello",
    head(b"Content-Length: 5", first=b"POST / HTTP/1.1") + b"he",
    head() + head(first=b"GET /pipelined HTTP/1.1"), head()[:-2],
]  # fmt: skip
FIELDS = [
    (b"content-type", b"text/plain"), (b"X-Own", b"1"), (b"set-cookie", b"a=b"), (b"set-cookie", b"c=d"),
    (b"date", b"today"), (b"Server", b"mine"), (b"transfer-encoding", b"chunked"),
    (b"connection", b"close"), (b"connection", b"keep-alive"), (b"connection", b"x, Close"),
    (b"content-length", b"0"), (b"Content-Length", b"5"), (b"content-length", b"x"),
    (b"bad name", b"1"), (b"bad-value", b"1\r\n"),
]  # fmt: skip
DEFAULT_HEADERS = b"server: fairway\r\ndate: now\r\n"
kept_heads = PlainHeads(DEFAULT_HEADERS)


@given(
    st.sampled_from(REQUESTS),
    st.booleans(),
    st.sampled_from([101, 199, 200, 201, 204, 205, 304, 404, 500, 599]),
    st.lists(st.sampled_from(FIELDS), max_size=3).map(tuple),
    st.sampled_from([b"", b"hello", b"longer content"]),
)
def test_a_whole_response_is_what_the_general_path_sends(data, ended, status, headers, content):
    whole, general = Http1Protocol(), Http1Protocol()
    for connection in (whole, general):
        connection.receive_data(data)
        if ended:
            connection.receive_eof()

    response = whole.send_whole(status, headers, content, kept_heads)

    if response is None:
        assert not whole.response_started
    else:
        if all(name.lower() != b"content-length" for name, _ in headers):
            headers += ((b"content-length", b"%d" % len(content)),)
        expected = general.send_response(status, headers, default_headers=DEFAULT_HEADERS)
        assert response == expected + general.send_body(content, False)
        assert (whole.response_complete, whole.should_close) == (general.response_complete, general.should_close)
        assert whole.next_request() == general.next_request()
        assert whole.is_idle == general.is_idle
        assert whole.receive_data(head()) == general.receive_data(head())
