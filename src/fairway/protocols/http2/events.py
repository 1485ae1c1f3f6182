"""What `Http2Protocol` reports about the peer. All are tuples, because that is what an object is made of fastest."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from fairway.protocols.http.request import Headers
from fairway.protocols.http2.streams import Stream


class RequestHead(NamedTuple):
    """A complete and valid request head. (`fairway.protocols.http.request.Request`)

    `host` is the first of the headers, and says what `:authority` said. There is at most one `cookie`.
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
    """The list is nobody else's."""


class RequestReceived(NamedTuple):
    """A request has begun; `ended` says that no content comes."""

    stream: Stream
    head: RequestHead
    ended: bool


class RequestFailed(NamedTuple):
    """A request that is not for the application: it is to be answered with `Stream.error_response`.

    `reason` is lower-case and names the RFC section, and so everywhere. `head` is for the log; it is None if what is
    wrong is in it.
    """

    stream: Stream
    status: int
    reason: str
    head: RequestHead | None


class DataReceived(NamedTuple):
    """A piece of content, without padding; empty only at its end. `Stream.credit` is due when it has been taken."""

    stream: Stream
    data: bytes
    ended: bool


class StreamReset(NamedTuple):
    """The stream is gone. Without a `reason` the peer has reset it; else we have, for what the peer did."""

    stream: Stream
    code: int
    reason: str


class StreamRefused(NamedTuple):
    """A stream more than allowed; the client may send its request again (RFC 9113 section 5.1.2)."""

    number: int


class WindowOpened(NamedTuple):
    """Something may be sent again: on this stream, or, if it is None, on any."""

    stream: Stream | None


class PingAcknowledged(NamedTuple):
    data: bytes


class GoingAway(NamedTuple):
    """The peer begins no streams any more (RFC 9113 section 6.8)."""

    last: int
    code: int
    debug: bytes


class Terminated(NamedTuple):
    """The connection is over: what there is to send ends with a GOAWAY, and nothing is reported after this."""

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
