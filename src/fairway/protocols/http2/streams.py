"""One stream as the server sees it (RFC 9113 section 5): what may be sent on it, and what has arrived.

Our side goes through the states of `ResponseState`:

* AWAITED: only interim responses have been sent.
* CONTENT: the head has been sent.
* TRAILERS, ADMITTED: the application has given all its content; some of it may still wait for a window.
* ENDED: END_STREAM has been sent, or the stream is gone.

The peer's side has ended or not (`has_ended`). When both sides have ended, or one has reset the stream, the connection
forgets it (`StreamHost.forget`). Calls are harmless after that, or raise `LocalProtocolError`.

A response may be complete before its request, because an application need not read a body that it refuses. RFC 9113
section 8.1 lets us reset such a stream at once with NO_ERROR. But then curl and others lose the response. So the rest
of the body is read and dropped for a while: up to `max_discarded_bytes`, for which there is a window at once, and for
`discard_timeout`. Only then is the stream reset. A tunnel's data is never dropped: its peer ends its own side.

Windows are plain numbers, because code that writes to many streams in a row updates them directly. `window` is how much
the peer lets us send, `inbound` how much we let it send. Received content counts as `unread` until the application has
taken it. Only then may the peer send as much again. So a slow application stops its own stream, and no other.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Iterable
from typing import Any, Protocol

from fairway.protocols.http.errors import LocalProtocolError
from fairway.protocols.http.request import Header
from fairway.protocols.http2.frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    LARGEST_FRAME,
    data_frames,
    headers_frames,
    pack_head,
    rst_stream_frame,
    window_update_frame,
)
from fairway.protocols.http2.limits import Http2Limits
from fairway.protocols.http2.patience import Budget
from fairway.protocols.http2.response import WITHOUT_CONTENT, PlainBlocks, encode_head, encode_trailers


class ResponseState(enum.Enum):
    """How far our side has come. States only move forward."""

    AWAITED = enum.auto()
    CONTENT = enum.auto()
    TRAILERS = enum.auto()
    ADMITTED = enum.auto()
    ENDED = enum.auto()


# Because CPython 3.11 takes 0.1 µs to look up an enum's member in its class.
_AWAITED, _CONTENT, _TRAILERS, _ADMITTED, _ENDED = ResponseState

UNKNOWN = -1
"""A length that the peer, or the application, has not announced."""

CLOSED_WINDOW = -(1 << 62)
"""The window of a stream that takes nothing any more: too small for anything."""

# What is known of the exchange.
_IS_HEAD, _TAKES_TRAILERS, IS_TUNNEL, _WITHOUT_CONTENT, _WANTS_TRAILERS, IS_TAKEN = 1, 2, 4, 8, 16, 32


class StreamHost(Protocol):
    """The connection, as a stream sees it."""

    limits: Http2Limits

    streams: dict[int, Stream]
    """The open streams by number."""

    window: int
    """How much content may be sent on all streams together."""

    unread: int
    """How much content of all streams has arrived, but has not been taken."""

    def take_prefix(self) -> bytes:
        """Take the prefix."""

    def credit_due(self, least: int | None = None) -> bytes:
        """The connection's WINDOW_UPDATE, if one is due: for half a window, or for `least` bytes."""

    def forget(self, stream: Stream, was_reset: bool) -> bytes:
        """The stream is gone. `was_reset`: we have reset it, and the peer may still be sending. Returns what is due."""

    inbound: int
    """How much content the peer may send on all streams together."""

    budget: Budget

    prefix: bytes
    """What the next field block has to begin with, if anything."""


class Reader(Protocol):
    """Takes the content of a tunnel."""

    def data_received(self, data: bytes, /) -> None:
        """Content has arrived. It must not pass bytes from the peer to the protocol before it returns."""


class Stream:
    """The server's side of one stream. Calls return bytes; send them in the order of the calls."""

    __slots__ = (
        "_remaining",
        "_state",
        "discarding_since",
        "expected",
        "flags",
        "has_ended",
        "inbound",
        "number",
        "owner",
        "protocol",
        "reader",
        "target",
        "unread",
        "window",
    )

    owner: Any
    """The server's own object for this stream. The server sets it, and finds it in events."""

    reader: Reader | None
    """Who gets the content of a tunnel as it arrives; None while more than the windows has to be looked at. Set by
    `take_all`.
    """

    has_ended: bool
    """Whether the peer has ended its side."""

    window: int
    """How much content the stream's own window allows us to send. It may be negative, and is at the end."""

    unread: int
    """How much content has been reported, but not credited yet."""

    # The rest is for the connection.

    inbound: int
    """How much content the peer may still send."""

    target: int
    """How much the peer may send once everything has been taken: credit brings `inbound` back to this."""

    flags: int
    """What is known of the exchange, such as `IS_TAKEN`."""

    expected: int
    """How much announced content the peer has yet to send, or `UNKNOWN`."""

    discarding_since: float | None
    """When the response was complete, if the content that still arrives is dropped."""

    def __init__(self, protocol: StreamHost, number: int, window: int, inbound: int) -> None:
        self.protocol = protocol
        self.number = number
        self.owner = self.reader = None
        self.window = window
        self.inbound = self.target = inbound
        self.unread = 0
        self.expected = UNKNOWN
        self.has_ended = False
        self.discarding_since = None
        self._state = _AWAITED
        self.flags = 0
        self._remaining = UNKNOWN

    def expect(self, method: str, is_tunnel: bool, takes_trailers: bool) -> None:
        """Note what the request means for its response. (For the connection.)"""
        self.flags = (
            (_IS_HEAD if method == "HEAD" else 0)
            | (IS_TUNNEL if is_tunnel else 0)
            | (_TAKES_TRAILERS if takes_trailers else 0)
        )

    # -- what may be sent

    @property
    def is_open(self) -> bool:
        """Whether our side may still send."""
        return self._state is not _ENDED

    @property
    def response_started(self) -> bool:
        """Whether the final response has begun, so that there can be no other."""
        return self._state is not _AWAITED

    @property
    def writable(self) -> int:
        """How many bytes `data` accepts now."""
        return max(0, min(self.window, self.protocol.window))

    # -- responses

    def send_whole(self, status: int, headers: tuple[Header, ...], content: bytes, blocks: PlainBlocks) -> bytes | None:
        """Return a whole response, or `None` if it cannot be sent that simply, and nothing has changed.

        The bytes are those that `send_response` and `data` would return together; a Content-Length is added if there is
        none. Not simple are a response to HEAD without the content, content that exceeds a window or one frame, and
        headers that `PlainBlocks` does not take.
        """
        protocol = self.protocol
        size = len(content)
        if (
            self._state is not _AWAITED
            or (self.flags and not self._is_plain(size))
            or size > self.window
            or size > protocol.window
            or size > LARGEST_FRAME
        ):
            return None
        block = blocks.find(status, headers, size)
        if block is None or len(block) > LARGEST_FRAME:
            return None
        number = self.number
        if protocol.prefix:
            block = protocol.take_prefix() + block
        if not size or self.flags & _IS_HEAD:
            return pack_head(len(block) << 8 | HEADERS, END_HEADERS | END_STREAM, number) + block + self._after_end()
        protocol.window -= size
        head = pack_head(len(block) << 8 | HEADERS, END_HEADERS, number) + block
        return head + pack_head(size << 8 | DATA, END_STREAM, number) + content + self._after_end()

    def _is_plain(self, size: int) -> bool:
        return not self.flags & IS_TUNNEL and (size > 0 or not self.flags & _IS_HEAD)

    def send_informational(self, status: int, headers: Iterable[Header]) -> bytes:
        """Return an interim response: 100, 103, ... (RFC 9110 section 15.2)."""
        if self._state is not _AWAITED:
            raise LocalProtocolError(f"status {status} was sent after the final response; send it before")
        block, _ = encode_head(status, headers, ())
        if status > 199 or status == 101:
            raise LocalProtocolError(f"status {status} is not informational; use 100, 102 or 103")
        return self._frames(block)

    def send_response(
        self, status: int, headers: Iterable[Header], *, default_headers: Iterable[Header] = (), trailers: bool = False
    ) -> bytes:
        """Return the head of the final response. The caller has to send content or `end` afterwards.

        If `headers` have a Content-Length, it is kept, and the content has to fit it. Connection-specific fields are
        dropped. A Date or Server in `headers` replaces the default one.
        """
        return self._frames(self._start(status, headers, default_headers, trailers))

    def _start(self, status: int, headers: Iterable[Header], defaults: Iterable[Header], trailers: bool) -> bytes:
        if self._state is not _AWAITED:
            raise LocalProtocolError("the response has already started; send one response for each request")
        block, length = encode_head(status, headers, defaults)
        if status < 200:
            raise LocalProtocolError(f"status {status} cannot end this request; use a status from 200 to 999")
        if self.flags & _IS_HEAD or status in WITHOUT_CONTENT:
            self.flags |= _WITHOUT_CONTENT
        elif length is not None:
            self._remaining = length
        if trailers:
            self.flags |= _WANTS_TRAILERS
        if status > 299:
            self.flags &= ~IS_TUNNEL  # the tunnel is refused: this is an ordinary response
            self.reader = None
        self._state = _CONTENT
        return block

    def _frames(self, block: bytes, flags: int = 0) -> bytes:
        return headers_frames(self.number, self.protocol.take_prefix() + block, flags)

    def admit(self, size: int, more: bool) -> bool:
        """Note that the application gives `size` bytes of content. Call it before `data`. `more` says whether content
        follows.

        Return whether to send the content: False for HEAD, 204 and 304. Raises `LocalProtocolError` if the content
        exceeds the Content-Length, or ends before it, or if no content is expected now.
        """
        if self._state is not _CONTENT:
            raise LocalProtocolError("no response content is expected now; start a response, and end it once")
        is_dropped = self.flags & _WITHOUT_CONTENT
        if self._remaining != UNKNOWN:
            remaining = self._remaining - size
            if remaining < 0:
                raise LocalProtocolError("response content is longer than its content-length; send no more than that")
            if remaining and not more:
                raise LocalProtocolError(
                    f"response content ends {remaining} bytes before its content-length; send them or close"
                )
            self._remaining = remaining
        if not more:
            self._state = _TRAILERS if self.flags & _WANTS_TRAILERS else _ADMITTED
        return not is_dropped

    def data(self, piece: bytes | memoryview, ended: bool = False) -> bytes:
        """Return content in DATA frames. With `ended`, the last frame ends our side.

        Raises `LocalProtocolError` if the content is longer than `writable`.
        """
        protocol = self.protocol
        size = len(piece)
        if size > self.window or size > protocol.window or self._state is _AWAITED:
            raise LocalProtocolError(self._why_not(size))
        self.window -= size
        protocol.window -= size
        if ended:
            return data_frames(self.number, piece, END_STREAM) + self._after_end()
        if size > LARGEST_FRAME:
            return data_frames(self.number, piece)
        return pack_head(size << 8 | DATA, 0, self.number) + piece if size else b""

    def _why_not(self, size: int) -> str:
        if self._state is _AWAITED:
            return "content before the head of the response; start a response"
        if self._state is _ENDED:
            return "the stream takes no content any more; look at is_open"
        return f"{size} bytes of content, and the windows are open for {self.writable}; send no more than that"

    def trailers(self, headers: Iterable[Header]) -> bytes:
        """Return the field block of the trailers, to pass to `end`. Empty if the peer did not send `TE: trailers`."""
        if self._state is not _TRAILERS:
            raise LocalProtocolError("no trailers are expected now; announce them, and end the content first")
        block = encode_trailers(headers)
        self._state = _ADMITTED
        return block if self.flags & _TAKES_TRAILERS else b""

    def end(self, trailers: bytes = b"") -> bytes:
        """Return the frame that ends our side: the trailers, or an empty DATA frame. Empty if our side has ended."""
        if self._state is _ENDED:
            return b""
        if self._state is _AWAITED:
            raise LocalProtocolError("the response has not started; start it, or reset the stream")
        if trailers:
            last = self._frames(trailers, END_STREAM)
        else:
            last = data_frames(self.number, b"", END_STREAM)
        return last + self._after_end()

    def _after_end(self) -> bytes:
        protocol = self.protocol
        self._state = _ENDED
        self.window = CLOSED_WINDOW
        budget = protocol.budget
        if budget.tokens < budget.most:
            budget.earn()
        if self.has_ended:
            return protocol.forget(self, False)
        if self.flags & IS_TUNNEL:
            return b""
        self.discarding_since = budget.now
        protocol.unread -= self.unread
        self.unread = 0
        # Give the whole window now, together with the end of the response: some clients stop reading once they have the
        # response, but go on sending.
        due = max(protocol.limits.max_discarded_bytes - self.inbound, 0)
        self.inbound += due
        return (window_update_frame(self.number, due) if due else b"") + protocol.credit_due(1)

    def error_response(
        self, status: int, reason: str, *, default_headers: Iterable[Header] = (), extra_headers: Iterable[Header] = ()
    ) -> bytes:
        """Return a complete short response in plain text, without the text if a window is too small for it.

        Empty if the stream is gone: the frames that followed its request may have reset it.
        """
        if self._state is _ENDED:
            return b""
        if self._state is not _AWAITED:
            raise LocalProtocolError("the response has already started; reset the stream instead")
        content = " ".join(reason.split()).encode("utf-8", "replace") + b"\n"
        if self.flags & _IS_HEAD or len(content) > self.writable or status in WITHOUT_CONTENT:
            content = b""
        described: list[Header] = []
        if content:
            described = [
                (b"content-type", b"text/plain; charset=utf-8"),
                (b"content-length", b"%d" % len(content)),
            ]
        block = self._start(status, [*extra_headers, *described], default_headers, False)
        if not content:
            return self._frames(block, END_STREAM) + self._after_end()
        return self._frames(block) + self.data(content, True)

    def reset(self, code: int) -> bytes:
        """Return RST_STREAM, and forget the stream: nothing is sent or reported any more. Empty if it is gone."""
        if self._state is _ENDED and self.has_ended:
            return b""
        return rst_stream_frame(self.number, code) + self.protocol.forget(self, True)

    def close(self) -> None:
        """The connection has forgotten the stream: both sides are over. (For the connection.)"""
        self._state = _ENDED
        self.peer_ends()
        self.window = CLOSED_WINDOW
        self.unread = 0

    # -- content of the peer

    def peer_ends(self) -> None:
        """The peer's side has ended. (For the connection.)"""
        self.has_ended = True
        self.reader = None

    def credit(self, count: int) -> bytes:
        """The application has taken `count` bytes. Return the WINDOW_UPDATEs that are due: half a window at a time."""
        unread = self.unread
        if count > unread:
            count = unread
        if count <= 0:
            return b""
        protocol = self.protocol
        self.unread = unread - count
        protocol.unread -= count
        # Usually nothing is due, and two comparisons show that.
        due = self.credit_due() if (self.target - self.inbound - unread + count) * 2 >= self.target else b""
        if protocol.inbound * 2 <= protocol.limits.connection_window:
            due += protocol.credit_due()
        return due

    def take_all(self, reader: Reader | None = None) -> bytes:
        """From now on, until `hold`, content counts as taken when it arrives, and needs no `credit`. What has arrived
        counts as taken as well. Return the WINDOW_UPDATEs that are due.

        If the stream is a tunnel, `reader` gets it from `Http2Protocol.receive_messages`, which makes no events.
        """
        self.flags |= IS_TAKEN
        is_plain = self.flags & IS_TUNNEL and not self.has_ended and self.expected == UNKNOWN
        self.reader = reader if is_plain else None
        return self.credit(self.unread)

    def hold(self) -> None:
        """From now on, content counts as unread when it arrives, until `credit` is called for it."""
        self.flags &= ~IS_TAKEN
        self.reader = None

    def credit_due(self) -> bytes:
        """The WINDOW_UPDATE of the stream if one is due, otherwise nothing.

        The window is doubled, up to `max_stream_window`, if the application takes content as fast as it arrives.
        """
        target = self.target
        due = target - self.inbound - self.unread
        if self.has_ended or due * 2 < target:
            return b""
        most = self.protocol.limits.max_stream_window
        if not self.unread and target < most:
            self.target = min(2 * target, most)
            due += self.target - target
        self.inbound += due
        return window_update_frame(self.number, due)


class StreamNumbers:
    """Which numbers of streams have been used: all up to the highest one (RFC 9113 section 5.1.1).

    The latest streams that we have reset are remembered, because frames that the peer sent before it knew are no fault.
    """

    __slots__ = ("_resets", "_room", "has_gaps", "highest", "last")

    def __init__(self, room: int) -> None:
        self.highest = 0
        self.last: int | None = None  # the last stream that is accepted, once we have announced to go away
        self.has_gaps = False
        self._room = room
        self._resets: deque[int] | None = None

    def open(self, number: int) -> None:
        if number > self.highest + 2:
            self.has_gaps = True
        self.highest = number

    def remember(self, number: int) -> None:
        """We have reset or refused this stream."""
        if self._resets is None:
            self._resets = deque(maxlen=self._room)
        self._resets.append(number)

    def is_ignored(self, number: int) -> bool:
        """Whether a frame on this stream, which is not open, may have been sent before the peer could know."""
        if self.last is not None and number > self.last:
            return True
        return self._resets is not None and number in self._resets
