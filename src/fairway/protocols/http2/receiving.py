"""What each of the peer's frames does: one handler for each type of frame, in the table `HANDLERS`.

A handler gets the flags, the number of the stream, and where the payload starts and stops in the data. It changes the
state, appends bytes to `state.out`, and adds events. If the frame is not allowed, it raises a `ConnectionFault`, or a
`StreamFault`, which concerns only the stream of the frame.

If the stream of a frame is not open, there are three cases:

* The stream is idle. HEADERS open it, and PRIORITY is ignored. Any other frame is a fault of the connection.
* We have reset or refused it, or it is beyond our GOAWAY, and the peer may not have known. The frame is ignored
  (`StreamNumbers.is_ignored`).
* It was closed otherwise. DATA and HEADERS are faults of the connection, RST_STREAM and WINDOW_UPDATE are ignored (RFC
  9113 section 5.1).

Even a frame that is ignored must keep what both peers share. Content counts against the connection's window, and is
credited at once. A field block is decoded, because it changes the table of the next one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from fairway.protocols.http2 import frames
from fairway.protocols.http2.errors import ConnectionFault, ErrorCode, StreamFault
from fairway.protocols.http2.events import (
    DataReceived,
    Event,
    GoingAway,
    PingAcknowledged,
    RequestFailed,
    RequestReceived,
    StreamRefused,
    StreamReset,
    WindowOpened,
)
from fairway.protocols.http2.heads import PartialBlock
from fairway.protocols.http2.hpack.decoder import DEFAULT_CAPACITY
from fairway.protocols.http2.hpack.encoder import SHRINK
from fairway.protocols.http2.patience import BYTES_PER_FRAME, BYTES_PER_TOKEN, MESSAGE, RESET, SETTINGS, TRIFLE
from fairway.protocols.http2.request import Refused
from fairway.protocols.http2.state import ConnectionState
from fairway.protocols.http2.streams import IS_TAKEN, IS_TUNNEL, UNKNOWN, Stream

_END_STREAM = frames.END_STREAM
_PADDED = frames.PADDED
_PROTOCOL_ERROR = ErrorCode.PROTOCOL_ERROR
_STREAM_CLOSED = ErrorCode.STREAM_CLOSED
_FLOW_CONTROL_ERROR = ErrorCode.FLOW_CONTROL_ERROR

# Used instead of DataReceived(…), because the constructor's call in Python takes twice as long.
_new_tuple = tuple.__new__

Handler: TypeAlias = Callable[[ConnectionState, int, int, bytes, int, int, list[Event]], None]


# -- content


def on_data(
    state: ConnectionState, flags: int, number: int, data: bytes, start: int, stop: int, events: list[Event]
) -> None:
    """RFC 9113 section 6.1."""
    size = stop - start
    state.inbound = room = state.inbound - size
    if room < 0:
        raise ConnectionFault(_FLOW_CONTROL_ERROR, "more content than the connection's window: RFC 9113 section 6.9.1")
    stream = state.streams.get(number)
    if stream is None:
        _check_closed(state, number, "DATA")
        state.out += state.credit_due()
        state.spend(0 if size else TRIFLE)
        return
    if stream.has_ended:
        raise StreamFault(_STREAM_CLOSED, "DATA behind END_STREAM: RFC 9113 section 5.1")
    stream.inbound = left = stream.inbound - size
    if flags & _PADDED:
        start, stop = _without_padding(data, start, stop)
    if left < 0:
        raise StreamFault(_FLOW_CONTROL_ERROR, "more content than the stream's window: RFC 9113 section 6.9.1")
    length = stop - start
    ended = flags & _END_STREAM != 0
    if stream.discarding_since is not None:
        _discard(state, stream, length, ended, events)
        return
    if stream.expected != UNKNOWN:
        stream.expected -= length
        if stream.expected < 0 or (ended and stream.expected):
            raise StreamFault(_PROTOCOL_ERROR, "content does not fit its content-length: RFC 9113 section 8.1.1")
    if not length:
        state.spend(0 if ended else TRIFLE)
    elif not stream.flags & IS_TAKEN:
        stream.unread += length
        state.unread += length
    if ended:
        stream.peer_ends()
        _end(state, stream)
    elif left * 2 <= stream.target:
        state.out += stream.credit_due()
    if stream.flags & IS_TUNNEL:
        state.budget.room -= MESSAGE
    if length or ended:
        events.append(_new_tuple(DataReceived, (stream, data[start:stop], ended)))
    if room * 2 <= state.limits.connection_window:
        state.out += state.credit_due()


def _end(state: ConnectionState, stream: Stream) -> None:
    """The peer has ended its side. If our side has ended too, forget the stream. The caller still reports the end."""
    if not stream.is_open:
        state.out += state.forget(stream, False)


def _discard(state: ConnectionState, stream: Stream, length: int, ended: bool, events: list[Event]) -> None:
    """Drop content that arrives after the response is complete: see `fairway.protocols.http2.streams`. It need not fit
    its content-length.
    """
    state.out += state.credit_due()
    if ended:
        _end(state, stream)
        events.append(DataReceived(stream, b"", True))
    elif not length:
        state.spend(TRIFLE)
    elif stream.inbound <= 0 or state.is_late(stream, state.budget.now):
        state.out += stream.reset(ErrorCode.NO_ERROR)
        events.append(StreamReset(stream, ErrorCode.NO_ERROR, ""))


def _without_padding(data: bytes, start: int, stop: int) -> tuple[int, int]:
    if start == stop:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "no length of the padding: RFC 9113 section 4.2")
    stop -= data[start]
    start += 1
    if stop < start:
        raise ConnectionFault(_PROTOCOL_ERROR, "more padding than payload: RFC 9113 section 6.1")
    return start, stop


def _check_closed(state: ConnectionState, number: int, name: str) -> None:
    """Raise for a frame on a stream that is not open, unless the peer sent it before it could know."""
    if number == 0:
        raise ConnectionFault(_PROTOCOL_ERROR, f"{name} without a stream: RFC 9113 section 5.1.1")
    if state.numbers.is_ignored(number):
        return
    if number > state.numbers.highest or not number & 1:
        raise ConnectionFault(_PROTOCOL_ERROR, f"{name} on an idle stream: RFC 9113 section 5.1")
    raise ConnectionFault(_STREAM_CLOSED, f"{name} on a closed stream: RFC 9113 section 5.1")


# -- heads and trailers


def on_headers(
    state: ConnectionState, flags: int, number: int, data: bytes, start: int, stop: int, events: list[Event]
) -> None:
    """RFC 9113 section 6.2."""
    if flags & _PADDED:
        start, stop = _without_padding(data, start, stop)
    if flags & frames.HAS_PRIORITY:
        if stop - start < 5:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "HEADERS without their priority: RFC 9113 section 4.2")
        depends_on = int.from_bytes(data[start : start + 4], "big") & frames.HIGHEST_STREAM
        start += 5
    else:
        depends_on = 0
    if not number & 1:
        raise ConnectionFault(_PROTOCOL_ERROR, "HEADERS on a stream that is not a client's: RFC 9113 section 5.1.1")
    fragment = data[start:stop]
    if not flags & frames.END_HEADERS:
        state.heads.partial = PartialBlock(number, flags & _END_STREAM != 0, depends_on == number, fragment)
        return
    _on_block(state, number, flags & _END_STREAM != 0, depends_on == number, fragment, events)


def on_continuation(
    state: ConnectionState, flags: int, number: int, data: bytes, start: int, stop: int, events: list[Event]
) -> None:
    """RFC 9113 section 6.10."""
    partial = state.heads.partial
    if partial is None or partial.number != number:
        raise ConnectionFault(_PROTOCOL_ERROR, "CONTINUATION of nothing: RFC 9113 section 6.10")
    partial.add(data[start:stop], state.limits.max_continuations)
    if flags & frames.END_HEADERS:
        state.heads.partial = None
        _on_block(state, number, partial.ended, partial.is_circular, partial.whole(), events)


def _on_block(
    state: ConnectionState, number: int, ended: bool, is_circular: bool, block: bytes, events: list[Event]
) -> None:
    state.budget.room -= len(block) // BYTES_PER_FRAME
    if number > state.numbers.highest:
        if state.numbers.last is not None:
            _skip(state, block)
        elif state.is_full:
            _refuse(state, number, block, events)
        else:
            _begin(state, number, ended, is_circular, block, events)
        return
    stream = state.streams.get(number)
    if stream is not None:
        _on_trailers(state, stream, ended, block, events)
        return
    if state.numbers.is_ignored(number):
        _skip(state, block)
    elif state.numbers.has_gaps:
        raise ConnectionFault(_PROTOCOL_ERROR, "HEADERS on a stream that was left out: RFC 9113 section 5.1.1")
    else:
        raise ConnectionFault(_STREAM_CLOSED, "HEADERS on a closed stream: RFC 9113 section 5.1")


def _skip(state: ConnectionState, block: bytes) -> None:
    """Decode a block that nobody needs, at the peer's cost."""
    state.heads.skip(block)
    state.spend(TRIFLE + len(block) // BYTES_PER_TOKEN)


def _begin(
    state: ConnectionState, number: int, ended: bool, is_circular: bool, block: bytes, events: list[Event]
) -> None:
    state.numbers.open(number)
    inbound = state.limits.stream_window
    if inbound < frames.DEFAULT_WINDOW and not state.settings_acknowledged:
        # The peer does not know yet that the window is smaller than the default.
        inbound = frames.DEFAULT_WINDOW
    stream = Stream(state, number, state.initial_window, inbound)
    stream.has_ended = ended
    state.streams[number] = stream
    if is_circular:
        state.heads.skip(block)
        raise StreamFault(_PROTOCOL_ERROR, _CIRCULAR)
    try:
        head = state.heads.read(block, ended)
    except StreamFault:
        state.spend(len(block) // BYTES_PER_TOKEN)
        raise
    if isinstance(head, Refused):
        state.spend(len(block) // BYTES_PER_TOKEN)
        if head.head is not None:
            stream.expect(head.head.method, False, False)
        events.append(RequestFailed(stream, head.status, head.reason, head.head))
        return
    method, _, _, _, _, protocol, length, _, accepts_trailers, _ = head
    if protocol is not None or accepts_trailers or method == "HEAD":
        stream.expect(method, protocol is not None, accepts_trailers)
    if length is not None:
        stream.expected = length
    events.append(_new_tuple(RequestReceived, (stream, head, ended)))


def _refuse(state: ConnectionState, number: int, block: bytes, events: list[Event]) -> None:
    state.numbers.open(number)
    state.numbers.remember(number)
    state.out += frames.rst_stream_frame(number, ErrorCode.REFUSED_STREAM)
    events.append(StreamRefused(number))
    _skip(state, block)


def _on_trailers(state: ConnectionState, stream: Stream, ended: bool, block: bytes, events: list[Event]) -> None:
    if stream.has_ended:
        state.heads.skip(block)
        raise StreamFault(_STREAM_CLOSED, "HEADERS behind END_STREAM: RFC 9113 section 5.1")
    if stream.flags & IS_TUNNEL:
        state.heads.skip(block)
        raise StreamFault(_PROTOCOL_ERROR, "HEADERS in a tunnel: RFC 9113 section 8.5")
    state.heads.check_trailers(block)
    if not ended:
        raise StreamFault(_PROTOCOL_ERROR, "trailers without END_STREAM: RFC 9113 section 8.1")
    if stream.expected > 0 and stream.discarding_since is None:
        raise StreamFault(_PROTOCOL_ERROR, "content does not fit its content-length: RFC 9113 section 8.1.1")
    stream.peer_ends()
    _end(state, stream)
    events.append(DataReceived(stream, b"", True))


# -- control

_CIRCULAR = "a stream that depends on itself: RFC 7540 section 5.3.1"


def on_priority(
    state: ConnectionState, flags: int, number: int, data: bytes, start: int, stop: int, events: list[Event]
) -> None:
    """RFC 9113 section 6.3: the frame is checked and then ignored."""
    if not number:
        raise ConnectionFault(_PROTOCOL_ERROR, "PRIORITY without a stream: RFC 9113 section 6.3")
    state.spend(TRIFLE)
    if stop - start != 5:
        raise StreamFault(ErrorCode.FRAME_SIZE_ERROR, "PRIORITY is not of 5 bytes: RFC 9113 section 6.3")
    if int.from_bytes(data[start : start + 4], "big") & frames.HIGHEST_STREAM == number:
        raise StreamFault(_PROTOCOL_ERROR, _CIRCULAR)


def on_rst_stream(
    state: ConnectionState, flags: int, number: int, data: bytes, start: int, stop: int, events: list[Event]
) -> None:
    """RFC 9113 section 6.4."""
    if stop - start != 4:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "RST_STREAM is not of 4 bytes: RFC 9113 section 6.4")
    stream = state.streams.get(number)
    if stream is None:
        if not number or (number > state.numbers.highest and not state.numbers.is_ignored(number)):
            raise ConnectionFault(_PROTOCOL_ERROR, "RST_STREAM on an idle stream: RFC 9113 section 6.4")
        state.spend(TRIFLE)
        return
    state.out += state.lose(stream, False)
    events.append(StreamReset(stream, int.from_bytes(data[start:stop], "big"), ""))
    state.spend(RESET)


def on_settings(
    state: ConnectionState, flags: int, number: int, data: bytes, start: int, stop: int, events: list[Event]
) -> None:
    """RFC 9113 section 6.5."""
    if number:
        raise ConnectionFault(_PROTOCOL_ERROR, "SETTINGS of a stream: RFC 9113 section 6.5")
    if flags & frames.ACK:
        if stop > start:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS with ACK and more: RFC 9113 section 6.5")
        if state.settings_acknowledged:
            state.spend(SETTINGS)
        else:
            state.settings_acknowledged = True
            _our_settings_hold(state)
        return
    state.spend(SETTINGS)
    state.budget.room -= (stop - start) // BYTES_PER_FRAME
    settings = frames.parse_settings(data[start:stop])
    if settings.get(frames.HEADER_TABLE_SIZE, DEFAULT_CAPACITY) < DEFAULT_CAPACITY:
        state.prefix = SHRINK
    window = settings.get(frames.INITIAL_WINDOW_SIZE)
    state.out += frames.SETTINGS_ACK
    if window is not None:
        _change_windows(state, window - state.initial_window, events)
        state.initial_window = window


def _our_settings_hold(state: ConnectionState) -> None:
    limits = state.limits
    if limits.table_bytes != DEFAULT_CAPACITY:
        state.heads.decoder.set_limit(limits.table_bytes)
    if limits.stream_window < frames.DEFAULT_WINDOW:
        # On streams that are open already, the peer may have sent up to the default (RFC 9113 section 6.9.3).
        for stream in state.streams.values():
            stream.inbound -= frames.DEFAULT_WINDOW - limits.stream_window


def _change_windows(state: ConnectionState, change: int, events: list[Event]) -> None:
    """RFC 9113 section 6.9.2."""
    has_opened = False
    for stream in state.streams.values():
        if not stream.is_open:
            continue
        before = stream.window
        stream.window = before + change
        if stream.window > frames.LARGEST_WINDOW:
            raise ConnectionFault(_FLOW_CONTROL_ERROR, "a window above 2^31-1: RFC 9113 section 6.9.2")
        has_opened |= before <= 0 < stream.window
    if has_opened:
        events.append(WindowOpened(None))


def on_push_promise(
    state: ConnectionState, flags: int, number: int, data: bytes, start: int, stop: int, events: list[Event]
) -> None:
    """RFC 9113 section 8.4: a client must not send this frame."""
    raise ConnectionFault(_PROTOCOL_ERROR, "PUSH_PROMISE of a client: RFC 9113 section 8.4")


def on_ping(
    state: ConnectionState, flags: int, number: int, data: bytes, start: int, stop: int, events: list[Event]
) -> None:
    """RFC 9113 section 6.7."""
    if number:
        raise ConnectionFault(_PROTOCOL_ERROR, "PING of a stream: RFC 9113 section 6.7")
    if stop - start != 8:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "PING is not of 8 bytes: RFC 9113 section 6.7")
    state.spend(TRIFLE)
    if flags & frames.ACK:
        events.append(PingAcknowledged(data[start:stop]))
    else:
        state.out += frames.ping_frame(data[start:stop], frames.ACK)


def on_goaway(
    state: ConnectionState, flags: int, number: int, data: bytes, start: int, stop: int, events: list[Event]
) -> None:
    """RFC 9113 section 6.8."""
    if number:
        raise ConnectionFault(_PROTOCOL_ERROR, "GOAWAY of a stream: RFC 9113 section 6.8")
    if stop - start < 8:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "GOAWAY of less than 8 bytes: RFC 9113 section 6.8")
    state.spend(TRIFLE)
    last = int.from_bytes(data[start : start + 4], "big") & frames.HIGHEST_STREAM
    code = int.from_bytes(data[start + 4 : start + 8], "big")
    events.append(GoingAway(last, code, data[start + 8 : stop]))


def on_window_update(
    state: ConnectionState, flags: int, number: int, data: bytes, start: int, stop: int, events: list[Event]
) -> None:
    """RFC 9113 section 6.9."""
    if stop - start != 4:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "WINDOW_UPDATE is not of 4 bytes: RFC 9113 section 6.9")
    increment = int.from_bytes(data[start:stop], "big") & frames.LARGEST_WINDOW
    if not state.budget.is_due(state.window):
        state.spend(TRIFLE)
    if not number:
        if not increment or state.window + increment > frames.LARGEST_WINDOW:
            raise ConnectionFault(*_bad_increment(increment))
        before = state.window
        state.window = before + increment
        state.budget.opened(state.window)
        if before <= 0 < state.window:
            events.append(WindowOpened(None))
        return
    stream = state.streams.get(number)
    if stream is None:
        if number > state.numbers.highest and not state.numbers.is_ignored(number):
            raise ConnectionFault(_PROTOCOL_ERROR, "WINDOW_UPDATE on an idle stream: RFC 9113 section 5.1")
        return
    if not increment or stream.window + increment > frames.LARGEST_WINDOW:
        raise StreamFault(*_bad_increment(increment))
    if stream.is_open:
        before = stream.window
        stream.window = before + increment
        if before <= 0 < stream.window:
            events.append(WindowOpened(stream))


def _bad_increment(increment: int) -> tuple[ErrorCode, str]:
    if not increment:
        return _PROTOCOL_ERROR, "WINDOW_UPDATE of 0: RFC 9113 section 6.9"
    return _FLOW_CONTROL_ERROR, "a window above 2^31-1: RFC 9113 section 6.9.1"


def on_unknown(
    state: ConnectionState, flags: int, number: int, data: bytes, start: int, stop: int, events: list[Event]
) -> None:
    """RFC 9113 section 5.5: frames of unknown types are ignored."""
    state.spend(TRIFLE)


HANDLERS: list[Handler] = [on_unknown] * 256
HANDLERS[frames.DATA] = on_data
HANDLERS[frames.HEADERS] = on_headers
HANDLERS[frames.PRIORITY] = on_priority
HANDLERS[frames.RST_STREAM] = on_rst_stream
HANDLERS[frames.SETTINGS] = on_settings
HANDLERS[frames.PUSH_PROMISE] = on_push_promise
HANDLERS[frames.PING] = on_ping
HANDLERS[frames.GOAWAY] = on_goaway
HANDLERS[frames.WINDOW_UPDATE] = on_window_update
HANDLERS[frames.CONTINUATION] = on_continuation
