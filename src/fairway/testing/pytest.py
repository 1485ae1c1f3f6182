"""Fixtures for tests of applications. Each process of a test run also gets its own channel layers.

    pytest_plugins = ["fairway.testing.pytest"]         # in the conftest.py of the project's root

The plugin does not load itself: only projects that name it in `pytest_plugins` use it.
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
from fairway.testing.clock import VirtualClock
from fairway.testing.isolation import is_own_prefix, own_prefixes
from fairway.testing.sent import SentMessages, record_sent

_FLUSH_TIMEOUT = 10.0

_until_the_end = contextlib.ExitStack()


@pytest.hookimpl(tryfirst=True)
def pytest_collection() -> None:
    """Change the prefixes now: settings can be loaded, and no test module that makes a layer was imported yet."""
    if settings.configured or os.environ.get("DJANGO_SETTINGS_MODULE"):
        _until_the_end.enter_context(own_prefixes())


def pytest_unconfigure() -> None:
    _until_the_end.close()


@pytest.fixture
def sent() -> Iterator[SentMessages]:
    """Record what is sent over channel layers during the test. (`fairway.testing.record_sent`)"""
    with record_sent() as records:
        yield records


@pytest.fixture
def virtual_clock() -> Iterator[VirtualClock]:
    """A clock that stands still until the test moves it. (`fairway.testing.VirtualClock`)"""
    with VirtualClock() as clock:
        yield clock


@pytest.fixture
def channel_layer() -> Iterator[BaseChannelLayer]:
    """The layer `default`, made anew for this test, without the groups, channels and queues of other tests."""
    channel_layers.remake()
    layer = get_channel_layer()
    if layer is None:
        pytest.fail(f"CHANNEL_LAYERS has no {DEFAULT_CHANNEL_LAYER!r}")
    if is_own_prefix(channel_layers.configs[DEFAULT_CHANNEL_LAYER].get("CONFIG", {}).get("prefix")):
        background.run(_emptied, layer, timeout=_FLUSH_TIMEOUT)
    yield layer
    channel_layers.remake()


async def _emptied(layer: BaseChannelLayer) -> None:
    """Empty the queues that earlier tests have left, then disconnect."""
    await layer.flush()
    close = getattr(layer, "close", None) or getattr(layer, "close_pools", None)
    if close is not None:
        await close()
