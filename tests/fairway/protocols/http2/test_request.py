"""RFC 9113 sections 8.1 to 8.5, RFC 8441: from fields to a request, to a reset, or to an answer in its place."""

from __future__ import annotations

import pytest
from tests.fairway.protocols.http2.wire import (
    END_HEADERS,
    GET,
    POST,
    WEBSOCKET,
    data,
    headers,
    post,
    receive,
    reset,
)

from fairway.protocols.http2 import ErrorCode, RequestHead

METHOD, SCHEME, PATH, AUTHORITY = GET


def request(*fields, ended=True, **limits):
    """The head that comes of these fields."""
    events, _ = receive(headers(1, fields, END_HEADERS | ended), **limits)
    name, number, head, is_ended = events[0]
    assert (name, number, is_ended) == ("RequestReceived", 1, ended)
    assert isinstance(head, RequestHead)
    return head


def failed(*fields, ended=True, **limits):
    """Status and reason of the answer that the request is to be given."""
    events, _ = receive(headers(1, fields, END_HEADERS | ended), **limits)
    ((name, number, status, reason, _),) = events
    assert (name, number) == ("RequestFailed", 1)
    return status, reason


def malformed(*fields, **limits):
    """The reason why the request is reset."""
    code, reason = reset(headers(1, fields), **limits)
    assert code is ErrorCode.PROTOCOL_ERROR
    return reason


def test_a_request():
    head = request(*GET, (b"accept", b"*/*"), (b"x-b", b"1"), (b"x-a", b""), (b"x-b", b"2"))

    assert head.method == "GET"
    assert head.raw_path == b"/"
    assert head.query_string == b""
    assert head.version == "2"
    assert head.scheme == "https"
    assert head.headers == [
        (b"host", b"example.org"), (b"accept", b"*/*"), (b"x-b", b"1"), (b"x-a", b""), (b"x-b", b"2"),
    ]  # fmt: skip
    assert (head.protocol, head.content_length, head.expect_continue, head.accepts_trailers) == (
        None, None, False, False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"/a/b?c=d&e", (b"/a/b", b"c=d&e")),
        (b"/?", (b"/", b"")),
        (b"/a?b?c\\|^", (b"/a", b"b?c\\|^")),
        (b"//a%2Fb", (b"//a%2Fb", b"")),
        (b"/" + b"a" * 300, (b"/" + b"a" * 300, b"")),
    ],
)
def test_8_3_1_the_path_is_split(path, expected):
    head = request(METHOD, SCHEME, (b":path", path), AUTHORITY)

    assert (head.raw_path, head.query_string) == expected


@pytest.mark.parametrize("method", ["HEAD", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND", "X-1"])
def test_9110_9_1_any_method_is_passed_on(method):
    assert request((b":method", method.encode()), SCHEME, PATH, AUTHORITY).method == method


def test_8_3_1_an_asterisk_is_for_options():
    head = request((b":method", b"OPTIONS"), SCHEME, (b":path", b"*"), AUTHORITY)

    assert (head.raw_path, head.query_string) == (b"*", b"")
    assert malformed(METHOD, SCHEME, (b":path", b"*"), AUTHORITY) == (
        ":path is an asterisk, and the method not OPTIONS: RFC 9113 section 8.3.1"
    )


@pytest.mark.parametrize("authority", [b"a", b"example.org:8443", b"[::1]:80", b"a%20b"])
def test_8_3_1_the_authority_becomes_the_host(authority):
    head = request(METHOD, SCHEME, PATH, (b":authority", authority), (b"x", b"y"))

    assert head.headers == [(b"host", authority), (b"x", b"y")]


def test_8_3_1_a_host_may_take_its_place_or_say_the_same():
    expected = [(b"host", b"example.org"), (b"x", b"y")]

    assert request(METHOD, SCHEME, PATH, (b"x", b"y"), (b"host", b"example.org")).headers == expected
    assert request(*GET, (b"x", b"y"), (b"host", b"example.org")).headers == expected
    assert request(*GET, (b"x", b"y"), (b"host", b"Example.Org")).headers == expected


@pytest.mark.parametrize("host", [b"", b"a b", b"user@a", b"a/b", b"a:99999", b"[::1"])
def test_9110_7_2_what_is_no_host_is_400(host):
    expected = (400, "invalid host: RFC 9110 section 7.2")

    assert failed(METHOD, SCHEME, PATH, (b":authority", host)) == expected
    assert failed(METHOD, SCHEME, PATH, (b"host", host)) == expected


def test_8_2_3_crumbs_of_cookies_are_joined():
    head = request(*GET, (b"cookie", b"a=b"), (b"x", b"y"), (b"cookie", b"c=d; e=f"), (b"cookie", b"g"))

    assert head.headers == [(b"host", b"example.org"), (b"x", b"y"), (b"cookie", b"a=b; c=d; e=f; g")]
    assert request(*GET, (b"cookie", b"a=b")).headers[1:] == [(b"cookie", b"a=b")]


def test_9218_the_priority_is_passed_on():
    assert request(*GET, (b"priority", b"u=1, i")).headers[1:] == [(b"priority", b"u=1, i")]


@pytest.mark.parametrize(("value", "accepts"), [(b"trailers", True), (b"Trailers", True)])
def test_8_2_2_te_says_whether_trailers_are_taken(value, accepts):
    assert request(*GET, (b"te", value)).accepts_trailers is accepts


@pytest.mark.parametrize(
    ("fields", "ended", "expected"),
    [
        ([], False, True),
        ([(b"content-length", b"3")], False, True),
        ([(b"content-length", b"0")], False, False),
        ([], True, False),
    ],
)
def test_9110_10_1_1_expect_continue_is_about_content(fields, ended, expected):
    head = request(*POST, (b"expect", b"100-Continue"), *fields, ended=ended)

    assert head.expect_continue is expected


def test_9110_10_1_1_another_expectation_is_417():
    assert failed(*POST, (b"expect", b"a"), ended=False) == (417, "unknown expectation: RFC 9110 section 10.1.1")


# Malformed requests: RFC 9113 section 8.1.1.

CHARACTERS = "forbidden character in, or white space around a field value: RFC 9113 section 8.2.1"
NAME_CASE = "field name is not in lower case: RFC 9113 section 8.2.1"
NOT_A_TOKEN = "field name is not a token: RFC 9113 section 8.2.1"
UNDEFINED = "undefined pseudo-header field: RFC 9113 section 8.3"
LATE = "pseudo-header field twice, or behind a regular one: RFC 9113 section 8.3"
BAD_CHARACTER = (400, "forbidden character in :path: RFC 9113 section 8.3.1")
TWO_LENGTHS = "more than one content-length: RFC 9110 section 5.3"
MISSING = "no :method, :scheme or :path: RFC 9113 section 8.3.1"
BAD_PATH = ":path is empty, or does not begin with a slash: RFC 9113 section 8.3.1"
LENGTH = "content-length is not a number: RFC 9110 section 8.6"
MALFORMED = [
    ([*GET, (b"X", b"y")], NAME_CASE),
    ([*GET, (b"Accept", b"y")], NAME_CASE),
    ([*GET, (b"", b"y")], NOT_A_TOKEN),
    ([*GET, (b"x y", b"y")], NOT_A_TOKEN),
    ([*GET, (b"x:", b"y")], NOT_A_TOKEN),
    ([*GET, (b"x\x00", b"y")], NOT_A_TOKEN),
    ([*GET, (b"x\x80", b"y")], NOT_A_TOKEN),
    *([([*GET, (b"x", b"a" + bytes((byte,)) + b"b")], CHARACTERS) for byte in (0, 10, 13, 1, 0x7F)]),
    *([([*GET, (b"x", value)], CHARACTERS) for value in (b" a", b"a ", b"\ta", b"a\t", b" ")]),
    ([METHOD, SCHEME, (b":path", b"/\r\n"), AUTHORITY], CHARACTERS),
    ([*GET, (b":x", b"y")], UNDEFINED),
    ([*GET, (b":", b"y")], UNDEFINED),
    ([*GET, (b":status", b"200")], ":status in a request: RFC 9113 section 8.3"),
    ([METHOD, SCHEME, PATH, (b"x", b"y"), AUTHORITY], LATE),
    ([METHOD, SCHEME, (b"accept", b"y"), PATH, AUTHORITY], LATE),
    ([METHOD, SCHEME, (b"cookie", b"y"), PATH, AUTHORITY], LATE),
    ([METHOD, SCHEME, (b"content-length", b"0"), PATH, AUTHORITY], LATE),
    ([METHOD, SCHEME, (b"host", b"example.org"), PATH], LATE),
    *([([field, *GET], LATE) for field in GET]),
    ([SCHEME, PATH, AUTHORITY], MISSING),
    ([METHOD, PATH, AUTHORITY], MISSING),
    ([METHOD, SCHEME, AUTHORITY], MISSING),
    ([], MISSING),
    ([(b"x", b"y")], MISSING),
    ([(b":method", b"G T"), SCHEME, PATH, AUTHORITY], "method is not a token: RFC 9110 section 9.1"),
    ([(b":method", b""), SCHEME, PATH, AUTHORITY], "method is not a token: RFC 9110 section 9.1"),
    ([METHOD, (b":scheme", b""), PATH, AUTHORITY], "malformed :scheme: RFC 9113 section 8.3.1"),
    ([METHOD, (b":scheme", b"a b"), PATH, AUTHORITY], "malformed :scheme: RFC 9113 section 8.3.1"),
    ([METHOD, SCHEME, (b":path", b""), AUTHORITY], BAD_PATH),
    ([METHOD, SCHEME, (b":path", b"a"), AUTHORITY], BAD_PATH),
    ([METHOD, SCHEME, (b":path", b"http://a/"), AUTHORITY], BAD_PATH),
    *(
        [
            ([*GET, (name, b"x")], f"{name.decode()} is specific to a connection: RFC 9113 section 8.2.2")
            for name in (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
        ]
    ),
    ([*GET, (b"te", b"gzip")], "te other than trailers: RFC 9113 section 8.2.2"),
    ([*GET, (b"te", b"trailers, gzip")], "te other than trailers: RFC 9113 section 8.2.2"),
    ([*GET, (b"host", b"other.org")], "host contradicts :authority: RFC 9113 section 8.3.1"),
    ([*GET, (b"host", b"example.org"), (b"host", b"example.org")], "more than one host: RFC 9110 section 5.3"),
    ([*GET, (b"content-length", b"x")], LENGTH),
    ([*GET, (b"content-length", b"+1")], LENGTH),
    ([*GET, (b"content-length", b"")], LENGTH),
    ([*GET, (b"content-length", b"1" * 19)], LENGTH),
    ([*GET, (b"content-length", b"\xb2")], LENGTH),
    (
        [*GET, (b"content-length", b"0"), (b"content-length", b"0")],
        "more than one content-length: RFC 9110 section 5.3",
    ),
    ([*GET, (b"content-length", b"1")], "content-length without content: RFC 9113 section 8.1.1"),
    ([*GET, (b":protocol", b"websocket")], ":protocol without CONNECT: RFC 8441 section 4"),
]


@pytest.mark.parametrize(("fields", "reason"), MALFORMED)
def test_8_1_1_malformed_requests_are_reset(fields, reason):
    assert malformed(*fields) == reason


def test_what_is_malformed_goes_before_what_is_not_served():
    assert malformed((b":method", b"get"), SCHEME, (b":path", b"x"), (b":authority", b"")) == BAD_PATH


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([(b":method", b"get"), *GET[1:]], (501, "no method has lower-case letters: RFC 9110 section 9.1")),
        (
            [METHOD, SCHEME, (b":path", b"/a b"), AUTHORITY],
            BAD_CHARACTER,
        ),
        ([METHOD, SCHEME, (b":path", b"/#"), AUTHORITY], BAD_CHARACTER),
        (
            [METHOD, SCHEME, (b":path", b"/\\"), AUTHORITY],
            BAD_CHARACTER,
        ),
        ([METHOD, SCHEME, PATH], (400, "neither :authority nor host: RFC 9113 section 8.3.1")),
    ],
)
def test_what_is_in_order_and_not_served_is_answered(fields, expected):
    assert failed(*fields) == expected


# Content-Length against content: RFC 9113 section 8.1.1.

MISFIT = (ErrorCode.PROTOCOL_ERROR, "content does not fit its content-length: RFC 9113 section 8.1.1")


@pytest.mark.parametrize(
    "behind",
    [
        data(1, b"abcd"),
        data(1, b"ab") + data(1, b"cd"),
        data(1, b"ab", 1),
        data(1, b"", 1),
        data(1, b"abcd", 1),
        data(1, b"a") + headers(1, [(b"x", b"y")]),
    ],
)
def test_8_1_1_content_that_does_not_fit_its_length_is_reset(behind):
    assert reset(post(1, (b"content-length", b"3")) + behind) == MISFIT


@pytest.mark.parametrize(
    "behind", [data(1, b"abc", 1), data(1, b"a") + data(1, b"bc") + data(1, b"", 1), data(1, b"abc") + headers(1, [])]
)
def test_content_that_fits_is_reported(behind):
    events, _ = receive(post(1, (b"content-length", b"3")) + behind)

    assert b"".join(event[2] for event in events[1:]) == b"abc"
    assert [event[3] for event in events[1:]] == [False] * (len(events) - 2) + [True]


# Extended CONNECT: RFC 8441.


def test_8441_4_a_websocket():
    head = request(*WEBSOCKET, ended=False)

    assert (head.method, head.protocol, head.raw_path) == ("CONNECT", b"websocket", b"/")
    assert head.headers == [(b"host", b"example.org"), (b"sec-websocket-version", b"13")]


@pytest.mark.parametrize("missing", [2, 3, 4])
def test_8441_4_needs_all_pseudo_header_fields(missing):
    fields = [field for index, field in enumerate(WEBSOCKET) if index != missing]

    assert malformed(*fields) == "extended CONNECT without :scheme, :path or :authority: RFC 8441 section 4"


def test_8441_4_other_protocols_are_501():
    expected = (501, "a :protocol other than websocket: RFC 8441 section 4")

    assert failed(WEBSOCKET[0], (b":protocol", b"connect-udp"), *GET[1:]) == expected
    assert failed(WEBSOCKET[0], (b":protocol", b""), *GET[1:]) == expected


def test_8441_3_what_was_not_offered_is_malformed():
    assert malformed(*WEBSOCKET, websocket=False) == ":protocol, which was not offered: RFC 8441 section 3"


def test_8441_5_a_handshake_has_no_content():
    assert failed(*WEBSOCKET, (b"content-length", b"0")) == (
        400, "a WebSocket handshake with a content-length: RFC 8441 section 5",
    )  # fmt: skip


def test_8_5_plain_connect_is_501():
    assert failed((b":method", b"CONNECT"), AUTHORITY) == (501, "CONNECT is not served here: RFC 9110 section 9.3.6")


@pytest.mark.parametrize("fields", [[*GET[1:]], [], [PATH, AUTHORITY], [SCHEME, AUTHORITY]])
def test_8_5_plain_connect_has_an_authority_and_nothing_else(fields):
    assert malformed((b":method", b"CONNECT"), *fields) == (
        "CONNECT with :scheme or :path, or without :authority: RFC 9113 section 8.5"
    )


# Limits.


def test_6585_5_too_many_fields_are_431():
    fields = [(b"x-%d" % number, b"y") for number in range(10)]

    assert len(request(*GET, *fields[:9], max_header_count=10).headers) == 10
    assert failed(*GET, *fields, max_header_count=10) == (431, "too many header fields: RFC 6585 section 5")


def test_6585_5_crumbs_count_as_one_field_and_as_cookies():
    crumbs = [(b"cookie", b"a=b; c=d")] * 10

    assert len(request(*GET, *crumbs, max_header_count=2, max_cookies=20).headers) == 2
    assert failed(*GET, *crumbs, max_cookies=19) == (431, "too many cookies: RFC 6585 section 5")


def test_6585_5_too_large_a_head_is_431_and_the_next_one_is_served():
    expected = (431, "header fields are too large: RFC 6585 section 5")
    size = sum(len(name) + len(value) + 32 for name, value in GET)
    most = size + 33 + 100

    assert request(*GET, (b"x", b"y" * 100), max_header_bytes=most)
    assert failed(*GET, (b"x", b"y" * 101), max_header_bytes=most) == expected
    events, _ = receive(headers(1, [*GET, (b"x", b"y" * 101)]) + headers(3), max_header_bytes=most)
    assert [event[0] for event in events] == ["RequestFailed", "RequestReceived"]


def test_a_header_list_is_nobody_elses():
    events, _ = receive(headers(1) + headers(3) + headers(5))
    lists = [event[2].headers for event in events]

    lists[0].clear()
    lists[1].clear()
    assert lists[2] == [(b"host", b"example.org")]


def test_a_request_that_is_not_served_says_what_it_was():
    events, _ = receive(headers(1, [(b":method", b"HEAD"), SCHEME, (b":path", b"/a?b"), AUTHORITY, (b"expect", b"x")]))
    ((_, _, status, _, head),) = events

    assert (status, head.method, head.raw_path, head.query_string) == (417, "HEAD", b"/a", b"b")


@pytest.mark.parametrize(
    "fields",
    [
        [(b":method", b"get"), SCHEME, PATH, AUTHORITY],
        [METHOD, SCHEME, (b":path", b"/#"), AUTHORITY],
        [METHOD, SCHEME, PATH, (b":authority", b"@")],
        [(b":method", b"CONNECT"), AUTHORITY],
    ],
)
def test_a_request_whose_head_is_what_is_wrong_has_none(fields):
    events, _ = receive(headers(1, fields, END_HEADERS))

    assert events[0][4] is None
