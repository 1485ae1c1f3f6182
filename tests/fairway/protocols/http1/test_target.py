"""RFC 9112 section 3: request line, forms of the target; RFC 9110 section 7.2: what a host may be."""

from __future__ import annotations

import pytest
from tests.fairway.protocols.http1.wire import accepted, head, refused

from fairway.protocols.http.authority import is_host


def test_9112_3_request_line_is_method_target_version():
    request = accepted(head(first=b"GET /chat/?room=1&x=%20 HTTP/1.1"))

    assert request.method == "GET"
    assert request.target == b"/chat/?room=1&x=%20"
    assert request.raw_path == b"/chat/"
    assert request.query_string == b"room=1&x=%20"
    assert request.version == "1.1"


@pytest.mark.parametrize(
    "line",
    [
        b"GET  / HTTP/1.1",
        b"GET /  HTTP/1.1",
        b"GET\t/ HTTP/1.1",
        b"GET /\tHTTP/1.1",
        b" GET / HTTP/1.1",
        b"GET / HTTP/1.1 ",
        b"GET /a b HTTP/1.1",
        b"GET /",
        b"GET",
        b"GET HTTP/1.1",
        b"GET  HTTP/1.1",
        b"/ HTTP/1.1",
        b" / HTTP/1.1",
        b"GET / HTTP/1.1 HTTP/1.1",
    ],
)
def test_9112_3_request_line_with_other_separators_or_parts_is_400(line):
    assert refused(head(first=line))[0] == 400


def test_9112_3_reason_of_a_request_line_without_version():
    assert refused(head(first=b"GET /")) == (400, "request line is not method, target, version: RFC 9112 section 3")


@pytest.mark.parametrize("method", [b"PATCH", b"PROPFIND", b"M-SEARCH", b"X9", b"!#$%&'*+-.^_`|~9"])
def test_9110_9_1_any_token_in_upper_case_is_a_method(method):
    assert accepted(head(first=method + b" / HTTP/1.1")).method == method.decode()


@pytest.mark.parametrize("method", [b"get", b"Get", b"GEt", b"connect", b"pROPFIND"])
@pytest.mark.parametrize("target", [b"/", b"http://a/", b"*"])
def test_9110_9_1_methods_with_lower_case_letters_are_501(method, target):
    assert refused(head(first=method + b" " + target + b" HTTP/1.1")) == (
        501,
        "no method has lower-case letters: RFC 9110 section 9.1",
    )


@pytest.mark.parametrize("method", [b"G(T", b"GET:", b"G/T", b"G@T", b'"GET"', b"G\xc3\xa4T", b"{GET}"])
def test_9110_9_1_method_that_is_not_a_token_is_400(method):
    assert refused(head(first=method + b" / HTTP/1.1")) == (400, "method is not a token: RFC 9110 section 9.1")


@pytest.mark.parametrize("line", [b"CONNECT a.example:443 HTTP/1.1", b"CONNECT / HTTP/1.1", b"CONNECT * HTTP/1.0"])
def test_9110_9_3_6_connect_is_501(line):
    assert refused(head(first=line)) == (501, "CONNECT is not served here: RFC 9110 section 9.3.6")


@pytest.mark.parametrize("version", [b"HTTP/1.2", b"HTTP/1.9"])
@pytest.mark.parametrize("target", [b"/", b"http://example.org/"])
def test_9110_2_5_higher_minor_versions_are_served_as_1_1(version, target):
    request = accepted(head(first=b"GET " + target + b" " + version))

    assert (request.version, request.keep_alive) == ("1.1", True)
    assert refused(head(first=b"GET / " + version, host=b"")) == (400, "no host: RFC 9112 section 3.2")


@pytest.mark.parametrize("version", [b"HTTP/0.9", b"HTTP/2.0", b"HTTP/2.1", b"HTTP/3.0", b"HTTP/9.9"])
def test_9112_2_3_other_versions_are_505(version):
    status, reason = refused(head(first=b"GET / " + version))

    assert status == 505
    assert reason == f"{version.decode()} is not served here: RFC 9110 section 15.6.6"


@pytest.mark.parametrize(
    "version",
    [
        b"http/1.1",
        b"HTTP/1",
        b"HTTP/1.",
        b"HTTP/.1",
        b"HTTP/11",
        b"HTTP/1.10",
        b"HTTP/01.1",
        b"HTTP/1,1",
        b"HTTP/1.1x",
        b"HTTP/ 1.1",
        b"HTTP /1.1",
        b"HTTPS/1.1",
        b"XTTP/1.1",
        b"HTTP/\xb2.1",
        b"1.1",
    ],
)
def test_9112_2_3_malformed_version_is_400(version):
    assert refused(head(first=b"GET / " + version))[0] == 400


@pytest.mark.parametrize("target", [b"/", b"//", b"/a//b", b"//host/path", b"/a/../b", b"/%2e%2e", b"/:@!$&'()*+,;=~"])
def test_9112_3_2_1_origin_form_is_left_as_it_is(target):
    request = accepted(head(first=b"GET " + target + b" HTTP/1.1"))

    assert request.raw_path == request.target == target
    assert request.query_string == b""


def test_9112_3_2_1_only_the_first_question_mark_begins_the_query():
    request = accepted(head(first=b"GET /a?b?c=? HTTP/1.1"))

    assert (request.raw_path, request.query_string) == (b"/a", b"b?c=?")


def test_9112_3_2_1_characters_that_browsers_do_not_encode_are_taken():
    assert accepted(head(first=b'GET /a|b?{"x"}^[1]`\\ HTTP/1.1')).query_string == b'{"x"}^[1]`\\'


@pytest.mark.parametrize(
    "target",
    [
        *(b"/a#b", b"/#", b"#", b"/a?b#c", b"/\xc3\xa4", b"/\x80", b"/?\xff", b"http://a/#x"),
        *(b"\\", b"/a\\b", b"/\\evil", b"/..\\a?b", b"http://a/\\", b"http://a\\b/"),
    ],
)
def test_9112_3_2_fragment_non_ascii_or_backslash_in_the_target_is_400(target):
    assert refused(head(first=b"GET " + target + b" HTTP/1.1")) == (
        400,
        "forbidden character in the request target: RFC 9112 section 3.2",
    )


@pytest.mark.parametrize(
    "target",
    [b"index.html", b"example.org:80", b"?a", b"*", b"**", b"../a", b"ftp://a/", b"ws://a/", b"mailto:a"],
)
def test_9112_3_2_target_of_no_allowed_form_is_400(target):
    assert refused(head(first=b"GET " + target + b" HTTP/1.1")) == (
        400,
        "request target has none of the allowed forms: RFC 9112 section 3.2",
    )


@pytest.mark.parametrize(
    ("target", "host", "path", "query"),
    [
        (b"http://other.example/a?b", b"other.example", b"/a", b"b"),
        (b"HTTPS://other.example:8443", b"other.example:8443", b"/", b""),
        (b"http://other.example?a/b", b"other.example", b"/", b"a/b"),
        (b"http://[::1]:8000/", b"[::1]:8000", b"/", b""),
    ],
)
def test_9112_3_2_2_absolute_form_is_reduced_and_its_host_wins(target, host, path, query):
    request = accepted(head(b"Accept: */*", first=b"GET " + target + b" HTTP/1.1"))

    assert (request.target, request.raw_path, request.query_string) == (target, path, query)
    assert request.headers == [(b"host", host), (b"accept", b"*/*")]


def test_9112_3_2_2_absolute_form_gives_a_host_to_http_1_0():
    request = accepted(head(b"Accept: */*", first=b"GET http://a.example/ HTTP/1.0", host=b""))

    assert request.headers == [(b"host", b"a.example"), (b"accept", b"*/*")]


@pytest.mark.parametrize("authority", [b"", b"user@a", b"user:pw@a", b"a:b", b"a:99999", b"[::1", b":80"])
def test_9110_4_2_absolute_form_with_invalid_authority_is_400(authority):
    assert refused(head(first=b"GET http://" + authority + b"/ HTTP/1.1")) == (
        400,
        "invalid host in the request target: RFC 9110 section 4.2",
    )


def test_9112_3_2_2_absolute_form_still_needs_the_host_field():
    assert refused(head(first=b"GET http://a/ HTTP/1.1", host=b"")) == (400, "no host: RFC 9112 section 3.2")


def test_9112_3_2_4_asterisk_form_belongs_to_options():
    request = accepted(head(first=b"OPTIONS * HTTP/1.1"))

    assert (request.raw_path, request.query_string) == (b"*", b"")


@pytest.mark.parametrize(
    "host",
    [
        b"a", b"example.org", b"example.org:8000", b"example.org:", b"EXAMPLE.org", b"my_host",
        b"xn--bcher-kva.example",
        b"127.0.0.1:80", b"[::1]", b"[2001:db8::1]:443", b"[::ffff:127.0.0.1]", b"a%20b", b"a.", b"a:65535",
    ],
)  # fmt: skip
def test_9110_7_2_valid_hosts(host):
    assert is_host(host)


@pytest.mark.parametrize(
    "host",
    [
        b"", b" ", b"a b", b"a/b", b"a?b", b"a#b", b"user@a", b"a:b", b"a:80:80", b"a:-1", b"a:65536", b"a:999999",
        b":80",
        b"http://a", b"[::1", b"::1", b"[]", b"[:::]", b"[1.2.3.4]", b"[::1]a", b"[fe80::1%25eth0]", b"[v1.a]", b"a\\b",
        b"a%2", b"a%zz", b"\xc3\xa4", b"a<b>", b'"a"', b"a\tb", b"a\n", b"a:80\n",
    ],
)  # fmt: skip
def test_9110_7_2_invalid_hosts(host):
    assert not is_host(host)


def test_host_check_is_linear_for_a_name_that_fails_at_its_end():
    assert not is_host(b"a" * 60_000 + b"@")
