"""What the management socket answers: bytes of a request in, bytes of a response out. Pure.

This is a minimal HTTP/1.1: GET and HEAD, and one request on each connection.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

MOST_BYTES = 8192
"""The most bytes of a request's head."""

TEXT = "text/plain; charset=utf-8"

_REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


@dataclass(frozen=True, slots=True)
class Page:
    """The content of a response."""

    status: int
    body: str
    content_type: str = TEXT


Pages = Mapping[str, Callable[[], Page]]
"""Functions by path. Each request calls one."""


def answer(received: bytes, pages: Pages) -> bytes | None:
    """The response to a request of which `received` has arrived. None if its head is incomplete."""
    if b"\r\n\r\n" not in received and b"\n\n" not in received:
        return None if len(received) <= MOST_BYTES else _response(Page(431, "the request is too long\n"))
    words = received.partition(b"\n")[0].split()
    if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
        return _response(Page(400, "this is no request of HTTP/1.1\n"))
    method, target = words[0], words[1].partition(b"?")[0].decode("latin-1")
    if method not in (b"GET", b"HEAD"):
        return _response(Page(405, "there is only GET\n"))
    make = pages.get(target)
    page = Page(404, f"there are: {' '.join(pages)}\n") if make is None else make()
    return _response(page, with_body=method == b"GET")


def _response(page: Page, with_body: bool = True) -> bytes:
    body = page.body.encode()
    head = (
        f"HTTP/1.1 {page.status} {_REASONS[page.status]}\r\ncontent-type: {page.content_type}\r\n"
        f"content-length: {len(body)}\r\ncache-control: no-store\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + (body if with_body else b"")


BROKEN = _response(Page(500, "this page cannot be made: the log says why\n"))
