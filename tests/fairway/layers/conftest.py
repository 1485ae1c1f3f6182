"""Layers that share a service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from fairway.layers.engine import Engine
from fairway.layers.layer import BackplaneLayer
from fairway.testing.in_process import InProcessBackplane

NewLayer = Callable[..., BackplaneLayer]


@pytest.fixture
async def new_layer() -> AsyncIterator[NewLayer]:
    """Makes layers that share a service, each as if it were in a process of its own."""
    engine = Engine()
    layers: list[BackplaneLayer] = []

    def make(backplane: Callable[[Engine], InProcessBackplane] = InProcessBackplane, **options: Any) -> BackplaneLayer:
        layers.append(BackplaneLayer(lambda: backplane(engine), **options))
        return layers[-1]

    yield make
    for layer in layers:
        await layer.close()
