"""The application of docs/howto/miss-nothing.md that uses no consumer: in memory, and as two processes."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from channels.layers import InMemoryChannelLayer, channel_layers
from fairway.layers.engine import Engine
from fairway.layers.hub_layer import HubLayer
from fairway.layers.layer import BackplaneLayer
from fairway.testing import ReconnectingCommunicator
from fairway.testing.in_process import InProcessBackplane

plain: Any = importlib.import_module("examples.streams.plain")
HISTORY = {"chat.*": {"size": 100, "seconds": 300}}

Enter = Callable[[str], Any]


@pytest.fixture(params=[1, 2])
async def layers(request: pytest.FixtureRequest) -> AsyncIterator[list[HubLayer]]:
    """That of each page's process: one in memory, or two that share an engine."""
    if request.param == 1:
        yield [InMemoryChannelLayer(history=HISTORY)] * 2
        return
    engine = Engine()
    made: list[HubLayer] = [
        BackplaneLayer(lambda: InProcessBackplane(engine), history=HISTORY, linger=0.01) for _ in range(2)
    ]
    yield made
    for layer in made:
        await layer.close()


async def entered(layer: HubLayer, name: str) -> ReconnectingCommunicator:
    async def of_this_process(scope: Any, receive: Any, send: Any) -> None:
        await plain.lobby(scope, receive, send)

    page = ReconnectingCommunicator(of_this_process, f"/?name={name}")
    channel_layers.set("default", layer)
    await page.connect()
    assert (await page.receive_json_from())["recovered"] in (True, False)
    return page


async def until(page: ReconnectingCommunicator, condition: Callable[[Any], bool]) -> Any:
    async with asyncio.timeout(20):
        while not condition(message := await page.receive_json_from(timeout=20)):
            pass
    return message


def said(page: ReconnectingCommunicator) -> list[str]:
    return [message["text"] for message in page.received if message.get("type") == "said"]


async def test_it_misses_nothing_and_knows_who_is_there(layers: list[HubLayer]) -> None:
    mira = await entered(layers[0], "mira")
    assert (await until(mira, lambda event: event.get("type") == "presence.state"))["members"]
    tom = await entered(layers[1], "tom")
    await until(mira, lambda event: [{"name": "tom"}] in event.get("joined", {}).values())
    await tom.send_to("one")
    await until(mira, lambda event: event.get("text") == "one")
    await until(tom, lambda event: event.get("text") == "one")

    await tom.lose()
    await until(mira, lambda event: [{"name": "tom"}] in event.get("left", {}).values())
    await mira.send_to("two")
    await until(mira, lambda event: event.get("text") == "two")
    await tom.reconnect()
    await until(tom, lambda event: event.get("recovered") is True)
    await until(tom, lambda event: event.get("text") == "two")
    await mira.send_to("three")
    await until(tom, lambda event: event.get("text") == "three")
    assert said(tom) == ["one", "two", "three"]

    for page in (mira, tom):
        await page.disconnect()
    assert [await layer.presence.members("chat.lobby") for layer in layers] == [{}, {}]
    assert not any(layer.hub.groups for layer in layers), "nothing is left behind"
