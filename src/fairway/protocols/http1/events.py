"""The events that `Http1Protocol` reports about the peer.

A request is a `RequestHead`, any number of `BodyReceived`, and a `RequestEnded`. At any point a `RequestFailed` may
come instead, after which no event follows. A head is a tuple, because tuples are made fastest. The other classes are
not frozen, because frozen dataclasses take longer to make. Treat them as read-only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class RequestHead(NamedTuple):
    """A complete and valid request head.

    `raw_path` and `query_string` are the parts of the target in front of and behind its `?`. If the target has the
    absolute form, `raw_path` is its path, and its authority has replaced the value of `host` (RFC 9112 section 3.2.2).
    `keep_alive` is what the peer asks for. `expect_continue` is true only if content follows that the peer holds back.
    `upgrade` is the protocol that the peer asks for: `b"websocket"` if it is offered, otherwise the first one in the
    list. `accepts_trailers` is true if the peer sent `TE: trailers` (RFC 9110 section 6.5.1).
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
    """A piece of the request's content, never empty. Each call of the protocol returns at most one."""

    data: bytes


@dataclass(slots=True)
class RequestEnded:
    """The request is complete. Bytes that follow it are kept until `next_request()`."""


@dataclass(slots=True)
class RequestFailed:
    """The peer broke the protocol or a limit.

    Answer with `status`, unless a response has already begun, and close. `reason` is one line for the log.
    """

    status: int
    reason: str


@dataclass(slots=True)
class PrefaceReceived(RequestFailed):
    """The connection begins with the preface of HTTP/2, not with a request (RFC 9113 section 3.4).

    `data` is all that the peer has sent so far. A server without HTTP/2 answers as for any `RequestFailed`.
    """

    data: bytes


@dataclass(slots=True)
class OtherProtocolReceived(RequestFailed):
    """The connection begins with a line that is not a request line, because it names no version of HTTP.

    A server with HTTP/1.1 only answers as for any `RequestFailed`. A server with further protocols closes without an
    answer, because the peer may not expect HTTP/1.1 (RFC 9112 section 2.2, RFC 9113 section 3.4).
    """


Event = RequestHead | BodyReceived | RequestEnded | RequestFailed
