"""A group that is large enough for sweeps, in the middle of other traffic: who gets what, and in which order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import pytest

from channels.generic.websocket import AsyncWebsocketConsumer
from channels.layers import InMemoryChannelLayer
from fairway.server.output.fanout import FEW
from tests.integration.conftest import Start, over_everything
from tests.integration.layers import default_layer
from tests.integration.raw import CLOSE, DEADLINE, TEXT, Client, Served, frame

pytestmark = [over_everything, pytest.mark.slow]

CLIENTS = 3 * FEW
MESSAGES = 300


class Member(AsyncWebsocketConsumer):
    """Repeats what its client says; an event of the layer counts as said."""

    groups = ("all",)

    async def connect(self) -> None:
        await self.accept()
        await self.send(f"you are {self.channel_name}")

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await self.send(f"you said {text_data}")
        if text_data == "goodbye":
            await self.close()

    async def repeat(self, event: dict[str, str]) -> None:
        await self.send(event["text"])


@pytest.fixture
def layer() -> Iterator[InMemoryChannelLayer]:
    with default_layer() as layer:
        yield layer


class Guest:
    """A client, its channel, and what it has heard so far."""

    def __init__(self, client: Client, channel: str) -> None:
        self.client = client
        self.channel = channel
        self.heard: list[str] = []

    async def hear(self, last: str) -> None:
        while not self.heard or self.heard[-1] != last:
            opcode, data = await self.client.frame()
            if opcode == CLOSE:
                return
            self.heard.append(data.decode())

    def numbers(self) -> list[int]:
        return [int(text) for text in self.heard if text.isdigit()]


async def guests(served: Served, count: int) -> list[Guest]:
    made = []
    for _ in range(count):
        client = await served.connect()
        await client.open()
        made.append(Guest(client, (await client.frame())[1].decode().removeprefix("you are ")))
    return made


async def numbers(layer: InMemoryChannelLayer, each: Callable[[int], Awaitable[object]] | None = None) -> None:
    """Broadcast 0, 1, 2 ... and "end"."""
    for number in range(MESSAGES):
        await layer.group_broadcast("all", str(number))
        if each is not None:
            await each(number)
    await layer.group_broadcast("all", "end")


async def all_hear(those: list[Guest], last: str = "end") -> None:
    async with asyncio.timeout(2 * DEADLINE):
        await asyncio.gather(*(one.hear(last) for one in those))


async def test_everybody_gets_everything_once_and_in_order(start: Start, layer: InMemoryChannelLayer) -> None:
    served = await start(Member.as_asgi())
    everybody = await guests(served, CLIENTS)

    async def a_pass(number: int) -> None:
        if number % 3 == 0:  # some meet in a sweep, others find it on its way
            await asyncio.sleep(0)

    await asyncio.gather(numbers(layer, a_pass), all_hear(everybody))
    for one in everybody:
        assert one.heard == [*map(str, range(MESSAGES)), "end"]
    fanout = served.context.batch.fanout
    assert (fanout.sweep, fanout.indirect) == (None, set())


async def test_what_a_member_says_for_itself_comes_in_between(start: Start, layer: InMemoryChannelLayer) -> None:
    served = await start(Member.as_asgi())
    everybody = await guests(served, CLIENTS)

    async def traffic(number: int) -> None:
        speaker = everybody[number % CLIENTS]
        await speaker.client.send(frame(TEXT, b"%d" % number))
        await layer.send(everybody[-number % CLIENTS].channel, {"type": "repeat", "text": f"after {number}"})
        await layer.group_broadcast("all", "not for you", exclude=[one.channel for one in everybody])
        await asyncio.sleep(0)

    listening = asyncio.ensure_future(all_hear(everybody, "you said done"))
    await numbers(layer, traffic)
    for one in everybody:
        await one.client.send(frame(TEXT, b"done"))
    await listening
    for place, one in enumerate(everybody):
        assert one.numbers() == list(range(MESSAGES))
        said = [text for text in one.heard if text.startswith("you said ")]
        assert said == [*(f"you said {number}" for number in range(place, MESSAGES, CLIENTS)), "you said done"]
        for number in range(MESSAGES):
            if -number % CLIENTS == place:
                assert one.heard.index(f"after {number}") > one.heard.index(str(number))
        assert "not for you" not in one.heard


async def test_members_come_and_go_meanwhile(start: Start, layer: InMemoryChannelLayer) -> None:
    served = await start(Member.as_asgi())
    everybody = await guests(served, CLIENTS)
    polite, rude, staying = everybody[:8], everybody[8:16], everybody[16:]
    late: list[Guest] = []
    counting = asyncio.ensure_future(all_hear(polite + staying))

    async def traffic(number: int) -> None:
        await asyncio.sleep(0)
        if number % 20 == 10 and polite and number < 160:
            await everybody[number // 20].client.send(frame(TEXT, b"goodbye"))
        if number % 20 == 0 and number < 160:
            rude[number // 20].client.reset()
        if number % 50 == 5:
            late.extend(await guests(served, 1))

    await numbers(layer, traffic)
    await counting
    await all_hear(late)
    for one in staying:
        assert one.numbers() == list(range(MESSAGES))
    for one in polite:
        heard = one.numbers()
        assert heard == list(range(len(heard)))
        assert "you said goodbye" in one.heard
        assert len(heard) < MESSAGES
    for one in late:
        heard = one.numbers()
        assert heard == list(range(MESSAGES - len(heard), MESSAGES))
        assert 0 < len(heard) < MESSAGES
    assert served.tracebacks == 0


async def test_one_that_does_not_read_holds_up_nobody_and_misses_nothing(
    start: Start, layer: InMemoryChannelLayer
) -> None:
    served = await start(Member.as_asgi())
    everybody = await guests(served, CLIENTS)
    client = await served.connect(receive_buffer=4096)
    await client.open()
    slow = Guest(client, (await client.frame())[1].decode().removeprefix("you are "))
    slow.client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    padding = "x" * 20_000
    for number in range(40):
        await layer.group_broadcast("all", f"{number} {padding}")
        await all_hear(everybody, f"{number} {padding}")
    (outbox,) = served.context.batch.fanout.indirect
    assert outbox.blocked
    assert outbox.size > len(padding)
    slow.client.writer.transport.resume_reading()  # type: ignore[attr-defined]
    await layer.group_broadcast("all", "end")
    await all_hear([*everybody, slow])
    assert slow.heard == [*(f"{number} {padding}" for number in range(40)), "end"]
    assert served.context.batch.fanout.indirect == set()
