"""The smallest HTTP there is: whole, byte by byte, with anything behind it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fairway.server.management.pages import MOST_BYTES, Page, answer

PAGES = {"/here": lambda: Page(200, "früh\n"), "/away": lambda: Page(503, "away\n")}


def parts(response: bytes | None) -> tuple[int, dict[str, str], bytes]:
    assert response is not None
    head, _, body = response.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return int(first.split()[1]), dict(line.split(": ", 1) for line in lines), body


def status(request: bytes) -> int:
    return parts(answer(request, PAGES))[0]


def test_a_page_is_given_with_its_length() -> None:
    code, headers, body = parts(answer(b"GET /here?x=1 HTTP/1.1\r\nHost: x\r\n\r\n", PAGES))
    assert (code, body.decode()) == (200, "früh\n")
    assert (headers["content-length"], headers["connection"]) == (str(len(body)), "close")


def test_head_has_no_body() -> None:
    code, headers, body = parts(answer(b"HEAD /away HTTP/1.0\n\n", PAGES))
    assert (code, headers["content-length"], body) == (503, "5", b"")


def test_a_request_may_come_byte_by_byte() -> None:
    request = b"GET /here HTTP/1.1\r\nHost: x\r\n\r\n"
    assert [answer(request[:end], PAGES) for end in range(len(request))] == [None] * len(request)
    assert status(request) == 200


def test_what_is_no_request_is_refused() -> None:
    assert status(b"GET /there HTTP/1.1\r\n\r\n") == 404
    assert status(b"POST /here HTTP/1.1\r\n\r\n") == 405
    assert status(b"hello\r\n\r\n") == 400
    assert status(b"GET /here HTTP/2\r\n\r\n") == 400
    assert status(b"\r\n\r\n") == 400


def test_a_request_that_does_not_end_is_too_long() -> None:
    assert answer(b"x" * MOST_BYTES, PAGES) is None
    assert status(b"x" * (MOST_BYTES + 1)) == 431


@given(st.binary(max_size=200), st.sampled_from([b"", b"\r\n\r\n", b"\n\n"]))
def test_nothing_that_comes_makes_it_raise(data: bytes, end: bytes) -> None:
    response = answer(data + end, PAGES)
    assert response is None or parts(response)[0] in (200, 400, 404, 405, 503)
