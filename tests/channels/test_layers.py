"""`channels.layers`: the registry, the rules for names and capacities, and the layer for one process."""

from __future__ import annotations

import asyncio
import random
import re
import threading
import warnings
from typing import Any

import pytest
from django.test import override_settings

from channels import DEFAULT_CHANNEL_LAYER
from channels.exceptions import ChannelFull, InvalidChannelLayerError, MessageTooLarge
from channels.layers import (
    BaseChannelLayer,
    ChannelLayerManager,
    InMemoryChannelLayer,
    channel_layers,
    get_channel_layer,
)
from fairway.delivery import Inbox, Member
from fairway.layers.hub import hub_of
from tests.fairway.loops import LoopFactory, LoopThread, on_each_loop, passes, run

MEMORY = "channels.layers.InMemoryChannelLayer"


class RaisesKeyError(BaseChannelLayer):
    def __init__(self) -> None:
        raise KeyError("from the backend itself")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def layer() -> InMemoryChannelLayer:
    return InMemoryChannelLayer(expiry=60, capacity=5)


@pytest.fixture
def clock(layer: InMemoryChannelLayer) -> Clock:
    layer.hub._clock = clock = Clock()
    return clock


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


def test_the_first_pattern_that_matches_sets_the_capacity() -> None:
    layer = InMemoryChannelLayer(
        capacity=100,
        channel_capacity={"http.request": 200, "http.response*": 10, re.compile(r"^websocket\.send!.+"): 20, "*.x": 1},
    )

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


async def test_channel_capacity_bounds_the_channels_it_names() -> None:
    layer = InMemoryChannelLayer(capacity=3, channel_capacity={"small.*": 1})
    await layer.send("small.one", {"n": 0})

    with pytest.raises(ChannelFull, match=r"^small\.one$"):
        await layer.send("small.one", {"n": 1})
    for number in range(3):
        await layer.send("large", {"n": number})
    with pytest.raises(ChannelFull, match=r"^large$"):
        await layer.send("large", {"n": 3})


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


def test_the_exceptions_are_on_the_layer(layer: InMemoryChannelLayer) -> None:
    assert layer.ChannelFull is ChannelFull
    assert layer.MessageTooLarge is MessageTooLarge
    assert layer.extensions == ["groups", "flush"]


# The layer for one process ------------------------------------------------------------------------------------


@on_each_loop
def test_send_and_receive(new_loop: LoopFactory) -> None:
    async def main() -> None:
        layer = InMemoryChannelLayer()
        await layer.send("c", {"type": "a", "text": "b"})
        await layer.send("c", {"type": "a", "text": "c"})
        assert await layer.receive("c") == {"type": "a", "text": "b"}
        assert await layer.receive("c") == {"type": "a", "text": "c"}
        assert layer.channels == {}

    run(new_loop, main())


async def test_a_message_is_copied_when_it_is_sent(layer: InMemoryChannelLayer) -> None:
    message = {"type": "a", "items": [1]}
    await layer.send("c", message)
    message["items"].append(2)

    assert await layer.receive("c") == {"type": "a", "items": [1]}


async def test_every_member_of_a_group_gets_a_copy_of_its_own(layer: InMemoryChannelLayer) -> None:
    await layer.group_add("g", "a")
    await layer.group_add("g", "b")
    await layer.group_send("g", {"type": "x", "items": []})

    (await layer.receive("a"))["items"].append(1)

    assert await layer.receive("b") == {"type": "x", "items": []}


async def test_a_full_channel_raises_with_its_name(layer: InMemoryChannelLayer) -> None:
    for number in range(5):
        await layer.send("c", {"n": number})

    with pytest.raises(ChannelFull, match=r"^c$"):
        await layer.send("c", {"n": 5})


async def test_channels_of_one_prefix_do_not_share_their_capacity(layer: InMemoryChannelLayer) -> None:
    for number in range(5):
        await layer.send("p!a", {"n": number})

    await layer.send("p!b", {"n": 0})

    assert await layer.receive("p!b") == {"n": 0}


async def test_a_group_send_to_a_full_channel_is_silent(layer: InMemoryChannelLayer) -> None:
    await layer.group_add("g", "c")

    for number in range(7):
        await layer.group_send("g", {"n": number})

    assert layer.channels["c"].qsize() == 5


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ("text", "^message is not a dict$"),
        ({"__asgi_channel__": "x"}, "^the key __asgi_channel__ is reserved: use another one$"),
    ],
)
async def test_a_message_is_a_dict_without_the_reserved_key(
    layer: InMemoryChannelLayer, message: Any, error: str
) -> None:
    with pytest.raises(AssertionError, match=error):
        await layer.send("c", message)
    with pytest.raises(AssertionError, match=error):
        await layer.group_send("g", message)


@pytest.mark.parametrize(
    "call",
    [
        lambda layer: layer.send("a b", {}),
        lambda layer: layer.receive("a b"),
        lambda layer: layer.group_add("g", "a b"),
        lambda layer: layer.group_add("a b", "c"),
        lambda layer: layer.group_discard("g", "a b"),
        lambda layer: layer.group_discard("a b", "c"),
        lambda layer: layer.group_send("a b", {}),
        lambda layer: layer.group_broadcast("a b", "text"),
    ],
)
async def test_every_call_checks_its_names(layer: InMemoryChannelLayer, call: Any) -> None:
    with pytest.raises(TypeError, match="name is not valid"):
        await call(layer)
    assert (layer.channels, layer.groups) == ({}, {})


async def test_new_channel_names_are_valid_and_seeded_by_random(layer: InMemoryChannelLayer) -> None:
    state = random.getstate()
    first = await layer.new_channel()
    random.setstate(state)

    assert await layer.new_channel() == first
    assert await layer.new_channel() != first
    assert re.fullmatch(r"specific\.\.inmemory![a-zA-Z]{12}", first)
    assert re.fullmatch(r"test\.inmemory![a-zA-Z]{12}", await layer.new_channel("test"))
    assert layer.require_valid_channel_name(first)


async def test_a_reader_shows_in_channels_and_leaves_when_it_is_served(layer: InMemoryChannelLayer) -> None:
    reader = asyncio.ensure_future(layer.receive("c"))
    await passes()
    assert "c" in layer.channels

    await layer.send("c", {"n": 1})

    assert await reader == {"n": 1}
    assert "c" not in layer.channels


async def test_deleting_a_channel_behind_its_reader_loses_nothing(layer: InMemoryChannelLayer) -> None:
    reader = asyncio.ensure_future(layer.receive("c"))
    await passes()
    await layer.send("c", {"n": 1})

    del layer.channels["c"]

    assert await reader == {"n": 1}


async def test_items_of_a_channel_are_pairs_of_expiry_and_message(layer: InMemoryChannelLayer, clock: Clock) -> None:
    await layer.send("c", {"n": 1})

    assert layer.channels["c"].get_nowait() == (1060.0, {"n": 1})


async def test_groups_have_the_time_of_joining(layer: InMemoryChannelLayer, clock: Clock) -> None:
    await layer.group_add("g", "c")
    clock.now += 5
    await layer.group_add("g", "d")
    assert layer.groups == {"g": {"c": 1000.0, "d": 1005.0}}

    await layer.group_discard("g", "c")
    await layer.group_discard("g", "d")
    await layer.group_discard("g", "never-there")

    assert layer.groups == {}


async def test_a_message_never_read_expires_and_takes_its_channel_out_of_groups(
    layer: InMemoryChannelLayer, clock: Clock
) -> None:
    layer.expiry = 0.1
    await layer.group_add("g", "c")
    await layer.send("c", {"n": 1})
    clock.now += 0.2

    await layer.send("other", {"n": 2})
    assert await layer.receive("other") == {"n": 2}

    assert (layer.channels, layer.groups) == ({}, {})


async def test_memberships_expire(layer: InMemoryChannelLayer, clock: Clock) -> None:
    layer.group_expiry = 10.5
    assert layer.group_expiry == 10.5
    await layer.group_add("g", "c")
    clock.now += 11

    await layer.group_send("g", {"n": 1})

    assert (layer.channels, layer.groups) == ({}, {})


async def test_what_test_suites_of_others_wrap_is_there_and_works(layer: InMemoryChannelLayer, clock: Clock) -> None:
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


async def test_expiry_with_the_real_clock() -> None:
    layer = InMemoryChannelLayer(expiry=-0.001)
    await layer.send("c", {"n": 1})
    await layer.send("d", {"n": 2})

    assert "c" not in layer.channels


async def test_flush_and_close(layer: InMemoryChannelLayer) -> None:
    await layer.send("c", {"n": 1})
    await layer.group_add("g", "c")

    await layer.flush()
    await layer.close()

    assert (layer.channels, layer.groups) == ({}, {})


@on_each_loop
def test_cancelled_receives_lose_nothing(new_loop: LoopFactory) -> None:
    async def main() -> list[int]:
        layer = InMemoryChannelLayer()
        got = []
        for number in range(20):
            reader = asyncio.ensure_future(layer.receive("c"))
            await passes(number % 3)
            await layer.send("c", {"n": number})
            await passes(number % 2)
            reader.cancel()
            try:
                got.append((await reader)["n"])
            except asyncio.CancelledError:
                continue
        while "c" in layer.channels:
            got.append((await layer.receive("c"))["n"])
        return got

    assert run(new_loop, main()) == list(range(20))


@pytest.mark.parametrize(
    ("data", "event"), [({"text_data": "a"}, {"text": "a"}), ({"bytes_data": b"a"}, {"bytes": b"a"})]
)
async def test_a_broadcast_to_a_channel_without_a_consumer_is_a_message(
    layer: InMemoryChannelLayer, data: dict[str, Any], event: dict[str, Any]
) -> None:
    await layer.group_add("g", "c")
    await layer.group_add("g", "d")

    await layer.group_broadcast("g", **data, exclude=["d"])

    assert await layer.receive("c") == {"type": "fairway.broadcast", **event}
    assert "d" not in layer.channels


async def test_a_broadcast_has_text_or_bytes(layer: InMemoryChannelLayer) -> None:
    with pytest.raises(ValueError, match=r"^a payload has either text or bytes: pass one of them$"):
        await layer.group_broadcast("g")


async def test_a_consumer_attached_to_the_hub_gets_what_is_sent(layer: InMemoryChannelLayer) -> None:
    name = await layer.new_channel()
    hub = hub_of(layer)
    assert hub is layer.hub
    member = Member(name, Inbox(asyncio.get_running_loop()), capacity=1)
    hub.attach(member)
    await layer.send(name, {"n": 1})

    with pytest.raises(ChannelFull):
        await layer.send(name, {"n": 2})

    assert await member.inbox.get() == {"n": 1}


@on_each_loop
def test_one_layer_serves_several_event_loops(new_loop: LoopFactory) -> None:
    layer = InMemoryChannelLayer(capacity=1000)

    async def echo(count: int) -> None:
        for _ in range(count):
            await layer.send("answers", await layer.receive("questions"))

    async def ask(count: int) -> list[int]:
        for number in range(count):
            await layer.send("questions", {"n": number})
        return sorted([(await layer.receive("answers"))["n"] for _ in range(count)])

    with LoopThread(new_loop) as one, LoopThread(new_loop) as two:
        echoes = [one.submit(echo(100)), two.submit(echo(100))]
        assert run(new_loop, ask(200)) == list(range(200))
        for future in echoes:
            future.result(timeout=10)

    assert layer.channels == {}


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
