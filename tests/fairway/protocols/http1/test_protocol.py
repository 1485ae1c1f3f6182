"""RFC 9112 section 9: one request after the other, pipelining, the end of the peer's side, handing over."""

from __future__ import annotations

import pytest
from tests.fairway.protocols.http1.wire import BEHIND, chunked, head, merged

from fairway.protocols.http1 import (
    BodyReceived,
    Http1Protocol,
    LocalProtocolError,
    OtherProtocolReceived,
    PrefaceReceived,
    RequestEnded,
    RequestFailed,
    RequestHead,
)
from fairway.protocols.http1.body import CHUNKS_AT_ONCE

FIRST = head(first=b"GET /first HTTP/1.1")
SECOND = head(b"Content-Length: 3", first=b"POST /second HTTP/1.1") + b"abc"
THIRD = head(first=b"GET /third HTTP/1.1")
CLOSING = head(b"Connection: close")
UPGRADE = head(b"Connection: Upgrade", b"Upgrade: websocket")


def answer(connection: Http1Protocol) -> None:
    connection.send_response(204, [])
    connection.send_body(b"", False)


def paths(events: list[object]) -> list[bytes]:
    return [event.raw_path for event in events if isinstance(event, RequestHead)]


def test_9112_9_3_2_pipelined_requests_wait_for_their_turn():
    connection = Http1Protocol()

    assert paths(connection.receive_data(FIRST + SECOND + THIRD)) == [b"/first"]
    assert connection.buffered == len(SECOND + THIRD)
    answer(connection)
    assert connection.next_request()[1:] == [BodyReceived(b"abc"), RequestEnded()]
    assert connection.buffered == len(THIRD)
    answer(connection)
    assert paths(connection.next_request()) == [b"/third"]
    assert connection.buffered == 0
    answer(connection)
    assert connection.next_request() == []
    assert not connection.should_close


def test_9112_9_3_2_a_pipelined_request_may_arrive_in_pieces_around_the_turn():
    connection = Http1Protocol()
    connection.receive_data(FIRST)

    assert connection.receive_data(THIRD[:10]) == []
    assert connection.receive_data(THIRD[10:20]) == []
    assert connection.buffered == 20
    answer(connection)
    assert connection.next_request() == []
    assert paths(connection.receive_data(THIRD[20:])) == [b"/third"]


def test_a_pipelined_fault_is_found_when_its_turn_comes():
    connection = Http1Protocol()

    assert paths(connection.receive_data(FIRST + b"\x00")) == [b"/first"]
    assert not connection.should_close
    answer(connection)
    assert connection.next_request() == [RequestFailed(400, "control character 0x00: RFC 9110 section 5.5")]
    assert connection.should_close


def test_9112_9_6_nothing_behind_a_closing_request_is_looked_at_or_kept():
    connection = Http1Protocol()

    assert len(connection.receive_data(CLOSING + BEHIND)) == 2
    assert connection.receive_data(BEHIND) == []
    assert connection.buffered == 0
    assert connection.should_close
    answer(connection)
    assert connection.next_request() == []
    assert connection.receive_data(BEHIND) == []


def test_after_a_closing_response_pipelined_requests_are_dropped():
    connection = Http1Protocol()
    connection.receive_data(FIRST + THIRD)
    connection.send_response(204, [(b"connection", b"close")])
    connection.send_body(b"", False)

    assert connection.should_close
    assert connection.next_request() == []
    assert connection.buffered == 0


def test_request_is_the_one_being_received_or_answered():
    connection = Http1Protocol()
    assert connection.request is None

    connection.receive_data(FIRST)
    assert connection.request is not None
    assert connection.request.raw_path == b"/first"

    answer(connection)
    connection.next_request()
    assert connection.request is None


def test_no_data_is_no_event():
    assert Http1Protocol().receive_data(b"") == []


def test_content_is_reported_as_it_arrives():
    connection = Http1Protocol()
    data = head(b"Content-Length: 6", first=b"POST / HTTP/1.1")

    assert len(connection.receive_data(data)) == 1
    assert connection.should_close, "the content has not been read"
    assert connection.receive_data(b"abc") == [BodyReceived(b"abc")]
    assert connection.receive_data(b"def") == [BodyReceived(b"def"), RequestEnded()]
    assert not connection.should_close


# -- the end of the peer's side


def test_eof_between_requests_is_nothing():
    connection = Http1Protocol()

    assert connection.receive_eof() == []
    assert connection.should_close


def test_eof_after_empty_lines_is_nothing():
    connection = Http1Protocol()
    connection.receive_data(b"\r\n")

    assert connection.receive_eof() == []


@pytest.mark.parametrize("length", [1, 10, len(FIRST) - 1])
def test_9112_8_eof_inside_a_head_is_a_failure(length):
    connection = Http1Protocol()
    connection.receive_data(FIRST[:length])

    assert connection.receive_eof() == [
        RequestFailed(400, "connection ended inside the request head: RFC 9112 section 8")
    ]
    assert connection.should_close


@pytest.mark.parametrize("data", [SECOND[:-1], SECOND[:-3], chunked(b""), chunked(b"5\r\nhello\r\n0\r\n\r")])
def test_9112_8_eof_inside_content_is_a_failure(data):
    connection = Http1Protocol()
    connection.receive_data(data)

    assert connection.receive_eof() == [
        RequestFailed(400, "connection ended inside the request content: RFC 9112 section 8")
    ]


def test_a_request_followed_by_eof_is_answered_and_the_connection_closed():
    connection = Http1Protocol()
    connection.receive_data(FIRST)

    assert connection.receive_eof() == []
    assert b"\r\nconnection: close\r\n" in connection.send_response(204, [])
    connection.send_body(b"", False)
    assert connection.should_close


def test_all_pipelined_requests_before_eof_are_answered():
    connection = Http1Protocol()
    connection.receive_data(FIRST + THIRD)
    connection.receive_eof()

    assert not connection.should_close
    answer(connection)
    assert paths(connection.next_request()) == [b"/third"]
    assert connection.should_close


def test_a_pipelined_request_cut_off_by_eof_is_a_failure_in_its_turn():
    connection = Http1Protocol()
    connection.receive_data(FIRST + THIRD[:-1])

    assert connection.receive_eof() == []
    answer(connection)
    assert connection.next_request() == [
        RequestFailed(400, "connection ended inside the request head: RFC 9112 section 8")
    ]


def test_eof_after_a_failure_is_nothing():
    connection = Http1Protocol()
    connection.receive_data(b"\x00")

    assert connection.receive_eof() == []


# -- a body in more chunks than are taken at once

TINY = b"1\r\na\r\n"
MANY = 3 * CHUNKS_AT_ONCE


def parted(behind: bytes) -> Http1Protocol:
    connection = Http1Protocol()
    head, received = connection.receive_data(chunked(TINY * MANY + behind))
    assert isinstance(head, RequestHead)
    assert received == BodyReceived(b"a" * CHUNKS_AT_ONCE)
    assert connection.is_parted
    assert connection.buffered == len(TINY * (MANY - CHUNKS_AT_ONCE) + behind)
    return connection


def go_on(connection: Http1Protocol) -> list[object]:
    events: list[object] = []
    while connection.is_parted:
        events += connection.receive_data(b"")
    return merged(events)


def test_a_parted_body_goes_on_when_asked():
    connection = parted(b"0\r\n\r\n")

    assert connection.receive_data(b"") == [BodyReceived(b"a" * CHUNKS_AT_ONCE)]
    assert connection.receive_data(b"") == [BodyReceived(b"a" * CHUNKS_AT_ONCE)]
    assert connection.is_parted
    assert connection.receive_data(b"") == [RequestEnded()]
    assert (connection.is_parted, connection.buffered, connection.should_close) == (False, 0, False)
    assert connection.receive_data(b"") == []


def test_what_arrives_while_a_body_is_parted_follows_it():
    connection = parted(b"2\r\nb")
    before = connection.buffered

    assert connection.receive_data(b"c\r\n0\r\n") == []
    assert connection.receive_data(b"\r\n") == []
    assert connection.buffered == before + 8
    assert go_on(connection) == [BodyReceived(b"a" * (MANY - CHUNKS_AT_ONCE) + b"bc"), RequestEnded()]


def test_a_parted_body_that_is_not_complete_goes_on_with_what_arrives():
    connection = parted(b"2\r\nb")

    assert go_on(connection) == [BodyReceived(b"a" * (MANY - CHUNKS_AT_ONCE) + b"b")]
    assert connection.receive_data(b"") == []
    assert connection.receive_data(b"c\r\n0\r\n\r\n") == [BodyReceived(b"c"), RequestEnded()]


def test_a_request_behind_a_parted_body_has_its_turn():
    connection = parted(b"0\r\n\r\n" + THIRD)

    assert go_on(connection)[-1] == RequestEnded()
    assert connection.buffered == len(THIRD)
    assert connection.receive_data(b"") == []
    answer(connection)
    assert paths(connection.next_request()) == [b"/third"]


def test_a_parted_body_behind_another_request_goes_on_in_its_turn():
    connection = Http1Protocol()
    connection.receive_data(FIRST + chunked(TINY * MANY + b"0\r\n\r\n"))
    assert not connection.is_parted
    connection.receive_eof()
    answer(connection)

    assert connection.next_request()[1:] == [BodyReceived(b"a" * CHUNKS_AT_ONCE)]
    assert go_on(connection) == [BodyReceived(b"a" * (MANY - CHUNKS_AT_ONCE)), RequestEnded()]


def test_eof_behind_a_parted_body_that_is_complete_is_nothing():
    connection = parted(b"0\r\n\r\n")

    assert connection.receive_eof() == []
    assert go_on(connection) == [BodyReceived(b"a" * (MANY - CHUNKS_AT_ONCE)), RequestEnded()]
    assert connection.receive_eof() == []
    assert connection.should_close


@pytest.mark.parametrize("behind", [b"", b"1\r\na", b"0\r\n"])
def test_9112_8_eof_inside_a_parted_body_is_a_failure_in_its_turn(behind):
    connection = parted(behind)

    assert connection.receive_eof() == []
    assert go_on(connection)[-1] == RequestFailed(
        400, "connection ended inside the request content: RFC 9112 section 8"
    )
    assert connection.should_close


def test_a_fault_in_the_rest_of_a_parted_body_is_a_failure():
    connection = parted(b"x\r\n")
    *content, failure = go_on(connection)

    assert content == [BodyReceived(b"a" * (MANY - CHUNKS_AT_ONCE))]
    assert isinstance(failure, RequestFailed)
    assert (connection.buffered, connection.receive_data(b"")) == (0, [])


def test_9112_9_3_an_answer_while_the_body_is_parted_closes():
    connection = parted(b"0\r\n\r\n")

    assert b"\r\nconnection: close\r\n" in connection.send_response(204, [])
    connection.send_body(b"", False)
    assert connection.should_close
    assert connection.next_request() == []
    assert connection.buffered == 0


# -- handing the connection to another protocol


def test_9110_7_8_bytes_behind_an_upgraded_request_are_handed_over():
    connection = Http1Protocol()
    connection.receive_data(UPGRADE + b"\x81\x80")
    connection.receive_data(b"1234")

    assert connection.unread() == b"\x81\x801234"
    assert connection.buffered == 0
    assert connection.receive_data(b"more") == []


def test_9110_7_8_bytes_are_kept_even_if_the_upgraded_request_also_says_close():
    connection = Http1Protocol()
    connection.receive_data(head(b"Connection: Upgrade, close", b"Upgrade: websocket") + b"\x81")

    assert connection.unread() == b"\x81"


@pytest.mark.parametrize("data", [b"", FIRST, head(b"Connection: Upgrade", b"Upgrade: a", b"Content-Length: 1")])
def test_unread_needs_a_complete_request_for_an_upgrade(data):
    connection = Http1Protocol()
    connection.receive_data(data)

    with pytest.raises(LocalProtocolError, match=r"^no complete request asks for an upgrade; keep speaking HTTP$"):
        connection.unread()


def test_a_refused_upgrade_goes_on_as_http():
    connection = Http1Protocol()
    connection.receive_data(UPGRADE + THIRD)
    answer(connection)

    assert paths(connection.next_request()) == [b"/third"]


# The preface of HTTP/2 ---------------------------------------------------------------------------------------------

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = bytes(3) + b"\x04" + bytes(5)


@pytest.mark.parametrize("size", [1, 7, 15, 16, 17, 24, 1000])
def test_9113_3_4_a_preface_is_reported_with_everything_that_was_read(size: int) -> None:
    connection, data = Http1Protocol(), PREFACE + SETTINGS
    for start in range(0, len(data), size):
        events = connection.receive_data(data[start : start + size])
        if events:
            break
    (event,) = events
    assert isinstance(event, PrefaceReceived)
    assert event.data + data[start + size :] == data
    assert (event.status, event.reason) == (505, "HTTP/2 is not served here: RFC 9113 section 3.4")
    assert connection.receive_data(PREFACE) == []


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize("line", [b"INVALID CONNECTION PREFACE", b"GET / SIP/2.0", b"a b c"])
def test_9112_2_2_a_first_line_without_a_version_of_http_is_no_request(line: bytes, size: int) -> None:
    connection, data = Http1Protocol(), line + b"\r\n\r\nmore"
    events = [event for at in range(0, len(data), size) for event in connection.receive_data(data[at : at + size])]
    reason = "the first line names no version of HTTP: RFC 9112 section 2.2"
    assert events == [OtherProtocolReceived(400, reason)]


@pytest.mark.parametrize("line", [b"GET / http/1.1", b"GET / HTTP", b"GET /", b"GET / HTTP/1.1 x"])
def test_9112_2_2_a_first_line_that_nearly_is_one_fails_as_a_request(line: bytes) -> None:
    (event,) = Http1Protocol().receive_data(line + b"\r\n\r\n")
    assert (type(event), event.status) == (RequestFailed, 400)


@pytest.mark.parametrize("before", [b"\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"])
@pytest.mark.parametrize("size", [1, 1000])
def test_9113_3_4_a_preface_is_none_behind_anything_else(before: bytes, size: int) -> None:
    connection, data = Http1Protocol(), before + PREFACE + SETTINGS
    events = []
    for start in range(0, len(data), size):
        events += connection.receive_data(data[start : start + size])
    if connection.request is not None:
        connection.send_response(204, [])
        connection.send_body(b"", more=False)
        events += connection.next_request()
    assert type(events[-1]) is RequestFailed
    assert events[-1].status == 505
