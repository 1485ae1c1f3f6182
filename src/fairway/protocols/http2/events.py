"""What `Http2Protocol` reports about the peer. All are tuples, because that is what an object is made of fastest."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from fairway.protocols.http.request import Headers
from fairway.protocols.http2.streams import Stream


class RequestHead(NamedTuple):
    """A complete and valid request head. (`fairway.protocols.http.request.Request`)

    The first header is `host`, with the value of `:authority`. There is at most one `cookie`.
    """

    method: str
    raw_path: bytes
    query_string: bytes
    version: str
    scheme: str
    protocol: bytes | None
    """`websocket` for an extended CONNECT (RFC 8441)."""
    content_length: int | None
    expect_continue: bool
    accepts_trailers: bool
    headers: Headers
    """This request's own list, which the receiver may change."""


class RequestReceived(NamedTuple):
    """A request has begun. If it has `ended`, no content follows."""

    stream: Stream
    head: RequestHead
    ended: bool


class RequestFailed(NamedTuple):
    """A request that does not reach the application. Answer it with `Stream.error_response`.

    `reason` is lower-case and names the RFC section, as in all events. `head` is for the log. It is None if the fault
    is in the head itself.
    """

    stream: Stream
    status: int
    reason: str
    head: RequestHead | None


class DataReceived(NamedTuple):
    """A piece of content without padding; empty only at the end. Call `Stream.credit` once it has been taken."""

    stream: Stream
    data: bytes
    ended: bool


class StreamReset(NamedTuple):
    """The stream is gone. Without a `reason`, the peer has reset it; with one, we have, for a fault of the peer."""

    stream: Stream
    code: int
    reason: str


class StreamRefused(NamedTuple):
    """One stream too many was refused. The client may send its request again (RFC 9113 section 5.1.2)."""

    number: int


class WindowOpened(NamedTuple):
    """There is room to send again: on this stream, or on any stream if it is None."""

    stream: Stream | None


class PingAcknowledged(NamedTuple):
    data: bytes


class GoingAway(NamedTuple):
    """The peer will begin no more streams (RFC 9113 section 6.8)."""

    last: int
    code: int
    debug: bytes


class Terminated(NamedTuple):
    """The connection is over. The data to send ends with a GOAWAY, and no event follows this one."""

    code: int
    reason: str


Event: TypeAlias = (
    RequestReceived
    | RequestFailed
    | DataReceived
    | StreamReset
    | StreamRefused
    | WindowOpened
    | PingAcknowledged
    | GoingAway
    | Terminated
)
