"""The layers of our own that the suite runs over: in memory, and over a real Redis."""

from __future__ import annotations

import pytest

from channels.layers import InMemoryChannelLayer, channel_layers
from fairway.layers.hub_layer import HubLayer
from fairway.layers.redis import RedisChannelLayer


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.slow)])
def layer(request: pytest.FixtureRequest) -> HubLayer:
    """Each of them in turn, as the default layer."""
    layer: HubLayer = InMemoryChannelLayer()
    if request.param == "redis":
        layer = RedisChannelLayer(hosts=[request.getfixturevalue("redis").url])
    channel_layers.set("default", layer)
    return layer
