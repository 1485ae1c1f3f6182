"""RFC 9112 section 2.2: lines and empty lines of a head; RFC 6585 section 5 and the limits."""

from __future__ import annotations

import pytest
from tests.fairway.protocols.http1.wire import accepted, head, receive, refused

from fairway.protocols.http1 import Http1Protocol, RequestFailed, RequestHead
from fairway.protocols.http1.framing import _remembered_meaning
from fairway.protocols.http1.head import MAX_EMPTY_LINES, HeadReader
from fairway.protocols.http1.target import remembered_request_line

BARE_LF = (400, "line feed without carriage return: RFC 9112 section 2.2")
BARE_CR = (400, "carriage return without line feed: RFC 9112 section 2.2")


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\nHost: a\n\n",
        b"GET / HTTP/1.1\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: y\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: y\nZ: z\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n\n",
        b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\r\n\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
def test_9112_2_2_bare_lf_is_400(data):
    assert refused(data) == BARE_LF


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\rHost: a\r\r",
        b"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: y\rZ: z\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX:\r y\r\n\r\n",
        b"GET /\r HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\r\rGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\rGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
def test_9112_2_2_bare_cr_is_400(data):
    assert refused(data) == BARE_CR


def test_9112_2_2_bare_line_end_is_refused_before_the_head_is_complete():
    assert Http1Protocol().receive_data(b"GET / HTTP/1.1\n") == [RequestFailed(*BARE_LF)]
    assert Http1Protocol().receive_data(b"GET / HTTP/1.1\rH") == [RequestFailed(*BARE_CR)]


def test_a_tls_client_on_a_plain_port_is_refused_at_its_first_byte():
    assert Http1Protocol().receive_data(b"\x16\x03\x01\x02\x00\x01") == [
        RequestFailed(400, "control character 0x16: RFC 9110 section 5.5")
    ]


@pytest.mark.parametrize("count", range(1, MAX_EMPTY_LINES + 1))
def test_9112_2_2_a_few_empty_lines_before_the_request_are_ignored(count):
    assert accepted(b"\r\n" * count + head()).raw_path == b"/"


def test_9112_2_2_more_empty_lines_are_400():
    expected = (400, "too many empty lines before the request: RFC 9112 section 2.2")

    assert refused(b"\r\n" * (MAX_EMPTY_LINES + 1) + head()) == expected


def test_9112_2_2_white_space_line_before_the_request_is_400():
    assert refused(b" \r\n" + head())[0] == 400


def test_9112_3_request_line_up_to_the_limit_is_taken():
    line = b"GET /" + b"a" * (100 - len(b"GET / HTTP/1.1")) + b" HTTP/1.1"
    assert len(line) == 100

    accepted(head(first=line), max_request_line_bytes=100)


def test_9112_3_request_line_beyond_the_limit_is_414():
    line = b"GET /" + b"a" * (101 - len(b"GET / HTTP/1.1")) + b" HTTP/1.1"

    assert refused(head(first=line), max_request_line_bytes=100) == (
        414,
        "request line is too long: RFC 9112 section 3",
    )


@pytest.mark.parametrize(
    ("line", "status", "reason"),
    [
        (b"G" * 101, 501, "method is too long: RFC 9112 section 3"),
        (b"G" * 200 + b" / HTTP/1.1", 501, "method is too long: RFC 9112 section 3"),
        (b"G" * 100 + b" / HTTP/1.1", 414, "request line is too long: RFC 9112 section 3"),
        (b"GET " + b"a" * 200, 414, "request line is too long: RFC 9112 section 3"),
    ],
)
def test_9112_3_a_method_beyond_the_limit_is_501(line, status, reason):
    assert refused(head(first=line), max_request_line_bytes=100) == (status, reason)


def test_9112_3_request_line_is_to_blame_if_it_reaches_both_limits():
    limits = {"max_request_line_bytes": 20, "max_header_bytes": 22}

    assert refused(head(first=b"GET /long-enough HTTP/1.1"), **limits)[0] == 414


def test_9112_3_endless_request_line_is_414_as_soon_as_it_is_too_long():
    connection = Http1Protocol(max_request_line_bytes=100)

    assert connection.receive_data(b"GET /" + b"a" * 95) == []
    assert connection.receive_data(b"a") == [RequestFailed(414, "request line is too long: RFC 9112 section 3")]


def test_6585_5_head_up_to_the_limit_is_taken():
    data = head(b"X: " + b"a" * 50)

    accepted(data, max_header_bytes=len(data))


@pytest.mark.parametrize("missing", [1, 2, 3, 10])
def test_6585_5_head_beyond_the_limit_is_431(missing):
    data = head(b"X: " + b"a" * 50)

    assert refused(data, max_header_bytes=len(data) - missing) == (
        431,
        "request head is too large: RFC 6585 section 5",
    )


def test_6585_5_fields_up_to_the_limit_are_taken():
    assert len(accepted(head(b"A: 1", b"B: 2"), max_header_count=3).headers) == 3


def test_6585_5_more_fields_are_431():
    assert refused(head(b"A: 1", b"B: 2", b"C: 3"), max_header_count=3) == (
        431,
        "too many header fields: RFC 6585 section 5",
    )


TOO_MANY_COOKIES = (431, "too many cookies: RFC 6585 section 5")


def cookies(count: int) -> bytes:
    return b"Cookie: " + b"; ".join(b"c%d=%d" % (number, number) for number in range(count))


def test_6585_5_cookies_up_to_the_limit_are_taken():
    accepted(head(cookies(200)))
    accepted(head(*[cookies(50)] * 4))
    accepted(head(cookies(200), b"X: " + b";" * 1000))


@pytest.mark.parametrize(
    "lines",
    [
        [cookies(201)],
        [cookies(150), cookies(51)],
        [b"Cookie: " + b";" * 200],
        [b"cookie: a", b"COOKIE: " + b"a;" * 199],
    ],
)
def test_6585_5_more_cookies_are_431(lines):
    assert refused(head(*lines)) == TOO_MANY_COOKIES


def test_6585_5_other_limits_of_cookies():
    accepted(head(b"Cookie: a; b"), max_cookies=2)
    assert refused(head(b"Cookie: a; b; c"), max_cookies=2) == TOO_MANY_COOKIES
    assert refused(head(*[b"Cookie: a"] * 3), max_cookies=2) == TOO_MANY_COOKIES


def test_the_first_fault_decides_however_the_bytes_come():
    data = b"GET / HTTP/2.0\r\nBad Name: 1\r\nX: \x00\n\r\n\r\n"

    assert refused(data)[0] == 505


def test_a_head_in_two_pieces_is_the_same_wherever_it_is_cut():
    data = head(b"Accept: */*", b"X-Custom: 1")
    (expected, _) = receive(data)

    for cut in range(len(data)):
        reader = HeadReader(8192, 65536, 100)
        assert reader.receive(data[:cut]) == (None, b"") if cut else True
        assert reader.receive(data[cut:] + b"rest") == (expected, b"rest")
        assert reader.is_idle


def test_a_large_head_byte_by_byte_is_read_in_linear_time():
    reader = HeadReader(8192, 1 << 20, 100)
    data = head(b"X: " + b"a" * 300_000)

    results = [reader.receive(data[i : i + 1])[0] for i in range(len(data))]

    assert isinstance(results[-1], RequestHead)
    assert not any(results[:-1])


def test_what_is_remembered_of_a_head_belongs_to_no_request():
    data = head(b"Accept: */*", first=b"GET http://other/ HTTP/1.1")
    first, second = [HeadReader(8192, 65536, 100).receive(data)[0] for _ in range(2)]
    assert first is not None
    assert second is not None
    assert first == second

    first.headers.clear()

    assert second.headers == [(b"host", b"other"), (b"accept", b"*/*")]


@pytest.mark.parametrize(
    ("data", "remembered"),
    [
        (head(first=b"GET /short HTTP/1.1"), True),
        (head(first=b"GET /query?token=secret HTTP/1.1"), False),
        (head(first=b"GET /" + b"a" * 200 + b" HTTP/1.1"), False),
    ],
)
def test_short_request_lines_without_a_query_are_remembered(data, remembered):
    remembered_request_line.cache_clear()

    HeadReader(8192, 65536, 100).receive(data)

    assert remembered_request_line.cache_info().currsize == remembered


@pytest.mark.parametrize(("size", "remembered"), [(10, True), (3000, False)])
def test_the_meaning_of_a_large_head_is_not_remembered(size, remembered):
    _remembered_meaning.cache_clear()

    HeadReader(8192, 65536, 100).receive(head(b"Connection: " + b"x" * size))

    assert _remembered_meaning.cache_info().currsize == remembered


def test_what_is_remembered_of_heads_is_bounded():
    reader = HeadReader(8192, 65536, 100)

    for number in range(2000):
        reader.receive(head(b"TE: %d" % number, first=b"GET /%d HTTP/1.1" % number))

    assert remembered_request_line.cache_info().currsize <= 512
    assert _remembered_meaning.cache_info().currsize <= 256
