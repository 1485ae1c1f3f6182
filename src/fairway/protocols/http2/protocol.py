"""One HTTP/2 connection as a server sees it: bytes in, events out; calls in, bytes out. No socket, no clock.

*Theory of operation.* `receive_data` cuts the input into frames and gives each to its handler (`receiving`). The
handler changes the state of the connection (`state`) and of its streams (`streams`). The protocol's own answers wait in
`data_to_send`. To send something, the server calls a stream, which returns bytes.

One call takes only so many frames, because a frame may consist of ten bytes, and keeps the others (`is_parted`). The
caller stops reading, lets others have their turn, and then goes on with `receive_data(b"", now)`.

All bytes must be sent in the order in which they were returned. The result of `data_to_send` goes before anything that
is made because of an event. Otherwise, for example, a frame could rely on settings before we acknowledge them.

The peer goes through the phases PREFACE, SETTINGS and OPEN. CLOSED is the end, after a `Terminated` or by a decision of
the server; input is ignored then.

Memory is bounded by the limits. A connection holds one frame, or one field block of `1 + max_continuations` frames, the
HPACK table, `max_streams` streams, and what is left of one read. The server holds the content that is reported to it,
up to `held_bytes` and one connection window.
"""

from __future__ import annotations

from fairway.protocols.http2.errors import ConnectionFault, ErrorCode, StreamFault
from fairway.protocols.http2.events import Event
from fairway.protocols.http2.frames import (
    CONTINUATION,
    DATA,
    HEAD_SIZE,
    HIGHEST_STREAM,
    LARGEST_FRAME,
    PREFACE,
    SETTINGS,
    goaway_frame,
    unpack_head,
    unpack_short_head,
)
from fairway.protocols.http2.limits import Http2Limits
from fairway.protocols.http2.patience import FRAMES_AT_ONCE, IN_A_ROW, MESSAGES_AT_ONCE
from fairway.protocols.http2.receiving import HANDLERS
from fairway.protocols.http2.state import ConnectionState, Phase

# Because CPython 3.11 takes 0.1 µs to look up an enum's member in its class.
_PREFACE, _SETTINGS, _OPEN, _CLOSED = Phase


class Http2Protocol(ConnectionState):
    """The server's side of an HTTP/2 connection.

    Nothing that the peer sends raises. Misuse by the caller raises `LocalProtocolError` and changes nothing.
    """

    __slots__ = ("held",)

    held: bytearray | None
    """The beginning of a frame, or of the preface, or frames that were too many to be taken at once. None between two
    frames, unless a field block is incomplete. Read-only for others.
    """

    def __init__(self, limits: Http2Limits, now: float) -> None:
        super().__init__(limits, now)
        self.held = None

    # -- what the peer sends

    def receive_data(self, data: bytes, now: float) -> list[Event]:
        """Take bytes from the peer, behind those that are held. Never raises, whatever they are. `now` is in seconds,
        of any clock.
        """
        budget = self.budget
        budget.now = now
        budget.departed = 0
        budget.room = FRAMES_AT_ONCE
        events: list[Event] = []
        held = self.held
        if held is not None:
            held += data
            if self.phase is _OPEN and not _has_frame(held):
                return events
            data = bytes(held)
            self.held = None
        try:
            if self.phase is not _OPEN:
                data = self._take_preface(data)
            if data:
                self._take_frames(data, events)
        except ConnectionFault as fault:
            self.fail(fault, events)
        return events

    def receive_messages(self, data: bytes) -> bytes:
        """Take the messages at the beginning of a read: whole DATA frames of tunnels whose content is taken as it
        comes. Each goes to the reader of its stream (`Stream.take_all`). Return the rest, which is for `receive_data`.
        It begins with anything else, or with a frame after which a WINDOW_UPDATE is due. What is too much to be taken
        at once is held; no data mean to go on with that.
        """
        held = self.held
        if held is not None:
            if data:
                return data
            data = bytes(held)
            self.held = None
            if self.heads.partial is not None:
                return data
        begin, end = 0, len(data)
        room, last = MESSAGES_AT_ONCE, None
        while room > 0:
            start = begin + HEAD_SIZE
            if start >= end:
                break
            high, size, kind_and_flags, number = unpack_short_head(data, begin)
            stop = start + size
            stream = self.streams.get(number)
            if kind_and_flags or high or not size or stop > end or stream is None or stream.reader is None:
                break  # DATA without flags is 0
            inbound = self.inbound - size
            left = stream.inbound - size
            if inbound * 2 <= self.limits.connection_window or left * 2 <= stream.target or size > LARGEST_FRAME:
                break
            self.inbound = inbound
            stream.inbound = left
            stream.reader.data_received(data[start:stop])
            if stop == end:
                return b""
            begin = stop
            room -= IN_A_ROW if stream is last else 1
            last = stream
        else:
            self.held = bytearray(memoryview(data)[begin:])
            return b""
        return data[begin:]

    def _take_frames(self, data: bytes, events: list[Event]) -> None:
        position = 0
        end = len(data)
        budget = self.budget
        while end - position >= HEAD_SIZE and budget.room > 0:
            first, flags, number = unpack_head(data, position)
            start = position + HEAD_SIZE
            stop = start + (first >> 8)
            kind = first & 0xFF
            number &= HIGHEST_STREAM  # the reserved bit is ignored: RFC 9113 section 4.1
            if stop - start > LARGEST_FRAME:
                raise ConnectionFault(
                    ErrorCode.FRAME_SIZE_ERROR, "a frame larger than SETTINGS_MAX_FRAME_SIZE: RFC 9113 section 4.2"
                )
            if self.phase is not _OPEN:
                self._check_first(kind, flags)
            if stop > end:
                break
            if self.heads.partial is not None and kind != CONTINUATION:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a frame inside a field block: RFC 9113 section 6.10")
            try:
                HANDLERS[kind](self, flags, number, data, start, stop, events)
            except StreamFault as fault:
                self.fail_stream(number, fault, events)
            position = stop
            budget.room -= 1
        if position < end or self.heads.partial is not None:
            self.held = bytearray(memoryview(data)[position:])

    def _take_preface(self, data: bytes) -> bytes:
        """Return the data behind the client's preface, once that is complete."""
        if self.phase is not _PREFACE:
            return data if self.phase is _SETTINGS else b""
        if not data.startswith(PREFACE[: len(data)]):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "not the preface of HTTP/2: RFC 9113 section 3.4")
        if len(data) < len(PREFACE):
            self.held = bytearray(data)
            return b""
        self.phase = _SETTINGS
        return data[len(PREFACE) :]

    def _check_first(self, kind: int, flags: int) -> None:
        if kind != SETTINGS or flags & 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the first frame is not SETTINGS: RFC 9113 section 3.4")
        self.phase = _OPEN

    @property
    def is_parted(self) -> bool:
        """Whether frames are held that were too many to be taken at once. Stop reading, and go on in a later pass: call
        `receive_messages` and `receive_data`, or `receive_data` alone, without data.
        """
        return self.held is not None and self.phase is _OPEN and _has_frame(self.held)

    @property
    def is_waiting(self) -> bool:
        """Whether something short is incomplete: the preface, SETTINGS, a field block, or a frame other than DATA."""
        held = self.held
        if held is not None and (len(held) < HEAD_SIZE or held[3] != DATA) and not _has_frame(held):
            return True
        return self.heads.partial is not None or (self.phase is not _OPEN and self.phase is not _CLOSED)

    @property
    def is_closed(self) -> bool:
        """Whether input is ignored."""
        return self.phase is _CLOSED

    # -- what the server sends

    def data_to_send(self) -> bytes:
        """Return the protocol's own answers, and at first its settings. Call it after each `receive_data`."""
        out, self.out = self.out, b""
        return out

    def warn(self) -> bytes:
        """Return a GOAWAY that announces another one, and refuses nothing yet (RFC 9113 section 6.8)."""
        return goaway_frame(HIGHEST_STREAM, ErrorCode.NO_ERROR)

    def shut_down(self) -> bytes:
        """Return the GOAWAY after which no new stream is accepted. Open streams go on; later ones are ignored."""
        if self.numbers.last is None:
            self.numbers.last = self.numbers.highest
        return goaway_frame(self.numbers.last, ErrorCode.NO_ERROR)

    def terminate(self, code: ErrorCode, reason: str) -> bytes:
        """Return the GOAWAY that ends the connection and all its streams. Empty if it has ended already."""
        if self.phase is _CLOSED:
            return b""
        self.held = None
        return self.data_to_send() + self.end(code, reason)

    def close(self) -> None:
        """The connection is lost: forget everything."""
        self.end(ErrorCode.NO_ERROR, "")
        self.held = None
        self.out = b""


def _has_frame(held: bytearray) -> bool:
    """Whether it begins with a whole frame, or with the head of one that is too large."""
    whole = HEAD_SIZE + int.from_bytes(held[:3], "big")
    return len(held) >= HEAD_SIZE and (len(held) >= whole or whole > HEAD_SIZE + LARGEST_FRAME)
