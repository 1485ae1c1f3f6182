"""Fixtures for tests of applications, and layers of their own for each process of a test run.

    pytest_plugins = ["fairway.testing.pytest"]         # in the conftest.py of the project's root

Nothing here loads itself: a project that does not ask for it has none of it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import pytest
from django.conf import settings

from channels import DEFAULT_CHANNEL_LAYER
from channels.layers import BaseChannelLayer, channel_layers, get_channel_layer
from fairway.layers.background import background
from fairway.testing.isolation import is_own_prefix, own_prefixes
from fairway.testing.sent import SentMessages, record_sent

_FLUSH_TIMEOUT = 10.0

_until_the_end = contextlib.ExitStack()


@pytest.hookimpl(tryfirst=True)
def pytest_collection() -> None:
    """Before test modules are imported, which may make layers; the project's settings can be had by now."""
    if settings.configured or os.environ.get("DJANGO_SETTINGS_MODULE"):
        _until_the_end.enter_context(own_prefixes())


def pytest_unconfigure() -> None:
    _until_the_end.close()


@pytest.fixture
def sent() -> Iterator[SentMessages]:
    """What is sent over channel layers during the test, as in `fairway.testing.record_sent`."""
    with record_sent() as records:
        yield records


@pytest.fixture
def channel_layer() -> Iterator[BaseChannelLayer]:
    """The layer `default`, made for this test: no group, channel or queue of another test is in it."""
    channel_layers.remake()
    layer = get_channel_layer()
    if layer is None:
        pytest.fail(f"CHANNEL_LAYERS has no {DEFAULT_CHANNEL_LAYER!r}")
    if is_own_prefix(channel_layers.configs[DEFAULT_CHANNEL_LAYER].get("CONFIG", {}).get("prefix")):
        background.run(_emptied, layer, timeout=_FLUSH_TIMEOUT)
    yield layer
    channel_layers.remake()


async def _emptied(layer: BaseChannelLayer) -> None:
    """Empty the queues that earlier tests have left, and keep no connection for it."""
    await layer.flush()
    close = getattr(layer, "close", None) or getattr(layer, "close_pools", None)
    if close is not None:
        await close()
