"""Frames between processes and their broker."""

from __future__ import annotations

import contextlib
import itertools
import struct
import tracemalloc
from typing import TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairway.layers.local import protocol
from fairway.layers.local.fields import ProtocolError
from fairway.layers.local.protocol import Answer, Ask, Decoder, Role

Frame: TypeAlias = tuple[Ask, str, bytes]

NAMES = st.text("ABCabc019._!-", max_size=120)
FRAMES = st.lists(st.tuples(st.sampled_from(list(Ask)), NAMES, st.binary(max_size=60)), max_size=8)


def written(frames: list[Frame]) -> bytes:
    return b"".join(protocol.frame(*frame) for frame in frames)


@given(FRAMES, st.lists(st.integers(0, 600)))
def test_frames_are_read_however_they_are_cut(frames: list[Frame], cuts: list[int]) -> None:
    data = written(frames)
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    decoder = Decoder(Ask)

    read = [frame for begin, end in itertools.pairwise(places) for frame in decoder.feed(data[begin:end])]

    assert read == frames


def test_frames_are_read_byte_by_byte() -> None:
    frames: list[Frame] = [(Ask.PING, "", b""), (Ask.MESSAGE, "g.room", b"hello"), (Ask.LEAVE, "x" * 255, b"\0")]
    decoder = Decoder(Ask)

    assert [frame for byte in written(frames) for frame in decoder.feed(bytes([byte]))] == frames


def test_a_frame_follows_its_predecessor_in_one_read() -> None:
    decoder = Decoder(Ask)
    data = protocol.post("g.a", b"one") + protocol.post("g.b", b"two")

    assert decoder.feed(data[:-1]) == [(Ask.MESSAGE, "g.a", b"one")]
    assert decoder.feed(data[-1:]) == [(Ask.MESSAGE, "g.b", b"two")]


def test_the_largest_frame_is_read_in_pieces() -> None:
    data = protocol.frame(Ask.MESSAGE, "x" * 255, b"x" * protocol.MAX_BODY)
    decoder = Decoder(Ask)

    read = [frame for at in range(0, len(data), 65536) for frame in decoder.feed(data[at : at + 65536])]

    assert [(op, name, len(body)) for op, name, body in read] == [(Ask.MESSAGE, "x" * 255, protocol.MAX_BODY)]


@given(st.binary(max_size=200))
def test_nonsense_is_refused_or_waited_for_but_never_believed(data: bytes) -> None:
    decoder = Decoder(Ask)
    try:
        frames = decoder.feed(data)
    except ProtocolError:
        with pytest.raises(ProtocolError):
            decoder.feed(b"")
    else:
        assert data.startswith(written(frames))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "a frame of 1195725856 bytes"),
        (struct.pack("!IBB", 1, 2, 0), "a frame of 1 bytes"),
        (struct.pack("!IBB", 5, 2, 4), "a frame of 5 bytes"),
        (struct.pack("!IBB", 2, 200, 0), "an unknown operation, 200"),
        (struct.pack("!IBB", 4, 2, 2) + b"\xff\xff", "a name that is not ASCII"),
        (struct.pack("!IBB", protocol.MAX_BODY + 258, 2, 0), "a frame of"),
    ],
)
def test_it_says_what_is_wrong(data: bytes, said: str) -> None:
    with pytest.raises(ProtocolError, match=f"^{said}"):
        Decoder(Ask).feed(data)


def test_each_side_has_its_own_operations() -> None:
    with pytest.raises(ProtocolError, match=f"^an unknown operation, {Answer.DONE:d}$"):
        Decoder(Ask).feed(protocol.done())
    with pytest.raises(ProtocolError, match=f"^an unknown operation, {Ask.HELLO:d}$"):
        Decoder(Answer).feed(protocol.hello("fairway"))
    assert Decoder(Answer).feed(protocol.post("g.room", b"")) == [(Answer.MESSAGE, "g.room", b"")]


def test_what_is_too_large_is_not_made() -> None:
    with pytest.raises(ValueError, match="a name has at most 255 bytes, a body 17825792"):
        protocol.frame(Ask.MESSAGE, "x" * 256)
    with pytest.raises(ValueError, match="a name has at most 255 bytes"):
        protocol.frame(Ask.MESSAGE, "x", b"x" * (protocol.MAX_BODY + 1))


def body(data: bytes) -> bytes:
    """That of the only frame, whoever says it."""
    decoder: Decoder[Ask] | Decoder[Answer] = Decoder(Ask) if data[4] < Answer.WELCOME else Decoder(Answer)
    ((_, _, found),) = decoder.feed(data)
    return found


def test_bodies_are_read_as_they_were_made() -> None:
    assert protocol.read_hello(body(protocol.hello("fäirway", 7, Role.SUCCESSOR))) == (7, Role.SUCCESSOR, "fäirway")
    assert protocol.read_welcome(body(protocol.welcome(3, 4711))) == (3, 4711)
    assert protocol.read_refused(body(protocol.refused("no"))) == "no"
    assert protocol.number(body(protocol.done(5))) == 5
    assert protocol.read_posted(body(protocol.posted(1000, 3))) == (1000, 3)
    assert protocol.read_push(body(protocol.push("work", b"data", 10, 2.5))) == (10, 2.5, b"data")
    assert protocol.read_follow(body(protocol.follow("room", "work", 60.0))) == (60.0, "work")
    rows = [("room", "work", 60.0), ("hall", "log", 0.5)]
    assert protocol.read_followers(body(protocol.followers(rows))) == rows


def test_names_go_into_as_many_frames_as_it_takes() -> None:
    subjects = [f"g.{number}" for number in range(2500)]

    frames = Decoder(Ask).feed(b"".join(protocol.names(Ask.SUBSCRIBE, subjects)))

    assert [op for op, _, _ in frames] == [Ask.SUBSCRIBE] * 3
    assert [name for _, _, body in frames for name in protocol.read_names(body)] == subjects


def test_more_names_than_a_frame_may_have_are_not_read() -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError, match="more than 1000 names"):
            protocol.read_names(bytes(1_000_000))  # a million empty ones
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


READERS = [
    protocol.read_hello,
    protocol.read_welcome,
    protocol.number,
    protocol.read_posted,
    protocol.read_names,
    protocol.read_push,
    protocol.read_follow,
    protocol.read_followers,
    protocol.read_refused,
]


@given(st.sampled_from(READERS), st.binary(max_size=64))
def test_a_body_that_makes_no_sense_is_a_protocol_error_and_nothing_else(reader: object, body: bytes) -> None:
    assert callable(reader)
    with contextlib.suppress(ProtocolError):
        assert reader(body) is not None


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1.0])
def test_a_time_that_makes_no_sense_is_refused(seconds: float) -> None:
    with pytest.raises(ProtocolError, match=r"^a time of"):
        protocol.read_push(body(protocol.push("work", b"", 10, seconds)))


POSTS = st.lists(st.tuples(st.sampled_from(["g.a", "g.ab", "g.b"]), st.binary(max_size=9), st.booleans()), max_size=9)


@given(POSTS, st.lists(st.integers(0, 300)))
def test_messages_for_one_subject_are_gathered_as_they_came(
    posts: list[tuple[str, bytes, bool]], cuts: list[int]
) -> None:
    """The rest of the frames, those of another operation, are read as ever."""
    frames: list[Frame] = [(Ask.MESSAGE if posts else Ask.PUBLISH, name, data) for name, data, posts in posts]
    data = written(frames)
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    decoder = Decoder(Ask)

    found: list[Frame] = []
    for begin, end in itertools.pairwise(places):
        for op, name, body, count in decoder.feed_gathering(data[begin:end]):
            gathered = Decoder(Ask).feed(body) if op is Ask.MESSAGE else [(op, name, body)]
            assert [frame[:2] for frame in gathered] == [(op, name)] * count
            found += gathered

    assert found == frames


def test_what_is_gathered_is_passed_on_without_a_copy() -> None:
    data = protocol.post("g.a", b"one") + protocol.post("g.a", b"three")
    ((op, name, body, count),) = Decoder(Ask).feed_gathering(data)

    assert (op, name, count) == (Ask.MESSAGE, "g.a", 2)
    assert body is data


def test_a_run_ends_at_a_frame_that_is_none() -> None:
    good = protocol.post("g.a", b"one")
    for length in (1, 2**32 - 1):
        with pytest.raises(ProtocolError, match=f"^a frame of {length} bytes$"):
            Decoder(Ask).feed_gathering(good + struct.pack("!I", length) + good[4:])
