"""One connection as a whole: h2 as its client, going away, and what is left of it at the end."""

from __future__ import annotations

import gc
import struct
import tracemalloc
import weakref
from itertools import pairwise

import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fairway.protocols.http2.wire import (
    END_HEADERS,
    GET,
    GOAWAY,
    HELLO,
    POST,
    WEBSOCKET,
    data,
    described,
    feed,
    frame,
    frames,
    headers,
    opened,
    post,
    rst_stream,
    started,
    window_update,
)

from fairway.protocols.http2 import (
    DataReceived,
    ErrorCode,
    Event,
    Http2Limits,
    Http2Protocol,
    PlainBlocks,
    RequestReceived,
    StreamReset,
    Terminated,
    WindowOpened,
)
from fairway.protocols.http2.patience import FRAMES_AT_ONCE, IN_A_ROW, MESSAGE, MESSAGES_AT_ONCE

BLOCKS = PlainBlocks(())
LAST = 2**31 - 1


# Going away: RFC 9113 section 6.8


def test_a_connection_goes_away_in_two_steps():
    protocol = started()
    (first,) = protocol.receive_data(headers(1), 0)
    assert frames(protocol.warn()) == [(GOAWAY, 0, 0, struct.pack(">II", LAST, 0))]
    (second,) = protocol.receive_data(post(3), 0)
    assert frames(protocol.shut_down()) == [(GOAWAY, 0, 0, struct.pack(">II", 3, 0))]

    assert protocol.receive_data(headers(5) + post(7) + data(7, b"x") + data(7, b"", 1), 0) == []
    assert protocol.data_to_send() == b""
    assert protocol.receive_data(data(3, b"x", 1), 0) == [DataReceived(second.stream, b"x", True)]
    assert first.stream.send_whole(200, (), b"", BLOCKS)
    assert second.stream.send_whole(200, (), b"", BLOCKS)
    assert protocol.streams == {}
    assert not protocol.is_closed


def test_blocks_of_streams_that_come_too_late_change_the_table():
    protocol = started()
    protocol.receive_data(post(1), 0)
    protocol.shut_down()
    block = headers(1, [])[9:]
    (event,) = protocol.receive_data(frame(1, 5, 3, headers(1)[9:] + b"\x40\x03x-a\x01b") + frame(1, 5, 1, block), 0)

    assert event == DataReceived(event.stream, b"", True)
    assert protocol.heads.decoder.size == 32 + 4


def test_what_was_promised_last_does_not_change():
    protocol = started()
    protocol.receive_data(headers(1), 0)
    protocol.shut_down()
    protocol.receive_data(headers(3), 0)

    assert frames(protocol.shut_down()) == [(GOAWAY, 0, 0, struct.pack(">II", 1, 0))]
    assert frames(protocol.terminate(ErrorCode.NO_ERROR, ""))[0][3][:4] == struct.pack(">I", 1)


def test_the_server_may_end_it():
    protocol = started()
    (event,) = protocol.receive_data(headers(1) + frame(6, 0, 0, b"12345678"), 0)
    last = frames(protocol.terminate(ErrorCode.SETTINGS_TIMEOUT, "settings were not acknowledged"))

    assert [kind for kind, _, _, _ in last] == [6, GOAWAY]
    assert last[-1][3] == struct.pack(">II", 1, 4) + b"settings were not acknowledged"
    assert protocol.is_closed
    assert (protocol.streams, event.stream.is_open, event.stream.writable) == ({}, False, 0)
    assert protocol.receive_data(headers(3), 0) == []
    assert protocol.terminate(ErrorCode.NO_ERROR, "") == b""
    assert protocol.data_to_send() == b""


def test_a_lost_connection_leaves_nothing_that_refers_to_it():
    class Owner:
        pass

    gc.disable()
    try:
        protocol = started()
        (event,) = protocol.receive_data(headers(1), 0)
        owner = event.stream.owner = Owner()
        watched = weakref.ref(owner)
        protocol.close()
        del owner, event, protocol
        assert watched() is None
    finally:
        gc.enable()


def test_an_idle_connection_is_small():
    limits = Http2Limits()
    kept = [Http2Protocol(limits, 0) for _ in range(10)]
    tracemalloc.start()
    for _ in range(200):
        protocol = Http2Protocol(limits, 0)
        protocol.data_to_send()
        protocol.receive_data(HELLO + frame(4, 1), 0)
        protocol.data_to_send()
        kept.append(protocol)
    size = tracemalloc.get_traced_memory()[0] / 200
    tracemalloc.stop()

    assert size < 1100


# More frames than are taken at once

TINY = data(1, b"x")


def taken(protocol: Http2Protocol, sample: bytes) -> list[list[Event]]:
    """The events of each step."""
    steps = [protocol.receive_data(sample, 0.0)]
    while protocol.is_parted:
        steps.append(protocol.receive_data(b"", 0.0))
    return steps


def test_tiny_frames_are_taken_so_many_at_once():
    protocol, _ = opened(post(1))
    steps = taken(protocol, TINY * (2 * FRAMES_AT_ONCE + 1) + TINY[:-1])

    assert [len(events) for events in steps] == [FRAMES_AT_ONCE, FRAMES_AT_ONCE, 1]
    assert protocol.held == TINY[:-1]
    assert len(protocol.receive_data(b"x" + TINY, 0.0)) == 2
    assert protocol.held is None


def test_large_frames_are_all_taken_at_once():
    protocol, _ = opened(post(1), stream_window=1 << 20)

    assert [len(events) for events in taken(protocol, data(1, bytes(16384)) * 16)] == [16]


def test_long_blocks_count_for_more():
    fields = headers(1)[9:] + b"\x90" * 2000
    steps = taken(started(), b"".join(frame(1, 5, number, fields) for number in range(1, 40, 2)))
    assert {len(events) for events in steps} == {1}

    settings = frame(4, 0, 0, b"\0\3\0\0\0\1" * 2000)
    assert len(taken(started(), settings * 5)) == 5


def test_what_arrives_behind_frames_that_wait_follows_them():
    protocol, _ = opened(post(1))
    first = protocol.receive_data(TINY * (FRAMES_AT_ONCE + 1), 0.0)
    assert protocol.receive_messages(data(1, b"y")) == data(1, b"y")
    (last, behind) = protocol.receive_data(data(1, b"y"), 0.0)

    assert len(first) == FRAMES_AT_ONCE
    assert (last.data, behind.data) == (b"x", b"y")


def test_a_head_that_waits_behind_others_is_not_late():
    protocol, _ = opened(post(1))
    protocol.receive_data(TINY * FRAMES_AT_ONCE + headers(3) + headers(5)[:-1], 0.0)

    assert (protocol.is_parted, protocol.is_waiting) == (True, False)
    assert [type(event) for event in protocol.receive_data(b"", 0.0)] == [RequestReceived]
    assert (protocol.is_parted, protocol.is_waiting) == (False, True)


@pytest.mark.parametrize("fault", [frame(0, 0, 0, b"x"), b"\xff" * 9], ids=["forbidden", "too large"])
def test_a_fault_behind_many_frames_ends_the_connection_in_its_turn(fault):
    protocol, _ = opened(post(1))
    steps = taken(protocol, TINY * FRAMES_AT_ONCE + fault)

    assert [len(events) for events in steps] == [FRAMES_AT_ONCE, 1]
    assert type(steps[1][0]) is Terminated
    assert (protocol.is_parted, protocol.receive_data(b"", 0.0)) == (False, [])


def test_frames_that_wait_are_forgotten_with_the_connection():
    protocol, _ = opened(post(1))
    protocol.receive_data(TINY * (FRAMES_AT_ONCE + 1), 0.0)
    protocol.terminate(ErrorCode.NO_ERROR, "")

    assert (protocol.is_parted, protocol.held, protocol.receive_data(b"", 0.0)) == (False, None, [])


def test_messages_are_taken_so_many_at_once():
    protocol, stream = opened(headers(1, WEBSOCKET, END_HEADERS))
    got = []
    stream.take_all(Reader(got))

    most = MESSAGES_AT_ONCE // IN_A_ROW + 1
    assert protocol.receive_messages(TINY * (2 * most + 1) + TINY[:-1]) == b""
    assert (len(got), protocol.is_parted) == (most, True)
    assert protocol.receive_messages(TINY) == TINY
    assert protocol.receive_messages(b"") == b""
    assert (len(got), protocol.is_parted) == (2 * most, True)
    assert protocol.receive_messages(b"") == TINY[:-1]
    assert (len(got), protocol.held) == (2 * most + 1, None)


def test_a_message_of_each_of_many_tunnels_is_taken_at_once():
    protocol = started()
    numbers = range(1, 200, 2)
    taken(protocol, b"".join(headers(number, WEBSOCKET, END_HEADERS) for number in numbers))
    got = []
    for number, stream in protocol.streams.items():
        stream.take_all(Reader(got, number))

    assert protocol.receive_messages(b"".join(data(number, b"x") for number in numbers)) == b""
    assert [number for number, _ in got] == [*numbers]
    assert protocol.held is None


def test_messages_that_are_no_straight_line_count_for_as_much():
    protocol, _ = opened(headers(1, WEBSOCKET, END_HEADERS))
    steps = taken(protocol, data(1, b"\0x", 8) * FRAMES_AT_ONCE)

    assert {len(events) for events in steps[:-1]} == {-(-FRAMES_AT_ONCE // (MESSAGE + 1))}


def test_no_message_is_taken_inside_a_field_block_that_waits():
    protocol, stream = opened(headers(1, WEBSOCKET, END_HEADERS))
    got = []
    stream.take_all(Reader(got))
    protocol.receive_data(TINY * FRAMES_AT_ONCE + headers(3, GET, 1) + TINY * FRAMES_AT_ONCE, 0.0)
    while not protocol.is_closed:
        rest = protocol.receive_messages(b"")
        events = protocol.receive_data(rest, 0.0) if rest else []

    assert got == [("", b"x")] * len(got)
    assert [type(event) for event in events] == [Terminated]


many = st.tuples(
    st.sampled_from(
        [
            TINY, data(3, b"yz"), data(1, b"\0", 8), data(1, b""), frame(6, 0, 0, b"12345678"), frame(4),
            frame(2, 0, 9, bytes(5)), window_update(1, 1), window_update(0, 1), headers(5), post(7),
            headers(9, GET, 1) + frame(9, 4, 9), data(3, b"", 1), rst_stream(1), frame(99, 0, 1, b"?"), b"\0",
        ]
    ),
    st.sampled_from([1, 2, FRAMES_AT_ONCE - 1, FRAMES_AT_ONCE, 200]),
)  # fmt: skip


@given(st.lists(many, max_size=5), st.lists(st.integers(0, 5000), max_size=4), st.lists(st.booleans(), min_size=1))
def test_many_frames_have_the_same_events_and_answers_whether_they_wait_or_not(runs, places, goes_on):
    frames = [post(1) + post(3), *(one for one, count in runs for _ in range(count))]
    sample = b"".join(frames)
    bounds = sorted({0, len(sample), *(place % (len(sample) + 1) for place in places)})
    protocol = started()
    events: list[Event] = []
    said = b""
    for number, (begin, end) in enumerate(pairwise(bounds)):
        events += protocol.receive_data(sample[begin:end], 0.0)
        if goes_on[number % len(goes_on)]:
            events += protocol.receive_data(b"", 0.0)
        said += protocol.data_to_send()
    while protocol.is_parted:
        events += protocol.receive_data(b"", 0.0)
        said += protocol.data_to_send()
    by_frame = feed([HELLO + frame(4, 1), *frames])

    assert ([described(event) for event in events], frame(4, 1) + said) == (by_frame[0], by_frame[1])


# h2 as the client


class Client:
    """h2, which is told what we send and raises if that is not allowed."""

    def __init__(self):
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding=None))
        self.h2.initiate_connection()
        self.events = []

    def receive(self, data):
        if data:
            self.events += self.h2.receive_data(data)

    def content(self, stream):
        return b"".join(event.data for event in self.of(h2.events.DataReceived) if event.stream_id == stream)

    def of(self, kind):
        return [event for event in self.events if isinstance(event, kind)]


def exchange(client, protocol, events, step=None):
    """Bring what the client has to say to the protocol, cut as told, and its answer back."""
    sent = client.h2.data_to_send()
    for begin in range(0, len(sent), step or len(sent) or 1):
        events += protocol.receive_data(sent[begin : begin + (step or len(sent))], 0.0)
        client.receive(protocol.data_to_send())


def connected(step=None, limits=None):
    client, protocol, events = Client(), Http2Protocol(limits or Http2Limits(), 0.0), []
    client.receive(protocol.data_to_send())
    exchange(client, protocol, events, step)
    exchange(client, protocol, events, step)
    assert protocol.settings_acknowledged
    return client, protocol, events


def test_h2_gets_a_response():
    client, protocol, events = connected()
    client.h2.send_headers(1, GET, end_stream=True)
    exchange(client, protocol, events)
    client.receive(events[0].stream.send_whole(200, ((b"x-a", b"b"),), b"hello", BLOCKS))

    (response,) = client.of(h2.events.ResponseReceived)
    assert response.headers == [(b":status", b"200"), (b"x-a", b"b"), (b"content-length", b"5")]
    assert client.content(1) == b"hello"
    assert client.of(h2.events.StreamEnded)


def test_h2_gets_hints_content_and_trailers():
    client, protocol, events = connected()
    client.h2.send_headers(1, [*GET, (b"te", b"trailers")], end_stream=True)
    exchange(client, protocol, events)
    stream = events[0].stream
    client.receive(stream.send_informational(103, [(b"link", b"</a>")]))
    client.receive(stream.send_response(200, [], trailers=True))
    stream.admit(3, False)
    client.receive(stream.data(b"abc"))
    client.receive(stream.end(stream.trailers([(b"x-sum", b"1")])))

    assert [event.headers for event in client.of(h2.events.InformationalResponseReceived)] == [
        [(b":status", b"103"), (b"link", b"</a>")]
    ]
    assert client.content(1) == b"abc"
    assert [event.headers for event in client.of(h2.events.TrailersReceived)] == [[(b"x-sum", b"1")]]


def test_h2_opens_a_websocket():
    client, protocol, events = connected()
    client.h2.send_headers(1, WEBSOCKET)
    exchange(client, protocol, events)
    (event,) = events
    assert (event.head.protocol, event.ended) == (b"websocket", False)
    client.receive(event.stream.send_response(200, ()))
    client.h2.send_data(1, b"to you")
    exchange(client, protocol, events)
    client.receive(event.stream.data(b"to me"))
    assert (events[1].data, client.content(1)) == (b"to you", b"to me")
    client.receive(event.stream.end())
    client.h2.end_stream(1)
    exchange(client, protocol, events)

    assert events[-1] == DataReceived(event.stream, b"", True)
    assert protocol.streams == {}


@pytest.mark.parametrize("step", [None, 1, 7, 100, 16384])
@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 300_000])
def test_h2_uploads_through_windows(size, step):
    if step == 1 and size > 65536:
        pytest.skip("the same as with less")
    client, protocol, events = connected(step)
    client.h2.send_headers(1, [*POST, (b"content-length", b"%d" % size)])
    left = size
    taken = 0
    while left:
        count = min(left, client.h2.local_flow_control_window(1), 16384)
        assert count, "neither side goes on"
        client.h2.send_data(1, b"x" * count)
        left -= count
        exchange(client, protocol, events, step)
        for event in events[1 + taken :]:
            client.receive(event.stream.credit(len(event.data)))
        taken = len(events) - 1
    client.h2.end_stream(1)
    exchange(client, protocol, events, step)

    assert sum(len(event.data) for event in events[1:]) == size
    assert events[-1].ended
    assert protocol.unread == 0


@pytest.mark.parametrize("window", [1, 100, 65535, 1 << 20])
def test_h2_downloads_through_windows(window):
    size = min(200_000, window * 300)
    client, protocol, events = connected()
    client.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window})
    exchange(client, protocol, events)
    client.h2.send_headers(1, GET, end_stream=True)
    exchange(client, protocol, events)
    stream = next(event.stream for event in events if isinstance(event, RequestReceived))
    client.receive(stream.send_response(200, [(b"content-length", b"%d" % size)]))
    assert stream.admit(size, False)
    rest = memoryview(b"x" * size)
    while rest:
        piece, rest = rest[: stream.writable], rest[stream.writable :]
        assert piece, "neither side goes on"
        client.receive(stream.data(piece, not rest))
        client.h2.acknowledge_received_data(len(piece), 1)
        if rest and not client.h2.inbound_flow_control_window:
            client.h2.increment_flow_control_window(65535)
        if rest and not stream.writable:
            # h2 waits for half a window by itself, which never comes with one that is small.
            exchange(client, protocol, events)
            if not stream.writable:
                client.h2.increment_flow_control_window(window, 1)
        exchange(client, protocol, events)

    assert client.content(1) == b"x" * size
    assert not protocol.is_closed
    assert protocol.streams == {}


# Any order of what a client and a server may do

steps = st.lists(
    st.tuples(
        st.sampled_from(["get", "post", "socket", "data", "end", "reset", "ping", "settings", "trailers"])
        | st.sampled_from(["answer", "start", "content", "finish", "cut", "credit", "hints"]),
        st.integers(0, 7),
    ),
    max_size=40,
)


class Session:
    """A client and a server that do what a list of steps says, as far as it is possible."""

    def __init__(self, step):
        self.step = step
        self.client, self.protocol, _ = connected(step, Http2Limits(patience=10_000, max_streams=8))
        self.next_stream = 1
        self.open_here = []  # streams of the client's that it may still write to
        self.served = []
        self.events = []
        self.sent = {}
        self.received = {}
        self.answered = {}

    def run(self, steps):
        for name, number in steps:
            getattr(self, "do_" + name)(number)
            self.exchange()

    def exchange(self):
        events = []
        exchange(self.client, self.protocol, events, self.step)
        for event in events:
            if isinstance(event, RequestReceived):
                self.served.append(event.stream)
            elif isinstance(event, DataReceived):
                self.received[event.stream.number] = self.received.get(event.stream.number, b"") + event.data
            else:
                assert isinstance(event, StreamReset | WindowOpened) or type(event).__name__ == "StreamRefused", event
        for event in self.client.events:
            if isinstance(event, h2.events.StreamReset) and event.stream_id in self.open_here:
                self.open_here.remove(event.stream_id)
        self.events += events

    def _begin(self, fields, ended):
        if self.client.h2.open_outbound_streams >= 8:
            return
        self.client.h2.send_headers(self.next_stream, fields, end_stream=ended)
        if not ended:
            self.open_here.append(self.next_stream)
        self.next_stream += 2

    def do_get(self, number):
        self._begin([*GET, (b"x-number", b"%d" % number)], True)

    def do_post(self, number):
        self._begin([*POST, (b"te", b"trailers")], False)

    def do_socket(self, number):
        self._begin(WEBSOCKET, False)

    def _of(self, some, number):
        return some[number % len(some)] if some else None

    def do_data(self, number):
        stream = self._of(self.open_here, number)
        if stream is not None and self.client.h2.local_flow_control_window(stream) > 3000:
            content = bytes((65 + number,)) * (number * 400)
            self.client.h2.send_data(stream, content, pad_length=number or None)
            self.sent[stream] = self.sent.get(stream, b"") + content

    def do_end(self, number):
        stream = self._of(self.open_here, number)
        if stream is not None:
            self.open_here.remove(stream)
            self.client.h2.end_stream(stream)

    def do_trailers(self, number):
        stream = self._of(self.open_here, number)
        if stream is not None:
            self.open_here.remove(stream)
            self.client.h2.send_headers(stream, [(b"x-sum", b"1")], end_stream=True)

    def do_reset(self, number):
        stream = self._of(self.open_here, number)
        if stream is not None:
            self.open_here.remove(stream)
            self.client.h2.reset_stream(stream, ErrorCode.CANCEL)

    def do_ping(self, number):
        self.client.h2.ping(b"12345678")

    def do_settings(self, number):
        codes = h2.settings.SettingCodes
        changes = {codes.INITIAL_WINDOW_SIZE: 20_000 * number, codes.HEADER_TABLE_SIZE: 1000 * number}
        self.client.h2.update_settings(changes)

    def _stream(self, number, started):
        some = [stream for stream in self.served if stream.is_open and stream.response_started is started]
        return self._of(some, number)

    def do_answer(self, number):
        stream = self._stream(number, False)
        if stream is not None:
            content = b"z" * (number * 1000)
            whole = stream.send_whole(200, (), content, BLOCKS)
            if whole is not None:
                self.answered[stream.number] = content
            self.client.receive(whole)

    def do_hints(self, number):
        stream = self._stream(number, False)
        if stream is not None:
            self.client.receive(stream.send_informational(103, [(b"link", b"</a>")]))

    def do_start(self, number):
        stream = self._stream(number, False)
        if stream is not None:
            self.client.receive(stream.send_response(200, [(b"x-a", b"b" * number)], trailers=number > 5))

    def do_content(self, number):
        stream = self._stream(number, True)
        if stream is not None:
            size = min(number * 3000, stream.writable)
            self.client.receive(stream.data(b"z" * size))
            self.answered[stream.number] = self.answered.get(stream.number, b"") + b"z" * size
            if size:
                self.client.h2.acknowledge_received_data(size, stream.number)

    def do_finish(self, number):
        stream = self._stream(number, True)
        if stream is not None:
            self.client.receive(stream.end())

    def do_cut(self, number):
        stream = self._stream(number, True)
        if stream is not None:
            self.client.receive(stream.reset(ErrorCode.INTERNAL_ERROR))

    def do_credit(self, number):
        stream = self._of(self.served, number)
        if stream is not None:
            self.client.receive(stream.credit(number * 400))


@settings(deadline=None)
@given(steps, st.sampled_from([None, 1, 5, 50]))
def test_whatever_both_sides_do_neither_complains(steps, step):
    session = Session(step)
    session.run(steps)

    assert not session.protocol.is_closed
    for number, content in session.received.items():
        assert session.sent.get(number, b"").startswith(content)
    for number, content in session.answered.items():
        assert content.startswith(session.client.content(number))
    assert session.protocol.unread == sum(stream.unread for stream in session.protocol.streams.values())
    assert set(session.protocol.streams) <= {stream.number for stream in session.served}


@settings(deadline=None)
@given(steps, st.lists(st.integers(0, 5000), max_size=20))
def test_the_same_bytes_give_the_same_events_however_they_are_cut(steps, places):
    session = Session(None)
    wire = []
    original = session.protocol.receive_data
    session.protocol = Recording(session.protocol, original, wire)
    session.run([(name, number) for name, number in steps if name in CLIENT_ONLY])
    sample = b"".join(wire)
    bounds = sorted({0, len(sample), *(place % (len(sample) + 1) for place in places)})
    pieces = [sample[begin:end] for begin, end in pairwise(bounds)]

    assert feed([HELLO, *pieces]) == feed([HELLO, sample])


CLIENT_ONLY = {"get", "post", "socket", "data", "end", "reset", "ping", "settings", "trailers"}


class Recording:
    """A protocol that keeps what it is given."""

    def __init__(self, protocol, receive_data, wire):
        self._protocol = protocol
        self._receive_data = receive_data
        self._wire = wire

    def receive_data(self, data, now):
        self._wire.append(data)
        return self._receive_data(data, now)

    def __getattr__(self, name):
        return getattr(self._protocol, name)


# The straight line of a WebSocket's messages


class Reader:
    """Of one tunnel: notes what it gets."""

    def __init__(self, notes, name=""):
        self._notes = notes
        self._name = name

    def data_received(self, data):
        self._notes.append((self._name, data))


def test_messages_of_tunnels_are_taken_without_an_event():
    protocol, stream = opened(headers(1, WEBSOCKET, END_HEADERS))
    protocol.receive_data(headers(3, WEBSOCKET, END_HEADERS), 0.0)
    got = []
    stream.take_all(Reader(got, "first"))
    protocol.streams[3].take_all(Reader(got, "second"))
    before = protocol.inbound, stream.inbound

    read = data(1, b"message") + data(3, b"x") + data(1, b"another")
    ping = frame(6, 0, 0, b"12345678")
    assert protocol.receive_messages(read + ping) == ping
    assert got == [("first", b"message"), ("second", b"x"), ("first", b"another")]
    assert (protocol.inbound, stream.inbound) == (before[0] - 15, before[1] - 14)
    assert (protocol.unread, stream.unread, protocol.out) == (0, 0, b"")


def test_a_reader_may_end_the_connection():
    protocol, stream = opened(headers(1, WEBSOCKET, END_HEADERS))
    got = []

    class Ending(Reader):
        def data_received(self, data):
            super().data_received(data)
            protocol.terminate(ErrorCode.NO_ERROR, "")

    stream.take_all(Ending(got))
    assert protocol.receive_messages(FRAME * 2) == FRAME
    assert got == [("", b"message")]
    assert protocol.receive_data(FRAME, 0.0) == []


FRAME = data(1, b"message")


@pytest.mark.parametrize(
    "sample",
    [
        FRAME[:-1],
        FRAME[:8],
        b"",
        data(1, b""),
        data(1, b"message", 1),
        data(1, b"\0message", 8),
        data(1, b"message", 0x80),
        data(3, b"message"),
        data(5, b"message"),
        data(7, b"message"),
        data(0, b"message"),
        data(1, bytes(16385)),
        frame(6, 0, 1, b"message"),
    ],
)
def test_what_is_not_one_message_of_a_tunnel_is_for_receive_data(sample):
    protocol, stream = opened(headers(1, WEBSOCKET, END_HEADERS))
    got = []
    stream.take_all(Reader(got))
    protocol.receive_data(post(3) + headers(5, (*WEBSOCKET, (b"content-length", b"7")), END_HEADERS), 0.0)
    protocol.streams[3].take_all(Reader(got))
    protocol.streams[5].take_all(Reader(got))
    before = protocol.inbound, stream.inbound

    assert protocol.receive_messages(sample) == sample
    assert (got, protocol.inbound, stream.inbound) == ([], *before)


@pytest.mark.parametrize(
    "state", ["held", "unread", "ended", "refused", "reset", "block", "frame", "small window", "closed"]
)
def test_no_message_is_taken_while_there_is_something_to_be_looked_at(state):
    protocol, stream = opened(headers(1, WEBSOCKET, END_HEADERS))
    got = []
    stream.take_all(Reader(got))
    if state == "held":
        stream.hold()
    elif state == "unread":
        stream.take_all()
    elif state == "refused":
        stream.send_response(403, [])
    elif state == "reset":
        stream.reset(ErrorCode.CANCEL)
    elif state == "ended":
        protocol.receive_data(data(1, b"", 1), 0.0)
        stream.take_all(Reader(got))
    elif state == "block":
        protocol.receive_data(headers(3, GET, 1), 0.0)
    elif state == "frame":
        protocol.receive_data(FRAME[:3], 0.0)
    elif state == "small window":
        stream.inbound = stream.target // 2 + 7
    else:
        protocol.terminate(ErrorCode.NO_ERROR, "")

    assert (protocol.receive_messages(FRAME), got) == (FRAME, [])


reads = st.one_of(
    st.builds(data, st.sampled_from([1, 3, 5]), st.binary(max_size=20), st.just(0)),
    st.builds(data, st.sampled_from([1, 3]), st.sampled_from([bytes(5000), bytes(16384)]), st.just(0)),
    st.builds(data, st.sampled_from([1, 3]), st.sampled_from([b"\1x\0", b"\0", b""]), st.sampled_from([1, 8])),
    st.sampled_from(
        [frame(6, 0, 0, b"12345678"), frame(3, 0, 1, b"\0\0\0\1"), FRAME[:12], FRAME[12:], FRAME * 3, FRAME + FRAME[:9]]
    ),
    st.builds(headers, st.just(7), st.just(GET), st.sampled_from([1, 5])),
)


@given(st.lists(st.tuples(st.sampled_from(["", "", "", "hold", "take"]), reads), max_size=30))
def test_with_the_straight_line_everything_is_as_without_it(steps):
    """`receive_messages` before `receive_data`, and `receive_data` alone: the same content, and the same answers."""

    def run(is_straight):
        protocol, first = opened(headers(1, WEBSOCKET, END_HEADERS))
        protocol.receive_data(headers(3, WEBSOCKET, END_HEADERS), 0.0)
        seen = []
        readers = Reader(seen, 1), Reader(seen, 3)
        seen += [protocol.data_to_send(), first.take_all(readers[0]), protocol.streams[3].take_all(readers[1])]
        for step, read in steps:
            if step and 1 in protocol.streams:
                seen.append(protocol.streams[1].hold() if step == "hold" else protocol.streams[1].take_all(readers[0]))
            rest = protocol.receive_messages(read) if is_straight else read
            if rest:
                events = [described(event) for event in protocol.receive_data(rest, 1.0)]
                seen += [one[1:3] if one[0] == "DataReceived" and not one[3] else one for one in events]
            windows = [(one.inbound, one.unread, one.target) for one in protocol.streams.values()]
            seen += [protocol.data_to_send(), protocol.inbound, protocol.unread, windows]
        return [one for one in seen if one != b""]

    assert run(True) == run(False)
