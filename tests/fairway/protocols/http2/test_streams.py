"""What the server sends on a stream, and what it is not allowed to (RFC 9113 sections 5, 6.9 and 8.1)."""

from __future__ import annotations

import hpack
import pytest
from tests.fairway.protocols.http2.wire import (
    DATA,
    END_HEADERS,
    END_STREAM,
    GET,
    HEADERS,
    RST_STREAM,
    WEBSOCKET,
    WINDOW_UPDATE,
    data,
    frames,
    headers,
    opened,
    post,
    rst_stream,
    settings,
    started,
    window_update,
)

from fairway.protocols.http2 import (
    DataReceived,
    ErrorCode,
    LocalProtocolError,
    PlainBlocks,
    RequestFailed,
    StreamReset,
    WindowOpened,
    data_head,
)

DEFAULTS = ((b"server", b"fairway"), (b"date", b"now"))
BLOCKS = PlainBlocks(DEFAULTS)
NO_ERROR = (RST_STREAM, 0, 1, b"\0\0\0\0")
LAST = (DATA, END_STREAM, 1, b"")
HEAD = ((b":method", b"HEAD"), *GET[1:])
WITH_TRAILERS = (*GET, (b"te", b"trailers"))


def fields(frame):
    """The fields of a HEADERS frame."""
    kind, flags, _, block = frame
    assert kind == HEADERS
    assert flags & END_HEADERS
    return hpack.Decoder().decode(block, raw=True)


def read(answer):
    """Fields of the first frame, and the frames behind it."""
    head, *rest = frames(answer)
    return fields(head), rest


# Whole responses


def test_a_whole_response_is_head_and_content():
    protocol, stream = opened(headers(1))
    answer = stream.send_whole(200, ((b"Content-Type", b"text/plain"),), b"hello", BLOCKS)

    assert read(answer) == (
        [
            (b":status", b"200"), *DEFAULTS, (b"content-type", b"text/plain"), (b"content-length", b"5"),
        ],
        [(DATA, END_STREAM, 1, b"hello")],
    )  # fmt: skip
    assert not stream.is_open
    assert protocol.streams == {}
    assert protocol.window == 65535 - 5


@pytest.mark.parametrize(("status", "length"), [(200, b"0"), (302, b"0"), (404, b"0"), (204, None), (304, None)])
def test_a_response_without_content_is_a_head(status, length):
    _, stream = opened(headers(1))
    (frame,) = frames(stream.send_whole(status, (), b"", BLOCKS))

    assert frame[1] == END_STREAM | END_HEADERS
    assert dict(fields(frame)).get(b"content-length") == length


@pytest.mark.parametrize(
    ("status", "fields", "content"),
    [
        (200, ((b"content-length", b"4"),), b"hello"),
        (200, ((b"content-length", b"x"),), b"hello"),
        (204, (), b"x"),
        (304, (), b"x"),
        (205, (), b"x"),
        (200, ((b"x y", b"z"),), b""),
        (200, ((b"x", b"a\r\nb"),), b""),
        (200, (("x", b"z"),), b""),
        (199, (), b""),
        (200, (), b"x" * 16385),
        (200, ((b"x", b"y" * 16385),), b""),
    ],
)
def test_what_is_not_that_simple_changes_nothing(status, fields, content):
    protocol, stream = opened(headers(1))

    assert stream.send_whole(status, fields, content, BLOCKS) is None
    assert stream.is_open
    assert not stream.response_started
    assert protocol.window == stream.window == 65535


def test_9110_9_3_2_a_whole_response_to_head_says_how_long_the_content_would_be():
    protocol, stream = opened(headers(1, HEAD))
    (frame,) = frames(stream.send_whole(200, (), b"hello", BLOCKS))

    assert frame[1] == END_STREAM | END_HEADERS
    assert dict(fields(frame))[b"content-length"] == b"5"
    assert (protocol.window, protocol.streams) == (65535, {})


def test_nothing_is_simple_for_an_empty_head_a_websocket_or_a_second_response():
    for sample in (headers(1, HEAD), headers(1, WEBSOCKET, END_HEADERS)):
        _, stream = opened(sample)
        assert stream.send_whole(200, (), b"", BLOCKS) is None
    _, stream = opened(headers(1))
    stream.send_response(200, ())
    assert stream.send_whole(200, (), b"", BLOCKS) is None


@pytest.mark.parametrize("window", ["stream", "connection"])
def test_6_9_a_whole_response_waits_for_no_window(window):
    protocol, stream = opened(headers(1))
    (stream if window == "stream" else protocol).window = 4

    assert stream.send_whole(200, (), b"hello", BLOCKS) is None
    assert stream.send_whole(200, (), b"hell", BLOCKS) is not None


# Responses in pieces


def test_a_response_in_pieces():
    protocol, stream = opened(headers(1))
    head, rest = read(stream.send_response(200, [(b"X-A", b" b ")], default_headers=DEFAULTS))

    assert head == [(b":status", b"200"), *DEFAULTS, (b"x-a", b"b")]
    assert rest == []
    assert stream.response_started
    assert stream.admit(5, True) is True
    assert frames(stream.data(b"hello")) == [(DATA, 0, 1, b"hello")]
    assert stream.admit(0, True) is True
    assert stream.data(b"") == b""
    assert stream.admit(1, False) is True
    assert frames(stream.data(memoryview(b"!"), True)) == [(DATA, END_STREAM, 1, b"!")]
    assert (stream.is_open, stream.writable, protocol.streams) == (False, 0, {})
    assert protocol.window == 65535 - 6


def test_the_end_can_come_by_itself():
    _, stream = opened(headers(1))
    stream.send_response(200, ())

    assert frames(stream.end()) == [LAST]
    assert stream.end() == b""


def test_date_and_server_of_the_application_replace_the_defaults():
    _, stream = opened(headers(1))
    head, _ = read(stream.send_response(200, [(b"Date", b"then"), (b"Server", b"own")], default_headers=DEFAULTS))

    assert head == [(b":status", b"200"), (b"date", b"then"), (b"server", b"own")]


def test_8_2_2_connection_specific_fields_are_dropped():
    _, stream = opened(headers(1))
    names = [b"Connection", b"Keep-Alive", b"Proxy-Connection", b"Transfer-Encoding", b"Upgrade"]
    head, _ = read(stream.send_response(200, [(name, b"x") for name in names]))

    assert head == [(b":status", b"200")]


@pytest.mark.parametrize(("status", "sent"), [(204, None), (205, b"0"), (304, b"7"), (200, b"7")])
def test_9110_8_6_content_length(status, sent):
    _, stream = opened(headers(1))
    head, _ = read(stream.send_response(status, [(b"content-length", b"7")]))

    assert dict(head).get(b"content-length") == sent


@pytest.mark.parametrize("sample", [headers(1, HEAD), headers(1)])
def test_9110_9_3_2_content_is_dropped_where_none_may_be(sample):
    _, stream = opened(sample)
    stream.send_response(204 if sample == headers(1) else 200, [(b"content-length", b"5")])

    assert stream.admit(7, False) is False
    assert frames(stream.end()) == [LAST]


def test_a_head_of_more_than_a_frame_goes_on_in_continuations():
    _, stream = opened(headers(1))
    found = frames(stream.send_response(200, [(b"x", b"y" * 20000)]))

    assert [kind for kind, _, _, _ in found] == [HEADERS, 9]


def test_interim_responses():
    _, stream = opened(headers(1))
    hints = [(b"link", b"</a.css>; rel=preload")]

    assert read(stream.send_informational(103, hints)) == ([(b":status", b"103"), *hints], [])
    assert read(stream.send_informational(100, ())) == ([(b":status", b"100")], [])
    assert not stream.response_started


def test_trailers_end_the_response():
    protocol, stream = opened(headers(1, WITH_TRAILERS))
    stream.send_response(200, (), trailers=True)
    assert stream.admit(3, False) is True
    block = stream.trailers([(b"X-Checksum", b"1")])
    assert frames(stream.data(b"abc")) == [(DATA, 0, 1, b"abc")]
    (frame,) = frames(stream.end(block))

    assert frame[:3] == (HEADERS, END_STREAM | END_HEADERS, 1)
    assert fields(frame) == [(b"x-checksum", b"1")]
    assert protocol.streams == {}


def test_9110_6_5_1_trailers_are_dropped_if_the_peer_does_not_take_them():
    _, stream = opened(headers(1))
    stream.send_response(200, (), trailers=True)
    stream.admit(0, False)

    assert stream.trailers([(b"x", b"y")]) == b""
    assert frames(stream.end(b"")) == [LAST]


# What the caller must not do


def response(stream, *fields, status=200, trailers=False):
    stream.send_response(status, fields, trailers=trailers)
    return stream


@pytest.mark.parametrize(
    ("misuse", "reason"),
    [
        (lambda stream: stream.send_response(99, ()), "is not an HTTP status; use an integer from 100 to 999"),
        (lambda stream: stream.send_response("200", ()), "is not an HTTP status; use an integer from 100 to 999"),
        (lambda stream: stream.send_response(150, ()), "cannot end this request; use a status from 200 to 999"),
        (lambda stream: stream.send_response(101, ()), "cannot end this request; use a status from 200 to 999"),
        (lambda stream: stream.send_informational(200, ()), "is not informational; use 100, 102 or 103"),
        (lambda stream: stream.send_informational(101, ()), "is not informational; use 100, 102 or 103"),
        (lambda stream: stream.send_response(200, [(b"a b", b"c")]), "is not a token"),
        (lambda stream: stream.send_response(200, [(b":status", b"c")]), "is not a token"),
        (lambda stream: stream.send_response(200, [(b"a", b"c\r\nd")]), "contains CR, LF, NUL or another control"),
        (lambda stream: stream.send_response(200, [("a", b"c")]), "must be bytes"),
        (lambda stream: stream.send_response(200, [(b"content-length", b"-1")]), "content-length must be sent once"),
        (
            lambda stream: stream.send_response(200, [(b"content-length", b"1"), (b"Content-Length", b"1")]),
            "content-length must be sent once",
        ),
        (lambda stream: stream.admit(1, True), "no response content is expected now"),
        (lambda stream: stream.data(b"x"), "content before the head of the response"),
        (lambda stream: stream.end(), "the response has not started; start it, or reset the stream"),
        (lambda stream: stream.trailers([]), "no trailers are expected now"),
    ],
)
def test_misuse_before_the_response_changes_nothing(misuse, reason):
    protocol, stream = opened(headers(1))
    with pytest.raises(LocalProtocolError) as error:
        misuse(stream)

    assert reason in str(error.value)
    assert not stream.response_started
    assert protocol.window == 65535
    assert stream.send_whole(200, (), b"x", BLOCKS) is not None


@pytest.mark.parametrize(
    ("misuse", "reason"),
    [
        (lambda stream: stream.send_response(200, ()), "the response has already started"),
        (lambda stream: stream.send_informational(103, ()), "was sent after the final response; send it before"),
        (lambda stream: stream.error_response(500, "x"), "the response has already started; reset the stream instead"),
        (lambda stream: stream.admit(6, True), "response content is longer than its content-length"),
        (lambda stream: stream.admit(4, False), "response content ends 1 bytes before its content-length"),
        (lambda stream: stream.trailers([]), "no trailers are expected now"),
        (lambda stream: stream.data(b"x" * 65536), "65536 bytes of content, and the windows are open for 65535"),
    ],
)
def test_misuse_in_a_response_changes_nothing(misuse, reason):
    protocol, stream = opened(headers(1))
    response(stream, (b"content-length", b"5"))
    with pytest.raises(LocalProtocolError) as error:
        misuse(stream)

    assert reason in str(error.value)
    assert protocol.window == stream.window == 65535
    assert stream.admit(5, False)
    assert frames(stream.data(b"hello", True)) == [(DATA, END_STREAM, 1, b"hello")]


@pytest.mark.parametrize(
    ("name", "reason"), [(b"Content-Length", "cannot be a trailer"), (b"set-cookie", "cannot be a trailer")]
)
def test_9110_6_5_1_some_fields_are_no_trailers(name, reason):
    _, stream = opened(headers(1, WITH_TRAILERS))
    response(stream, trailers=True).admit(0, False)
    with pytest.raises(LocalProtocolError, match=reason):
        stream.trailers([(name, b"1")])

    assert stream.trailers([(b"x", b"1")]) != b""


def test_nothing_follows_the_end():
    _, stream = opened(headers(1))
    response(stream).end()
    with pytest.raises(LocalProtocolError, match="the stream takes no content any more; look at is_open"):
        stream.data(b"")
    with pytest.raises(LocalProtocolError, match="no response content is expected now"):
        stream.admit(0, True)

    assert stream.reset(ErrorCode.CANCEL) == stream.end() == stream.credit(5) == b""


# Windows


def test_6_9_what_is_writable_is_the_smaller_window():
    protocol, stream = opened(headers(1))
    response(stream)
    stream.window, protocol.window = 10, 7
    assert stream.writable == 7
    assert frames(stream.data(b"x" * 7)) == [(DATA, 0, 1, b"x" * 7)]
    assert (stream.window, protocol.window, stream.writable) == (3, 0, 0)


def test_6_9_2_a_window_can_be_negative():
    protocol, stream = opened(headers(1))
    response(stream)
    stream.data(b"x" * 1000)

    assert protocol.receive_data(settings((4, 100)), 0) == []
    assert (stream.window, stream.writable) == (-900, 0)
    assert protocol.receive_data(window_update(1, 900), 0) == []
    assert protocol.receive_data(window_update(1, 1), 0) == [WindowOpened(stream)]
    assert stream.writable == 1


def test_windows_that_were_closed_are_reported():
    protocol, stream = opened(headers(1))
    response(stream)
    stream.window = protocol.window = 0

    assert protocol.receive_data(window_update(1, 5), 0) == [WindowOpened(stream)]
    assert protocol.receive_data(window_update(1, 5), 0) == []
    assert protocol.receive_data(window_update(0, 5), 0) == [WindowOpened(None)]
    assert protocol.receive_data(window_update(0, 5), 0) == []
    stream.window = 0
    assert protocol.receive_data(settings((4, 65536)), 0) == [WindowOpened(None)]


def test_a_lane_keeps_the_windows_itself():
    protocol, stream = opened(headers(1, WEBSOCKET, END_HEADERS))
    response(stream)
    assert frames(data_head(stream.number, 81) + b"x" * 81) == [(DATA, 0, 1, b"x" * 81)]
    stream.window -= 81
    protocol.window -= 81
    assert stream.writable == 65535 - 81


def test_a_stream_that_is_gone_has_no_window():
    protocol, stream = opened(headers(1))
    protocol.receive_data(rst_stream(1), 0)

    assert stream.window < 0
    assert (stream.is_open, stream.writable, stream.reset(8)) == (False, 0, b"")


# What the peer may send


def test_6_9_1_credit_comes_when_half_a_window_is_due():
    protocol, stream = opened(post(1), max_stream_window=65535)
    protocol.receive_data(data(1, b"x" * 16384) + data(1, b"x" * 16384), 0)
    assert (stream.unread, protocol.unread) == (32768, 32768)

    assert stream.credit(16384) == b""
    assert frames(stream.credit(16384)) == [(WINDOW_UPDATE, 0, 1, (32768).to_bytes(4, "big"))]
    assert (stream.unread, protocol.unread, stream.inbound) == (0, 0, 65535)


def test_the_window_grows_for_who_takes_at_once_up_to_a_bound():
    protocol, stream = opened(post(1), max_stream_window=200_000)
    increments = []
    for _ in range(40):
        protocol.receive_data(data(1, b"x" * 16384), 0)
        increments += [int.from_bytes(frame[3], "big") for frame in frames(stream.credit(16384))]

    assert stream.inbound <= 200_000
    assert sum(increments) + 65535 - 40 * 16384 == stream.inbound
    assert increments[0] == 32768 + 65535
    assert 200_000 - stream.inbound <= 100_000


def test_what_is_taken_as_it_comes_is_credited_on_arrival():
    protocol, stream = opened(post(1), max_stream_window=65535)
    protocol.receive_data(data(1, b"x" * 100), 0)
    assert stream.take_all() == b""
    protocol.receive_data(data(1, b"x" * 16384) + data(1, b"x" * 16283), 0)
    assert protocol.data_to_send() == b"", "not half a window"
    assert (stream.unread, protocol.unread, stream.inbound) == (0, 0, 65535 - 32767)

    protocol.receive_data(data(1, b"x"), 0)
    assert frames(protocol.data_to_send()) == [(WINDOW_UPDATE, 0, 1, (32768).to_bytes(4, "big"))]
    assert stream.inbound == 65535

    stream.hold()
    protocol.receive_data(data(1, b"x" * 16384) * 2, 0)
    assert (protocol.data_to_send(), stream.unread, protocol.unread) == (b"", 32768, 32768)
    assert frames(stream.take_all()) == [(WINDOW_UPDATE, 0, 1, (32768).to_bytes(4, "big"))]
    assert (stream.unread, protocol.unread) == (0, 0)


def test_the_window_grows_for_who_takes_what_comes():
    protocol, stream = opened(post(1), max_stream_window=200_000)
    stream.take_all()
    for _ in range(40):
        protocol.receive_data(data(1, b"x" * 16384), 0)
    protocol.receive_data(data(1, b"", END_STREAM), 0)

    assert 100_000 < stream.inbound <= stream.target == 200_000
    assert protocol.unread == 0


def test_what_is_not_taken_is_not_asked_for():
    protocol, stream = opened(post(1))
    for _ in range(3):
        protocol.receive_data(data(1, b"x" * 16384), 0)

    assert protocol.data_to_send() == b""
    assert stream.inbound == 65535 - 3 * 16384


def test_the_connection_is_credited_on_arrival_unless_too_much_is_held():
    protocol = started(connection_window=65535, held_bytes=60_000)
    streams = [event.stream for event in protocol.receive_data(post(1) + post(3), 0)]
    protocol.receive_data(data(1, b"x" * 16384) * 2, 0)
    assert frames(protocol.data_to_send()) == [(WINDOW_UPDATE, 0, 0, (32768).to_bytes(4, "big"))]
    protocol.receive_data(data(3, b"x" * 16384) * 2, 0)
    assert protocol.data_to_send() == b""

    (frame,) = frames(streams[0].credit(16384))
    assert frame == (WINDOW_UPDATE, 0, 0, (32768).to_bytes(4, "big"))


def test_what_a_stream_has_held_is_free_when_it_is_gone():
    protocol = started(connection_window=65535, held_bytes=10_000)
    (event,) = protocol.receive_data(post(1), 0)
    protocol.receive_data(data(1, b"x" * 16384) * 3, 0)
    assert protocol.data_to_send() == b""
    assert protocol.unread == 3 * 16384

    answer = frames(event.stream.reset(ErrorCode.CANCEL))
    assert answer == [(RST_STREAM, 0, 1, b"\0\0\0\x08"), (WINDOW_UPDATE, 0, 0, (49152).to_bytes(4, "big"))]
    assert protocol.unread == 0


def test_more_credit_than_was_given_is_none():
    protocol, stream = opened(post(1))
    protocol.receive_data(data(1, b"x" * 100), 0)

    assert stream.credit(1000) == stream.credit(100) == stream.credit(-5) == b""
    assert (stream.unread, protocol.unread) == (0, 0)


def test_no_credit_behind_the_end():
    protocol, stream = opened(post(1))
    protocol.receive_data(data(1, b"x" * 16384) * 3 + data(1, b"", END_STREAM), 0)

    assert stream.has_ended
    assert stream.credit(3 * 16384) == b""


# The end of a stream


def whole(stream):
    return frames(stream.send_whole(200, (), b"x", BLOCKS))


def in_pieces(stream):
    response(stream, (b"content-length", b"1"))
    stream.admit(1, False)
    return frames(stream.data(b"x", True))


def by_itself(stream):
    response(stream)
    return frames(stream.data(b"x") + stream.end())


def in_its_place(stream):
    return frames(stream.error_response(404, ""))


EARLY = pytest.mark.parametrize("answer", [whole, in_pieces, by_itself, in_its_place])


@EARLY
@pytest.mark.parametrize("end", [data(1, b"", END_STREAM), data(1, b"rest", END_STREAM), headers(1, [(b"x", b"y")])])
def test_8_1_a_response_may_be_complete_before_its_request(answer, end):
    protocol, stream = opened(post(1, (b"content-length", b"100")))
    *_, end_of_ours, update = answer(stream)
    assert end_of_ours[1] & END_STREAM
    assert update == (WINDOW_UPDATE, 0, 1, ((4 << 20) - 65535).to_bytes(4, "big"))
    assert not stream.is_open
    assert protocol.streams == {1: stream}
    assert protocol.receive_data(data(1, b"x" * 50), 0) == []
    (event,) = protocol.receive_data(end, 0)

    # That it does not fit the length is of no interest any more: some clients end early when they are refused.
    assert (event.stream, event.data, event.ended) == (stream, b"", True)
    assert protocol.data_to_send() == b""
    assert protocol.streams == {}


def test_8_1_what_comes_behind_the_end_is_dropped_and_credited():
    protocol, stream = opened(post(1, (b"content-length", b"300000")), connection_window=65535)
    protocol.receive_data(data(1, b"x" * 16384), 0)
    assert stream.unread == 16384
    whole(stream)
    left = 300_000 - 16384
    while left:
        size = min(left, 16384, stream.inbound, protocol.inbound)
        assert size, "the client cannot go on"
        assert protocol.receive_data(data(1, b"x" * size), 0) == []
        left -= size
    assert protocol.unread == 0
    assert stream.credit(16384) == b""


def test_8_1_beyond_a_bound_the_stream_is_reset():
    protocol, stream = opened(post(1, (b"content-length", b"90000")), max_discarded_bytes=70_000)
    protocol.receive_data(data(1, b"x" * 10_000), 0)
    whole(stream)
    for _ in range(6):
        assert protocol.receive_data(data(1, b"x" * 10_000), 0) == []
    assert protocol.receive_data(data(1, b"x" * 9_999), 0) == []
    assert protocol.receive_data(data(1, b"x"), 0) == [StreamReset(stream, ErrorCode.NO_ERROR, "")]
    assert frames(protocol.data_to_send()) == [NO_ERROR]
    assert protocol.streams == {}
    assert protocol.receive_data(data(1, b"x", END_STREAM), 0) == []


def test_8_1_after_a_time_the_stream_is_reset():
    protocol = started(discard_timeout=5)
    first, second = (event.stream for event in protocol.receive_data(post(1) + post(3, (b"content-length", b"9")), 10))
    whole(first)
    whole(second)
    assert protocol.receive_data(data(1, b"x"), 14.9) == []
    assert protocol.cut_late(14.9) == b""
    assert protocol.receive_data(data(1, b"x"), 15) == [StreamReset(first, ErrorCode.NO_ERROR, "")]
    assert frames(protocol.data_to_send()) == [NO_ERROR]

    assert frames(protocol.cut_late(15)) == [(RST_STREAM, 0, 3, b"\0\0\0\0")]
    assert protocol.streams == {}


def test_the_peer_may_reset_what_it_need_not_send_any_more():
    protocol, stream = opened(post(1, (b"content-length", b"9")))
    whole(stream)

    assert protocol.receive_data(rst_stream(1), 0) == [StreamReset(stream, ErrorCode.CANCEL, "")]
    assert protocol.data_to_send() == b""


def test_8441_5_the_peer_of_a_websocket_ends_its_own_side():
    protocol, stream = opened(headers(1, WEBSOCKET, END_HEADERS))
    response(stream)

    assert frames(stream.end()) == [LAST]
    assert protocol.streams == {1: stream}
    assert not stream.is_open
    (event,) = protocol.receive_data(data(1, b"late", END_STREAM), 0)
    assert (event.data, event.ended) == (b"late", True)
    assert protocol.streams == {}
    assert not protocol.is_closed


def test_a_websocket_whose_peer_does_not_end_is_reset():
    protocol, stream = opened(headers(1, WEBSOCKET, END_HEADERS))
    response(stream).end()

    assert frames(stream.reset(ErrorCode.CANCEL)) == [(RST_STREAM, 0, 1, b"\0\0\0\x08")]
    assert protocol.streams == {}


def test_a_reset_forgets_the_stream_and_what_still_comes_for_it():
    protocol, stream = opened(post(1))

    assert frames(stream.reset(ErrorCode.INTERNAL_ERROR)) == [(RST_STREAM, 0, 1, b"\0\0\0\x02")]
    late = data(1, b"x" * 5) + window_update(1, 5) + headers(1, [(b"x", b"y")]) + rst_stream(1)
    assert protocol.receive_data(late, 0) == []
    assert not protocol.is_closed


# Answers in the application's place


def test_an_error_response_is_whole():
    protocol, stream = opened(headers(1))
    extra = [(b"retry-after", b"10")]
    head, rest = read(stream.error_response(503, " too  many ", default_headers=DEFAULTS, extra_headers=extra))

    assert head == [
        (b":status", b"503"), *DEFAULTS, *extra, (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", b"9"),
    ]  # fmt: skip
    assert rest == [(DATA, END_STREAM, 1, b"too many\n")]
    assert protocol.streams == {}


def test_a_request_that_was_reset_is_not_answered():
    protocol = started()
    failed, _ = protocol.receive_data(headers(1, [*GET, (b"expect", b"x")]) + rst_stream(1), 0)

    assert failed.stream.error_response(failed.status, failed.reason) == b""


@pytest.mark.parametrize("sample", [headers(1, HEAD), headers(1)])
def test_an_error_response_without_its_text(sample):
    _, stream = opened(sample)
    if sample == headers(1):
        stream.window = 3
    (frame,) = frames(stream.error_response(404, "not found"))

    assert frame[1] == END_STREAM | END_HEADERS
    assert fields(frame) == [(b":status", b"404")]


def test_a_websocket_that_is_refused_is_answered_as_any_request():
    protocol, stream = opened(headers(1, WEBSOCKET, END_HEADERS))

    assert frames(stream.error_response(403, "no"))[1] == (DATA, END_STREAM, 1, b"no\n")
    assert protocol.receive_data(data(1, b"late"), 0) == []
    assert protocol.receive_data(data(1, b"", END_STREAM), 0) == [DataReceived(stream, b"", True)]
    assert protocol.streams == {}


def test_a_request_that_is_not_for_the_application_is_answered():
    protocol = started()
    (event,) = protocol.receive_data(headers(1, [(b":method", b"CONNECT"), (b":authority", b"a")]), 0)
    assert isinstance(event, RequestFailed)
    head, _ = read(event.stream.error_response(event.status, event.reason))

    assert head[0] == (b":status", b"501")
    assert protocol.streams == {}


# The table of the peer


def test_7541_4_2_after_a_smaller_table_the_next_block_begins_with_that():
    protocol, stream = opened(headers(1))
    protocol.receive_data(settings((1, 0)), 0)
    decoder = hpack.Decoder()
    decoder.max_allowed_table_size = 0
    first, second = frames(stream.send_informational(103, ())), frames(stream.send_whole(200, (), b"", BLOCKS))

    assert decoder.decode(first[0][3], raw=True) == [(b":status", b"103")]
    assert first[0][3][:1] == b"\x20"
    assert second[0][3][:1] != b"\x20"


def test_the_same_for_a_whole_response():
    protocol, stream = opened(headers(1))
    protocol.receive_data(settings((1, 100), (1, 4096)), 0)
    ((_, _, _, block),) = frames(stream.send_whole(200, (), b"", BLOCKS))

    assert block[:1] == b"\x20"
    assert protocol.prefix == b""


def test_9110_9_3_2_an_answer_in_place_of_the_application_to_head_has_no_content():
    protocol = started()
    (event,) = protocol.receive_data(headers(1, [*HEAD, (b"expect", b"x")]), 0)
    (frame,) = frames(event.stream.error_response(event.status, event.reason))

    assert fields(frame) == [(b":status", b"417")]
