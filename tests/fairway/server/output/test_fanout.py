"""One message for many sockets: what they share, what they do not, and in which order it is written."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import suppress
from types import SimpleNamespace
from typing import cast
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fairway.server.output.frames import frames_of

from fairway.asgi.reporter import Host
from fairway.asgi.websocket import Phase, WebSocketExchange
from fairway.delivery import NEXT_PASS, Connection, Inbox, Payload, SlowPolicy
from fairway.protocols.websocket.frames import PLAIN
from fairway.server.output import batch as batches
from fairway.server.output import fanout as fanouts
from fairway.server.output.batch import Batch
from fairway.server.output.fanout import FEW, LEFT_OUT_BYTES, MESSAGE_BYTES, UNDER_WAY_BYTES, Fanout
from fairway.server.output.outbox import Outbox
from fairway.server.output.recipients import Recipients
from fairway.server.output.sweep import BYTES_PER_WRITE, Sweep


class Encoder:
    """Another way to put a message on the wire."""

    def encode_text(self, text: str) -> bytes:
        return b"<" + text.encode() + b">"

    def encode_bytes(self, data: bytes) -> bytes:
        return b"<" + data + b">"

    begin_text, begin_bytes = encode_text, encode_bytes


class Transport(asyncio.Transport):
    """Keeps what its socket does not take, and says so."""

    def __init__(self, endpoint: socket.socket) -> None:
        super().__init__()
        self.endpoint = endpoint
        self.kept = b""
        self.outbox: Outbox
        self.written: list[bytes] = []

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return len(self.kept)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.kept, "it was asked not to write more"
        self.written.append(bytes(data))
        self.kept = bytes(data)
        self.pump()
        if self.kept:
            self.outbox.pause_writing()

    def pump(self) -> None:
        with suppress(OSError):
            while self.kept:
                self.kept = self.kept[self.endpoint.send(self.kept) :]


class Socket(WebSocketExchange):
    """As much of a connection as sends, on a real socket; its consumer waits."""

    __slots__ = ("dropped", "endpoint", "host", "peer", "taken", "transport")

    def __init__(self, batch: Batch, full: bool = False, bound: int = 1 << 20, parked: bool = True) -> None:
        loop = asyncio.get_running_loop()
        self.host = cast(Host, SimpleNamespace(counters=SimpleNamespace(dropped_frames=0)))
        self.phase = Phase.OPEN
        self.is_open = True
        self.encoder = PLAIN
        self.inbox = Inbox(loop)
        self.endpoint, self.peer = socket.socketpair()
        self.endpoint.setblocking(False)
        self.peer.setblocking(False)
        self.endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)  # the kernel's least, some kilobytes
        self.taken: list[bytes] = []
        self.transport = Transport(self.endpoint)
        self.outbox = Outbox(self.transport, batch, min(bound, 65536), bound, self.endpoint)
        self.transport.outbox = self.outbox
        self.dropped = False
        if parked:
            self.inbox.wait()
        if full:
            self.fill()

    def fill(self) -> None:
        """Have the kernel take nothing more."""
        with suppress(BlockingIOError):
            while True:
                self.endpoint.send(bytes(1))

    def take(self, size: int) -> None:
        """The peer reads up to so many bytes."""
        with suppress(BlockingIOError):
            if data := self.peer.recv(size):
                self.taken.append(data)
        if self.transport.kept:
            self.transport.pump()
            if not self.transport.kept:
                self.outbox.resume_writing()

    def take_all(self) -> None:
        before = -1
        while before != len(self.taken):
            before = len(self.taken)
            self.take(1 << 20)

    @property
    def got(self) -> bytes:
        self.take_all()
        return b"".join(self.taken).lstrip(b"\0")

    def busy(self) -> None:
        """The consumer has something to do."""
        self.inbox.put_client("something")

    def park(self) -> None:
        while self.inbox.take_nowait():
            pass
        if self.inbox._waiter is None:
            self.inbox.wait()

    def begin_closing(self) -> None:
        """The application has closed."""
        self.phase = Phase.CLOSING
        self.is_open = False
        self.outbox.write_through_transport()
        self.outbox.append(CLOSE)

    def lost(self) -> int:
        """The connection has ended; how many frames were dropped."""
        self.is_open = False
        dropped = self.outbox.lost()
        self.endpoint.close()
        return dropped

    def _drop_slow_consumer(self) -> None:
        self.dropped = True
        self.host.counters.dropped_frames += self.lost()


CLOSE = b"close!"


@pytest.fixture(autouse=True)
def no_socket_left() -> Iterator[None]:
    """Sockets are garbage after their test: close them without a warning."""
    made: list[socket.socket] = []
    original = socket.socketpair

    def remembering() -> tuple[socket.socket, socket.socket]:
        pair = original()
        made.extend(pair)
        return pair

    with mock.patch.object(socket, "socketpair", remembering):
        yield
    for one in made:
        one.close()


@pytest.fixture
async def batch() -> Batch:
    return Batch(asyncio.get_running_loop())


@pytest.fixture
def few_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sweeps for few recipients, too."""
    monkeypatch.setattr(fanouts, "FEW", 1)


def broadcast(fanout: Fanout, recipients: Recipients, *texts: str) -> None:
    for text in texts:
        assert fanout.broadcast(recipients, Payload(text)) == []


def made(text: str, recipients: Recipients) -> Payload:
    """A payload with its forms for all recipients."""
    payload = Payload(text)
    for _, encoder, _ in recipients.parts:
        payload.form(encoder)
    return payload


def frames(*texts: str) -> bytes:
    return b"".join(map(PLAIN.encode_text, texts))


async def until_written(batch: Batch) -> None:
    while batch.fanout.is_busy:
        await NEXT_PASS


async def test_a_message_is_written_in_parts(batch: Batch) -> None:
    sockets = [Socket(batch) for _ in range(300)]
    recipients = batch.fanout.recipients_of(sockets)
    for text in "ab":
        broadcast(batch.fanout, recipients, text)
        written = []
        while batch.fanout.is_busy:
            await NEXT_PASS
            written.append(sum(one.got.endswith(frames(text)) for one in sockets))
        assert written == [16, 48, 112, 240, 300]
    assert (batch.fanout.written, batch.written) == (300 * len(frames("a", "b")), 0)


async def test_nothing_is_made_for_a_member(batch: Batch) -> None:
    recipients = batch.fanout.recipients_of(sockets := [Socket(batch) for _ in range(FEW)])
    broadcast(batch.fanout, recipients, "a", "b")
    assert [one.outbox.frames for one in sockets] == [None] * FEW
    assert not any(one.transport.written for one in sockets)
    await until_written(batch)
    assert {one.got for one in sockets} == {frames("a", "b")}
    assert (batch.fanout.sweep, batch.fanout.indirect) == (None, set())


async def test_what_joins_on_the_way_leaves_there_again(batch: Batch) -> None:
    sockets = [Socket(batch) for _ in range(100)]
    recipients = batch.fanout.recipients_of(sockets)
    for text in "abc":
        broadcast(batch.fanout, recipients, text)
        await NEXT_PASS
        for one in sockets:
            one.take_all()
    while batch.fanout.is_busy:
        await NEXT_PASS
        for one in sockets:
            one.take_all()
    assert [one.taken for one in sockets] == [
        *[[frames("a"), frames("b", "c")]] * 16,
        *[[frames("a", "b"), frames("c")]] * 32,
        *[[frames("a", "b", "c")]] * 52,
    ]


async def test_a_sweep_visits_as_many_as_it_is_told_to_and_stops_where_a_message_leaves(batch: Batch) -> None:
    sockets = [Socket(batch) for _ in range(10)]
    sockets[8].encoder = sockets[9].encoder = Encoder()
    recipients = batch.fanout.recipients_of(sockets)
    sweep = Sweep(recipients, batch.fanout.indirect, batch.fanout.outboxes)
    sweep.add(made("a", recipients), 3, set())
    assert (sweep.run(3), sweep.at, sweep.weight) == (3, 3, 3)
    sweep.add(made("bb", recipients), 4, set())
    assert (sweep.run(100), sweep.at, sweep.weight) == (5, 8, 7), "the others have another encoder"
    assert (sweep.run(1), sweep.at, sweep.weight) == (1, 9, 7)
    assert (sweep.run(100), sweep.at, sweep.weight) == (1, 0, 4), "the first message has been all round"
    assert (sweep.run(2), sweep.at, sweep.weight) == (2, 2, 4)
    assert (sweep.run(100), sweep.at, sweep.weight) == (1, 3, 0), "the second has been as well"
    assert not sweep.under_way
    assert [one.got for one in sockets] == [frames("a", "bb")] * 8 + [b"<a><bb>"] * 2


async def test_for_a_few_a_message_goes_by_the_outboxes(batch: Batch) -> None:
    recipients = batch.fanout.recipients_of(sockets := [Socket(batch) for _ in range(FEW - 1)])
    broadcast(batch.fanout, recipients, "a", "b")
    assert batch.fanout.sweep is None
    assert [one.outbox.size for one in sockets] == [len(frames("a", "b"))] * (FEW - 1)
    await until_written(batch)
    assert {one.got for one in sockets} == {frames("a", "b")}
    assert batch.fanout.indirect == set()


async def test_a_sweep_passes_by_an_outbox_with_something_in_it(batch: Batch) -> None:
    sockets = [Socket(batch) for _ in range(FEW + 1)]
    strangers = [Socket(batch) for _ in range(100)]
    recipients, most = batch.fanout.recipients_of(sockets), batch.fanout.recipients_of(sockets[:-1])
    broadcast(batch.fanout, recipients, "a")
    batch.fanout.write(FEW)
    broadcast(batch.fanout, batch.fanout.recipients_of(strangers), "stranger")
    broadcast(batch.fanout, most, "b")
    broadcast(batch.fanout, recipients, "c")
    batch.fanout.write(8)  # six strangers, the last index, the first one
    assert sockets[0].got == frames("a")
    assert sockets[-1].got == frames("a", "c")
    await until_written(batch)
    assert {one.got for one in sockets[:-1]} == {frames("a", "b", "c")}


async def test_a_sweep_goes_on_beside_outboxes_that_are_always_full(batch: Batch) -> None:
    swept = [Socket(batch) for _ in range(FEW)]
    others = [Socket(batch) for _ in range(100)]
    broadcast(batch.fanout, batch.fanout.recipients_of(swept), "a")
    for _ in range(FEW):
        for one in others:
            one.broadcast(Payload("b"))
        batch.fanout.write(4)
    assert {one.got for one in swept} == {frames("a")}
    await until_written(batch)


class Waiting:
    """An outbox with so much in it."""

    def __init__(self, size: int) -> None:
        self.size = size

    def flush(self) -> None:
        self.size = 0


async def test_outboxes_with_much_in_them_count_more_than_others(batch: Batch) -> None:
    outboxes = [Waiting(size) for size in (3 * BYTES_PER_WRITE, 10, 2 * BYTES_PER_WRITE, 10, 10)]
    for outbox in outboxes:
        batch.fanout.add(outbox)
    written = []
    while batch.fanout.is_busy:
        batch.fanout.write(6)
        written.append(sum(not outbox.size for outbox in outboxes))
    assert written == [3, 5]


async def test_other_recipients_wait_for_nothing_and_keep_the_order(batch: Batch) -> None:
    sockets = [Socket(batch) for _ in range(2 * FEW)]
    first, second = batch.fanout.recipients_of(sockets[: FEW + 8]), batch.fanout.recipients_of(sockets[FEW - 8 :])
    broadcast(batch.fanout, first, "a")
    broadcast(batch.fanout, second, "b")
    broadcast(batch.fanout, first, "c")
    await NEXT_PASS
    broadcast(batch.fanout, second, "d")
    await until_written(batch)
    assert [one.got for one in sockets] == [
        *[frames("a", "c")] * (FEW - 8),
        *[frames("a", "b", "c", "d")] * 16,
        *[frames("b", "d")] * (FEW - 8),
    ]
    assert (batch.fanout.sweep, batch.fanout.indirect) == (None, set())


@pytest.mark.usefixtures("few_are_enough")
class TestSweep:
    async def test_those_that_are_closing_or_busy_are_returned(self, batch: Batch) -> None:
        ready, busy, closing = Socket(batch), Socket(batch, parked=False), Socket(batch)
        closing.begin_closing()
        recipients = batch.fanout.recipients_of([closing, ready, busy])
        assert sorted(batch.fanout.broadcast(recipients, Payload("a"))) == [0, 2]
        await until_written(batch)
        assert [one.got for one in (ready, busy, closing)] == [frames("a"), b"", CLOSE]

    async def test_an_event_that_was_just_handed_over_makes_a_consumer_busy(self, batch: Batch) -> None:
        one = Socket(batch)
        one.inbox.put_layer({"type": "earlier"}, 10)
        assert batch.fanout.broadcast(batch.fanout.recipients_of([one]), Payload("later")) == [0]

    async def test_a_consumer_that_has_seen_its_disconnect_is_not_ready(self, batch: Batch) -> None:
        one = Socket(batch)
        one.inbox.put_disconnect({"type": "websocket.disconnect"})
        one.park()
        assert batch.fanout.broadcast(batch.fanout.recipients_of([one]), Payload("later")) == [0]

    async def test_the_excluded_get_nothing_and_are_not_returned(self, batch: Batch) -> None:
        sockets = [Socket(batch), Socket(batch, parked=False), Socket(batch)]
        recipients = batch.fanout.recipients_of(sockets)
        assert batch.fanout.broadcast(recipients, Payload("a"), {1, 2}) == []
        broadcast_to_all = batch.fanout.broadcast(recipients, Payload("b"))
        assert broadcast_to_all == [1]
        await until_written(batch)
        assert [one.got for one in sockets] == [frames("a", "b"), b"", frames("b")]

    async def test_what_a_socket_sends_itself_keeps_its_place(self, batch: Batch) -> None:
        sockets = [Socket(batch) for _ in range(3)]
        recipients = batch.fanout.recipients_of(sockets)
        sockets[1].send_text("first")
        broadcast(batch.fanout, recipients, "a")
        sockets[1].send_text("own")
        broadcast(batch.fanout, recipients, "b")
        await until_written(batch)
        assert sockets[1].got == frames("first", "a", "own", "b")
        assert sockets[0].got == sockets[2].got == frames("a", "b")

    async def test_a_close_comes_after_what_was_sent_before(self, batch: Batch) -> None:
        recipients = batch.fanout.recipients_of(sockets := [Socket(batch) for _ in range(3)])
        broadcast(batch.fanout, recipients, "a")
        sockets[1].begin_closing()
        assert batch.fanout.broadcast(recipients, Payload("b")) == [1]
        await until_written(batch)
        assert [one.got for one in sockets] == [frames("a", "b"), frames("a") + CLOSE, frames("a", "b")]
        assert batch.fanout.indirect == {sockets[1].outbox}
        sockets[1].lost()
        assert batch.fanout.indirect == set()

    async def test_each_encoder_has_its_own_form(self, batch: Batch) -> None:
        sockets = [Socket(batch) for _ in range(4)]
        sockets[1].encoder = sockets[3].encoder = Encoder()
        recipients = batch.fanout.recipients_of(sockets)
        assert [part.end for part in recipients.parts] == [1, 2, 3, 4]
        broadcast(batch.fanout, recipients, "a", "b")
        await until_written(batch)
        assert [one.got for one in sockets] == [frames("a", "b"), b"<a><b>"] * 2

    async def test_an_encoder_that_fails_holds_up_nobody_else(self, batch: Batch) -> None:
        class Failing(Encoder):
            def encode_text(self, text: str) -> bytes:
                raise ArithmeticError("on purpose")

        sound, other = Socket(batch), Socket(batch)
        other.encoder = Failing()
        broadcast(batch.fanout, batch.fanout.recipients_of([sound]), "before")
        with pytest.raises(ArithmeticError, match=r"^on purpose$"):
            batch.fanout.broadcast(batch.fanout.recipients_of([sound, other]), Payload("a"))
        broadcast(batch.fanout, batch.fanout.recipients_of([sound]), "after")
        await until_written(batch)
        assert (sound.got, other.got) == (frames("before", "after"), b"")

    async def test_no_more_is_under_way_than_is_given_to_a_socket_at_once(self, batch: Batch) -> None:
        sockets = [Socket(batch) for _ in range(2)]
        recipients = batch.fanout.recipients_of(sockets)
        half = UNDER_WAY_BYTES // 2 - MESSAGE_BYTES - 4
        texts = ["x" * half, "y" * half, "z", "u" * (UNDER_WAY_BYTES + 1)]
        broadcast(batch.fanout, recipients, *texts[:2])
        assert batch.fanout.sweep is not None
        assert batch.fanout.sweep.weight == UNDER_WAY_BYTES
        broadcast(batch.fanout, recipients, *texts[2:])
        assert batch.fanout.sweep.weight == UNDER_WAY_BYTES
        await until_written(batch)
        for _ in range(100):
            for one in sockets:
                one.take_all()
        assert [one.got for one in sockets] == [frames(*texts)] * 2

    async def test_what_is_kept_for_those_left_out_is_bounded(self, batch: Batch) -> None:
        sockets = [Socket(batch) for _ in range(100)]
        for one in sockets[:50]:
            one.busy()
        recipients = batch.fanout.recipients_of(sockets)
        texts = [str(number) for number in range(200)]
        for text in texts:
            assert batch.fanout.broadcast(recipients, Payload(text)) == list(range(50))
        assert batch.fanout.sweep is not None
        assert sum(len(one.left_out) for one in batch.fanout.sweep.under_way) <= UNDER_WAY_BYTES / LEFT_OUT_BYTES
        for one in sockets[50:]:
            one.send_text("own")
        assert len(batch.fanout.sweep._brought_forward) <= 50
        await until_written(batch)
        assert {one.got for one in sockets[50:]} == {frames(*texts, "own")}

    async def test_what_a_socket_does_not_take_goes_to_its_transport(self, batch: Batch) -> None:
        sockets = [Socket(batch), Socket(batch, full=True), Socket(batch)]
        recipients = batch.fanout.recipients_of(sockets)
        broadcast(batch.fanout, recipients, "x" * 20000)
        await until_written(batch)
        assert [one.outbox.blocked for one in sockets] == [True] * 3, "so much is taken in part"
        assert 0 < len(sockets[0].transport.kept) < 20000
        assert sockets[1].transport.kept == frames("x" * 20000)
        broadcast(batch.fanout, recipients, "more", "and more")
        await until_written(batch)
        assert [one.outbox.size for one in sockets] == [len(frames("more", "and more"))] * 3
        assert {one.got for one in sockets} == {frames("x" * 20000, "more", "and more")}
        await until_written(batch)
        assert batch.fanout.indirect == set()

    async def test_a_socket_that_was_closed_is_left_alone(self, batch: Batch) -> None:
        sockets = [Socket(batch) for _ in range(3)]
        recipients = batch.fanout.recipients_of(sockets)
        broadcast(batch.fanout, recipients, "a")
        assert sockets[1].lost() == 1, "what was still to come is counted"
        await until_written(batch)
        broadcast(batch.fanout, recipients, "b")
        await until_written(batch)
        assert [one.got for one in sockets] == [frames("a", "b"), b"", frames("a", "b")]
        assert sockets[1].transport.written == []

    async def test_a_broken_socket_is_its_transports_business(self, batch: Batch) -> None:
        broken, sound = Socket(batch), Socket(batch)
        broken.peer.close()
        broadcast(batch.fanout, batch.fanout.recipients_of([broken, sound]), "a")
        await until_written(batch)
        assert (broken.transport.written, sound.got) == ([frames("a")], frames("a"))

    async def test_a_client_that_takes_nothing_is_dropped_at_the_bound(self, batch: Batch) -> None:
        stuck, sound = Socket(batch, full=True, bound=100), Socket(batch, bound=100)
        recipients = batch.fanout.recipients_of([stuck, sound])
        sent = 0
        while not stuck.dropped:
            assert sent * len(frames("x" * 10)) <= 200
            batch.fanout.broadcast(recipients, Payload("x" * 10))
            sent += 1
            await until_written(batch)
        assert stuck.outbox.size == 0
        assert sound.got == frames("x" * 10) * sent

    async def test_everything_under_way_for_a_client_that_is_dropped_is_counted(self, batch: Batch) -> None:
        stuck, sound = Socket(batch, bound=20), Socket(batch)
        stuck.fill()
        recipients = batch.fanout.recipients_of([stuck, sound])
        broadcast(batch.fanout, recipients, "x" * 8)  # of this the transport keeps the rest
        await until_written(batch)
        broadcast(batch.fanout, recipients, *["y" * 8] * 5)
        await until_written(batch)
        assert (stuck.dropped, stuck.host.counters.dropped_frames, frames_of(stuck.outbox)) == (True, 5, [])
        assert sound.got == frames("x" * 8, *["y" * 8] * 5)

    @pytest.mark.parametrize("policy", [SlowPolicy.DROP_OLDEST, SlowPolicy.KEEP_LATEST])
    async def test_what_may_be_dropped_lies_in_the_outboxes(self, batch: Batch, policy: SlowPolicy) -> None:
        sockets = [Socket(batch), Socket(batch)]
        recipients = batch.fanout.recipients_of(sockets)
        broadcast(batch.fanout, recipients, "a")
        assert batch.fanout.broadcast(recipients, Payload("b", policy=policy)) == []
        assert [len(frames_of(one.outbox)) for one in sockets] == [2, 2]
        broadcast(batch.fanout, recipients, "c")
        await until_written(batch)
        assert [one.got for one in sockets] == [frames("a", "b", "c")] * 2

    async def test_where_most_have_something_to_do_there_is_no_sweep(self, batch: Batch) -> None:
        sockets = [Socket(batch, parked=number < 2) for number in range(2 * FEW)]
        recipients = batch.fanout.recipients_of(sockets)
        assert batch.fanout.broadcast(recipients, Payload("a")) == list(range(2, 2 * FEW))
        await until_written(batch)
        assert [one.got for one in sockets] == [frames("a")] * 2 + [b""] * (2 * FEW - 2)


PASS = st.tuples(st.just("pass"), st.just(0), st.just(0))
STEPS = st.one_of(
    # Often, so that messages meet in a sweep.
    *[st.tuples(st.just("broadcast"), st.sampled_from((0, 0, 1, 2)), st.sampled_from((0, 0, 3000)))] * 6,
    *[PASS] * 6,
    st.tuples(st.just("broadcast but to some"), st.integers(0, 2), st.sets(st.integers(0, 4))),
    *[st.tuples(st.just(name), st.integers(0, 4), st.integers(1, 9000)) for name in ("own", "take")],
    *[st.tuples(st.just(name), st.integers(0, 4), st.just(0)) for name in ("busy", "park", "closing", "lost")],
)


class Scene:
    """Five sockets, sent to in three groups, and what each socket is to get."""

    def __init__(self) -> None:
        self.batch = batch = Batch(asyncio.get_running_loop())
        self.sockets = [Socket(batch, bound=1 << 22) for _ in range(5)]
        self.sockets[3].encoder = self.sockets[4].encoder = Encoder()
        self.groups = [batch.fanout.recipients_of(self.sockets[begin:end]) for begin, end in ((0, 5), (0, 4), (2, 5))]
        self.expected = [b""] * 5

    def broadcast(self, which: int, text: str, without: set[int]) -> None:
        recipients = self.groups[which]
        connections = cast("list[Socket]", recipients.connections)
        wanted = [index for index in range(len(connections)) if index not in without]
        ready = {index for index in wanted if connections[index].is_open and connections[index].inbox.parked}
        others = self.batch.fanout.broadcast(recipients, Payload(text), without)
        assert sorted(others) == [index for index in wanted if index not in ready]
        for index in ready:
            self.expect(connections[index], connections[index].encoder.encode_text(text))

    def expect(self, one: Socket, frame: bytes) -> None:
        self.expected[self.sockets.index(one)] += frame

    def own(self, one: Socket, text: str) -> None:
        if one.is_open:
            one.send_text(text)
            self.expect(one, one.encoder.encode_text(text))

    def closing(self, one: Socket) -> None:
        if one.is_open:
            one.begin_closing()
            self.expect(one, CLOSE)

    def lost(self, one: Socket) -> None:
        if one.outbox.transport is not None:
            one.inbox.put_disconnect({"type": "websocket.disconnect"})
            one.lost()

    def step(self, kind: str, which: int, detail: object, text: str) -> None:
        one = self.sockets[which]
        if kind == "broadcast":
            self.broadcast(which, text + "x" * cast(int, detail), set())
        elif kind == "broadcast but to some":
            self.broadcast(which, text, cast("set[int]", detail))
        elif kind == "own":
            self.own(one, text + "x" * cast(int, detail))
        elif kind == "take":
            one.take(cast(int, detail))
        elif kind in ("closing", "lost"):
            getattr(self, kind)(one)
        elif kind in ("busy", "park"):
            getattr(one, kind)()

    async def end(self) -> None:
        while self.batch.fanout.is_busy:
            await NEXT_PASS
        await NEXT_PASS
        for _ in range(1000):
            for one in self.sockets:
                one.take_all()
            if not self.batch.fanout.is_busy and not any(
                one.transport.kept for one in self.sockets if one.outbox.transport
            ):
                break
            await NEXT_PASS
        for one, whole in zip(self.sockets, self.expected, strict=True):
            is_alive = one.outbox.transport is not None
            assert one.got == whole if is_alive else whole.startswith(one.got)
        closing = {one.outbox for one in self.sockets if one.phase is Phase.CLOSING and one.outbox.transport}
        assert self.batch.fanout.indirect == closing


@given(st.lists(STEPS, min_size=5, max_size=40))
def test_every_socket_gets_its_messages_in_order(steps: list[tuple[str, int, object]]) -> None:
    async def run() -> None:
        scene = Scene()
        for number, (kind, which, detail) in enumerate(steps):
            if kind == "pass":
                await NEXT_PASS
            scene.step(kind, which, detail, f"{number}:")
            sweep = scene.batch.fanout.sweep
            assert sweep is None or sweep.weight == sum(one.weight for one in sweep.under_way) > 0
            for one in scene.sockets:
                assert one.outbox.size == sum(map(len, frames_of(one.outbox)))
        await scene.end()

    with (
        mock.patch.object(fanouts, "FEW", 1),
        mock.patch.object(batches, "FIRST_WRITES", 1),
        mock.patch.object(batches, "MOST_WRITES", 4),
    ):
        asyncio.run(run())


async def test_connections_know_their_crowd_if_it_can_write_to_their_sockets(batch: Batch) -> None:
    one: Connection = Socket(batch)
    assert one.fanout is batch.fanout
    assert batch.fanout.loop is asyncio.get_running_loop()
    cast(Socket, one).outbox.endpoint = None
    assert one.fanout is None
