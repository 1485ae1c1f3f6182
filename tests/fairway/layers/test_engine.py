"""The reference backplane against a model that is as simple as can be."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from fairway.layers.backplane import QueueFull
from fairway.layers.engine import EACH_QUEUE, OVERHEAD, Engine


class Taker:
    """A subscriber, or a reader."""

    def __init__(self) -> None:
        self.taken: list[tuple[object, ...]] = []

    def take(self, *what: object) -> None:
        self.taken.append(what)


def test_subscribers_get_what_is_published_until_they_leave() -> None:
    engine, one, two = Engine(), Taker(), Taker()
    assert engine.publish("s", b"0") == 0
    engine.subscribe(one, "s")
    engine.subscribe(two, "s")
    engine.subscribe(two, "s")
    assert engine.publish("s", b"1") == 2
    engine.unsubscribe(one, "s")
    engine.unsubscribe(one, "s")
    assert engine.publish("s", b"2") == 1
    engine.leave(two)
    assert engine.publish("s", b"3") == 0

    assert (one.taken, two.taken) == ([("s", b"1")], [("s", b"1"), ("s", b"2")])


def test_who_has_waited_longest_reads_first() -> None:
    engine, one, two = Engine(), Taker(), Taker()
    engine.pull("q", one, 0)
    engine.pull("q", two, 0)
    engine.push("q", b"1", 10, 60, 0)
    assert (one.taken, two.taken) == ([(b"1",)], [])
    engine.push("q", b"2", 10, 60, 0)
    assert two.taken == [(b"2",)]
    engine.push("q", b"3", 10, 60, 0)
    assert engine.length("q") == 1


def test_who_has_stopped_waiting_gets_nothing() -> None:
    engine, reader = Engine(), Taker()
    engine.pull("q", reader, 0)
    engine.stop_waiting("q", reader)
    engine.stop_waiting("q", reader)
    engine.push("q", b"1", 10, 60, 0)

    assert reader.taken == []
    assert engine.length("q") == 1


def test_what_is_pushed_back_comes_first_or_to_who_waits() -> None:
    engine, reader = Engine(), Taker()
    engine.push("q", b"2", 10, 60, 0)
    engine.push_back("q", b"1", 60)
    engine.pull("q", reader, 0)
    engine.pull("q", reader, 0)
    engine.pull("q", reader, 0)
    engine.push_back("q", b"3", 60)

    assert reader.taken == [(b"1",), (b"2",), (b"3",)]


class Queues(RuleBasedStateMachine):
    """A queue is a list of (expiry, data); nothing is read twice, and nothing that has expired."""

    CAPACITY = 3

    def __init__(self) -> None:
        super().__init__()
        self.engine = Engine()
        self.now = 0.0
        self.number = 0
        self.model: list[tuple[float, bytes]] = []
        self.waiting: list[Taker] = []

    @rule(expiry=st.sampled_from([2.0, 5.0]))
    def push(self, expiry: float) -> None:
        data = b"%d" % self.number
        self.number += 1
        if self.waiting:
            reader = self.waiting.pop(0)
            self.engine.push("q", data, self.CAPACITY, expiry, self.now)
            assert reader.taken == [(data,)]
            return
        self.expire()
        if len(self.model) == self.CAPACITY:
            with pytest.raises(QueueFull, match="the queue q holds 3 messages"):
                self.engine.push("q", data, self.CAPACITY, expiry, self.now)
            return
        self.engine.push("q", data, self.CAPACITY, expiry, self.now)
        self.model.append((self.now + expiry, data))

    @rule()
    def pull(self) -> None:
        reader = Taker()
        self.engine.pull("q", reader, self.now)
        self.expire()
        if self.model:
            assert reader.taken == [(self.model.pop(0)[1],)]
        else:
            self.waiting.append(reader)

    @rule()
    def stop_waiting(self) -> None:
        if self.waiting:
            self.engine.stop_waiting("q", self.waiting.pop())

    @rule(seconds=st.sampled_from([1.0, 3.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def flush(self) -> None:
        self.engine.flush()
        self.model.clear()

    def expire(self) -> None:
        while self.model and self.model[0][0] < self.now:
            self.model.pop(0)

    @invariant()
    def nobody_waits_beside_a_message(self) -> None:
        assert all(not reader.taken for reader in self.waiting)
        assert self.engine.length("q") >= len(self.model)


TestQueues = Queues.TestCase


def test_queues_follow_groups_until_they_expire_or_stop() -> None:
    engine = Engine()
    engine.follow("room", "work", 60, now=0)
    engine.follow("room", "log", 10, now=0)
    engine.follow("hall", "work", 60, now=0)
    assert engine.following(1) == [("room", "work", 59), ("room", "log", 9), ("hall", "work", 59)]
    assert engine.following(1, "hall") == [("hall", "work", 59)]
    assert engine.following(1, "attic") == []
    assert engine.following(10, "room") == [("room", "work", 50)], "it has expired, whether or not it was dropped"

    engine.unfollow("room", "work")
    engine.unfollow("room", "work")
    assert engine.following(1) == [("room", "log", 9), ("hall", "work", 59)]
    assert not engine.is_empty
    engine.expire(60)
    assert engine.is_empty, "nothing is kept of those that have expired"


def test_queues_count_for_what_they_take_themselves() -> None:
    # Whoever can make up names of channels would otherwise fill the memory with queues of one short message.
    engine = Engine(10 * (EACH_QUEUE + OVERHEAD + 1))
    for number in range(10):
        engine.push(f"queue {number}", b"x", 100, 60, 0.0)
    with pytest.raises(QueueFull):
        engine.push("another", b"x", 100, 60, 0.0)
    assert engine.length("another") == 0
    engine.pull("queue 0", Taker(), 0.0)
    engine.push("another", b"x", 100, 60, 0.0)
    engine.expire(61.0)
    assert engine.size == 0
