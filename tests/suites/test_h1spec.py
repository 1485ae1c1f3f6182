"""What h1spec asks of a server that speaks HTTP/1.1, in its strict mode: 33 cases, restated.

The runner itself is in no package index. Most of its cases are one request, sent whole by a client that then closes
its sending half and reads to the end; a case says which statuses are right. The others look at the connection.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.suites.serving import Subject, served

pytestmark = pytest.mark.slow

DEADLINE = 10.0
HOST = b"Host: localhost\r\n"
CHUNKED = HOST + b"Transfer-Encoding: chunked\r\n"
HELLO = b"5\r\nhello\r\n0\r\n\r\n"
LAST = b"GET / HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"

ANY = range(200, 600)
NOT_BAD = frozenset(ANY) - {400}
BAD = {400}

# Chapter and name -> what is sent, and the statuses that are right.
SINGLE = {
    "request line: GET": (b"GET / HTTP/1.1\r\n" + HOST + b"\r\n", ANY),
    "request line: POST with a length": (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\r\nhello", NOT_BAD),
    "request line: OPTIONS *": (b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n", NOT_BAD),
    "request line: absolute target": (b"GET http://localhost/ HTTP/1.1\r\n" + HOST + b"\r\n", NOT_BAD),
    "request line: CONNECT": (b"CONNECT example.com:443 HTTP/1.1\r\n" + HOST + b"\r\n", NOT_BAD),
    "request line: another version": (b"GET / HTTP/2.0\r\n" + HOST + b"\r\n", {400, 505}),
    "request line: no version": (b"GET /\r\n" + HOST + b"\r\n", BAD),
    "headers: no Host": (b"GET / HTTP/1.1\r\n\r\n", BAD),
    "headers: two Hosts": (b"GET / HTTP/1.1\r\n" + HOST + b"Host: example.com\r\n\r\n", BAD),
    "headers: a Host with a space": (b"GET / HTTP/1.1\r\nHost: bad host\r\n\r\n", BAD),
    "headers: a name with a space": (b"GET / HTTP/1.1\r\n" + HOST + b"Bad Header: value\r\n\r\n", BAD),
    "headers: a folded line": (b"GET / HTTP/1.1\r\n" + HOST + b"  continued\r\n\r\n", BAD),
    "headers: a space before the colon": (b"GET / HTTP/1.1\r\nHost : localhost\r\n\r\n", BAD),
    "headers: NUL": (b"GET / HTTP/1.1\r\nHost: local\x00host\r\n\r\n", BAD),
    "body: chunks": (b"POST / HTTP/1.1\r\n" + CHUNKED + b"\r\n" + HELLO, NOT_BAD),
    "body: chunks in HTTP/1.0": (b"POST / HTTP/1.0\r\n" + CHUNKED + b"\r\n" + HELLO, BAD),
    "body: chunks and a length": (b"POST / HTTP/1.1\r\n" + CHUNKED + b"Content-Length: 5\r\n\r\n" + HELLO, BAD),
    "body: unknown coding": (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: nonsense\r\n\r\nhello", {400, 501}),
    "body: a length that is no number": (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: xyz\r\n\r\nhello", BAD),
    "body: two lengths": (
        b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nContent-Length: 7\r\n\r\nhello!!",
        BAD,
    ),
}

# Sent with another request behind it, which must not be answered; the first statuses that are right.
ALONE = {
    "body: chunks not last": (
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked, gzip\r\n\r\n" + HELLO,
        BAD,
    ),
    "body: chunks and a length, then another": (
        b"POST / HTTP/1.1\r\n" + CHUNKED + b"Content-Length: 5\r\n\r\n" + HELLO,
        BAD,
    ),
    "body: a size that is no number": (b"POST / HTTP/1.1\r\n" + CHUNKED + b"\r\nZ\r\nhello\r\n0\r\n\r\n", ANY),
    "body: a chunk without its end": (b"POST / HTTP/1.1\r\n" + CHUNKED + b"\r\n5\r\nhello0\r\n\r\n", ANY),
}

# Whatever the answer is, the next client gets one.
OVERSIZED = {
    "a long target": b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
    "many headers": b"GET / HTTP/1.1\r\n" + HOST + b"".join(b"X-H-%d: value\r\n" % n for n in range(101)) + b"\r\n",
    "a long header": b"GET / HTTP/1.1\r\n" + HOST + b"X-Big: " + b"x" * 9000 + b"\r\n\r\n",
}


class Client:
    """One connection, read line by line."""

    def __init__(self, subject: Subject) -> None:
        self.socket = socket.create_connection(("127.0.0.1", subject.port), DEADLINE)
        self.reader = self.socket.makefile("rb")

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def send_last(self, data: bytes) -> None:
        self.send(data)
        self.socket.shutdown(socket.SHUT_WR)

    def response(self, *, to_head: bool = False) -> tuple[int, dict[bytes, bytes], bytes]:
        """The next response; it fails if its end cannot be told."""
        _, status, *_ = self.reader.readline().split(b" ", 2)
        lines = list(iter(self.reader.readline, b"\r\n"))
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
        if to_head or int(status) < 200 or int(status) in (204, 304):
            return int(status), headers, b""
        if b"content-length" in headers:
            return int(status), headers, self.reader.read(int(headers[b"content-length"]))
        assert headers.get(b"connection") == b"close", "no length, no chunks, and not the last one"
        return int(status), headers, self.reader.read()

    def rest(self) -> bytes:
        """What comes until the server ends the connection."""
        return self.reader.read()

    def close(self) -> None:
        self.reader.close()
        self.socket.close()


@pytest.fixture(scope="module")
def subject() -> Iterator[Subject]:
    with served() as server:
        yield server


@pytest.fixture
def client(subject: Subject) -> Iterator[Client]:
    connected = Client(subject)
    yield connected
    connected.close()


@pytest.mark.parametrize("case", SINGLE)
def test_one_request(client: Client, case: str):
    request, right = SINGLE[case]
    client.send_last(request)

    assert client.response()[0] in right
    assert client.rest() == b""


@pytest.mark.parametrize("case", ALONE)
def test_what_follows_bad_framing_is_no_request(client: Client, case: str):
    request, right = ALONE[case]
    client.send(request + LAST)

    assert client.response()[0] in right
    assert client.rest() == b""


def test_continue_is_asked_for(client: Client):
    client.send(b"POST /count HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nExpect: 100-continue\r\n\r\n")
    assert client.response()[0] == 100

    client.send(b"hello")

    status, _, body = client.response()
    assert (status, body) == (200, b"5")


def test_an_answer_to_head_has_no_body(client: Client):
    client.send_last(b"HEAD / HTTP/1.1\r\n" + HOST + b"\r\n")

    assert client.response(to_head=True)[0] == 200
    assert client.rest() == b""


def test_the_end_of_an_error_can_be_told(client: Client):
    client.send_last(b"get / HTTP/1.1\r\n" + HOST + b"\r\n")

    assert client.response()[0] in ANY


def test_a_connection_is_kept(client: Client):
    for _ in range(2):
        client.send(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
        assert client.response()[0] == 200


@pytest.mark.parametrize("request_", [LAST, b"GET / HTTP/1.0\r\n" + HOST + b"\r\n"], ids=["close", "HTTP/1.0"])
def test_a_connection_is_ended(client: Client, request_: bytes):
    client.send(request_)

    assert client.response()[0] == 200
    assert client.rest() == b""


@pytest.mark.parametrize("case", OVERSIZED)
def test_the_server_lives_on(client: Client, subject: Subject, case: str):
    client.send_last(OVERSIZED[case])
    assert client.response()[0] in ANY

    other = Client(subject)
    other.send_last(LAST)
    assert other.response()[0] == 200
    other.close()
