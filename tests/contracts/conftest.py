"""Fixtures of the contract suite: every test that asks for `carrier` runs once over each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import uvloop

from channels.layers import InMemoryChannelLayer, channel_layers
from tests.contracts.carriers import CARRIERS, Carrier, FairwayCarrier, open_carrier
from tests.contracts.journal import Journal
from tests.contracts.twins import Twin


class LoopOf:
    """Makes the event loop of a carrier; pytest-asyncio runs each test once with each."""

    def __init__(self, carrier_name: str) -> None:
        self.carrier_name = carrier_name

    def __call__(self) -> asyncio.AbstractEventLoop:
        return uvloop.new_event_loop() if self.carrier_name.endswith("uvloop") else asyncio.new_event_loop()


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, LoopOf]:
    fixtures = getattr(item, "fixturenames", ())
    if getattr(getattr(item, "cls", None), "on_each_loop", False):
        return {name: LoopOf(name) for name in ("asyncio", "uvloop")}
    if "fairway" in fixtures:
        names = [name for name in CARRIERS if name.startswith("fairway-")]
    else:
        names = list(CARRIERS) if "carrier" in fixtures else ["communicator"]
    return {name: LoopOf(name) for name in names}


SLOW = ("uvicorn", "fairway-https", "fairway-http2")
"""Of what is tested over each carrier a third is enough for the fast tests."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if any(item.name.endswith(f"[{name}]") or f"[{name}-" in item.name for name in SLOW):
            item.add_marker(pytest.mark.slow)


def _carrier_name(request: pytest.FixtureRequest) -> str:
    return next(value.carrier_name for value in request.node.callspec.params.values() if isinstance(value, LoopOf))


@pytest.fixture
async def carrier(request: pytest.FixtureRequest) -> AsyncIterator[Carrier]:
    async with open_carrier(_carrier_name(request)) as carrier:
        yield carrier


@pytest.fixture
async def fairway(request: pytest.FixtureRequest) -> AsyncIterator[FairwayCarrier]:
    """The project's server only, for what is its own."""
    async with open_carrier(_carrier_name(request)) as carrier:
        assert isinstance(carrier, FairwayCarrier)
        yield carrier


@pytest.fixture
async def journal() -> Journal:
    return Journal()


@pytest.fixture(params=["async", "sync"])
def twin(request: pytest.FixtureRequest) -> Twin:
    return Twin(is_sync=request.param == "sync")


@pytest.fixture
def layer() -> InMemoryChannelLayer:
    layer = InMemoryChannelLayer()
    channel_layers.set("default", layer)
    return layer


@pytest.fixture(autouse=True)
def fresh_layers() -> None:
    """No test sees the layer of another."""
    channel_layers.backends.clear()
