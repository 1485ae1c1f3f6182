"""What is accepted here is accepted by h11, with the same head, content and end; h11 is an oracle for tests only."""

from __future__ import annotations

import string

import h11
from hypothesis import given
from hypothesis import strategies as st
from tests.fairway.protocols.http1.wire import feed

from fairway.protocols.http1 import BodyReceived, RequestEnded, RequestHead

TOKEN = string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~"
FRAMING = {"host", "content-length", "transfer-encoding", "connection", "expect", "upgrade", "te"}

names = st.text(TOKEN, min_size=1, max_size=12).filter(lambda name: name.lower() not in FRAMING).map(str.encode)
values = st.text(string.ascii_letters + string.digits + ' \t,;="/()%\u00e4', max_size=30).map(
    lambda v: v.encode("latin-1")
)
targets = st.text(string.ascii_letters + string.digits + "/?&=%.-_~:@!$'()*+,;", max_size=30).map(
    lambda t: b"/" + t.encode()
)
methods = st.sampled_from([b"GET", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"X-OTHER"])
connections = st.sampled_from([None, b"close", b"keep-alive", b"Keep-Alive, X"])
contents = st.none() | st.lists(st.binary(min_size=1, max_size=40), max_size=4)


@st.composite
def requests(draw):
    version = draw(st.sampled_from([b"1.1", b"1.0"]))
    lines = [draw(methods) + b" " + draw(targets) + b" HTTP/" + version, b"Host: example.org:8000"]
    for name, value in draw(st.lists(st.tuples(names, values), max_size=6)):
        lines.append(name + b":" + draw(st.sampled_from([b"", b" ", b"\t "])) + value)
    if (connection := draw(connections)) is not None:
        lines.append(b"Connection: " + connection)
    pieces = draw(contents)
    body = b""
    if pieces is not None and version == b"1.1" and draw(st.booleans()):
        lines.append(b"Transfer-Encoding: chunked")
        body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    elif pieces is not None:
        body = b"".join(pieces)
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def seen_by_h11(data: bytes) -> tuple[h11.Request, bytes, bool]:
    server = h11.Connection(h11.SERVER)
    server.receive_data(data)
    request = server.next_event()
    content = b""
    while isinstance(event := server.next_event(), h11.Data):
        content += bytes(event.data)
    assert isinstance(event, h11.EndOfMessage)
    return request, content, server.their_state is not h11.MUST_CLOSE


@given(requests(), st.integers(1, 50))
def test_well_formed_requests_are_read_as_h11_reads_them(data, size):
    request, expected_content, keep_alive = seen_by_h11(data)

    _, events = feed(data[i : i + size] for i in range(0, len(data), size))

    head = events[0]
    assert isinstance(head, RequestHead), events
    assert events[-1] == RequestEnded()
    assert (head.method.encode(), head.target, head.version.encode()) == (
        request.method,
        request.target,
        request.http_version,
    )
    assert head.headers == list(request.headers)
    assert b"".join(event.data for event in events if isinstance(event, BodyReceived)) == expected_content
    if head.version == "1.1":
        # h11 does not keep HTTP/1.0 connections even if the peer asks for it.
        assert head.keep_alive is keep_alive
    else:
        assert not keep_alive
