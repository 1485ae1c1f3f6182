"""A channel's two ends, in one process."""

from __future__ import annotations

import os
import socket

import pytest

from fairway.server.workers.messages import Channel, ChannelBroken, channel_pair


@pytest.fixture
def ends():
    ours, theirs = channel_pair()
    other = Channel(theirs)
    yield ours, other
    ours.close()
    other.close()


def test_messages_arrive_in_order(ends: tuple[Channel, Channel]):
    ours, other = ends
    assert ours.send("one", number=1)
    assert ours.send("two")
    first, second = other.receive() or []
    assert (first["kind"], first["number"], second["kind"]) == ("one", 1, "two")


def test_a_descriptor_comes_with_its_message(ends: tuple[Channel, Channel]):
    ours, other = ends
    reading, writing = os.pipe()
    ours.send("without")
    ours.send("with", [writing])
    os.close(writing)
    messages = []
    while len(messages) < 2:
        messages += other.receive() or []
    assert messages[0]["descriptors"] == []
    (received,) = messages[1]["descriptors"]
    os.write(received, b"x")
    os.close(received)
    assert os.read(reading, 10) == b"x"
    os.close(reading)


def test_a_message_in_pieces_is_one(ends: tuple[Channel, Channel]):
    ours, other = ends
    line = b'{"kind": "ready", "with": 0}\n'
    for index in range(len(line) - 1):
        ours.socket.send(line[index : index + 1])
        assert other.receive() == []
    ours.socket.send(line[-1:])
    assert [message["kind"] for message in other.receive() or []] == ["ready"]


def test_the_end_is_told(ends: tuple[Channel, Channel]):
    ours, other = ends
    ours.close()
    assert other.receive() is None
    assert not other.send("anything")


def test_nothing_to_read_is_not_the_end(ends: tuple[Channel, Channel]):
    _, other = ends
    other.socket.setblocking(False)
    assert other.receive() == []


@pytest.mark.parametrize("line", [b"no json\n", b"[1]\n", b'{"kind": "x"}\n', b'{"with": 0}\n'])
def test_what_is_no_message_is_said(ends: tuple[Channel, Channel], line: bytes):
    ours, other = ends
    ours.socket.send(line)
    with pytest.raises(ChannelBroken, match="not a message: "):
        other.receive()


def test_a_line_without_an_end_is_not_kept_for_ever(ends: tuple[Channel, Channel]):
    ours, other = ends
    ours.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    ours.socket.setblocking(False)
    for _ in range(2):
        ours.socket.send(b"x" * 30_000)
        assert other.receive() == []
    ours.socket.send(b"x" * 30_000)
    with pytest.raises(ChannelBroken, match="a line of more than 65536 bytes"):
        other.receive()
