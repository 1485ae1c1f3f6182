"""What the peer must not do, and what comes of it: RFC 9113 sections 3.4, 4 to 6, 8.4 and 10.5, rule by rule."""

from __future__ import annotations

import struct

import pytest
from tests.fairway.protocols.http2.wire import (
    ACK,
    CONTINUATION,
    END_HEADERS,
    END_STREAM,
    GET,
    GOAWAY,
    HAS_PRIORITY,
    HEADERS,
    HELLO,
    PADDED,
    PING,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WEBSOCKET,
    WINDOW_UPDATE,
    content,
    data,
    feed,
    frame,
    frames,
    headers,
    post,
    receive,
    refused,
    reset,
    rst_stream,
    settings,
    started,
    window_update,
)

from fairway.protocols.http2 import (
    PREFACE,
    ErrorCode,
    GoingAway,
    Http2Limits,
    Http2Protocol,
    PingAcknowledged,
    StreamRefused,
    StreamReset,
    ping_frame,
)
from fairway.protocols.http2.hpack.encoder import encode

NOT_A_FLAG = "a setting that is neither 0 nor 1: RFC 9113 section 6.5.2"
CUT_OFF = "an index beyond the table, or a block that ends too early: RFC 7541 section 2.3.3"
CIRCULAR = "a stream that depends on itself: RFC 7540 section 5.3.1"
PROTOCOL, SIZE, CLOSED = ErrorCode.PROTOCOL_ERROR, ErrorCode.FRAME_SIZE_ERROR, ErrorCode.STREAM_CLOSED
FLOW, COMPRESSION, CALM = ErrorCode.FLOW_CONTROL_ERROR, ErrorCode.COMPRESSION_ERROR, ErrorCode.ENHANCE_YOUR_CALM
BLOCK = encode(GET)
MAX = 2**31 - 1


def part(payload, flags=0, stream=1, kind=HEADERS):
    return frame(kind, flags, stream, payload)


# The beginning


@pytest.mark.parametrize(
    "noise", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01", PREFACE[:-1] + b"\r", b"x", PREFACE[:20] + b"SM\r\n"]
)
def test_3_4_the_connection_begins_with_the_preface(noise):
    events, said = feed([noise])

    assert events == [("Terminated", PROTOCOL, "not the preface of HTTP/2: RFC 9113 section 3.4")]
    assert frames(said)[-1][0] == GOAWAY
    assert feed([noise[index : index + 1] for index in range(len(noise))]) == (events, said)


@pytest.mark.parametrize(
    "first", [frame(SETTINGS, ACK), frame(PING, payload=b"x" * 8), headers(1), window_update(0, 1)]
)
def test_3_4_the_first_frame_is_settings(first):
    expected = [("Terminated", PROTOCOL, "the first frame is not SETTINGS: RFC 9113 section 3.4")]

    assert feed([PREFACE + first])[0] == expected
    assert feed([PREFACE, first[:9]])[0] == expected


def test_3_4_settings_come_first_of_us_too_and_then_the_acknowledgement():
    protocol = Http2Protocol(Http2Limits(), 0)
    first = frames(protocol.data_to_send())

    assert first[0][:3] == (SETTINGS, 0, 0)
    assert dict(struct.iter_unpack(">HI", first[0][3])) == {3: 100, 6: 65536, 8: 1, 9: 1}
    assert first[1:] == [(WINDOW_UPDATE, 0, 0, struct.pack(">I", 2**20 - 65535))]
    assert protocol.is_waiting
    assert protocol.receive_data(HELLO, 0) == []
    assert frames(protocol.data_to_send()) == [(SETTINGS, ACK, 0, b"")]
    assert not protocol.is_waiting
    assert not protocol.settings_acknowledged
    protocol.receive_data(frame(SETTINGS, ACK), 0)
    assert protocol.settings_acknowledged


def test_limits_are_told_where_they_are_not_the_defaults():
    protocol = Http2Protocol(
        Http2Limits(table_bytes=0, stream_window=100, connection_window=65535, websocket=False, max_streams=7), 0
    )
    ((_, _, _, payload),) = frames(protocol.data_to_send())

    assert dict(struct.iter_unpack(">HI", payload)) == {3: 7, 6: 65536, 9: 1, 1: 0, 4: 100}


# Faults of the connection: a sample, the code, the reason

CONNECTION_FAULTS = {
    # Frames in general
    "4.2 a large frame": (
        data(1, b"x" * 16385), SIZE, "a frame larger than SETTINGS_MAX_FRAME_SIZE: RFC 9113 section 4.2",
    ),
    "4.2 a large frame of no known type": (
        frame(77, payload=b"x" * 16385), SIZE, "a frame larger than SETTINGS_MAX_FRAME_SIZE: RFC 9113 section 4.2",
    ),
    # HPACK
    "4.3 index 0": (part(b"\x80", 5), COMPRESSION, "index 0: RFC 7541 section 6.1"),
    "4.3 a block that ends too early": (
        part(b"\x40", 5), COMPRESSION, CUT_OFF,
    ),
    "4.3 a change of the table too late": (
        part(BLOCK + b"\x20", 5), COMPRESSION, "a change of the table behind a field, or a third: RFC 7541 section 4.2",
    ),
    "4.3 too large a table": (
        part(b"\x3f\xe2\x1f" + BLOCK, 5), COMPRESSION, "a table larger than allowed: RFC 7541 section 6.3",
    ),
    # Streams
    "5.1 DATA on an idle stream": (data(1, b"x"), PROTOCOL, "DATA on an idle stream: RFC 9113 section 5.1"),
    "5.1 DATA on a server's stream": (data(2, b"x"), PROTOCOL, "DATA on an idle stream: RFC 9113 section 5.1"),
    "5.1 RST_STREAM on an idle stream": (
        rst_stream(1), PROTOCOL, "RST_STREAM on an idle stream: RFC 9113 section 6.4",
    ),
    "5.1 RST_STREAM without a stream": (
        rst_stream(0), PROTOCOL, "RST_STREAM on an idle stream: RFC 9113 section 6.4",
    ),
    "5.1 WINDOW_UPDATE on an idle stream": (
        window_update(1, 1), PROTOCOL, "WINDOW_UPDATE on an idle stream: RFC 9113 section 5.1",
    ),
    "5.1.1 HEADERS without a stream": (
        headers(0), PROTOCOL, "HEADERS on a stream that is not a client's: RFC 9113 section 5.1.1",
    ),
    "5.1.1 HEADERS on a server's stream": (
        headers(2), PROTOCOL, "HEADERS on a stream that is not a client's: RFC 9113 section 5.1.1",
    ),
    "6.1 DATA without a stream": (data(0, b"x"), PROTOCOL, "DATA without a stream: RFC 9113 section 5.1.1"),
    # Sizes, and frames that belong to no stream or to one
    "6.2 HEADERS without their priority": (
        part(b"\0\0\0\0", HAS_PRIORITY | 5), SIZE, "HEADERS without their priority: RFC 9113 section 4.2",
    ),
    "6.2 HEADERS without the length of the padding": (
        part(b"", PADDED | 5), SIZE, "no length of the padding: RFC 9113 section 4.2",
    ),
    "6.2 more padding than HEADERS": (
        part(b"\x02x", PADDED | 5), PROTOCOL, "more padding than payload: RFC 9113 section 6.1",
    ),
    "6.3 PRIORITY without a stream": (
        frame(PRIORITY, payload=b"x" * 5), PROTOCOL, "PRIORITY without a stream: RFC 9113 section 6.3",
    ),
    "6.3 PRIORITY of another size on an idle stream": (
        frame(PRIORITY, 0, 1, b"x" * 4), SIZE, "PRIORITY is not of 5 bytes: RFC 9113 section 6.3",
    ),
    "6.3 an idle stream that depends on itself": (
        frame(PRIORITY, 0, 1, b"\0\0\0\1\0"), PROTOCOL, CIRCULAR,
    ),
    "6.4 RST_STREAM of another size": (
        frame(RST_STREAM, 0, 1, b"x" * 5), SIZE, "RST_STREAM is not of 4 bytes: RFC 9113 section 6.4",
    ),
    "6.5 SETTINGS of a stream": (frame(SETTINGS, 0, 1), PROTOCOL, "SETTINGS of a stream: RFC 9113 section 6.5"),
    "6.5 SETTINGS with ACK and more": (
        frame(SETTINGS, ACK, 0, b"x" * 6), SIZE, "SETTINGS with ACK and more: RFC 9113 section 6.5",
    ),
    "6.5 SETTINGS that are not pairs": (
        frame(SETTINGS, 0, 0, b"x" * 5), SIZE, "SETTINGS that are not pairs: RFC 9113 section 6.5",
    ),
    "6.5.2 a flag that is 2": (settings((2, 2)), PROTOCOL, NOT_A_FLAG),
    "6.5.2 too large a window": (
        settings((4, MAX + 1)), FLOW, "SETTINGS_INITIAL_WINDOW_SIZE above 2^31-1: RFC 9113 section 6.5.2",
    ),
    "6.5.2 too small a frame": (
        settings((5, 16383)), PROTOCOL, "SETTINGS_MAX_FRAME_SIZE out of its range: RFC 9113 section 6.5.2",
    ),
    "6.5.2 too large a largest frame": (
        settings((5, 1 << 24)), PROTOCOL, "SETTINGS_MAX_FRAME_SIZE out of its range: RFC 9113 section 6.5.2",
    ),
    "8441 3 a flag that is 2": (settings((8, 2)), PROTOCOL, NOT_A_FLAG),
    "8.4 PUSH_PROMISE": (
        frame(PUSH_PROMISE, 4, 1, b"\0\0\0\2"), PROTOCOL, "PUSH_PROMISE of a client: RFC 9113 section 8.4",
    ),
    "6.7 PING of a stream": (frame(PING, 0, 1, b"x" * 8), PROTOCOL, "PING of a stream: RFC 9113 section 6.7"),
    "6.7 PING of another size": (frame(PING, 0, 0, b"x" * 7), SIZE, "PING is not of 8 bytes: RFC 9113 section 6.7"),
    "6.8 GOAWAY of a stream": (frame(GOAWAY, 0, 1, b"x" * 8), PROTOCOL, "GOAWAY of a stream: RFC 9113 section 6.8"),
    "6.8 GOAWAY of another size": (
        frame(GOAWAY, 0, 0, b"x" * 7), SIZE, "GOAWAY of less than 8 bytes: RFC 9113 section 6.8",
    ),
    "6.9 WINDOW_UPDATE of another size": (
        frame(WINDOW_UPDATE, 0, 0, b"x" * 3), SIZE, "WINDOW_UPDATE is not of 4 bytes: RFC 9113 section 6.9",
    ),
    "6.9 WINDOW_UPDATE of 0": (window_update(0, 0), PROTOCOL, "WINDOW_UPDATE of 0: RFC 9113 section 6.9"),
    "6.9.1 too large a window": (window_update(0, MAX), FLOW, "a window above 2^31-1: RFC 9113 section 6.9.1"),
    # Field blocks in several frames
    "6.10 CONTINUATION of nothing": (
        part(b"", 4, 1, CONTINUATION), PROTOCOL, "CONTINUATION of nothing: RFC 9113 section 6.10",
    ),
    "6.10 CONTINUATION of another stream": (
        part(BLOCK) + part(b"", 4, 3, CONTINUATION), PROTOCOL, "CONTINUATION of nothing: RFC 9113 section 6.10",
    ),
    "6.10 HEADERS inside a block": (
        part(BLOCK) + headers(3), PROTOCOL, "a frame inside a field block: RFC 9113 section 6.10",
    ),
    "6.10 an unknown frame inside a block": (
        part(BLOCK) + frame(77), PROTOCOL, "a frame inside a field block: RFC 9113 section 6.10",
    ),
    "10.5 too many CONTINUATIONs": (
        part(BLOCK) + part(b"", 0, 1, CONTINUATION) * 9, CALM, "too many CONTINUATIONs: RFC 9113 section 10.5",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CONNECTION_FAULTS)
def test_faults_of_the_connection_end_it(name):
    sample, code, reason = CONNECTION_FAULTS[name]

    assert refused(sample) == (code, reason)


STREAM_FAULTS = {
    "5.1 HEADERS behind END_STREAM": (
        headers(1) + headers(1), CLOSED, "HEADERS behind END_STREAM: RFC 9113 section 5.1",
    ),
    "5.1 DATA behind END_STREAM": (
        headers(1) + data(1, b"x"), CLOSED, "DATA behind END_STREAM: RFC 9113 section 5.1",
    ),
    "5.3.1 a request that depends on itself": (
        part(b"\0\0\0\1\0" + BLOCK, HAS_PRIORITY | 5), PROTOCOL, CIRCULAR,
    ),
    "5.3.1 the same in several frames": (
        part(b"\0\0\0\1\0", HAS_PRIORITY | 1) + part(BLOCK, 4, 1, CONTINUATION), PROTOCOL,
        CIRCULAR,
    ),
    "5.3.1 a stream that depends on itself": (
        headers(1) + frame(PRIORITY, 0, 1, b"\x80\0\0\1\0"), PROTOCOL,
        CIRCULAR,
    ),
    "6.3 PRIORITY of another size": (
        headers(1) + frame(PRIORITY, 0, 1, b"x" * 6), SIZE, "PRIORITY is not of 5 bytes: RFC 9113 section 6.3",
    ),
    "6.9 WINDOW_UPDATE of 0": (headers(1) + window_update(1, 0), PROTOCOL, "WINDOW_UPDATE of 0: RFC 9113 section 6.9"),
    "6.9.1 too large a window": (
        headers(1) + window_update(1, MAX), FLOW, "a window above 2^31-1: RFC 9113 section 6.9.1",
    ),
    "6.9.1 more content than the window": (
        post(1) + data(1, b"x" * 16384) * 4, FLOW, "more content than the stream's window: RFC 9113 section 6.9.1",
    ),
    "8.1 trailers without END_STREAM": (
        post(1) + headers(1, [(b"x", b"y")], 4), PROTOCOL, "trailers without END_STREAM: RFC 9113 section 8.1",
    ),
    "8.1 a pseudo-header field in trailers": (
        post(1) + headers(1, [(b":path", b"/")]), PROTOCOL, "pseudo-header field in trailers: RFC 9113 section 8.1",
    ),
    "8.5 HEADERS in a tunnel": (
        headers(1, WEBSOCKET, 4) + headers(1, [(b"x", b"y")]), PROTOCOL, "HEADERS in a tunnel: RFC 9113 section 8.5",
    ),
    "8.2 a malformed trailer": (
        post(1) + headers(1, [(b"X", b"y")]), PROTOCOL, "field name is not in lower case: RFC 9113 section 8.2.1",
    ),
    "6585 5 trailers that are too many": (
        post(1) + headers(1, [(b"x", b"y")] * 101), CALM, "trailers are too large: RFC 6585 section 5",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STREAM_FAULTS)
def test_faults_of_a_stream_reset_it_and_no_other(name):
    sample, code, reason = STREAM_FAULTS[name]

    assert reset(sample) == (code, reason)


# Streams that are closed


def answered(protocol, number=1):
    """Have the request of a stream answered."""
    protocol.receive_data(headers(number), 0)
    stream = protocol.streams[number]
    stream.send_response(200, ())
    stream.end()


@pytest.mark.parametrize(
    ("late", "reason"),
    [
        (data(1, b"x"), "DATA on a closed stream: RFC 9113 section 5.1"),
        (headers(1), "HEADERS on a closed stream: RFC 9113 section 5.1"),
    ],
)
@pytest.mark.parametrize("end", ["answered", "reset by the peer"])
def test_5_1_a_stream_that_the_peer_has_ended_stays_closed(late, reason, end):
    protocol = started()
    if end == "answered":
        answered(protocol)
    else:
        protocol.receive_data(headers(1) + rst_stream(1), 0)
    (event,) = protocol.receive_data(late, 0)

    assert (event.code, event.reason) == (CLOSED, reason)


def test_5_1_1_a_stream_that_was_left_out_is_closed():
    protocol = started()
    (_, event) = protocol.receive_data(headers(5) + headers(3), 0)

    assert (event.code, event.reason) == (PROTOCOL, "HEADERS on a stream that was left out: RFC 9113 section 5.1.1")


def test_5_1_control_frames_for_a_closed_stream_are_ignored():
    protocol = started()
    answered(protocol)
    late = window_update(1, 5) + rst_stream(1) + frame(PRIORITY, 0, 1, b"\0\0\0\0\0") + window_update(1, 0)

    assert protocol.receive_data(late, 0) == []


def test_5_1_what_comes_for_a_stream_that_we_have_reset_is_ignored_and_credited():
    protocol = started(connection_window=65535)
    (event,) = protocol.receive_data(post(1), 0)
    event.stream.reset(ErrorCode.CANCEL)
    block = headers(1, [(b"x-a", b"y")])

    assert protocol.receive_data(data(1, b"x" * 16384) * 2 + block + data(1, b"", 1), 0) == []
    assert frames(protocol.data_to_send()) == [(WINDOW_UPDATE, 0, 0, struct.pack(">I", 32768))]
    assert protocol.unread == 0


@pytest.mark.parametrize("flags", [0, END_STREAM, PADDED])
def test_6_9_1_content_that_is_a_fault_is_credited_to_the_connection(flags):
    protocol = started(connection_window=65535)
    for number in range(1, 17, 2):
        assert protocol.inbound >= 16384, "the peer can send nothing more"
        protocol.receive_data(post(number, (b"content-length", b"1")), 0)
        (event,) = protocol.receive_data(data(number, bytes(16384), flags), 0)
        assert (event.stream.number, event.code) == (number, PROTOCOL)


def test_4_3_blocks_for_streams_that_we_have_reset_change_the_table():
    protocol = started()
    protocol.receive_data(headers(1, [*GET, (b"x", b" y")]), 0)
    trailers = frame(HEADERS, 5, 1, b"\x40\x03x-a\x01b")
    (event,) = protocol.receive_data(trailers + frame(HEADERS, 5, 3, BLOCK + b"\xbe"), 0)

    assert event.head.headers[1:] == [(b"x-a", b"b")]


def test_only_the_last_resets_are_remembered():
    protocol = started(max_streams=200)
    for number in range(1, 402, 2):
        (event,) = protocol.receive_data(post(number), 0)
        event.stream.reset(ErrorCode.CANCEL)

    assert protocol.receive_data(data(3, b"x"), 0) == []
    (event,) = protocol.receive_data(data(1, b"x"), 0)
    assert event.code is CLOSED


# More streams than allowed


def test_5_1_2_more_streams_than_allowed_are_refused_and_may_come_again():
    protocol = started(max_streams=2)
    events = protocol.receive_data(headers(1) + headers(3) + post(5), 0)

    assert events[2:] == [StreamRefused(5)]
    assert frames(protocol.data_to_send()) == [(RST_STREAM, 0, 5, struct.pack(">I", ErrorCode.REFUSED_STREAM))]
    assert protocol.receive_data(data(5, b"x", 1), 0) == []
    events[0].stream.error_response(404, "x")
    assert [type(event).__name__ for event in protocol.receive_data(headers(7), 0)] == ["RequestReceived"]


def test_applications_that_outlive_their_streams_count_when_they_are_many():
    protocol = started(max_streams=2)
    protocol.lingering = 3
    assert [type(event).__name__ for event in protocol.receive_data(headers(1), 0)] == ["RequestReceived"]
    assert protocol.receive_data(headers(3), 0) == [StreamRefused(3)]
    protocol.lingering = 2
    assert [type(event).__name__ for event in protocol.receive_data(headers(5), 0)] == ["RequestReceived"]
    assert protocol.receive_data(headers(7), 0) == [StreamRefused(7)]


def test_applications_of_streams_that_are_reset_in_the_same_read_count_as_running():
    protocol = started(max_streams=2)
    for event in protocol.receive_data(headers(1) + headers(3), 0):
        event.stream.owner = object()
    protocol.lingering = 1

    events = protocol.receive_data(rst_stream(1) + rst_stream(3) + headers(5) + headers(7), 0)
    kinds = [type(event).__name__ for event in events]
    assert kinds == ["StreamReset", "StreamReset", "RequestReceived", "StreamRefused"]

    # The server has counted them by the next read. Here they have ended.
    protocol.lingering = 0
    assert [type(event).__name__ for event in protocol.receive_data(headers(9), 0)] == ["RequestReceived"]


def test_a_stream_that_begins_and_is_reset_in_one_read_runs_no_application():
    protocol = started(max_streams=2)
    begun_in_vain = b"".join(headers(number) + rst_stream(number) for number in (1, 3, 5, 7))
    events = protocol.receive_data(begun_in_vain + headers(9) + headers(11), 0)
    assert [type(event).__name__ for event in events[-2:]] == ["RequestReceived", "RequestReceived"]


# Content and padding


def test_6_1_padding_is_dropped_and_credited_at_once():
    padded = b"\xff" + b"x" * 10 + b"\0" * 255
    sample = post(1) + frame(0, PADDED, 1, padded) * 130
    events, answer = receive(sample, max_stream_window=65535)

    assert content(events) == b"x" * 1300
    updates = [struct.unpack(">I", payload)[0] for kind, _, stream, payload in answer if (kind, stream) == (8, 1)]
    assert len(updates) == 1


@pytest.mark.parametrize(
    ("payload", "code", "reason"),
    [
        (b"", SIZE, "no length of the padding: RFC 9113 section 4.2"),
        (b"\x01", PROTOCOL, "more padding than payload: RFC 9113 section 6.1"),
        (b"\x05xxxx", PROTOCOL, "more padding than payload: RFC 9113 section 6.1"),
    ],
)
def test_6_1_padding_that_is_not_there(payload, code, reason):
    events, _ = receive(post(1) + frame(0, PADDED, 1, payload))

    assert events[1:] == [("Terminated", code, reason)]


def test_6_1_padding_of_a_whole_frame_is_no_content():
    events, _ = receive(post(1) + frame(0, PADDED, 1, b"\x04xxxx") + frame(0, PADDED | 1, 1, b"\x01ax"))

    assert events[1:] == [("DataReceived", 1, b"a", True)]


def test_6_2_padding_and_priority_of_a_head_are_dropped():
    events, _ = receive(part(b"\x02" + b"\0\0\0\0\xff" + BLOCK + b"\0\0", PADDED | HAS_PRIORITY | 5))

    assert events[0][2].headers == [(b"host", b"example.org")]


def test_6_9_1_more_content_than_the_window_of_the_connection():
    protocol = started(connection_window=65535, held_bytes=0, patience=10**6)
    sample = b"".join(post(number) + data(number, b"x" * 16384) for number in (1, 3, 5, 7, 9))
    *_, event = protocol.receive_data(sample, 0)

    assert (event.code, event.reason) == (FLOW, "more content than the connection's window: RFC 9113 section 6.9.1")


def test_6_9_3_until_the_peer_knows_of_a_smaller_window_the_default_holds():
    protocol = Http2Protocol(Http2Limits(stream_window=1000), 0)
    first = protocol.receive_data(HELLO + post(1) + data(1, b"x" * 5000), 0)
    assert [type(event).__name__ for event in first] == ["RequestReceived", "DataReceived"]
    protocol.receive_data(frame(SETTINGS, ACK), 0)
    assert first[0].stream.inbound == 1000 - 5000
    (_, event) = protocol.receive_data(post(3) + data(3, b"x" * 1001), 0)

    assert isinstance(event, StreamReset)
    assert event.code is FLOW


def test_8_1_trailers_end_the_request():
    events, _ = receive(post(1) + data(1, b"x") + headers(1, [(b"x-checksum", b"y")]))

    assert events[1:] == [("DataReceived", 1, b"x", False), ("DataReceived", 1, b"", True)]


# Blocks in several frames


@pytest.mark.parametrize("pieces", [2, 3, 9])
def test_6_10_a_block_may_come_in_pieces(pieces):
    step = len(BLOCK) // pieces + 1
    fragments = [BLOCK[begin : begin + step] for begin in range(0, len(BLOCK), step)]
    fragments += [b""] * (pieces - len(fragments))
    sample = part(fragments[0], END_STREAM)
    for fragment in fragments[1:-1]:
        sample += part(fragment, 0, 1, CONTINUATION)
    events, _ = receive(sample + part(fragments[-1], END_HEADERS, 1, CONTINUATION))

    assert events == receive(headers(1))[0]


def test_whoever_waits_for_the_rest_can_tell():
    protocol = started()
    seen = []
    for piece in (part(BLOCK, 1), part(b"", 4, 1, CONTINUATION), b"\0", b"\0\4\3\0\0\0\0", b"\1", b"xxxx"):
        protocol.receive_data(piece, 0)
        seen.append(protocol.is_waiting)

    assert seen == [True, False, True, True, True, False]


def test_10_5_1_a_list_of_fields_twice_too_large_ends_the_connection():
    code, reason = refused(headers(1, [*GET, (b"x", b"y" * 1900)]), max_header_bytes=1000)

    assert (code, reason) == (CALM, "fields more than twice too large: RFC 9113 section 10.5.1")


# Settings


def test_6_5_3_settings_are_acknowledged():
    assert receive(settings((4, 5), (1, 4096)))[1] == [(SETTINGS, ACK, 0, b"")]


def test_6_9_2_settings_change_the_windows_of_all_streams():
    protocol = started()
    streams = [event.stream for event in protocol.receive_data(headers(1) + headers(3), 0)]
    protocol.receive_data(settings((4, 70000)), 0)
    assert [stream.window for stream in streams] == [70000, 70000]
    (event,) = protocol.receive_data(headers(5), 0)
    assert event.stream.window == 70000
    assert protocol.window == 65535


def test_6_9_2_no_window_may_become_too_large():
    protocol = started()
    protocol.receive_data(headers(1) + window_update(1, MAX - 65535), 0)
    (event,) = protocol.receive_data(settings((4, 65536)), 0)

    assert (event.code, event.reason) == (FLOW, "a window above 2^31-1: RFC 9113 section 6.9.2")


def test_a_smaller_table_is_asked_for_and_kept_to():
    protocol = Http2Protocol(Http2Limits(table_bytes=64), 0)
    protocol.receive_data(HELLO + frame(HEADERS, 5, 1, BLOCK), 0)
    protocol.receive_data(frame(SETTINGS, ACK), 0)
    (event,) = protocol.receive_data(frame(HEADERS, 5, 3, BLOCK), 0)
    assert (event.code, event.reason) == (COMPRESSION, "the table was not made smaller: RFC 7541 section 4.2")


# The rest


def test_6_7_a_ping_is_answered():
    assert receive(frame(PING, 0, 0, b"12345678"))[1] == [(PING, ACK, 0, b"12345678")]


def test_6_7_our_pings_come_back():
    protocol = started()
    assert ping_frame(b"12345678") == frame(PING, 0, 0, b"12345678")
    assert protocol.receive_data(frame(PING, ACK, 0, b"12345678"), 0) == [PingAcknowledged(b"12345678")]


def test_6_8_the_peer_goes_away():
    protocol = started()
    sample = frame(GOAWAY, 0, 0, struct.pack(">II", 0, 0) + b"bye") + headers(1)
    events = protocol.receive_data(sample, 0)

    assert events[0] == GoingAway(0, 0, b"bye")
    assert not protocol.is_closed


@pytest.mark.parametrize(
    "ignored",
    [
        frame(77, 0xFF, 5, b"anything"),
        frame(0x10, 0, 0, b"\0\0\0\1u=1"),
        frame(PRIORITY, 0, 7, b"\0\0\0\0\0"),
        settings((0x7777, 5), (2, 0), (3, 0), (6, 1), (9, 1)),
        frame(PING, ACK | 0xF0, 0, b"12345678")[:0],
    ],
)
def test_5_5_what_is_unknown_or_of_no_interest_is_ignored(ignored):
    assert receive(ignored + headers(1))[0] == receive(headers(1))[0]


def test_4_1_the_reserved_bit_is_ignored():
    assert receive(headers(1 | 1 << 31))[0] == receive(headers(1))[0]


def test_a_reset_of_the_peer_is_reported_without_a_reason():
    protocol = started()
    (first, event) = protocol.receive_data(post(1) + rst_stream(1, ErrorCode.CANCEL), 0)

    assert event == StreamReset(first.stream, ErrorCode.CANCEL, "")
    assert protocol.streams == {}


def test_content_that_is_slow_to_come_is_nothing_short_that_is_late():
    protocol = started()
    seen = []
    for piece in (post(1), data(1, b"xxxx")[:8], data(1, b"xxxx")[8:9], b"xx", b"xx"):
        protocol.receive_data(piece, 0)
        seen.append(protocol.is_waiting)

    assert seen == [False, True, False, False, False]
