"""`channels.layers`: the registry, and what it gives the engine's layers of Django's."""

from __future__ import annotations

import asyncio
import pickle
import re
import subprocess
import sys
import threading
from typing import Any

import pytest
from django.test import override_settings

import channels.exceptions
import channels.layers
from channels import DEFAULT_CHANNEL_LAYER
from channels.exceptions import ChannelFull, InvalidChannelLayerError
from channels.layers import (
    BaseChannelLayer,
    ChannelLayerManager,
    InMemoryChannelLayer,
    channel_layers,
    get_channel_layer,
)
from fairway.delivery import process_statistics, serving
from fairway.layers import errors, memory
from fairway.layers.hub_layer import hub_of
from tests.fairway.layers.doubles import Clock
from tests.fairway.loops import passes

MEMORY = "channels.layers.InMemoryChannelLayer"


class RaisesKeyError(BaseChannelLayer):
    def __init__(self) -> None:
        raise KeyError("from the backend itself")


WITHOUT = """
import sys
for package in ("hiredis", "ormsgpack", "redis", "cryptography"):
    sys.modules[package] = None
import django
from django.conf import settings
settings.configure(INSTALLED_APPS=["channels"], CHANNEL_LAYERS={"default": {"BACKEND": "%s"}})
django.setup()
import fairway.layers.sync
fairway.layers.sync.group_send("news", {"type": "news.item"})
"""


@pytest.mark.slow
def test_the_layer_in_memory_needs_no_package_that_is_optional() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT % MEMORY], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


# The registry -------------------------------------------------------------------------------------------------


def test_a_layer_is_made_once_with_its_config() -> None:
    with override_settings(CHANNEL_LAYERS={"default": {"BACKEND": MEMORY, "CONFIG": {"capacity": 7}}}):
        layer = get_channel_layer()

        assert isinstance(layer, InMemoryChannelLayer)
        assert layer.capacity == 7
        assert get_channel_layer(DEFAULT_CHANNEL_LAYER) is layer
        assert channel_layers["default"] is layer


def test_aliases_have_layers_of_their_own() -> None:
    with override_settings(CHANNEL_LAYERS={"default": {"BACKEND": MEMORY}, "other": {"BACKEND": MEMORY}}):
        assert get_channel_layer("other") is not get_channel_layer()


def test_an_alias_that_is_not_configured_gives_none() -> None:
    with override_settings(CHANNEL_LAYERS={}):
        assert get_channel_layer() is None
        assert "default" not in channel_layers
        with pytest.raises(KeyError, match="default"):
            channel_layers["default"]


def test_changing_the_setting_forgets_the_layers() -> None:
    get_channel_layer()
    with override_settings(CHANNEL_LAYERS={"default": {"BACKEND": MEMORY}}):
        assert channel_layers.backends == {}
        get_channel_layer()
    assert channel_layers.backends == {}


def test_layers_that_are_replaced_let_go_of_what_they_have() -> None:
    let_go = []

    class Connected(InMemoryChannelLayer):
        def retire(self) -> None:
            let_go.append(self)

    with override_settings(CHANNEL_LAYERS={"default": {"BACKEND": MEMORY}}):
        layer = Connected()
        channel_layers.set("default", layer)
        channel_layers.set("other", object())  # type: ignore[arg-type]  # a layer of others has no such method
        assert let_go == []
    assert let_go == [layer]


@override_settings(
    CHANNEL_LAYERS={
        "default": {"BACKEND": "fairway.layers.redis.RedisChannelLayer", "CONFIG": {"hosts": ["redis://127.0.0.1:1"]}},
        "theirs": {"BACKEND": f"{__name__}.RaisesKeyError"},
        "missing": {"BACKEND": "no.such.Layer"},
    }
)
async def test_when_a_server_starts_our_layers_are_made_so_that_their_state_shows() -> None:
    with serving():
        assert set(channel_layers.backends) == {"default"}
        statistics = process_statistics()
        assert "channel layer RedisChannelLayer" in statistics.up


def test_changing_another_setting_keeps_them() -> None:
    with override_settings(CHANNEL_LAYERS={"default": {"BACKEND": MEMORY}}):
        layer = get_channel_layer()
        with override_settings(USE_TZ=False):
            assert get_channel_layer() is layer


def test_set_replaces_a_layer_and_returns_the_one_before() -> None:
    manager = ChannelLayerManager()
    first, second = InMemoryChannelLayer(), InMemoryChannelLayer()

    assert manager.set("default", first) is None
    assert manager.set("default", second) is first
    assert manager["default"] is second


def test_a_layer_put_in_place_counts_although_it_is_not_configured() -> None:
    with override_settings(CHANNEL_LAYERS={}):
        layer = InMemoryChannelLayer()
        channel_layers.set("default", layer)

        assert get_channel_layer() is layer


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({}, "CHANNEL_LAYERS['default'] names no BACKEND: add its dotted path"),
        (
            {"BACKEND": MEMORY, "ROUTING": "x"},
            "CHANNEL_LAYERS['default'] has a ROUTING key, which belongs to Channels 1: remove it",
        ),
        (
            {"BACKEND": "nowhere.Layer"},
            "the BACKEND of CHANNEL_LAYERS['default'], 'nowhere.Layer', cannot be imported: No module named 'nowhere'",
        ),
    ],
)
@pytest.mark.parametrize("kind", ["make_backend", "make_test_backend"])
def test_a_layer_that_is_not_configured_properly_is_refused(entry: dict[str, Any], message: str, kind: str) -> None:
    with (
        override_settings(CHANNEL_LAYERS={"default": {**entry, "TEST_CONFIG": {}}}),
        pytest.raises(InvalidChannelLayerError, match=f"^{re.escape(message)}$"),
    ):
        getattr(ChannelLayerManager(), kind)("default")


def test_a_test_backend_needs_a_test_config() -> None:
    with (
        override_settings(CHANNEL_LAYERS={"default": {"BACKEND": MEMORY}}),
        pytest.raises(InvalidChannelLayerError, match=r"^CHANNEL_LAYERS\['default'\] has no TEST_CONFIG: add one$"),
    ):
        ChannelLayerManager().make_test_backend("default")


def test_a_test_backend_is_made_of_its_test_config() -> None:
    with override_settings(CHANNEL_LAYERS={"default": {"BACKEND": MEMORY, "TEST_CONFIG": {"expiry": 1.5}}}):
        assert ChannelLayerManager().make_test_backend("default").expiry == 1.5


@pytest.mark.parametrize("how", ["make_backend", "make_test_backend"])
def test_an_error_of_the_backend_is_not_hidden(how: str) -> None:
    entry = {"BACKEND": f"{__name__}.RaisesKeyError", "TEST_CONFIG": {}}
    with override_settings(CHANNEL_LAYERS={"default": entry}):
        with pytest.raises(KeyError, match="from the backend itself"):
            getattr(ChannelLayerManager(), how)("default")
        with pytest.raises(KeyError, match="from the backend itself"):
            get_channel_layer()


class SlowToMake(InMemoryChannelLayer):
    """Lets another thread ask for the layer while it is being made."""

    asked = threading.Event()

    def __init__(self, **config: Any) -> None:
        self.asked.wait(0.2)
        super().__init__(**config)


@override_settings(CHANNEL_LAYERS={"default": {"BACKEND": f"{__name__}.SlowToMake"}})
def test_two_threads_that_ask_first_get_the_same_layer() -> None:
    layers: list[Any] = []
    threads = [threading.Thread(target=lambda: layers.append(get_channel_layer())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert layers[0] is layers[1]
    assert isinstance(layers[0], SlowToMake)


# Names of the engine's own -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["BaseChannelLayer", "InMemoryChannelLayer"])
def test_a_class_is_where_applications_look_for_it(name: str) -> None:
    found = getattr(channels.layers, name)

    assert (found.__module__, found.__qualname__) == ("channels.layers", name)
    assert pickle.loads(pickle.dumps(found)) is found


@pytest.mark.parametrize("name", ["ChannelFull", "InvalidChannelLayerError", "MessageTooLarge"])
def test_an_exception_is_where_applications_look_for_it(name: str) -> None:
    found = getattr(errors, name)

    assert getattr(channels.exceptions, name) is getattr(channels.layers, name) is found
    copy = pickle.loads(pickle.dumps(found("busy")))
    assert (type(copy), copy.args, type(copy).__module__) == (found, ("busy",), "channels.exceptions")


def test_the_engines_layer_may_be_configured_by_its_own_path() -> None:
    backend = "fairway.layers.memory.MemoryChannelLayer"
    with override_settings(CHANNEL_LAYERS={"default": {"BACKEND": backend, "CONFIG": {"capacity": 7}}}):
        layer = get_channel_layer()

    assert type(layer) is memory.MemoryChannelLayer
    assert layer.capacity == 7


def test_the_layer_for_one_process_is_the_engines() -> None:
    layer = InMemoryChannelLayer()

    assert isinstance(layer, memory.MemoryChannelLayer)
    assert hub_of(layer) is layer.hub


def test_an_option_that_makes_no_sense_is_a_mistake_in_the_settings() -> None:
    config = {"slow_consumers": {"a*": "drop"}}
    with (
        override_settings(CHANNEL_LAYERS={"default": {"BACKEND": MEMORY, "CONFIG": config}}),
        pytest.raises(InvalidChannelLayerError, match=r"^slow_consumers\['a\*'\] is 'drop': use one of close, "),
    ):
        get_channel_layer()


# What tests of applications look into --------------------------------------------------------------------------------


@pytest.fixture
def layer() -> InMemoryChannelLayer:
    return InMemoryChannelLayer(expiry=60)


@pytest.mark.parametrize("name", ["channels", "groups"])
def test_what_is_looked_into_is_the_hubs_own_and_cannot_be_replaced(layer: InMemoryChannelLayer, name: str) -> None:
    assert getattr(layer, name) is getattr(layer.hub, name)
    with pytest.raises(AttributeError, match=f"property '{name}' of 'InMemoryChannelLayer' object has no setter"):
        setattr(layer, name, {})


async def test_deleting_a_channel_behind_its_reader_loses_nothing(layer: InMemoryChannelLayer) -> None:
    reader = asyncio.ensure_future(layer.receive("c"))
    await passes()
    await layer.send("c", {"n": 1})

    del layer.channels["c"]

    assert await reader == {"n": 1}


async def test_items_of_a_channel_are_pairs_of_expiry_and_message(layer: InMemoryChannelLayer) -> None:
    layer.hub._clock = Clock()
    await layer.send("c", {"n": 1})

    assert layer.channels["c"].get_nowait() == (1060.0, {"n": 1})


async def test_groups_have_the_time_of_joining(layer: InMemoryChannelLayer) -> None:
    layer.hub._clock = clock = Clock()
    await layer.group_add("g", "c")
    clock.now += 5
    await layer.group_add("g", "d")
    assert layer.groups == {"g": {"c": 1000.0, "d": 1005.0}}

    await layer.group_discard("g", "c")
    await layer.group_discard("g", "d")
    await layer.group_discard("g", "never-there")

    assert layer.groups == {}


async def test_what_test_suites_of_others_wrap_is_there_and_works(layer: InMemoryChannelLayer) -> None:
    layer.hub._clock = clock = Clock()
    layer.expiry = 10.0
    await layer.send("c", {"n": 1})
    for group in "gh":
        await layer.group_add(group, "c")
        await layer.group_add(group, "d")
    layer._remove_from_groups("d")
    assert {group: list(members) for group, members in layer.groups.items()} == {"g": ["c"], "h": ["c"]}
    clock.now += 11
    layer._clean_expired()
    assert (layer.channels, layer.groups) == ({}, {})


async def test_sending_drops_what_has_expired_in_other_channels_too() -> None:
    layer = InMemoryChannelLayer(expiry=60, capacity=2)
    layer.hub._clock = clock = Clock()
    await layer.send("unread", {"n": 1})
    clock.now += 59
    await layer.send("other", {"n": 2})
    assert sorted(layer.channels) == ["other", "unread"]

    clock.now += 2
    await layer.send("other", {"n": 3})

    assert list(layer.channels) == ["other"]


async def test_a_channel_full_of_expired_messages_takes_new_ones() -> None:
    layer = InMemoryChannelLayer(expiry=60, capacity=1)
    layer.hub._clock = clock = Clock()
    await layer.send("c", {"n": 1})
    with pytest.raises(ChannelFull):
        await layer.send("c", {"n": 2})
    clock.now += 61

    await layer.send("c", {"n": 3})

    assert await layer.receive("c") == {"n": 3}
