"""One message for many sockets: what they share, what they do not, and in which order it is written."""

from __future__ import annotations

import asyncio
import socket
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairway.delivery import Connection, Inbox, Payload, SlowPolicy
from fairway.protocols.websocket.frames import PLAIN
from fairway.server.batch import FIRST_WRITES, Batch
from fairway.server.context import Context
from fairway.server.crowd import SHARED_BYTES
from fairway.server.outbox import NEXT_PASS, Outbox
from fairway.server.sending import Phase, SendingHalf


class Encoder:
    """Another way to put a message on the wire."""

    def encode_text(self, text: str) -> bytes:
        return b"<" + text.encode() + b">"

    def encode_bytes(self, data: bytes) -> bytes:
        return b"<" + data + b">"


class Endpoint:
    """A socket that takes `room` bytes, of each call at most `most`; None: it is closed."""

    def __init__(self, room: int | None = 1 << 30, most: int = 1 << 30) -> None:
        self.room = room
        self.most = most
        self.taken: list[bytes] = []

    def send(self, data: bytes | memoryview) -> int:
        if self.room is None:
            raise OSError("Bad file descriptor")
        taken = bytes(data)[: min(self.room, self.most)]
        if not taken:
            raise BlockingIOError
        self.room -= len(taken)
        self.taken.append(taken)
        return len(taken)


class Transport(asyncio.Transport):
    """Keeps what its endpoint does not take, and says so."""

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__()
        self.endpoint = endpoint
        self.kept = b""
        self.outbox: Outbox
        self.aborted = False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return len(self.kept)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.kept, "it was asked not to write more"
        self.kept = bytes(data)
        self.pump()
        if self.kept:
            self.outbox.pause_writing()

    def abort(self) -> None:
        self.aborted = True

    def pump(self) -> None:
        try:
            while self.kept:
                self.kept = self.kept[self.endpoint.send(self.kept) :]
        except OSError:
            pass

    def take(self, size: int) -> None:
        """The peer reads so many bytes."""
        assert self.endpoint.room is not None
        self.endpoint.room += size
        was_blocked = bool(self.kept)
        self.pump()
        if was_blocked and not self.kept:
            self.outbox.resume_writing()


class Socket(SendingHalf):
    """As much of a driver as sends; its consumer waits."""

    __slots__ = ("_phase", "dropped", "endpoint", "transport")

    def __init__(
        self, batch: Batch, endpoint: Endpoint | None = None, bound: int = 1 << 20, parked: bool = True
    ) -> None:
        loop = asyncio.get_running_loop()
        self._context = cast(Context, SimpleNamespace(limits=SimpleNamespace(outbox_bytes=bound)))
        self._phase = Phase.OPEN
        self.is_open = True
        self.encoder = PLAIN
        self.inbox = Inbox(loop)
        self.endpoint = endpoint or Endpoint()
        self.transport = Transport(self.endpoint)
        high_water = min(bound, 65536)
        self.outbox = Outbox(self.transport, batch, loop, high_water, cast(socket.socket, self.endpoint))
        self.transport.outbox = self.outbox
        self.dropped = False
        if parked:
            self.inbox.wait()

    @property
    def got(self) -> bytes:
        return b"".join(self.endpoint.taken)

    def _drop_slow_consumer(self, bound: int) -> None:
        self.dropped = True
        self.is_open = False
        self.outbox.close()


@pytest.fixture
async def batch() -> Batch:
    return Batch(asyncio.get_running_loop())


def broadcast(batch: Batch, sockets: list[Socket], *texts: str) -> None:
    for text in texts:
        assert batch.crowd.broadcast(sockets, Payload(text)) == []


def frames(*texts: str) -> bytes:
    return b"".join(map(PLAIN.encode_text, texts))


async def until_written(batch: Batch) -> None:
    while batch.crowd:
        await NEXT_PASS


async def test_nothing_is_made_for_a_member(batch: Batch) -> None:
    sockets = [Socket(batch) for _ in range(3)]
    broadcast(batch, sockets, "a")
    assert len({id(one.outbox._frames) for one in sockets}) == 1
    broadcast(batch, sockets, "b", "c")
    assert len({id(one.outbox._frames) for one in sockets}) == 1
    assert [one.outbox.size for one in sockets] == [len(frames("a", "b", "c"))] * 3
    await NEXT_PASS
    assert [one.endpoint.taken for one in sockets] == [[frames("a", "b", "c")]] * 3
    assert [(one.outbox._frames, one.outbox.size) for one in sockets] == [(None, 0)] * 3


async def test_a_message_is_written_in_parts(batch: Batch) -> None:
    sockets = [Socket(batch) for _ in range(1000)]
    for text in "ab":
        broadcast(batch, sockets, text)
        written = []
        while batch.crowd:
            await NEXT_PASS
            written.append(sum(one.got.endswith(frames(text)) for one in sockets))
        assert written == [16, 48, 112, 240, 496, 752, 1000]


async def test_what_was_written_meanwhile_is_not_written_again(batch: Batch) -> None:
    sockets = [Socket(batch) for _ in range(FIRST_WRITES + 2)]
    broadcast(batch, sockets, "a")
    await NEXT_PASS
    broadcast(batch, sockets, "b")
    broadcast(batch, sockets[-1:], "c")
    await until_written(batch)
    assert {one.got for one in sockets[:-1]} == {frames("a", "b")}
    assert sockets[-1].endpoint.taken == [frames("a", "b", "c")]


async def test_those_that_are_closed_or_busy_are_returned(batch: Batch) -> None:
    ready, busy, closed = Socket(batch), Socket(batch, parked=False), Socket(batch)
    closed.is_open = False
    assert batch.crowd.broadcast([closed, ready, busy], Payload("a")) == [0, 2]
    await NEXT_PASS
    assert [one.got for one in (ready, busy, closed)] == [frames("a"), b"", b""]


async def test_an_event_that_was_just_handed_over_makes_a_consumer_busy(batch: Batch) -> None:
    one = Socket(batch)
    one.inbox.put_layer({"type": "earlier"}, 10)
    assert batch.crowd.broadcast([one], Payload("later")) == [0]


async def test_what_a_socket_sends_itself_keeps_its_place(batch: Batch) -> None:
    sockets = [Socket(batch) for _ in range(3)]
    sockets[1].send_text("first")
    broadcast(batch, sockets, "a")
    sockets[1].send_text("own")
    broadcast(batch, sockets, "b")
    await until_written(batch)
    assert sockets[1].got == frames("first", "a", "own", "b")
    assert sockets[0].got == sockets[2].got == frames("a", "b")


async def test_each_encoder_has_its_own_form(batch: Batch) -> None:
    sockets = [Socket(batch) for _ in range(4)]
    sockets[1].encoder = sockets[3].encoder = Encoder()
    broadcast(batch, sockets, "a", "b")
    await NEXT_PASS
    assert [one.got for one in sockets] == [frames("a", "b"), b"<a><b>"] * 2


async def test_an_encoder_that_fails_holds_up_nobody_else(batch: Batch) -> None:
    class Failing(Encoder):
        def encode_text(self, text: str) -> bytes:
            raise ArithmeticError("on purpose")

    sound, other = Socket(batch), Socket(batch)
    other.encoder = Failing()
    with pytest.raises(ArithmeticError, match=r"^on purpose$"):
        batch.crowd.broadcast([sound, other], Payload("a"))
    await NEXT_PASS
    assert (sound.got, other.got) == (frames("a"), b"")


async def test_what_is_long_is_not_shared(batch: Batch) -> None:
    sockets = [Socket(batch) for _ in range(2)]
    texts = ["x" * (SHARED_BYTES // 2)] * 3
    broadcast(batch, sockets, *texts, "y" * (SHARED_BYTES + 1))
    assert all(type(one.outbox._frames) is list for one in sockets)
    await NEXT_PASS
    assert [one.got for one in sockets] == [frames(*texts, "y" * (SHARED_BYTES + 1))] * 2


async def test_what_a_socket_does_not_take_goes_to_its_transport(batch: Batch) -> None:
    sockets = [Socket(batch), Socket(batch, Endpoint(room=4)), Socket(batch, Endpoint(room=0))]
    broadcast(batch, sockets, "hello")
    await NEXT_PASS
    assert [one.got for one in sockets] == [frames("hello"), frames("hello")[:4], b""]
    assert [one.outbox.blocked for one in sockets] == [False, True, True]
    broadcast(batch, sockets, "more", "and more")
    await until_written(batch)
    for one in sockets[1:]:
        one.transport.take(1000)
    assert {one.got for one in sockets} == {frames("hello", "more", "and more")}


async def test_a_socket_that_was_closed_is_left_alone(batch: Batch) -> None:
    sockets = [Socket(batch) for _ in range(3)]
    broadcast(batch, sockets, "a")
    sockets[1].is_open = False
    assert sockets[1].outbox.close() == 1
    await NEXT_PASS
    assert [one.got for one in sockets] == [frames("a"), b"", frames("a")]


async def test_a_broken_socket_is_its_transports_business(batch: Batch) -> None:
    broken, sound = Socket(batch, Endpoint(room=None)), Socket(batch)
    broadcast(batch, [broken, sound], "a")
    await NEXT_PASS
    assert (broken.transport.kept, sound.got) == (frames("a"), frames("a"))


async def test_a_client_that_takes_nothing_is_dropped_at_the_bound() -> None:
    batch = Batch(asyncio.get_running_loop(), outbox_bytes=100)
    stuck, sound = Socket(batch, Endpoint(room=0), bound=100), Socket(batch, bound=100)
    sent = 0
    while not stuck.dropped:
        assert sent * len(frames("x" * 10)) <= 200
        batch.crowd.broadcast([stuck, sound], Payload("x" * 10))
        sent += 1
        await until_written(batch)
    assert stuck.outbox.size == 0
    assert sound.got == frames("x" * 10) * sent


async def test_a_stuck_client_does_not_make_the_shared_frames_longer(batch: Batch) -> None:
    stuck = Socket(batch, Endpoint(room=0))
    for number in range(3000):
        broadcast(batch, [stuck], str(number))
        await until_written(batch)
    assert type(stuck.outbox._frames) is list
    stuck.transport.take(1 << 20)
    assert stuck.got == frames(*map(str, range(3000)))


async def test_a_sender_that_waits_goes_on() -> None:
    batch = Batch(asyncio.get_running_loop())
    one = Socket(batch, bound=10)
    broadcast(batch, [one], "12345678")
    waiting = asyncio.ensure_future(asyncio.wait_for(_drained(one.outbox), 10))
    await NEXT_PASS
    await until_written(batch)
    await waiting
    assert one.got == frames("12345678")


async def _drained(outbox: Outbox) -> None:
    await outbox.drained()


@pytest.mark.parametrize("policy", [SlowPolicy.DROP_OLDEST, SlowPolicy.KEEP_LATEST])
async def test_what_may_be_dropped_is_not_shared(batch: Batch, policy: SlowPolicy) -> None:
    sockets = [Socket(batch), Socket(batch)]
    for one in sockets:
        one._context.counters = SimpleNamespace(dropped_frames=0)  # type: ignore[assignment]
    broadcast(batch, sockets, "a")
    assert batch.crowd.broadcast(sockets, Payload("b", policy=policy)) == []
    broadcast(batch, sockets, "c")
    assert sockets[0].outbox._frames is not sockets[1].outbox._frames
    await until_written(batch)
    assert [one.got for one in sockets] == [frames("a", "b", "c")] * 2


STEPS = st.one_of(
    st.tuples(st.just("broadcast"), st.sets(st.integers(0, 4)), st.integers(0, 3000)),
    st.tuples(st.just("own"), st.integers(0, 4), st.integers(0, 3000)),
    st.tuples(st.just("take"), st.integers(0, 4), st.integers(1, 9000)),
    st.tuples(st.just("pass"), st.just(0), st.just(0)),
    st.tuples(st.just("close"), st.integers(0, 4), st.just(0)),
)


@given(st.lists(STEPS, max_size=40), st.integers(1, 9000))
def test_every_socket_gets_its_messages_in_order(steps: list[tuple[str, object, int]], room: int) -> None:
    async def run() -> None:
        batch = Batch(asyncio.get_running_loop())
        sockets = [Socket(batch, Endpoint(room, most=1000)) for _ in range(5)]
        sockets[3].encoder = sockets[4].encoder = Encoder()
        expected = [b""] * 5
        for number, (step, which, size) in enumerate(steps):
            text = f"{number}:" + "x" * size
            if step == "broadcast":
                chosen = [sockets[index] for index in sorted(cast("set[int]", which))]
                others = batch.crowd.broadcast(chosen, Payload(text))
                assert [chosen[place] for place in others] == [one for one in chosen if not one.is_open]
                for one in chosen:
                    if one.is_open:
                        expected[sockets.index(one)] += one.encoder.encode_text(text)
            elif step == "pass":
                await NEXT_PASS
            else:
                one = sockets[cast(int, which)]
                if step == "own" and one.is_open:
                    one.send_text(text)
                    expected[cast(int, which)] += one.encoder.encode_text(text)
                elif step == "take" and one.is_open:
                    one.transport.take(size)
                elif step == "close":
                    one.is_open = False
                    one.outbox.close()
            for one in sockets:
                assert one.outbox.size == sum(map(len, one.outbox._frames or ()))
        for one in sockets:
            if one.is_open:
                one.transport.take(1 << 20)
        await until_written(batch)
        await NEXT_PASS
        for one, whole in zip(sockets, expected, strict=True):
            assert whole.startswith(one.got)
            assert not one.is_open or one.got == whole

    asyncio.run(run())


async def test_connections_know_their_crowd(batch: Batch) -> None:
    one: Connection = Socket(batch)
    assert one.crowd is batch.crowd
    assert batch.crowd.loop is asyncio.get_running_loop()
