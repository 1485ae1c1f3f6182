"""The contract of channel layers: names, capacities, and what the base says of what a layer lacks."""

from __future__ import annotations

import re
import warnings
from typing import Any

import pytest

from fairway.layers.contract import BaseChannelLayer
from fairway.layers.errors import ChannelFull, MessageTooLarge

# Names --------------------------------------------------------------------------------------------------------

GOOD_GROUPS = ["a", "chat_1", "a-b.c", "9" * 99]
GOOD_CHANNELS = [*GOOD_GROUPS, "specific.abc!def", "prefix!", "a!" + "b" * 97]
BAD_GROUPS = ["", "a b", "a!b", "a" * 100, "caf\u00e9", "a\n", "a\u0663", "a/b", "a?b", None, 7, b"bytes"]
BAD_CHANNELS = [
    "",
    "!a",
    "a!b!c",
    "a b",
    "a" * 100,
    "a?b",
    "a\n",
    "a!b\n",
    "a!\n",
    "a\u0663",
    "a!\u00e9",
    "a!b c",
    None,
    7,
]


@pytest.mark.parametrize("name", GOOD_GROUPS)
def test_a_valid_group_name_is_accepted(name: str) -> None:
    assert BaseChannelLayer().require_valid_group_name(name) is True


@pytest.mark.parametrize("name", BAD_GROUPS)
def test_any_other_group_name_is_refused(name: Any) -> None:
    layer = BaseChannelLayer()
    with pytest.raises(TypeError, match=layer.invalid_name_error.format("Group")):
        layer.require_valid_group_name(name)


@pytest.mark.parametrize("name", GOOD_CHANNELS)
def test_a_valid_channel_name_is_accepted(name: str) -> None:
    assert BaseChannelLayer().require_valid_channel_name(name) is True


@pytest.mark.parametrize("name", BAD_CHANNELS)
def test_any_other_channel_name_is_refused(name: Any) -> None:
    layer = BaseChannelLayer()
    with pytest.raises(TypeError, match=layer.invalid_name_error.format("Channel")):
        layer.require_valid_channel_name(name)


def test_a_process_local_name_is_received_from_up_to_its_mark_only() -> None:
    layer = BaseChannelLayer()

    assert layer.require_valid_channel_name("prefix!", receive=True)
    assert layer.require_valid_channel_name("plain", receive=True)
    with pytest.raises(TypeError, match=r"must end at the !$"):
        layer.require_valid_channel_name("prefix!local", receive=True)


def test_a_list_of_names_has_at_least_one() -> None:
    layer = BaseChannelLayer()

    assert layer.valid_channel_names(iter(["a", "b!"]), receive=True) is True
    with pytest.raises(AssertionError, match=r"^names must be a list of channel names that is not empty$"):
        layer.valid_channel_names([])
    with pytest.raises(TypeError, match=r"^Channel name is not valid"):
        layer.valid_channel_names(["a", "b b"])


@pytest.mark.parametrize(("name", "expected"), [("a!b", "a!"), ("a!", "a!"), ("a", "a"), ("a!b!c", "a!")])
def test_the_part_of_a_name_that_is_not_local(name: str, expected: str) -> None:
    assert BaseChannelLayer().non_local_name(name) == expected


@pytest.mark.parametrize("name", ["valid_channel_name", "valid_group_name"])
def test_the_old_names_still_work_and_warn(name: str) -> None:
    layer = BaseChannelLayer()
    with pytest.warns(DeprecationWarning, match=f"^{name} is deprecated: call require_{name}$") as caught:
        assert getattr(layer, name)("fine")
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(TypeError, match="name is not valid"):
            getattr(layer, name)("not fine")


# Capacities ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compiled", [True, False])
def test_the_first_pattern_that_matches_sets_the_capacity(compiled: bool) -> None:
    layer = BaseChannelLayer(
        capacity=100,
        channel_capacity={"http.request": 200, "http.response*": 10, re.compile(r"^websocket\.send!.+"): 20, "*.x": 1},
    )
    if compiled:
        layer.channel_capacity = layer.compile_capacities(layer.channel_capacity)

    assert layer.get_capacity("http.request") == 200
    assert layer.get_capacity("http.request2") == 100
    assert layer.get_capacity("http.response!1") == 10
    assert layer.get_capacity("websocket.send!abc") == 20
    assert layer.get_capacity("websocket.send") == 100
    assert layer.get_capacity("http.response.x") == 10
    assert layer.get_capacity("a.x") == 1


def test_a_layer_that_does_not_compile_its_capacities_has_them_too() -> None:
    layer = BaseChannelLayer(capacity=100, channel_capacity={"a*": 1})

    assert (layer.get_capacity("ab"), layer.get_capacity("b")) == (1, 100)
    assert BaseChannelLayer(capacity=3).get_capacity("b") == 3


# The contract -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda layer: layer.send("a", {}), r"BaseChannelLayer has no send\(\)"),
        (lambda layer: layer.receive("a"), r"BaseChannelLayer has no receive\(\)"),
        (lambda layer: layer.new_channel(), r"BaseChannelLayer has no new_channel\(\)"),
        (lambda layer: layer.flush(), "it lacks the flush extension"),
        (lambda layer: layer.group_add("g", "a"), "it lacks the groups extension"),
        (lambda layer: layer.group_discard("g", "a"), "it lacks the groups extension"),
        (lambda layer: layer.group_send("g", {}), "it lacks the groups extension"),
    ],
)
async def test_the_base_does_nothing_itself(call: Any, message: str) -> None:
    with pytest.raises(NotImplementedError, match=message):
        await call(BaseChannelLayer())


def test_the_exceptions_are_on_the_layer() -> None:
    layer = BaseChannelLayer()

    assert layer.ChannelFull is ChannelFull
    assert layer.MessageTooLarge is MessageTooLarge
    assert layer.extensions == []
