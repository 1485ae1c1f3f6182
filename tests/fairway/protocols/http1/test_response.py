"""RFC 9110 sections 6.4, 6.5, 15 and RFC 9112 sections 6, 9: framing and bytes of responses."""

from __future__ import annotations

import pytest
from tests.fairway.protocols.http1.wire import head

from fairway.protocols.http1 import Http1Protocol, LocalProtocolError, PlainHeads

GET = head()
GET_1_0 = head(first=b"GET / HTTP/1.0")
GET_1_0_KEPT = head(b"Connection: keep-alive", first=b"GET / HTTP/1.0")
HEAD = head(first=b"HEAD / HTTP/1.1")
CLOSING = head(b"Connection: close")
WITH_TRAILERS = head(b"TE: trailers")
UPGRADE = head(b"Connection: Upgrade", b"Upgrade: websocket")


def requested(data: bytes = GET) -> Http1Protocol:
    connection = Http1Protocol()
    connection.receive_data(data)
    return connection


def test_9112_6_3_content_length_of_the_application_is_kept():
    connection = requested()

    data = connection.send_response(200, [(b"content-length", b"5"), (b"x-a", b"1")])
    data += connection.send_body(b"he", True) + connection.send_body(b"llo", False)

    assert data == b"HTTP/1.1 200 OK\r\nx-a: 1\r\ncontent-length: 5\r\n\r\nhello"
    assert connection.response_complete
    assert not connection.should_close


def test_9112_7_1_content_without_length_is_chunked():
    connection = requested()

    data = connection.send_response(200, [])
    data += connection.send_body(b"hello, world", True) + connection.send_body(b"", True)
    data += connection.send_body(b"!", False)

    assert data == b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nc\r\nhello, world\r\n1\r\n!\r\n0\r\n\r\n"
    assert not connection.should_close


def test_9112_7_1_empty_chunked_content_is_the_last_chunk_only():
    connection = requested()
    connection.send_response(200, [])

    assert connection.send_body(b"", False) == b"0\r\n\r\n"


def test_9112_6_3_http_1_0_content_without_length_ends_with_the_connection():
    connection = requested(GET_1_0_KEPT)

    data = connection.send_response(200, []) + connection.send_body(b"hello", False)

    assert data == b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhello"
    assert connection.should_close


def test_9112_9_3_http_1_0_connection_is_kept_if_asked_for_and_the_length_is_known():
    connection = requested(GET_1_0_KEPT)

    data = connection.send_response(200, [(b"content-length", b"0")]) + connection.send_body(b"", False)

    assert data == b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: keep-alive\r\n\r\n"
    assert not connection.should_close


@pytest.mark.parametrize("request_data", [CLOSING, GET_1_0])
def test_9112_9_6_close_is_said_if_the_peer_wants_it(request_data):
    connection = requested(request_data)

    assert b"\r\nconnection: close\r\n" in connection.send_response(200, [(b"content-length", b"0")])
    assert connection.should_close


def test_9112_9_6_close_of_the_application_is_honoured():
    connection = requested()

    data = connection.send_response(200, [(b"Connection", b"Keep-Alive, CLOSE"), (b"content-length", b"0")])

    assert data.count(b"connection") == 1
    assert data.endswith(b"connection: close\r\n\r\n")
    assert connection.should_close


def test_9112_9_3_request_content_that_has_not_arrived_closes_the_connection():
    connection = requested(head(b"Content-Length: 5", first=b"POST / HTTP/1.1"))

    assert b"\r\nconnection: close\r\n" in connection.send_response(413, [(b"content-length", b"0")])
    connection.receive_data(b"hello")
    connection.send_body(b"", False)
    assert connection.should_close
    assert connection.next_request() == []


def test_9110_7_8_upgrade_option_of_the_application_is_kept():
    connection = requested()

    data = connection.send_response(
        426, [(b"upgrade", b"websocket"), (b"connection", b"upgrade"), (b"content-length", b"0")]
    )

    assert b"\r\nconnection: upgrade\r\n" in data


def test_9112_9_6_empty_connection_options_are_not_sent():
    connection = requested()

    assert (
        connection.send_response(204, [(b"connection", b""), (b"connection", b",")])
        == b"HTTP/1.1 204 No Content\r\n\r\n"
    )


def test_9112_6_1_transfer_encoding_of_the_application_is_ignored():
    connection = requested()

    data = connection.send_response(200, [(b"transfer-encoding", b"gzip"), (b"Transfer-Encoding", b"chunked")])

    assert data == b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("headers", [[], [(b"content-length", b"5")]])
def test_9110_15_3_5_no_content_has_neither_framing_nor_content(headers):
    connection = requested()

    data = connection.send_response(204, headers) + connection.send_body(b"hello", False)

    assert data == b"HTTP/1.1 204 No Content\r\n\r\n"
    assert not connection.should_close


def test_9110_15_3_6_reset_content_says_that_it_is_empty():
    connection = requested()

    data = connection.send_response(205, []) + connection.send_body(b"hello", False)

    assert data == b"HTTP/1.1 205 Reset Content\r\ncontent-length: 0\r\n\r\n"


@pytest.mark.parametrize(("request_data", "status"), [(GET, 304), (HEAD, 200), (HEAD, 404)])
def test_9110_6_4_1_head_and_not_modified_keep_the_length_and_drop_the_content(request_data, status):
    connection = requested(request_data)

    data = connection.send_response(status, [(b"content-length", b"5")])
    data += connection.send_body(b"he", True) + connection.send_body(b"llo", False)

    assert data.endswith(b"\r\ncontent-length: 5\r\n\r\n")
    assert connection.response_complete
    assert not connection.should_close


def test_9110_9_3_2_head_without_length_needs_no_framing():
    connection = requested(HEAD)

    assert connection.send_response(200, []) + connection.send_body(b"x", False) == b"HTTP/1.1 200 OK\r\n\r\n"


@pytest.mark.parametrize(("status", "line"), [(299, b"HTTP/1.1 299 \r\n"), (404, b"HTTP/1.1 404 Not Found\r\n")])
def test_9112_4_status_line(status, line):
    assert requested().send_response(status, []).startswith(line)


@pytest.mark.parametrize("status", [0, 99, 1000, -200, 20.5, "200", None])
def test_status_that_is_none_is_refused(status):
    connection = requested()

    with pytest.raises(LocalProtocolError, match=r"is not an HTTP status; use an integer from 100 to 999$"):
        connection.send_response(status, [])
    assert not connection.response_started


@pytest.mark.parametrize("status", [100, 101, 103])
def test_9110_15_2_informational_status_is_not_a_final_one(status):
    with pytest.raises(LocalProtocolError, match=rf"status {status} cannot end this request"):
        requested().send_response(status, [])


def test_default_headers_come_first_and_give_way_to_the_applications():
    default = b"server: fairway\r\ndate: now\r\n"

    assert requested().send_response(204, [(b"x", b"y")], default_headers=default) == (
        b"HTTP/1.1 204 No Content\r\nserver: fairway\r\ndate: now\r\nx: y\r\n\r\n"
    )
    assert requested().send_response(204, [(b"Server", b"mine")], default_headers=default) == (
        b"HTTP/1.1 204 No Content\r\ndate: now\r\nserver: mine\r\n\r\n"
    )


def test_duplicate_headers_keep_their_order():
    data = requested().send_response(204, [(b"set-cookie", b"a=1"), (b"Set-Cookie", b"b=2")])

    assert data == b"HTTP/1.1 204 No Content\r\nset-cookie: a=1\r\nset-cookie: b=2\r\n\r\n"


@pytest.mark.parametrize(
    "value", [b"a\r\nx: y", b"a\nb", b"a\rb", b"a\x00b", b"\r\n", b"\n", b"a\x7f", b"\x0b", b"\x1c"]
)
@pytest.mark.parametrize("name", [b"x-a", b"connection", b"date"])
def test_9110_5_5_header_value_with_control_characters_is_refused(name, value):
    connection = requested()

    with pytest.raises(LocalProtocolError, match=r"^a header value contains CR, LF, NUL or another control character"):
        connection.send_response(200, [(name, value)])
    assert not connection.response_started
    assert connection.send_response(204, []) == b"HTTP/1.1 204 No Content\r\n\r\n"


def test_line_breaks_cannot_hide_by_being_even_in_number():
    with pytest.raises(LocalProtocolError, match=r"header value"):
        requested().send_response(200, [(b"a", b"\r"), (b"b", b"\n")])


def test_9110_5_5_obs_text_may_be_sent():
    assert b"\r\nx: \x80\x85\xff\r\n" in requested().send_response(204, [(b"x", b"\x80\x85\xff")])


@pytest.mark.parametrize("name", [b"", b"a b", b"a:", b"a\r\n", b"\xc3\xa4", b"a\x00", b" a", b"a "])
def test_9110_5_1_header_name_that_is_not_a_token_is_refused(name):
    with pytest.raises(LocalProtocolError, match=r"is not a token"):
        requested().send_response(200, [(name, b"x")])


@pytest.mark.parametrize("field", [("a", b"b"), (b"a", "b"), (b"a", None), (b"a", 1), (bytearray(b"a"), b"b")])
def test_header_that_is_not_bytes_is_refused(field):
    with pytest.raises(LocalProtocolError, match=r"^header names and values must be bytes, not "):
        requested().send_response(200, [field])


@pytest.mark.parametrize(
    "values", [[b"x"], [b"-1"], [b"+1"], [b""], [b"1, 1"], [b"1", b"1"], [b"1", b"2"], [b"9" * 5000], [b"5\r\n"]]
)
def test_9110_8_6_content_length_must_be_one_number(values):
    with pytest.raises(LocalProtocolError, match=r"^content-length must be sent once, as at most 18 decimal digits$"):
        requested().send_response(200, [(b"content-length", value) for value in values])


def test_9110_8_6_content_longer_than_its_length_is_refused_and_nothing_changes():
    connection = requested()
    connection.send_response(200, [(b"content-length", b"5")])

    with pytest.raises(LocalProtocolError, match=r"^response content is longer than its content-length"):
        connection.send_body(b"hello!", False)
    assert connection.send_body(b"hello", False) == b"hello"


def test_9110_8_6_content_shorter_than_its_length_is_refused_and_nothing_changes():
    connection = requested()
    connection.send_response(200, [(b"content-length", b"5")])

    with pytest.raises(LocalProtocolError, match=r"^response content ends 1 bytes before its content-length"):
        connection.send_body(b"hell", False)
    assert not connection.response_complete
    assert connection.send_body(b"hello", False) == b"hello"


def test_content_of_known_length_is_not_copied():
    connection = requested()
    connection.send_response(200, [(b"content-length", b"1000")])
    data = b"x" * 1000

    assert connection.send_body(data, False) is data


def test_order_of_calls_is_checked():
    connection = Http1Protocol()
    with pytest.raises(LocalProtocolError, match=r"^there is no request to answer; wait for a request head$"):
        connection.send_response(200, [])

    connection.receive_data(GET)
    with pytest.raises(LocalProtocolError, match=r"^no response content is expected now"):
        connection.send_body(b"", False)
    with pytest.raises(LocalProtocolError, match=r"^the response is not complete; end it before the next request$"):
        connection.next_request()

    connection.send_response(200, [])
    with pytest.raises(LocalProtocolError, match=r"^the response has already started"):
        connection.send_response(200, [])
    with pytest.raises(LocalProtocolError, match=r"^no trailers are expected now"):
        connection.send_trailers([])

    connection.send_body(b"", False)
    with pytest.raises(LocalProtocolError, match=r"^no response content is expected now"):
        connection.send_body(b"", False)


# -- interim responses


def test_9110_15_2_interim_responses_come_before_the_final_one():
    connection = requested()

    assert connection.send_informational(100, []) == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert connection.send_informational(103, [(b"link", b"</a>"), (b"link", b"</b>")]) == (
        b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\nlink: </b>\r\n\r\n"
    )
    assert not connection.response_started


def test_9110_15_2_interim_response_after_the_final_one_is_refused():
    connection = requested()
    connection.send_response(200, [])

    with pytest.raises(LocalProtocolError, match=r"^status 103 was sent after the final response; send it before$"):
        connection.send_informational(103, [])


def test_9110_15_2_interim_response_is_not_sent_to_http_1_0():
    assert requested(GET_1_0).send_informational(103, [(b"link", b"</a>")]) == b""


@pytest.mark.parametrize("status", [101, 200, 404])
def test_9110_15_2_other_status_is_not_informational(status):
    with pytest.raises(LocalProtocolError, match=rf"^status {status} is not informational"):
        requested().send_informational(status, [])


def test_9110_15_2_interim_response_has_no_framing_and_its_headers_are_checked():
    connection = requested()

    assert connection.send_informational(103, [(b"content-length", b"5"), (b"transfer-encoding", b"chunked")]) == (
        b"HTTP/1.1 103 Early Hints\r\n\r\n"
    )
    with pytest.raises(LocalProtocolError, match=r"^a header value contains"):
        connection.send_informational(103, [(b"link", b"a\r\nb: c")])


# -- trailers


def test_9112_7_1_2_trailers_end_chunked_content():
    connection = requested(WITH_TRAILERS)

    data = connection.send_response(200, [(b"trailer", b"x-sum")], trailers=True)
    data += connection.send_body(b"hello", True) + connection.send_body(b"", False)
    assert not connection.response_complete
    data += connection.send_trailers([(b"X-Sum", b"1")])

    assert data.endswith(b"\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n")
    assert connection.response_complete


def test_9110_6_5_1_trailers_are_dropped_if_the_peer_does_not_take_them():
    connection = requested()
    connection.send_response(200, [], trailers=True)

    assert connection.send_body(b"a", False) == b"1\r\na\r\n"
    assert connection.send_trailers([(b"x-sum", b"1")]) == b"0\r\n\r\n"


def test_9110_6_5_1_trailers_are_dropped_where_content_is_not_chunked():
    connection = requested(WITH_TRAILERS)
    connection.send_response(200, [(b"content-length", b"1")], trailers=True)

    assert connection.send_body(b"a", False) == b"a"
    assert connection.send_trailers([(b"x-sum", b"1")]) == b""
    assert connection.response_complete


@pytest.mark.parametrize("name", [b"content-length", b"Transfer-Encoding", b"host", b"Set-Cookie"])
def test_9110_6_5_1_fields_of_the_head_are_refused_as_trailers(name):
    connection = requested(WITH_TRAILERS)
    connection.send_response(200, [], trailers=True)
    connection.send_body(b"", False)

    with pytest.raises(LocalProtocolError, match=r"cannot be a trailer; send it as a header$"):
        connection.send_trailers([(name, b"1")])
    with pytest.raises(LocalProtocolError, match=r"^a header value contains"):
        connection.send_trailers([(b"x", b"1\r\n\r\nHTTP/1.1 200 OK")])
    assert connection.send_trailers([]) == b"0\r\n\r\n"


# -- switching protocols


def test_9110_15_2_2_upgrade_is_answered_without_framing():
    connection = requested(UPGRADE)

    data = connection.send_response(101, [(b"upgrade", b"websocket"), (b"connection", b"Upgrade")])

    assert data == b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n"
    assert connection.response_complete


def test_9110_7_8_after_the_upgrade_nothing_is_read_as_http():
    connection = requested(UPGRADE + GET)
    connection.send_response(101, [])

    assert connection.next_request() == []
    assert connection.receive_data(GET) == []


def test_9110_7_8_upgrade_waits_for_the_content_of_its_request():
    connection = requested(head(b"Connection: Upgrade", b"Upgrade: websocket", b"Content-Length: 1"))

    with pytest.raises(LocalProtocolError, match=r"^the upgraded request is not complete"):
        connection.send_response(101, [])
    connection.receive_data(b"x")
    assert connection.send_response(101, []).startswith(b"HTTP/1.1 101 ")


# -- error responses


def test_error_response_is_complete_and_closes():
    connection = requested()

    data = connection.error_response(
        503, "no free\r\nplace", default_headers=b"server: fairway\r\n", extra_headers=[(b"retry-after", b"5")]
    )

    assert data == (
        b"HTTP/1.1 503 Service Unavailable\r\nserver: fairway\r\nretry-after: 5\r\n"
        b"content-type: text/plain; charset=utf-8\r\ncontent-length: 14\r\nconnection: close\r\n\r\nno free place\n"
    )
    assert connection.should_close
    assert connection.response_complete
    assert connection.next_request() == []
    assert connection.receive_data(GET) == []


def test_error_response_is_possible_without_a_request():
    connection = requested(b"GET / HTTP/1.1\r\n\r\n")

    data = connection.error_response(400, "")

    assert data.startswith(b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain")
    assert data.endswith(b"\r\n\r\n400 Bad Request\n")
    assert connection.next_request() == []


def test_9110_9_3_2_error_response_to_head_has_no_content():
    data = requested(HEAD).error_response(500, "failed")

    assert b"\r\ncontent-length: 7\r\n" in data
    assert data.endswith(b"\r\n\r\n")


def test_9110_7_8_error_response_keeps_the_upgrade_option():
    data = requested().error_response(
        426, "upgrade", extra_headers=[(b"upgrade", b"websocket"), (b"connection", b"upgrade")]
    )

    assert b"\r\nconnection: close, upgrade\r\n" in data


def test_error_response_after_the_response_has_begun_is_refused():
    connection = requested()
    connection.send_response(200, [])

    with pytest.raises(LocalProtocolError, match=r"^the response has already started; close the connection instead$"):
        connection.error_response(500, "failed")


# Whole responses: that they are the same bytes is in test_properties.py.

TYPE = (b"content-type", b"text/plain")


def test_a_plain_request_is_answered_whole():
    connection = requested()

    data = connection.send_whole(200, (TYPE,), b"hello", PlainHeads(b"server: x\r\n"))

    assert data == b"HTTP/1.1 200 OK\r\nserver: x\r\ncontent-type: text/plain\r\ncontent-length: 5\r\n\r\nhello"
    assert connection.response_complete
    assert not connection.should_close


@pytest.mark.parametrize("data", [GET_1_0, GET_1_0_KEPT, HEAD, CLOSING, UPGRADE, GET[:-2], b""])
def test_a_request_that_is_not_plain_is_not_answered_whole(data):
    connection = requested(data)

    assert connection.send_whole(200, (), b"hello", PlainHeads(b"")) is None
    assert not connection.response_started


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (204, ()),
        (304, ()),
        (200, ((b"content-length", b"4"),)),
        (200, ((b"connection", b"close"),)),
        (200, ((b"x", b"a\r\nb"),)),
    ],
)
def test_a_response_that_is_not_that_simple_is_not_sent_whole(status, headers):
    connection = requested()

    assert connection.send_whole(status, headers, b"hello", PlainHeads(b"")) is None
    assert not connection.response_started


def test_nothing_can_follow_a_whole_response():
    connection = requested()
    connection.send_whole(200, (), b"hello", PlainHeads(b""))

    assert connection.send_whole(200, (), b"hello", PlainHeads(b"")) is None
    with pytest.raises(LocalProtocolError, match="the response has already started"):
        connection.send_response(200, [])
    with pytest.raises(LocalProtocolError, match="no response content is expected now"):
        connection.send_body(b"", False)
    with pytest.raises(LocalProtocolError, match="no trailers are expected now"):
        connection.send_trailers([])
    with pytest.raises(LocalProtocolError, match="after the final response"):
        connection.send_informational(103, [])
    with pytest.raises(LocalProtocolError, match="the response has already started"):
        connection.error_response(500, "late")


def test_a_head_is_made_once():
    heads = PlainHeads(b"")

    first = heads.find(200, (TYPE,), 5)

    assert heads.find(200, (TYPE,), 5) is first
    assert heads.find(200, (TYPE,), 6) != first


def test_that_a_head_is_not_plain_is_found_once(monkeypatch):
    heads = PlainHeads(b"")
    assert heads.find(304, (), 0) is None

    monkeypatch.setattr(PlainHeads, "_make", None)

    assert heads.find(304, (), 0) is None


def test_kept_heads_are_bounded_in_number_and_size():
    heads = PlainHeads(b"")

    for length in range(3000):
        heads.find(200, (TYPE,), length)
        assert len(heads._kept) <= 256
    kept = len(heads._kept)
    assert heads.find(200, ((b"x", b"y" * 2048),), 5) is not None
    assert heads.find(304, ((b"x", b"y" * 2048),), 5) is None
    assert len(heads._kept) == kept
