"""Families of requests that two implementations may read differently, as attack lists name them.

Each is refused with the status named, or is one request and no more; none may turn the bytes of ``INNER`` into a
request of their own while the first one is being read.
"""

from __future__ import annotations

import pytest
from tests.fairway.protocols.http1.wire import feed, head

from fairway.protocols.http1 import RequestFailed, RequestHead

INNER = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1"
CHUNKED = b"Transfer-Encoding: chunked"


def post(*lines: bytes, body: bytes = b"0\r\n\r\n") -> bytes:
    return head(*lines, first=POST) + body + INNER


SAMPLES = {
    # content-length
    "CL.TE": (400, post(b"Content-Length: 6", CHUNKED, body=b"0\r\n\r\nG")),
    "TE.CL": (400, post(CHUNKED, b"Content-Length: 4", body=b"5c\r\n")),
    "CL.TE with zero length": (400, post(b"Content-Length: 0", CHUNKED)),
    "CL duplicate same": (400, post(b"Content-Length: 5", b"Content-Length: 5", body=b"hello")),
    "CL duplicate different": (400, post(b"Content-Length: 5", b"Content-Length: 50", body=b"hello")),
    "CL comma same": (400, post(b"Content-Length: 5, 5", body=b"hello")),
    "CL comma different": (400, post(b"Content-Length: 5,50", body=b"hello")),
    "CL plus": (400, post(b"Content-Length: +5", body=b"hello")),
    "CL negative": (400, post(b"Content-Length: -5", body=b"hello")),
    "CL negative zero": (400, post(b"Content-Length: -0")),
    "CL hex": (400, post(b"Content-Length: 0x5", body=b"hello")),
    "CL octal prefix": (400, post(b"Content-Length: 0o5", body=b"hello")),
    "CL inner space": (400, post(b"Content-Length: 1 0", body=b"hello")),
    "CL underscore": (400, post(b"Content-Length: 1_0", body=b"hello")),
    "CL trailing garbage": (400, post(b"Content-Length: 5abc", body=b"hello")),
    "CL overflow": (400, post(b"Content-Length: 99999999999999999999", body=b"hello")),
    "CL 2**64 wrap": (400, post(b"Content-Length: 18446744073709551621", body=b"hello")),
    "CL empty": (400, post(b"Content-Length:")),
    "CL float": (400, post(b"Content-Length: 5.0", body=b"hello")),
    "CL exponent": (400, post(b"Content-Length: 1e1", body=b"hello")),
    "CL unicode digit": (400, post("Content-Length: ٥".encode(), body=b"hello")),
    "CL quoted": (400, post(b'Content-Length: "5"', body=b"hello")),
    "CL semicolon": (400, post(b"Content-Length: 5;q=1", body=b"hello")),
    "CL space before colon": (400, post(b"Content-Length : 5", body=b"hello")),
    "CL tab before colon": (400, post(b"Content-Length\t: 5", body=b"hello")),
    "CL vertical tab": (400, post(b"Content-Length:\x0b5", body=b"hello")),
    "CL NUL": (400, post(b"Content-Length: 5\x00", body=b"hello")),
    "CL in a fold": (400, post(b"X: a", b" Content-Length: 5", body=b"hello")),
    "CL folded": (400, post(b"Content-Length:", b" 5", body=b"hello")),
    # transfer-encoding
    "TE space before colon": (400, post(b"Transfer-Encoding : chunked")),
    "TE tab before colon": (400, post(b"Transfer-Encoding\t: chunked")),
    "TE leading space name": (400, post(b" Transfer-Encoding: chunked")),
    "TE xchunked": (400, post(b"Transfer-Encoding: xchunked")),
    "TE chunkedx": (400, post(b"Transfer-Encoding: chunkedx")),
    "TE chunked identity": (400, post(b"Transfer-Encoding: chunked, identity")),
    "TE identity": (400, post(b"Transfer-Encoding: identity")),
    "TE identity chunked": (501, post(b"Transfer-Encoding: identity, chunked")),
    "TE two lines": (400, post(CHUNKED, CHUNKED)),
    "TE two lines other first": (501, post(b"Transfer-Encoding: x", CHUNKED)),
    "TE two lines other last": (400, post(CHUNKED, b"Transfer-Encoding: x")),
    "TE double chunked": (400, post(b"Transfer-Encoding: chunked, chunked")),
    "TE gzip chunked": (501, post(b"Transfer-Encoding: gzip, chunked")),
    "TE quoted": (400, post(b'Transfer-Encoding: "chunked"')),
    "TE apostrophes": (400, post(b"Transfer-Encoding: 'chunked'")),
    "TE parameter": (400, post(b"Transfer-Encoding: chunked;q=1")),
    "TE trailing comma": (400, post(b"Transfer-Encoding: chunked,")),
    "TE leading comma": (400, post(b"Transfer-Encoding: ,chunked")),
    "TE empty": (400, post(b"Transfer-Encoding:")),
    "TE vertical tab": (400, post(b"Transfer-Encoding: \x0bchunked")),
    "TE form feed": (400, post(b"Transfer-Encoding: \x0cchunked")),
    "TE NEL": (400, post(b"Transfer-Encoding: chunked\x85")),
    "TE NBSP": (400, post(b"Transfer-Encoding: \xa0chunked")),
    "TE NUL": (400, post(b"Transfer-Encoding: chunked\x00")),
    "TE bare CR prefix": (400, post(b"Transfer-Encoding: \rchunked")),
    "TE bare CR before name": (400, post(b"X: a\rTransfer-Encoding: chunked")),
    "TE bare LF before name": (400, post(b"X: a\nTransfer-Encoding: chunked")),
    "TE folded": (400, post(b"Transfer-Encoding:", b" chunked")),
    "TE folded with tab": (400, post(b"Transfer-Encoding:", b"\tchunked")),
    "TE no colon": (400, post(b"Transfer-Encoding chunked")),
    "TE in HTTP/1.0": (400, head(CHUNKED, first=b"POST / HTTP/1.0") + b"0\r\n\r\n" + INNER),
    # chunks
    "chunk bare LF after size": (400, post(CHUNKED, body=b"5\nhello\r\n0\r\n\r\n")),
    "chunk bare LF after data": (400, post(CHUNKED, body=b"5\r\nhello\n0\r\n\r\n")),
    "chunk bare CR after size": (400, post(CHUNKED, body=b"5\rhello\r\n0\r\n\r\n")),
    "chunk end bare LF": (400, post(CHUNKED, body=b"0\r\n\n")),
    "chunk end bare LFs": (400, post(CHUNKED, body=b"0\n\n")),
    "chunk any two bytes as end": (400, post(CHUNKED, body=b"5\r\nhelloXX0\r\n\r\n")),
    "chunk no CRLF after data": (400, post(CHUNKED, body=b"5\r\nhello0\r\n\r\n")),
    "chunk extension bare LF": (400, post(CHUNKED, body=b"5;a\nhello\r\n0\r\n\r\n")),
    "chunk extension bare CR": (400, post(CHUNKED, body=b"5;a\rhello\r\n0\r\n\r\n")),
    "chunk extension quoted CRLF": (400, post(CHUNKED, body=b'5;a="\r\nhello\r\n0\r\n\r\n')),
    "chunk extension NUL": (400, post(CHUNKED, body=b"5;a\x00\r\nhello\r\n0\r\n\r\n")),
    "chunk extension bare semicolon": (400, post(CHUNKED, body=b"5;\r\nhello\r\n0\r\n\r\n")),
    "chunk size negative": (400, post(CHUNKED, body=b"-5\r\nhello\r\n0\r\n\r\n")),
    "chunk size plus": (400, post(CHUNKED, body=b"+5\r\nhello\r\n0\r\n\r\n")),
    "chunk size prefix": (400, post(CHUNKED, body=b"0x5\r\nhello\r\n0\r\n\r\n")),
    "chunk size underscore": (400, post(CHUNKED, body=b"1_0\r\nhello\r\n0\r\n\r\n")),
    "chunk size leading space": (400, post(CHUNKED, body=b" 5\r\nhello\r\n0\r\n\r\n")),
    "chunk size trailing space": (400, post(CHUNKED, body=b"5 \r\nhello\r\n0\r\n\r\n")),
    "chunk size trailing tab": (400, post(CHUNKED, body=b"5\t\r\nhello\r\n0\r\n\r\n")),
    "chunk size overflow": (400, post(CHUNKED, body=b"10000000000000005\r\nhello\r\n0\r\n\r\n")),
    "chunk size empty": (400, post(CHUNKED, body=b"\r\nhello\r\n0\r\n\r\n")),
    "chunk size comment": (400, post(CHUNKED, body=b"5#a\r\nhello\r\n0\r\n\r\n")),
    "trailer bare LF": (400, post(CHUNKED, body=b"0\r\nX: a\n\r\n")),
    "trailer fold": (400, post(CHUNKED, body=b"0\r\nX: a\r\n b\r\n\r\n")),
    # host and target
    "host missing": (400, head(host=b"") + INNER),
    "host duplicate": (400, head(b"Host: b") + INNER),
    "host with path": (400, head(host=b"Host: a/b") + INNER),
    "host with user": (400, head(host=b"Host: u@a") + INNER),
    "host space before colon": (400, head(host=b"Host : a") + INNER),
    "host list": (400, head(host=b"Host: a, b") + INNER),
    "absolute target with user": (400, head(first=b"GET http://u@a/ HTTP/1.1") + INNER),
    "authority target": (501, head(first=b"CONNECT a:80 HTTP/1.1") + INNER),
    "fragment": (400, head(first=b"GET /#a HTTP/1.1") + INNER),
    # lines
    "bare LF head": (400, b"GET / HTTP/1.1\nHost: a\n\n" + INNER),
    "bare CR head": (400, b"GET / HTTP/1.1\rHost: a\r\r" + INNER),
    "NUL in the target": (400, head(first=b"GET /\x00 HTTP/1.1") + INNER),
    "simple request": (400, b"GET /\r\n" + INNER),
    "double space": (400, head(first=b"GET  / HTTP/1.1") + INNER),
    "version 2.0": (505, head(first=b"GET / HTTP/2.0") + INNER),
    "version lower case": (400, head(first=b"GET / http/1.1") + INNER),
    "fold in the first field": (400, head(b" a: b", host=b"") + INNER),
}

TAKEN = {
    "TE upper case": post(b"TRANSFER-ENCODING: CHUNKED"),
    "TE white space around the value": post(b"Transfer-Encoding: \t chunked \t "),
    "CL white space around the value": post(b"Content-Length: \t 5 ", body=b"hello"),
    "CL leading zeros": post(b"Content-Length: 005", body=b"hello"),
    "underscores are another name": post(b"Content_Length: 500", b"Transfer_Encoding: chunked", body=b""),
    "trailer named like framing": post(CHUNKED, body=b"0\r\nContent-Length: 50\r\nTransfer-Encoding: x\r\n\r\n"),
    "GET with content": head(b"Content-Length: 5") + b"hello" + INNER,
    "chunk extension": post(CHUNKED, body=b'5;a="b;c"\r\nhello\r\n0;d\r\n\r\n'),
    "absolute target of another host": head(first=b"GET http://b/ HTTP/1.1") + INNER,
}


def cuts(data: bytes) -> list[list[bytes]]:
    return [[data], [data[i : i + 1] for i in range(len(data))], [data[i : i + 7] for i in range(0, len(data), 7)]]


@pytest.mark.parametrize(("status", "data"), SAMPLES.values(), ids=SAMPLES)
def test_ambiguous_request_is_refused_and_what_follows_is_ignored(status, data):
    outcomes = []
    for pieces in cuts(data):
        connection, events = feed(pieces)
        failure = events[-1]
        assert isinstance(failure, RequestFailed), events
        assert failure.status == status
        assert "RFC " in failure.reason
        assert sum(isinstance(event, RequestHead) for event in events) <= 1
        assert connection.should_close
        assert connection.receive_data(INNER) == []
        assert connection.buffered == 0
        outcomes.append(events)

    assert outcomes[0] == outcomes[1] == outcomes[2]


@pytest.mark.parametrize("data", TAKEN.values(), ids=TAKEN)
def test_unusual_but_clear_request_ends_where_it_should(data):
    for pieces in cuts(data):
        connection, events = feed(pieces)
        assert sum(isinstance(event, RequestHead) for event in events) == 1
        assert connection.buffered == len(INNER)
