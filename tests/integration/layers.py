"""A layer in place of the default one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from channels.layers import InMemoryChannelLayer, channel_layers


@contextmanager
def default_layer(**options: Any) -> Iterator[InMemoryChannelLayer]:
    """A layer in memory, which consumers find as the default one."""
    layer = InMemoryChannelLayer(**options)
    previous = channel_layers.set("default", layer)
    try:
        yield layer
    finally:
        channel_layers.backends.pop("default")
        if previous is not None:
            channel_layers.set("default", previous)
