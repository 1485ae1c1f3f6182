"""A sweep by itself: recipients that only remember what they were given. (With outboxes and sockets: `test_fanout`.)"""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fairway.delivery import Payload
from fairway.server.output.recipients import Part
from fairway.server.output.sweep import BYTES_PER_WRITE, INDIRECT_COST, Sweep


class TextEncoder:
    def encode_text(self, text: str) -> bytes:
        return text.encode()

    def encode_bytes(self, data: bytes) -> bytes:
        return data


ENCODERS = (TextEncoder(), TextEncoder())


class RememberingOutbox:
    """Passes on at once what is put into it, so that it is never in use."""

    size = 0

    def __init__(self) -> None:
        self.got = b""

    def append(self, frame: bytes, is_broadcast: bool = False) -> None:
        assert is_broadcast
        self.got += frame

    def write_rest(self, data: bytes, sent: int) -> None:
        self.got += data[sent:]


class FakeRecipient:
    def __init__(self, index: int) -> None:
        self.outbox = RememberingOutbox()
        self.encoder = ENCODERS[index % 2]
        self.checks = 0

    def check_bound(self) -> None:
        self.checks += 1


class Halves:
    """A lane whose endpoints take half of what they are given."""

    def write(self, endpoints: list[Any], data: bytes) -> list[int]:
        for endpoint in endpoints:
            endpoint.got += data[: len(data) // 2]
        return [len(data) // 2] * len(endpoints)


class FakeRecipients:
    """Two parts, with an encoder each."""

    def __init__(self, count: int, border: int) -> None:
        lane = Halves()
        self.connections = [FakeRecipient(int(index >= border)) for index in range(count)]
        self.endpoints = [one.outbox for one in self.connections]
        self.indices = {one.outbox: index for index, one in enumerate(self.connections)}
        ends = [border, count] if 0 < border < count else [count]
        self.parts = [Part(end, self.connections[end - 1].encoder, lane) for end in ends]


def add(sweep: Any, text: str, left_out: set[int]) -> None:
    payload = Payload(text)
    for encoder in ENCODERS:
        payload.form(encoder)
    sweep.add(payload, 1, left_out)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.frozensets(st.integers(0, 9), max_size=3)),
        st.tuples(st.just("run"), st.integers(1, 12)),
        st.tuples(st.just("bring forward"), st.integers(0, 9)),
    ),
    max_size=30,
)


@given(STEPS, st.integers(0, 10))
def test_everybody_gets_each_broadcast_once_and_in_order(steps: list[Any], border: int) -> None:
    recipients: Any = FakeRecipients(10, border)
    sweep = Sweep(recipients, set(), ())
    expected = [""] * 10
    for number, (step, value) in enumerate(steps):
        if step == "add":
            add(sweep, f"<{number}>", set(value))
            expected = [text if index in value else f"{text}<{number}>" for index, text in enumerate(expected)]
        elif sweep.under_way and step == "run":
            assert 0 < sweep.run(value) <= 2 * value + INDIRECT_COST
        elif sweep.under_way:
            sweep.bring_forward(value)
            assert recipients.connections[value].outbox.got.decode() == expected[value]
    while sweep.under_way:
        sweep.run(3)
    assert [one.outbox.got.decode() for one in recipients.connections] == expected
    assert sweep.weight == 0


def test_visits_that_go_through_outboxes_count_more_than_others() -> None:
    recipients: Any = FakeRecipients(100, 0)
    indirect = {one.outbox for one in recipients.connections[10:]}
    sweep = Sweep(recipients, indirect, ())
    add(sweep, "hello", set())
    visits = 64 // INDIRECT_COST
    assert sweep.run(64) == 10 + visits * INDIRECT_COST
    assert sweep.at == 10 + visits
    while sweep.under_way:
        assert sweep.run(64) <= 2 * 64
    assert {one.outbox.got for one in recipients.connections} == {b"hello"}


def test_visits_that_write_much_count_more_than_others() -> None:
    recipients: Any = FakeRecipients(100, 0)
    sweep = Sweep(recipients, set(), ())
    add(sweep, "x" * (3 * BYTES_PER_WRITE), set())
    assert (sweep.run(64), sweep.at) == (64, 16)
    assert (sweep.run(2), sweep.at) == (4, 17), "one at least"
    while sweep.under_way:
        sweep.run(64)
    assert {len(one.outbox.got) for one in recipients.connections} == {3 * BYTES_PER_WRITE}


def test_one_write_brings_everything_that_has_joined_since_the_last_visit() -> None:
    recipients: Any = FakeRecipients(4, 0)
    sweep = Sweep(recipients, set(), ())
    add(sweep, "one ", set())
    assert sweep.run(2) == 2
    add(sweep, "two ", set())
    assert [one.outbox.got for one in recipients.connections] == [b"one ", b"one ", b"", b""]
    assert sweep.run(4) == 2  # up to where the first has been all the way round
    assert [one.outbox.got for one in recipients.connections] == [b"one ", b"one ", b"one two ", b"one two "]
    assert (sweep.at, len(sweep.under_way)) == (0, 1)
    assert sweep.run(4) == 2
    assert not sweep.under_way
    assert [one.outbox.got for one in recipients.connections] == [b"one two "] * 4


def test_the_bound_is_checked_once_all_that_was_brought_forward_is_there() -> None:
    recipients: Any = FakeRecipients(3, 0)
    sweep = Sweep(recipients, set(), ())
    for text in ("one ", "two "):
        add(sweep, text, set())
    for _ in range(2):
        sweep.bring_forward(2)
    assert (recipients.connections[2].outbox.got, recipients.connections[2].checks) == (b"one two ", 1)
