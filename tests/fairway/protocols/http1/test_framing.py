"""RFC 9112 sections 3.2, 6 and 9.3; RFC 9110 sections 7.8, 8.6 and 10.1: what the fields of a head mean."""

from __future__ import annotations

import pytest
from tests.fairway.protocols.http1.wire import accepted, content, head, refused

POST = b"POST / HTTP/1.1"
POST_1_0 = b"POST / HTTP/1.0"


def test_9112_3_2_no_host_in_http_1_1_is_400():
    assert refused(head(host=b"")) == (400, "no host: RFC 9112 section 3.2")


def test_9112_3_2_http_1_0_needs_no_host():
    request = accepted(head(first=b"GET / HTTP/1.0", host=b""))

    assert request.version == "1.0"
    assert request.headers == []


@pytest.mark.parametrize("second", [b"Host: example.org", b"Host: other.example", b"host:", b"HOST: example.org"])
@pytest.mark.parametrize("first", [b"GET / HTTP/1.1", b"GET / HTTP/1.0"])
def test_9112_3_2_more_than_one_host_is_400(first, second):
    assert refused(head(second, first=first)) == (400, "more than one host: RFC 9112 section 3.2")


@pytest.mark.parametrize("value", [b"", b"a b", b"a/b", b"user@a", b"a:b", b"a, b", b"http://a", b"a\xc3\xa4", b"[::1"])
def test_9112_3_2_invalid_host_is_400(value):
    assert refused(head(host=b"Host: " + value)) == (400, "invalid host: RFC 9112 section 3.2")


def test_9110_8_6_content_length_frames_the_content():
    assert accepted(head(b"Content-Length: 5", first=POST) + b"hello").content_length == 5
    assert content(head(b"Content-Length: 5", first=POST) + b"hello") == b"hello"


def test_9110_8_6_content_length_zero_is_no_content():
    request = accepted(head(b"Content-Length: 0", first=POST))

    assert request.content_length == 0
    assert not request.chunked


def test_9112_6_3_request_without_framing_has_no_content():
    request = accepted(head(first=POST))

    assert request.content_length is None
    assert not request.chunked


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"+5",
        b"-5",
        b"-0",
        b"5,5",
        b"5, 5",
        b"1,1",
        b"5 5",
        b"0x5",
        b"5.0",
        b"5e0",
        b"1_0",
        b"five",
        b"\xb2",
        b"5;",
    ],
)
def test_9110_8_6_content_length_that_is_not_digits_is_400(value):
    assert refused(head(b"Content-Length: " + value, first=POST)) == (
        400,
        "content-length is not a number: RFC 9110 section 8.6",
    )


@pytest.mark.parametrize("digits", [19, 20, 5000])
def test_9110_8_6_content_length_that_could_overflow_is_400(digits):
    assert refused(head(b"Content-Length: " + b"9" * digits, first=POST)) == (
        400,
        "content-length has too many digits: RFC 9110 section 8.6",
    )


@pytest.mark.parametrize("values", [(b"5", b"6"), (b"5", b"5"), (b"5", b""), (b"0", b"5")])
def test_9112_6_3_more_than_one_content_length_is_400(values):
    lines = [b"Content-Length: " + value for value in values]

    assert refused(head(*lines, first=POST)) == (400, "more than one content-length: RFC 9112 section 6.3")


@pytest.mark.parametrize("value", [b"chunked", b"Chunked", b"CHUNKED", b"\t chunked \t"])
def test_9112_6_1_chunked_is_taken_in_any_case(value):
    request = accepted(head(b"Transfer-Encoding:" + value, first=POST) + b"0\r\n\r\n")

    assert request.chunked
    assert request.content_length is None


@pytest.mark.parametrize("length", [b"5", b"0", b"x", b""])
@pytest.mark.parametrize("coding", [b"chunked", b"identity", b"xchunked"])
def test_9112_6_1_both_framings_are_400_in_either_order(length, coding):
    lines = [b"Content-Length: " + length, b"Transfer-Encoding: " + coding]
    expected = (400, "both content-length and transfer-encoding: RFC 9112 section 6.1")

    assert refused(head(*lines, first=POST)) == expected
    assert refused(head(*reversed(lines), first=POST)) == expected


@pytest.mark.parametrize("coding", [b"chunked", b"identity", b"gzip"])
def test_9112_6_1_transfer_encoding_in_http_1_0_is_400(coding):
    assert refused(head(b"Transfer-Encoding: " + coding, first=POST_1_0)) == (
        400,
        "transfer-encoding in HTTP/1.0: RFC 9112 section 6.1",
    )


@pytest.mark.parametrize(
    "lines",
    [
        [b"identity"], [b"gzip"], [b""], [b"chunked, gzip"], [b"chunked, identity"], [b"chunked;a=b"], [b"xchunked"],
        [b"chunkedx"], [b'"chunked"'], [b"chunked,"], [b"chunked;"], [b"chunk ed"], [b"chun\tked"],
        [b"chunked", b"gzip"],
        [b"chunked", b""], [b"c\xc3\xa7hunked"],
    ],
)  # fmt: skip
def test_9112_6_3_final_coding_other_than_chunked_is_400(lines):
    lines = [b"Transfer-Encoding: " + line for line in lines]

    assert refused(head(*lines, first=POST)) == (400, "the final transfer coding is not chunked: RFC 9112 section 6.3")


@pytest.mark.parametrize("lines", [[b"chunked, chunked"], [b"chunked", b"chunked"], [b", chunked"], [b"", b"chunked"]])
def test_9112_6_1_chunked_twice_or_an_empty_coding_is_400(lines):
    lines = [b"Transfer-Encoding: " + line for line in lines]

    assert refused(head(*lines, first=POST)) == (
        400,
        "chunked twice, or an empty transfer coding: RFC 9112 section 6.1",
    )


@pytest.mark.parametrize(
    "lines", [[b"gzip, chunked"], [b"gzip", b"chunked"], [b"identity, chunked"], [b"x;q=1,chunked"]]
)
def test_9112_6_1_other_codings_before_chunked_are_501(lines):
    lines = [b"Transfer-Encoding: " + line for line in lines]

    assert refused(head(*lines, first=POST)) == (501, "a transfer coding other than chunked: RFC 9112 section 6.1")


@pytest.mark.parametrize(
    ("version", "lines", "keep_alive"),
    [
        (b"1.1", [], True),
        (b"1.1", [b"keep-alive"], True),
        (b"1.1", [b"close"], False),
        (b"1.1", [b"CLOSE"], False),
        (b"1.1", [b"keep-alive, close"], False),
        (b"1.1", [b"keep-alive", b"close"], False),
        (b"1.1", [b"x ,\tClose , y"], False),
        (b"1.1", [b"closed"], True),
        (b"1.1", [b""], True),
        (b"1.0", [], False),
        (b"1.0", [b"keep-alive"], True),
        (b"1.0", [b"Keep-Alive"], True),
        (b"1.0", [b"keep-alive, close"], False),
        (b"1.0", [b"close"], False),
    ],
)
def test_9112_9_3_persistence_follows_version_and_connection(version, lines, keep_alive):
    lines = [b"Connection: " + line for line in lines]

    assert accepted(head(*lines, first=b"GET / HTTP/" + version)).keep_alive is keep_alive


def test_9110_10_1_1_expectation_counts_if_there_is_content():
    assert accepted(head(b"Expect: 100-Continue", b"Content-Length: 1", first=POST) + b"x").expect_continue
    assert accepted(
        head(b"Expect: 100-continue", b"Transfer-Encoding: chunked", first=POST) + b"0\r\n\r\n"
    ).expect_continue
    assert not accepted(head(b"Expect: 100-continue", b"Content-Length: 0", first=POST)).expect_continue
    assert not accepted(head(b"Expect: 100-continue")).expect_continue


@pytest.mark.parametrize("lines", [[b"200-ok"], [b"100-continue, x"], [b"100-continue", b"x"], [b"100 continue"]])
def test_9110_10_1_1_unknown_expectation_is_417(lines):
    lines = [b"Expect: " + line for line in lines]

    assert refused(head(*lines, b"Content-Length: 1", first=POST)) == (
        417,
        "unknown expectation: RFC 9110 section 10.1.1",
    )


@pytest.mark.parametrize(
    ("lines", "expects"),
    [([b""], False), ([b", ,"], False), ([b", 100-continue ,"], True), ([b"", b"100-continue"], True)],
)
def test_9110_5_6_1_2_empty_expectations_do_not_count(lines, expects):
    lines = [b"Expect: " + line for line in lines]

    assert accepted(head(*lines, b"Content-Length: 1", first=POST) + b"x").expect_continue is expects


@pytest.mark.parametrize(
    ("lines", "keep_alive", "upgrade", "accepts_trailers"),
    [
        ([b"Connection:", b"Upgrade: websocket", b"TE:"], True, None, False),
        ([b"Connection: , ,upgrade,", b"Upgrade:", b"Upgrade: , websocket ,"], True, b"websocket", False),
        ([b"Connection: ,upgrade", b"Upgrade: ,h2c,"], True, b"h2c", False),
        ([b"Connection: ,\t,close", b"TE: , trailers,"], False, None, True),
    ],
)
def test_9110_5_6_1_2_empty_elements_do_not_count(lines, keep_alive, upgrade, accepts_trailers):
    request = accepted(head(*lines))

    assert (request.keep_alive, request.upgrade, request.accepts_trailers) == (keep_alive, upgrade, accepts_trailers)


@pytest.mark.parametrize("name", [b"Connection", b"TE", b"Expect", b"Upgrade"])
def test_9110_5_6_1_2_a_list_without_end_is_400(name):
    lines = [b"Connection: upgrade"] * (name == b"Upgrade")

    accepted(head(*lines, name + b": " + b"," * 90))
    assert refused(head(*lines, name + b": " + b"," * 30_000)) == (
        400,
        "a list of more than 100 elements: RFC 9110 section 5.6.1",
    )


@pytest.mark.parametrize("value", [b"100-continue", b"anything"])
def test_9110_10_1_1_expectation_in_http_1_0_is_ignored(value):
    request = accepted(head(b"Expect: " + value, b"Content-Length: 1", first=POST_1_0) + b"x")

    assert not request.expect_continue


@pytest.mark.parametrize(
    ("lines", "upgrade"),
    [
        ([b"Connection: Upgrade", b"Upgrade: WebSocket"], b"websocket"),
        ([b"Connection: keep-alive, Upgrade", b"Upgrade: websocket"], b"websocket"),
        ([b"Connection: keep-alive", b"Connection: upgrade", b"Upgrade: h2c, websocket"], b"websocket"),
        ([b"Connection: Upgrade", b"Upgrade: h2c"], b"h2c"),
        ([b"Connection: Upgrade", b"Upgrade: h2c", b"Upgrade: websocket"], b"websocket"),
        ([b"Connection: Upgrade", b"Upgrade: HTTP/2.0, IRC/6.9"], b"http/2.0"),
        ([b"Connection: Upgrade", b"Upgrade:"], None),
        ([b"Connection: Upgrade"], None),
        ([b"Upgrade: websocket"], None),
        ([b"Connection: keep-alive", b"Upgrade: websocket"], None),
    ],
)
def test_9110_7_8_upgrade_needs_the_connection_option(lines, upgrade):
    assert accepted(head(*lines)).upgrade == upgrade


def test_9110_7_8_upgrade_in_http_1_0_is_ignored():
    request = accepted(head(b"Connection: upgrade", b"Upgrade: websocket", first=b"GET / HTTP/1.0"))

    assert request.upgrade is None


@pytest.mark.parametrize(("value", "accepts"), [(b"trailers", True), (b"gzip, Trailers", True), (b"gzip", False)])
def test_9110_6_5_1_trailers_are_taken_if_te_says_so(value, accepts):
    assert accepted(head(b"TE: " + value)).accepts_trailers is accepts
