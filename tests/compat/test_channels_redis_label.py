"""The distribution `channels-redis` of ours: its wheel and its names, channels_redis' own tests, a chat of processes.

Only the label is ours, not the environment: nothing is installed. It is put in front of what is.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fairway.layers.errors import InvalidChannelLayerError
from fairway.layers.hub_layer import hub_of
from fairway.layers.redis import RedisChannelLayer as FairwayLayer
from tests.compat.environment import ROOT, run
from tests.compat.packages.serving import PROJECTS, Project
from tests.services.redis import RedisServer, redis_server
from tests.services.sentinel import sentinel
from tests.suites.tools import copy_of_source

SOURCE = ROOT / "compat" / "channels_redis"
RELEASE = "channels-redis==4.3.0", "740ee7b54f0e28cf2264a940a24453d3f00526a96931f911fcb69228ef245dd2"
COUNT, EXPECTED_TO_FAIL = 118, 4

# Imported in passing: to all other tests the distribution is not installed.
sys.path.insert(0, str(SOURCE))
try:
    from channels_redis.core import ChannelFull, RedisChannelLayer
    from channels_redis.pubsub import RedisPubSubChannelLayer
    from channels_redis.utils import decode_hosts
finally:
    sys.path.remove(str(SOURCE))

LAYERS = [RedisChannelLayer, RedisPubSubChannelLayer]

# Of channels_redis' own tests, those that do not hold, and why.
INSIDES = "looks into the layer's insides, which are others"
LEVEL = "expects channels over capacity to be logged as INFO; a lost message is a WARNING here"
DIFFERENT = {
    "test_core.py::test_receive_buffer_respects_capacity": INSIDES,
    "test_sentinel.py::test_receive_buffer_respects_capacity": INSIDES,
    "test_pubsub.py::test_loop_instance_channel_layer_reference": INSIDES,
    "test_pubsub_sentinel.py::test_loop_instance_channel_layer_reference": INSIDES,
    "test_pubsub.py::test_multi_event_loop_garbage_collection": INSIDES,
    "test_pubsub_sentinel.py::test_multi_event_loop_garbage_collection": INSIDES,
    "test_pubsub.py::test_auto_reconnect": f"{INSIDES}; tests/fairway/layers/redis cuts our connections",
    "test_pubsub_sentinel.py::test_auto_reconnect": f"{INSIDES}; tests/fairway/layers/redis cuts our connections",
    "test_pubsub.py::test_receive_on_non_owned_general_channel": "sends a text instead of a dict",
    "test_core.py::test_group_send_capacity": LEVEL,
    "test_core.py::test_group_send_capacity_multiple_channels": LEVEL,
    "test_sentinel.py::test_group_send_capacity": LEVEL,
    "test_sentinel.py::test_group_send_capacity_multiple_channels": LEVEL,
}


def test_both_names_are_our_layer():
    for layer_class in LAYERS:
        layer = layer_class()
        assert isinstance(layer, FairwayLayer)
        assert hub_of(layer) is layer.hub, "consumers are reached straight"
        assert layer.client_prefix == layer.node.name
        assert layer.extensions == ["groups", "flush"]
    assert FairwayLayer.ChannelFull is ChannelFull


@pytest.mark.parametrize("layer_class", LAYERS)
def test_settings_of_channels_redis_are_taken(layer_class: Any):
    hosts: list[Any] = [("localhost", 6379), "redis://localhost:6380/1", {"address": "rediss://localhost"}]
    layer = layer_class(
        hosts=hosts, prefix="site", symmetric_encryption_keys=["key"], capacity=5, expiry=7, channel_capacity={"a*": 1}
    )
    assert layer.hosts == decode_hosts(hosts)
    assert (layer.ring_size, layer.prefix, layer.capacity, layer.expiry) == (3, "site", 5, 7)
    assert layer.get_capacity("abc") == 1
    assert layer._group_key("room") == b"site:group:room"


@pytest.mark.parametrize(
    ("layer_class", "options", "complaint"),
    [
        (
            RedisChannelLayer,
            {"serializer_format": "json"},
            "serializer_format is not supported: messages travel as Mes",
        ),
        (RedisPubSubChannelLayer, {"on_reconnect": print}, "on_reconnect is not supported: channels_redis 4 never "),
        (RedisPubSubChannelLayer, {"on_disconnect": print}, "on_disconnect is not supported: channels_redis 4 never "),
        (RedisChannelLayer, {"symmetric_encryption_keys": "key"}, "symmetric_encryption_keys is a list of keys"),
    ],
)
def test_settings_that_cannot_be_taken_are_refused_in_a_sentence(
    layer_class: Any, options: dict[str, Any], complaint: str
):
    with pytest.raises(InvalidChannelLayerError, match=complaint):
        layer_class(**options)


async def test_a_client_of_redis_py_for_commands_of_ones_own(redis: RedisServer):
    layer = RedisChannelLayer(hosts=[redis.address])
    async with layer.connection(0) as client:
        assert await client.ping()
    for index in (-1, 1):
        with pytest.raises(ValueError, match=rf"^there are 1 hosts, and none has the index {index}$"):
            layer.connection(index)


def test_a_message_in_the_form_of_channels_redis():
    layer = RedisChannelLayer(symmetric_encryption_keys=["key"])
    data = layer.serialize({"type": "a"})
    assert layer.deserialize(data) == {"type": "a"}
    assert RedisPubSubChannelLayer().serialize({"type": "a"}) == b"\x81\xa4type\xa1a"


@pytest.mark.slow
def test_the_wheel_has_the_modules_and_requires_nothing_of_ours(tmp_path: Path):
    build = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-deps"]
    run([*build, "--no-build-isolation", "--wheel-dir", str(tmp_path), str(SOURCE)])
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name == "channels_redis-4.3.0+fairway-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if "dist-info" not in name}
        (metadata,) = [archive.read(name).decode() for name in archive.namelist() if name.endswith("METADATA")]
    assert names == {f"channels_redis/{name}.py" for name in ("__init__", "core", "pubsub", "serializers", "utils")}
    required = re.findall(r"^Requires-Dist: ([\w-]+)", metadata, re.MULTILINE)
    assert required == ["hiredis", "ormsgpack", "redis", "cryptography"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_channels_redis_own_tests(tmp_path: Path):
    """As they stand, but for where Redis is."""
    with redis_server() as redis, sentinel(redis, "sentinel", "channels_redis") as watching:
        folder = copy_of_source(*RELEASE, tmp_path)
        for path in folder.glob("channels_redis/*"):
            path.unlink()
        (folder / "channels_redis").rmdir()
        # It has become a part of Python.
        (folder / "async_timeout.py").write_text("from asyncio import timeout\n")
        for path in folder.glob("tests/*.py"):
            source = path.read_text()
            if "TEST_HOSTS" in source:
                # Where none is named, the usual port is meant.
                source = re.sub(r"(Redis(?:PubSub)?ChannelLayer\()(?!\s*hosts)", r"\1hosts=TEST_HOSTS, ", source)
            source = source.replace("26379", "@@").replace("6379", str(redis.port))
            path.write_text(source.replace("@@", str(watching.port)))
        options = ["-p", "no:cacheprovider", "-o", "timeout=100", "-rA", "--tb=short", "-W", "ignore"]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *options],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(SOURCE)},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=800,
        )

    results = re.findall(r"^(PASSED|FAILED|ERROR|XFAIL|XPASS) tests/(\S+)", done.stdout, re.MULTILINE)
    assert {name for word, name in results if word in ("FAILED", "ERROR")} == DIFFERENT.keys(), done.stdout[-6000:]
    counts = Counter(word for word, _ in results)
    # Those that their authors expect to fail hold here, or contradict themselves.
    assert counts["XPASS"] + counts["XFAIL"] == EXPECTED_TO_FAIL, counts
    assert counts["PASSED"] == COUNT - EXPECTED_TO_FAIL - len(DIFFERENT), counts


@pytest.fixture(params=["core", "pubsub"])
def chat(request: pytest.FixtureRequest, redis: RedisServer, tmp_path: Path) -> Project:
    """The chat that is tested with channels_redis itself, in this environment."""
    environment: Any = SimpleNamespace(python=sys.executable, scripts=Path(sys.executable).parent)
    project = Project(environment, tmp_path / "db.sqlite3", "chat", LAYER=request.param, REDIS_PORT=redis.port)
    project.variables["PYTHONPATH"] = os.pathsep.join(map(str, (SOURCE, PROJECTS)))
    return project


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_chat_between_processes(chat: Project):
    with (
        chat.served() as one,
        chat.served() as other,
        one.connect("/rooms/hall/") as ann,
        other.connect("/sync-rooms/hall/") as eve,
    ):
        assert "channel" in ann.receive()
        channel = eve.receive()["channel"]
        for speaker, text in ((ann, "from the first"), (eve, "from a thread of the other")):
            speaker.send({"text": text})
            for listener in (ann, eve):
                assert listener.receive() == {"text": text}
        ann.send({"to": channel, "text": "to one"})
        assert eve.receive() == {"text": "to one"}
        chat.run("-m", "chat.announce", "hall", "3")
        for listener in (ann, eve):
            assert [listener.receive()["text"] for _ in range(3)] == [f"number {number}" for number in range(3)]
