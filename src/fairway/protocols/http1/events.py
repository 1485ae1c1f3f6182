"""What `Http1Protocol` reports about the peer: four small objects.

A request is `RequestHead`, any number of `BodyReceived`, `RequestEnded`; or `RequestFailed` at any
point, after which the connection reports nothing more. A head is a tuple, because that is what one is made of
fastest. The other classes are not frozen, because frozen dataclasses cost more to make; treat them as read-only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class RequestHead(NamedTuple):
    """A complete and valid request head; being handed one means that a request was received.

    `raw_path` and `query_string` are the request target without its `?`; the absolute form is reduced to
    its path, and its authority has replaced the value of `host` (RFC 9112 section 3.2.2).
    `keep_alive` is what the peer asks for. `expect_continue` is true only if the peer waits with its content.
    `upgrade` is the protocol asked for: `b"websocket"` if that is offered, else the first one in the list.
    `accepts_trailers` is true if the peer sent `TE: trailers` (RFC 9110 section 6.5.1).
    """

    method: str
    target: bytes
    raw_path: bytes
    query_string: bytes
    version: str
    headers: list[tuple[bytes, bytes]]
    keep_alive: bool
    expect_continue: bool
    upgrade: bytes | None
    content_length: int | None
    chunked: bool
    accepts_trailers: bool


@dataclass(slots=True)
class BodyReceived:
    """A piece of the request's content, never empty; at most one for each call into the connection."""

    data: bytes


@dataclass(slots=True)
class RequestEnded:
    """The request is complete; what follows on the wire is kept until `next_request()`."""


@dataclass(slots=True)
class RequestFailed:
    """The peer broke the protocol or a limit.

    Answer with `status` unless a response has already begun, and close. `reason` is one line for the log.
    """

    status: int
    reason: str


@dataclass(slots=True)
class PrefaceReceived(RequestFailed):
    """Where the first request belongs there is the preface of an HTTP/2 connection (RFC 9113 section 3.4).

    `data` is all that the peer has sent. Who does not speak HTTP/2 answers as to any failure.
    """

    data: bytes


@dataclass(slots=True)
class OtherProtocolReceived(RequestFailed):
    """Where the first request belongs there is a line that does not look like one: it names no version of HTTP.

    A server that speaks HTTP/1.1 only answers as to any failure. One that speaks more closes without an answer, which
    the peer would read as something else (RFC 9112 section 2.2; RFC 9113 section 3.4).
    """


Event = RequestHead | BodyReceived | RequestEnded | RequestFailed
