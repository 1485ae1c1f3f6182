"""RFC 9113 sections 4 and 6: frames, with hyperframe as the reader."""

from __future__ import annotations

import pytest
from hyperframe.frame import Frame
from tests.fairway.protocols.http2.wire import frames as cut

from fairway.protocols.http2 import frames
from fairway.protocols.http2.errors import ConnectionFault, ErrorCode


def read(data):
    frame, length = Frame.parse_frame_header(memoryview(data[:9]))
    assert len(data) == 9 + length
    frame.parse_body(memoryview(data[9:]))
    return frame


def test_settings():
    frame = read(frames.settings_frame([(frames.MAX_CONCURRENT_STREAMS, 7), (frames.ENABLE_CONNECT_PROTOCOL, 1)]))

    assert frame.settings == {3: 7, 8: 1}
    assert not frame.flags
    assert set(read(frames.SETTINGS_ACK).flags) == {"ACK"}


@pytest.mark.parametrize("size", [1, 126, 16384])
def test_heads_of_content_are_made_once_for_all_streams_of_a_number(size):
    frame = read(frames.data_head(5, size) + bytes(size))

    assert (frame.stream_id, frame.data, set(frame.flags)) == (5, bytes(size), set())
    assert frames.data_head(5, size) is frames.data_head(5, size)
    assert frames.data_head.cache_info().maxsize == 1024


def test_control_frames():
    assert read(frames.ping_frame(b"12345678")).opaque_data == b"12345678"
    assert set(read(frames.ping_frame(b"12345678", frames.ACK)).flags) == {"ACK"}
    goaway = read(frames.goaway_frame(7, 11, b"why"))
    assert (goaway.last_stream_id, goaway.error_code, goaway.additional_data) == (7, 11, b"why")
    reset = read(frames.rst_stream_frame(5, 8))
    assert (reset.stream_id, reset.error_code) == (5, 8)
    update = read(frames.window_update_frame(3, 1000))
    assert (update.stream_id, update.window_increment) == (3, 1000)


@pytest.mark.parametrize("flags", [0, frames.END_STREAM])
@pytest.mark.parametrize("size", [0, 1, 16384, 16385, 32768, 40000])
def test_4_3_a_long_block_goes_on_in_continuations(size, flags):
    block = bytes(range(256)) * (size // 256 + 1)
    block = block[:size]
    found = cut(frames.headers_frames(3, block, flags))

    assert b"".join(payload for _, _, _, payload in found) == block
    assert [kind for kind, _, _, _ in found] == [frames.HEADERS] + [frames.CONTINUATION] * (len(found) - 1)
    assert all(len(payload) <= 16384 and stream == 3 for _, _, stream, payload in found)
    expected = [0] * len(found)
    expected[0] |= flags
    expected[-1] |= frames.END_HEADERS
    assert [flags for _, flags, _, _ in found] == expected


@pytest.mark.parametrize("kind", [bytes, memoryview])
@pytest.mark.parametrize("size", [0, 1, 16384, 16385, 32768, 40000])
def test_content_goes_into_frames_that_every_peer_takes(size, kind):
    content = bytes(range(256)) * (size // 256 + 1)
    content = content[:size]
    found = cut(frames.data_frames(3, kind(content), frames.END_STREAM))

    assert b"".join(payload for _, _, _, payload in found) == content
    assert all(len(payload) <= 16384 for _, _, _, payload in found)
    assert [flags for _, flags, _, _ in found] == [0] * (len(found) - 1) + [frames.END_STREAM]


def test_6_5_2_of_settings_the_last_values_hold():
    assert frames.parse_settings(b"\0\4\0\0\0\1\x77\x77\0\0\0\1\0\4\0\0\0\2") == {4: 2, 0x7777: 1}
    assert frames.parse_settings(b"") == {}


def test_7541_4_2_of_the_sizes_of_the_table_the_smallest_counts():
    assert frames.parse_settings(b"\0\1\0\0\1\0\0\1\0\0\0\7\0\1\0\0\x10\0") == {1: 7}


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"\0\4\0\0\0", ErrorCode.FRAME_SIZE_ERROR),
        (b"\0\2\0\0\0\2", ErrorCode.PROTOCOL_ERROR),
        (b"\0\x08\0\0\0\2", ErrorCode.PROTOCOL_ERROR),
        (b"\0\x09\0\0\0\2", ErrorCode.PROTOCOL_ERROR),
        (b"\0\4\x80\0\0\0", ErrorCode.FLOW_CONTROL_ERROR),
        (b"\0\4\x80\0\0\0\0\4\0\0\0\0", ErrorCode.FLOW_CONTROL_ERROR),
        (b"\0\5\0\0\x3f\xff", ErrorCode.PROTOCOL_ERROR),
        (b"\0\5\x01\0\0\0", ErrorCode.PROTOCOL_ERROR),
    ],
)
def test_6_5_2_settings_out_of_their_range(payload, code):
    with pytest.raises(ConnectionFault) as error:
        frames.parse_settings(payload)

    assert error.value.code is code
    assert "RFC 9113 section 6.5" in error.value.reason
