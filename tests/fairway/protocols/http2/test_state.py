"""What is of the connection as a whole: its streams, its window, and its end."""

from __future__ import annotations

import struct

import pytest
from tests.fairway.protocols.http2.wire import GOAWAY, RST_STREAM, WINDOW_UPDATE, data, frames, headers, post, started

from fairway.protocols.http2.errors import ConnectionFault, ErrorCode, StreamFault


def test_a_stream_is_forgotten_once():
    protocol = started()
    (event,) = protocol.receive_data(post(1), 0)
    protocol.receive_data(data(1, b"x" * 100), 0)

    assert protocol.forget(event.stream, True) == b""
    assert (protocol.unread, protocol.streams, event.stream.unread) == (0, {}, 0)
    assert protocol.forget(event.stream, True) == b""
    assert protocol.unread == 0


@pytest.mark.parametrize(("inbound", "unread", "due"), [(32768, 0, 0), (32767, 0, 32768), (0, 10, 65535), (0, 11, 0)])
def test_6_9_1_when_the_connection_is_credited(inbound, unread, due):
    protocol = started(connection_window=65535, held_bytes=10)
    protocol.inbound, protocol.unread = inbound, unread

    assert frames(protocol.credit_due()) == ([(WINDOW_UPDATE, 0, 0, struct.pack(">I", due))] if due else [])
    assert protocol.inbound == inbound + due


def test_5_4_2_a_fault_of_a_stream_is_said_and_reported():
    protocol = started()
    (event,) = protocol.receive_data(headers(1), 0)
    events = []
    protocol.fail_stream(1, StreamFault(ErrorCode.CANCEL, "a reason"), events)

    assert events == [(event.stream, ErrorCode.CANCEL, "a reason")]
    assert frames(protocol.data_to_send()) == [(RST_STREAM, 0, 1, b"\0\0\0\x08")]


def test_5_1_a_stream_that_has_never_been_is_not_reset():
    protocol = started()
    with pytest.raises(ConnectionFault) as error:
        protocol.fail_stream(1, StreamFault(ErrorCode.CANCEL, "a reason"), [])

    assert (error.value.code, error.value.reason) == (ErrorCode.CANCEL, "a reason")
    assert protocol.data_to_send() == b""


def test_5_4_1_the_end_closes_all_streams_and_says_why_in_so_many_words():
    protocol = started()
    streams = [event.stream for event in protocol.receive_data(post(1) + headers(3), 0)]
    ((kind, _, _, payload),) = frames(protocol.end(ErrorCode.INTERNAL_ERROR, "é" * 300))

    assert (kind, payload[:8], payload[8:]) == (GOAWAY, struct.pack(">II", 3, 2), b"?" * 200)
    assert [(stream.is_open, stream.has_ended, stream.unread) for stream in streams] == [(False, True, 0)] * 2
    assert (protocol.streams, protocol.is_closed, protocol.is_waiting) == ({}, True, False)
