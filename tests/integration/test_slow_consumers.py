"""A client that reads nothing: what it costs itself, and that it costs nobody else anything."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from channels.exceptions import InvalidChannelLayerError
from channels.generic.websocket import AsyncWebsocketConsumer, WebsocketConsumer
from channels.layers import InMemoryChannelLayer
from fairway.delivery import SlowPolicy, statistics
from fairway.server.output import fanout
from fairway.server.output.fanout import FEW
from fairway.server.output.lanes import CHUNK_BYTES
from tests.integration.conftest import Start, over_everything
from tests.integration.layers import default_layer
from tests.integration.raw import CLOSE, DEADLINE, TEXT, Client, Served, frame, next_pass

BIG = "x" * 10_000
MEMBERS = 20


class Member(AsyncWebsocketConsumer):
    """Each message of a client is an order: how many big messages it wants for itself."""

    groups = ("all",)
    sent = 0
    codes: list[int | None]

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        for _ in range(int(text_data or 0)):
            await self.send(BIG)
            type(self).sent += 1

    async def disconnect(self, code: int | None) -> None:
        self.codes.append(code)


@pytest.fixture
def member() -> type[Member]:
    return type("Member", (Member,), {"codes": [], "sent": 0})


@pytest.fixture(params=[policy.value for policy in SlowPolicy])
def layer(request: pytest.FixtureRequest) -> Iterator[InMemoryChannelLayer]:
    with default_layer(slow_consumers={"al*": request.param, "*": "close"}) as layer:
        yield layer


@pytest.fixture
def policy(request: pytest.FixtureRequest) -> SlowPolicy:
    """That of the layer, for the group `all`."""
    return SlowPolicy(request.node.callspec.params["layer"])


async def reading(served: Served, count: int) -> list[Client]:
    clients = [await served.connect() for _ in range(count)]
    for client in clients:
        await client.open()
    return clients


@pytest.fixture(autouse=True, params=[FEW, 1], ids=["by outboxes", "by sweeps"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large group gets its messages in another way than a small one."""
    monkeypatch.setattr(fanout, "FEW", request.param)


def sizes(served: Served) -> list[int]:
    return sorted(connection.outbox.size for connection in served.websockets)


def held(served: Served) -> int:
    """Bytes that the process keeps for its slowest client, in the outbox and in the transport."""
    outboxes = [connection.outbox for connection in served.websockets]
    return max(outbox.size + outbox.transport.get_write_buffer_size() for outbox in outboxes)


async def until(reached: Callable[[], object]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not reached():
            await next_pass()


@pytest.mark.slow
@pytest.mark.parametrize("layer", ["close"], indirect=True)
async def test_a_stuck_reader_stops_only_its_own_handler(
    start: Start, layer: InMemoryChannelLayer, member: Any
) -> None:
    served = await start(member.as_asgi())
    others = await reading(served, MEMBERS - 1)
    stuck = await served.connect(receive_buffer=4096)
    await stuck.open()
    stuck.writer.transport.pause_reading()  # type: ignore[attr-defined]
    await stuck.send(frame(TEXT, b"20000"))
    await until(lambda: sizes(served)[-1] >= served.context.limits.outbox_high_water)
    waiting_at = member.sent
    for number in range(30):
        await layer.group_broadcast("all", str(number))
        for client in others:
            assert (await client.frame())[1] == str(number).encode()
    assert member.sent == waiting_at < 20_000
    assert sizes(served)[-1] < served.context.limits.outbox_high_water + 2 * len(BIG)
    assert sizes(served)[:-1] == [0] * (MEMBERS - 1)


@pytest.mark.slow
@over_everything
@pytest.mark.parametrize("layer", ["close"], indirect=True)
async def test_a_reader_that_is_slow_but_takes_something_is_kept(
    start: Start, layer: InMemoryChannelLayer, member: Any
) -> None:
    served = await start(member.as_asgi())
    client = await served.connect(receive_buffer=4096)
    await client.open()
    await client.send(frame(TEXT, b"20000"))
    (connection,) = served.websockets
    outbox, timeout = connection.outbox, served.context.limits.write_stall_timeout
    await until(lambda: outbox.size >= outbox.high_water)
    async with asyncio.timeout(DEADLINE):
        while outbox.transport.get_write_buffer_size() >= outbox.pending.left:
            await client.reader.read(4096)
    stalled_at = outbox.pending.stalled_at
    connection.handle_deadline(stalled_at + timeout)
    assert (connection.is_open, outbox.pending.stalled_at) == (True, stalled_at + timeout)
    connection.handle_deadline(stalled_at + 2 * timeout)
    await until(lambda: member.codes)
    assert member.codes == [1013]
    assert f"client took no data for {timeout:g} s" in served.log[-1]


@over_everything
@pytest.mark.slow
@pytest.mark.parametrize("layer", ["close"], indirect=True)
async def test_a_stuck_reader_among_a_hundred_is_left_when_its_time_is_up(
    start: Start, layer: InMemoryChannelLayer, member: Any
) -> None:
    served = await start(member.as_asgi(), write_stall_timeout=0.5)
    others = await reading(served, 100)
    stuck = await served.connect(receive_buffer=4096)
    await stuck.open()
    stuck.writer.transport.pause_reading()  # type: ignore[attr-defined]

    async def hear(text: str) -> None:
        await layer.group_broadcast("all", text)
        for client in others:
            assert await client.frame() == (TEXT, text.encode())

    late = statistics.sends_after_close
    await stuck.send(frame(TEXT, b"2000"))
    await until(lambda: sizes(served)[-1] >= served.context.limits.outbox_high_water)
    for number in itertools.count():
        taken = member.sent
        assert held(served) < served.context.limits.outbox_high_water + CHUNK_BYTES + 2 * len(BIG)
        await hear(str(number))
        if served.context.counters.slow_consumers:
            break
    await until(lambda: member.codes)
    await hear("the end")
    assert member.codes == [1013]
    # The handler had waited in one `send`; each of those that were to follow came too late.
    assert statistics.sends_after_close - late == 2_000 - taken - 1
    assert sizes(served) == [0] * 100
    assert served.context.counters.slow_consumers == 1
    assert served.log[-1].endswith("/chat: client took no data for 0.5 s")


FLOOD = 300
"""As many big messages as no client, and no kernel for it, takes that reads none of them."""


async def stuck_one(served: Served) -> Client:
    """A client that reads nothing but when it is told to."""
    client = await served.connect(receive_buffer=4096)
    await client.open()
    return client


async def flood(layer: InMemoryChannelLayer, others: list[Client], count: int) -> None:
    for number in range(count):
        await layer.group_broadcast("all", f"{number} {BIG}")
        for client in others:
            assert (await client.frame())[1].startswith(f"{number} ".encode())


@over_everything
@pytest.mark.parametrize("layer", ["close"], indirect=True)
async def test_a_client_too_slow_for_broadcasts_is_closed(
    start: Start, layer: InMemoryChannelLayer, member: Any
) -> None:
    served = await start(member.as_asgi(), outbox_bytes=200_000)
    await stuck_one(served)
    await flood(layer, await reading(served, 2), FLOOD)
    await until(lambda: member.codes)
    assert member.codes == [1013]
    assert served.context.counters.slow_consumers == 1
    assert served.context.counters.dropped_frames > 0


@pytest.mark.slow
@over_everything
@pytest.mark.parametrize("layer", ["drop-oldest", "keep-latest"], indirect=True)
async def test_a_client_too_slow_for_broadcasts_misses_some(
    start: Start, layer: InMemoryChannelLayer, policy: SlowPolicy, member: Any
) -> None:
    served = await start(member.as_asgi(), outbox_bytes=200_000)
    stuck = await stuck_one(served)
    await flood(layer, await reading(served, 2), FLOOD)
    await layer.group_broadcast("all", "the end")
    assert sizes(served)[-1] <= 200_000
    assert member.codes == []

    received = []
    while not received or received[-1] != b"the end":
        received.append((await stuck.frame())[1].partition(b" x")[0])
    numbers = [int(number) for number in received[:-1]]
    assert numbers == sorted(set(numbers))
    assert FLOOD - len(numbers) == served.context.counters.dropped_frames > 0
    if policy is SlowPolicy.DROP_OLDEST:
        assert numbers[-1] == FLOOD - 1
    await stuck.send(frame(TEXT, b"1"))
    assert (await stuck.frame())[1] == BIG.encode()


LONG = "é" * (2 << 20)  # 4 MiB, four times the bound
WAYS_OF_SENDING = ["a synchronous consumer", "a broadcast", "a synchronous handler"]


class Sender(WebsocketConsumer):
    """Sends what it is asked for without waiting, as synchronous code does."""

    groups = ("all",)
    codes: list[int | None]

    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        assert text_data is not None
        for _ in range(int(text_data)):
            self.send(LONG)
        self.send("the end")

    def long_message(self, event: dict[str, Any]) -> None:
        self.send(LONG)

    def short_message(self, event: dict[str, Any]) -> None:
        self.send("the end")

    def disconnect(self, code: int | None) -> None:
        self.codes.append(code)


@pytest.fixture
def sender() -> type[Sender]:
    return type("Sender", (Sender,), {"codes": []})


async def send_long(way: str, layer: InMemoryChannelLayer, client: Client, count: int = 1) -> None:
    if way == "a synchronous consumer":
        await client.send(frame(TEXT, b"%d" % count))
    elif way == "a broadcast":
        for _ in range(count):
            await layer.group_broadcast("all", LONG)
        await layer.group_broadcast("all", "the end")
    else:
        for _ in range(count):
            await layer.group_send("all", {"type": "long.message"})
        await layer.group_send("all", {"type": "short.message"})


@over_everything
@pytest.mark.parametrize("sending", WAYS_OF_SENDING)
@pytest.mark.parametrize("deflate", [False, True])
async def test_a_message_beyond_the_bound_reaches_a_client_that_reads(
    start: Start, layer: InMemoryChannelLayer, policy: SlowPolicy, sender: Any, sending: str, deflate: bool
) -> None:
    """What waited before counts, not how long the message itself is; and what comes behind it is not cut either."""
    served = await start(sender.as_asgi(), outbox_bytes=1 << 20, deflate=deflate)
    client = await served.connect()
    await client.open()
    await send_long(sending, layer, client)
    first = await client.frame()
    # With keep-latest, what comes before the consumer has even looked may replace what came first.
    if policy is not SlowPolicy.KEEP_LATEST or first != (TEXT, b"the end"):
        assert first == (TEXT, LONG.encode())
        assert await client.frame() == (TEXT, b"the end")
    assert served.context.counters.slow_consumers == 0


@pytest.mark.slow
@over_everything
@pytest.mark.parametrize("layer", ["close"], indirect=True)
@pytest.mark.parametrize("sending", WAYS_OF_SENDING)
async def test_long_messages_that_pile_up_end_a_client_that_does_not_read_and_it_can_learn_why(
    start: Start, layer: InMemoryChannelLayer, sender: Any, sending: str
) -> None:
    served = await start(sender.as_asgi(), outbox_bytes=1 << 20)
    client = await served.connect(receive_buffer=4096)
    await client.open()
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    await send_long(sending, layer, client, count=6)
    await until(lambda: sender.codes)
    assert sender.codes == [1013]
    assert served.log[-1].endswith("client too slow: more than 1048576 bytes wait for it; closed with 1013")
    client.writer.transport.resume_reading()  # type: ignore[attr-defined]
    opcode, payload = await client.frame()
    while opcode == TEXT:
        assert payload == LONG.encode()
        opcode, payload = await client.frame()
    assert (opcode, payload) == (CLOSE, (1013).to_bytes(2, "big") + b"client too slow")
    await client.send(frame(CLOSE, (1013).to_bytes(2, "big")))
    assert await client.at_end()


@over_everything
@pytest.mark.parametrize("layer", ["close"], indirect=True)
async def test_a_client_that_is_too_slow_after_its_close_is_dropped_without_an_error(
    start: Start, layer: InMemoryChannelLayer, sender: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The application still answers what came before the Close."""
    served = await start(sender.as_asgi(), outbox_bytes=1 << 20)
    client = await served.connect(receive_buffer=4096)
    await client.open()
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    await client.send(frame(TEXT, b"6") + frame(CLOSE, (1000).to_bytes(2, "big")))
    await until(lambda: sender.codes)
    assert sender.codes == [1013]
    await served.idle()
    assert "LocalProtocolError" not in caplog.text


@pytest.mark.slow
@over_everything
@pytest.mark.parametrize("layer", ["close"], indirect=True)
async def test_a_client_that_was_too_slow_is_left_after_the_time_for_a_close(
    start: Start, layer: InMemoryChannelLayer, sender: Any
) -> None:
    served = await start(sender.as_asgi(), outbox_bytes=1 << 20, close_timeout=0.3)
    client = await served.connect(receive_buffer=4096)
    await client.open()
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    await send_long("a broadcast", layer, client, count=6)
    await until(lambda: sender.codes)
    await served.idle()
    assert sender.codes == [1013]


async def test_an_unknown_policy_is_named() -> None:
    complaint = r"^slow_consumers\['a\*'\] is 'drop': use one of close, drop-oldest, keep-latest "
    with pytest.raises(InvalidChannelLayerError, match=complaint):
        InMemoryChannelLayer(slow_consumers={"a*": "drop"})
