"""RFC 9113 section 10.5: what a peer can do without end, and where it ends.

Each attack is driven until the connection ends. All of it is cheap for the attacker, so all of it is to be cheap for
us, too: memory is looked at.
"""

from __future__ import annotations

import itertools
import struct
import tracemalloc

import pytest
from tests.fairway.protocols.http2.wire import (
    CONTINUATION,
    GET,
    GOAWAY,
    HEADERS,
    PING,
    PRIORITY,
    data,
    frame,
    frames,
    headers,
    post,
    rst_stream,
    settings,
    started,
    window_update,
)

from fairway.protocols.http2 import ErrorCode, PlainBlocks, RequestReceived, Terminated
from fairway.protocols.http2.hpack.encoder import encode
from fairway.protocols.http2.patience import Budget

BLOCKS = PlainBlocks(())
BLOCK = encode(GET)


def odd_numbers():
    return itertools.count(1, 2)


def of_streams(make):
    return (make(number) for number in odd_numbers())


ATTACKS = {
    "rapid reset (CVE-2023-44487)": lambda: of_streams(lambda number: headers(number) + rst_stream(number)),
    "resets that we are made to send (CVE-2025-8671)": lambda: of_streams(
        lambda number: headers(number) + window_update(number, 0)
    ),
    "malformed requests": lambda: of_streams(lambda number: headers(number, GET[1:])),
    "content that does not fit": lambda: of_streams(
        lambda number: post(number, (b"content-length", b"1")) + data(number, b"xx")
    ),
    "PING (CVE-2019-9512)": lambda: itertools.repeat(frame(PING, 0, 0, b"12345678")),
    "PING with ACK": lambda: itertools.repeat(frame(PING, 1, 0, b"12345678")),
    "SETTINGS (CVE-2019-9515)": lambda: itertools.repeat(settings()),
    "SETTINGS that change all windows": lambda: itertools.repeat(settings(*[(4, 1), (4, 2)] * 1000)),
    "SETTINGS with ACK": lambda: itertools.repeat(frame(4, 1)),
    "PRIORITY (CVE-2019-9513)": lambda: of_streams(lambda number: frame(PRIORITY, 0, number, b"\0\0\0\0\0")),
    "empty DATA (CVE-2019-9518)": lambda: itertools.chain([post(1)], itertools.repeat(data(1, b""))),
    "DATA of padding": lambda: itertools.chain([post(1)], itertools.repeat(frame(0, 8, 1, b"\0"))),
    "empty DATA for a stream that is gone": lambda: itertools.chain(
        [headers(1, GET[1:])], itertools.repeat(data(1, b""))
    ),
    "unknown frames": lambda: itertools.repeat(frame(77)),
    "GOAWAY": lambda: itertools.repeat(frame(GOAWAY, 0, 0, b"\0" * 8)),
    "WINDOW_UPDATE of the connection": lambda: itertools.repeat(window_update(0, 1)),
    "WINDOW_UPDATE of a stream": lambda: itertools.chain([headers(1)], itertools.repeat(window_update(1, 1))),
    "WINDOW_UPDATE of a stream that is gone": lambda: itertools.chain(
        [headers(1, GET[1:])], itertools.repeat(window_update(1, 1))
    ),
    "RST_STREAM of a stream that is gone": lambda: itertools.chain(
        [headers(1, GET[1:])], itertools.repeat(rst_stream(1))
    ),
    "HEADERS for a stream that is gone": lambda: itertools.chain([headers(1, GET[1:])], itertools.repeat(headers(1))),
    "empty CONTINUATION (CVE-2024-28182)": lambda: itertools.chain(
        [frame(HEADERS, 0, 1, BLOCK)], itertools.repeat(frame(CONTINUATION, 0, 1))
    ),
    "CONTINUATION without end": lambda: itertools.chain(
        [frame(HEADERS, 0, 1, BLOCK)], itertools.repeat(frame(CONTINUATION, 0, 1, b"\0\1x\1y" * 3000))
    ),
    "one field again and again (HPACK bomb)": lambda: iter(
        [frame(HEADERS, 5, 1, BLOCK + b"\x40\x01a\x7f\x81\x1e" + b"b" * 3968 + b"\xbe" * 12000)]
    ),
    "fields that are too many": lambda: of_streams(
        lambda number: headers(number, [*GET, *[(b"x-%d" % number, b"y" * 50)] * 150])
    ),
    "fields with no name": lambda: of_streams(lambda number: headers(number, [*GET, *[(b"", b"")] * 300])),
    "streams that are refused": lambda: of_streams(lambda number: headers(number)),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_each_flood_ends_with_calm(name):
    protocol = started(max_streams=20)
    tracemalloc.start()
    try:
        for sent in ATTACKS[name]():
            events = protocol.receive_data(sent, 0.0)
            said = protocol.data_to_send()
            if protocol.is_closed:
                break
            assert len(said) < 10_000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert isinstance(events[-1], Terminated)
    assert events[-1].code is ErrorCode.ENHANCE_YOUR_CALM
    assert frames(said)[-1][0] == GOAWAY
    assert frames(said)[-1][3][4:8] == struct.pack(">I", ErrorCode.ENHANCE_YOUR_CALM)
    assert peak < 3_000_000
    assert protocol.streams == {}


def test_requests_behind_our_goaway_have_an_end():
    protocol = started()
    protocol.shut_down()
    count = 0
    while not protocol.is_closed:
        assert count < 1000
        events = protocol.receive_data(headers(2 * count + 1), 0.0)
        count += 1

    assert isinstance(events[-1], Terminated)
    assert events[-1].code is ErrorCode.ENHANCE_YOUR_CALM
    assert count > 100, "as many as may be on their way"


def test_who_has_its_requests_answered_may_reset_some():
    protocol = started()
    for number in range(1, 2000, 4):
        event, *_ = protocol.receive_data(headers(number) + headers(number + 2) + rst_stream(number + 2), 0.0)
        assert isinstance(event, RequestReceived)
        event.stream.send_whole(200, (), b"", BLOCKS)

    assert not protocol.is_closed


def test_a_browser_may_leave_a_page_with_all_streams_open():
    protocol = started()
    for _ in range(2):
        first = protocol.numbers.highest + 1 | 1
        numbers = range(first, first + 200, 2)
        for sent in (map(headers, numbers), map(rst_stream, numbers)):
            protocol.receive_data(b"".join(sent), 0.0)
            while protocol.is_parted:
                protocol.receive_data(b"", 0.0)
        assert not protocol.is_closed
        for number in range(protocol.numbers.highest + 2, protocol.numbers.highest + 100, 2):
            (event,) = protocol.receive_data(headers(number), 0.0)
            event.stream.send_whole(200, (), b"", BLOCKS)


def test_time_gives_patience():
    protocol = started()
    for second in range(1000):
        protocol.receive_data(frame(PING, 0, 0, b"12345678") * 18, float(second))
        protocol.data_to_send()

    assert not protocol.is_closed


def test_patience_does_not_grow_without_end():
    budget = Budget(10, 0.0)
    for _ in range(100):
        budget.earn()
    budget.now = 1000.0
    spent = 0
    while budget.spend(1):
        spent += 1

    # What there was, and what time has given until it was looked at.
    assert spent == 20


@pytest.mark.parametrize("size", [1, 40, 1000, 16384])
def test_whoever_is_sent_content_may_say_that_it_has_arrived(size):
    protocol = started()
    (event,) = protocol.receive_data(headers(1), 0.0)
    stream = event.stream
    stream.send_response(200, ())
    for _ in range(2000):
        stream.data(b"x" * size)
        assert protocol.receive_data(window_update(1, size) + window_update(0, size), 0.0) == []

    assert not protocol.is_closed


def test_content_that_is_sent_in_one_go_may_be_acknowledged_frame_by_frame():
    protocol = started()
    (event,) = protocol.receive_data(headers(1), 0.0)
    event.stream.send_response(200, ())
    for _ in range(200):
        for _ in range(30):
            event.stream.data(b"x" * 1000)
        protocol.receive_data((window_update(1, 1000) + window_update(0, 1000)) * 30, 0.0)

    assert not protocol.is_closed


def test_a_window_of_one_byte_is_not_worth_it():
    protocol = started()
    (event,) = protocol.receive_data(settings((4, 0)) + headers(1), 0.0)
    event.stream.send_response(200, ())
    for _ in range(1000):
        protocol.receive_data(window_update(1, 1), 0.0)
        if event.stream.writable:
            event.stream.data(b"x")
    # Each byte that is asked for is an answer to a byte that was sent.
    assert not protocol.is_closed
    for _ in range(2000):
        protocol.receive_data(window_update(1, 1), 0.0)
    assert protocol.is_closed
