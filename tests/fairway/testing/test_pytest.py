"""`fairway.testing.pytest` as projects use it: pytest in processes of its own, over a real Redis and a real broker.

Two workers of pytest-xdist run one test each at the same time, which meet at a barrier of files.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.services.local import broker_process
from tests.services.redis import RedisServer

from fairway.layers.local.place import Place
from fairway.testing.isolation import with_own_prefix

DEADLINE = 60.0
REDIS = "fairway.layers.redis.RedisChannelLayer"
LOCAL = "fairway.layers.local.LocalChannelLayer"
PLUGIN = 'pytest_plugins = ["fairway.testing.pytest"]'
# No others are loaded, which take seconds.
PLUGINS = [
    f"-p{name}" for name in ("pytest_django.plugin", "pytest_asyncio.plugin", "xdist.plugin", "no:cacheprovider")
]

SETTINGS = """
    SECRET_KEY = "tests only"
    INSTALLED_APPS = ["channels"]
    BASE_DIR = {directory!r}
    CHANNEL_LAYERS = {{"default": {{"BACKEND": {backend!r}, "CONFIG": {options!r}}}}}
"""

# Each worker runs it once.
MEETING = """
    import asyncio, os, pathlib
    import pytest
    from channels.layers import get_channel_layer

    ME = os.environ["PYTEST_XDIST_WORKER"]
    HERE = pathlib.Path(__file__).parent

    async def meet(what):
        (HERE / f"{what}.{ME}").touch()
        async with asyncio.timeout(30):
            while len(list(HERE.glob(f"{what}.*"))) < 2:
                await asyncio.sleep(0.01)

    async def hear():
        layer = get_channel_layer()
        channel = await layer.new_channel()
        await layer.group_add("room", channel)
        await meet("joined")
        await layer.group_send("room", {"type": "said", "by": ME})
        await meet("said")
        await layer.group_send("room", {"type": "end", "by": ME})
        heard = []
        async with asyncio.timeout(30):
            while True:
                event = await layer.receive(channel)
                heard.append(event["by"])
                if event["type"] == "end" and event["by"] == ME:
                    return heard

    def test_nobody_else_is_heard():
        assert asyncio.run(hear()) == [ME, ME]
"""

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run pytest in a project with these files and layer, and return what it says."""

    def run(
        *arguments: str, backend: str, options: dict[str, Any] | None = None, settings: str = SETTINGS, **files: str
    ) -> subprocess.CompletedProcess[str]:
        files["settings"] = settings.format(directory=str(tmp_path), backend=backend, options=options or {})
        for name, text in files.items():
            (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
        (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\nDJANGO_SETTINGS_MODULE = settings\n")
        command = [sys.executable, "-m", "pytest", "-q", *PLUGINS, *arguments]
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "DJANGO_"))}
        environment |= {"PYTHONPATH": str(tmp_path), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=DEADLINE, check=False
        )

    return run


def passed(done: subprocess.CompletedProcess[str]) -> int:
    """How many tests have passed; no other must have run."""
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"(\d+) passed", done.stdout)
    assert found is not None, done.stdout
    return int(found[1])


# Workers of pytest-xdist --------------------------------------------------------------------------------------------


TWO_WORKERS = ("-n", "2", "--dist", "loadfile")
MEETINGS = {"test_first": MEETING, "test_second": MEETING}


@pytest.mark.slow
def test_without_the_plugin_workers_hear_each_other(run: Run, redis: RedisServer) -> None:
    done = run(*TWO_WORKERS, backend=REDIS, options={"hosts": [redis.url], "confirm": True}, **MEETINGS)
    assert "2 failed" in done.stdout, done.stdout + done.stderr
    assert "['gw0', 'gw1'," in done.stdout or "['gw1', 'gw0'," in done.stdout


@pytest.mark.slow
def test_workers_do_not_hear_each_other_over_one_redis(run: Run, redis: RedisServer) -> None:
    options = {"hosts": [redis.url], "confirm": True}
    assert passed(run(*TWO_WORKERS, backend=REDIS, options=options, conftest=PLUGIN, **MEETINGS)) == 2


@pytest.mark.slow
def test_workers_do_not_hear_each_other_over_one_broker(run: Run, tmp_path: Path) -> None:
    place = Place(str(tmp_path / "broker.sock"), is_ours=False)
    broker = broker_process(place)
    try:
        options = {"socket": place.path, "confirm": True}
        assert passed(run(*TWO_WORKERS, backend=LOCAL, options=options, conftest=PLUGIN, **MEETINGS)) == 2
    finally:
        broker.terminate()
        broker.wait(DEADLINE)


# Fixtures -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_each_test_begins_with_an_empty_layer_and_an_empty_list(run: Run, redis: RedisServer) -> None:
    tests = """
        import asyncio
        import pytest
        from fairway.layers.sync import group_send, send
        from fairway.testing import Sent

        @pytest.mark.parametrize("number", range(3))
        async def test_asynchronous(channel_layer, sent, number):
            channel = await channel_layer.new_channel()
            await channel_layer.group_add("room", channel)
            await channel_layer.send("jobs", {"type": "job", "number": number})
            await channel_layer.send("jobs", {"type": "left over"})
            await channel_layer.group_send("room", {"type": "said"})
            assert sent == [
                Sent("send", "jobs", {"type": "job", "number": number}),
                Sent("send", "jobs", {"type": "left over"}),
                Sent("group_send", "room", {"type": "said"}),
            ]
            async with asyncio.timeout(30):
                assert await channel_layer.receive(channel) == {"type": "said"}
                assert await channel_layer.receive("jobs") == {"type": "job", "number": number}

        def test_synchronous(channel_layer, sent):
            group_send("room", {"type": "said"})
            send("jobs", {"type": "job"})
            assert [record.to for record in sent] == ["room", "jobs"]

        def test_without_the_layer(sent):
            assert sent == []
            group_send("room", {"type": "said"})
            assert sent.to("room") == [{"type": "said"}]
    """
    assert passed(run(backend=REDIS, options={"hosts": [redis.url]}, conftest=PLUGIN, test_fixtures=tests)) == 5


@pytest.mark.slow
def test_layers_that_settings_replace_are_their_own_too_and_disconnect(run: Run, redis: RedisServer) -> None:
    tests = """
        import asyncio, os, re
        import redis
        from django.conf import settings as in_force
        from django.test import override_settings
        from channels.layers import channel_layers, get_channel_layer

        URL = in_force.CHANNEL_LAYERS["default"]["CONFIG"]["hosts"][0]
        OTHER = {
            "default": {**in_force.CHANNEL_LAYERS["default"], "CONFIG": {"hosts": [URL], "prefix": "own"}},
            "memory": {"BACKEND": "channels.layers.InMemoryChannelLayer"},
        }

        def prefix():
            return in_force.CHANNEL_LAYERS["default"]["CONFIG"]["prefix"]

        async def use():
            layer = get_channel_layer()
            await layer.group_add("room", await layer.new_channel())
            return layer

        async def connections(count):
            with redis.Redis.from_url(URL, decode_responses=True) as client:
                async with asyncio.timeout(30):
                    while len([one for one in client.client_list() if one["db"] == "7"]) != count + 1:
                        await asyncio.sleep(0.01)

        async def test_replaced(channel_layer):
            assert re.fullmatch("fairway-test-main-[0-9a-f]{8}", prefix())
            first = await use()
            await connections(1)
            with override_settings(CHANNEL_LAYERS=OTHER):
                assert re.fullmatch("own-test-main-[0-9a-f]{8}", prefix())
                assert in_force.CHANNEL_LAYERS["memory"] == OTHER["memory"]
                assert await use() is not first
                await connections(1)
            assert prefix().startswith("fairway-test-main-")
            assert get_channel_layer() is not first
            await connections(0)

        async def test_replaced_by_the_fixture(channel_layer, settings):
            await use()
            settings.CHANNEL_LAYERS = OTHER
            assert prefix().startswith("own-test-main-")
            await use()
            await connections(1)

        async def test_afterwards():
            assert prefix().startswith("fairway-test-main-")
            await connections(0)
    """
    # In a database of this test, by which its connections are told from others.
    done = run(backend=REDIS, options={"hosts": [f"{redis.url}/7"]}, conftest=PLUGIN, test_replacing=tests)
    assert passed(done) == 3


@pytest.mark.slow
def test_it_is_in_nobodys_way(run: Run) -> None:
    """Where it is not asked for, where there is no layer, and where there are no settings at all."""
    tests = """
        import sys
        def test_nothing_loads_itself():
            assert "fairway.testing.pytest" not in sys.modules
    """
    assert passed(run(backend=LOCAL, test_without=tests)) == 1
    tests = """
        import pytest
        from django.conf import settings
        def test_no_layers(sent):
            assert not getattr(settings, "CHANNEL_LAYERS", None)
            assert sent == []
        @pytest.mark.xfail(reason="CHANNEL_LAYERS has no 'default'", raises=pytest.fail.Exception, strict=True)
        def test_no_layer(channel_layer): ...
    """
    done = run(backend="", settings="SECRET_KEY = 'tests only'", conftest=PLUGIN, test_without=tests)
    assert passed(done) == 1
    assert "1 xfailed" in done.stdout
    done = run(
        "-pno:pytest_django.plugin",
        "-c",
        os.devnull,
        backend="",
        conftest=PLUGIN,
        test_without="def test_nothing(): ...",
    )
    assert passed(done) == 1


# Prefixes -----------------------------------------------------------------------------------------------------------

NAME = "test-gw3-0123abcd"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"BACKEND": REDIS}, {"BACKEND": REDIS, "CONFIG": {"prefix": f"fairway-{NAME}"}}),
        (
            {"BACKEND": LOCAL, "CONFIG": {"prefix": "shop", "capacity": 5}},
            {"BACKEND": LOCAL, "CONFIG": {"prefix": f"shop-{NAME}", "capacity": 5}},
        ),
        (
            {"BACKEND": REDIS, "CONFIG": {"prefix": f"shop-{NAME}"}, "TEST_CONFIG": {}},
            {
                "BACKEND": REDIS,
                "CONFIG": {"prefix": f"shop-{NAME}"},
                "TEST_CONFIG": {"prefix": f"fairway-{NAME}"},
            },
        ),
        (
            {
                "BACKEND": "fairway.layers.forwarding.ForwardingChannelLayer",
                "CONFIG": {"old": {"BACKEND": "no.such.Layer"}, "new": {"BACKEND": REDIS}, "lead": "new"},
            },
            {
                "BACKEND": "fairway.layers.forwarding.ForwardingChannelLayer",
                "CONFIG": {
                    "old": {"BACKEND": "no.such.Layer"},
                    "new": {"BACKEND": REDIS, "CONFIG": {"prefix": f"fairway-{NAME}"}},
                    "lead": "new",
                },
            },
        ),
        ({"BACKEND": "channels.layers.InMemoryChannelLayer"}, {"BACKEND": "channels.layers.InMemoryChannelLayer"}),
        ({"BACKEND": 5, "CONFIG": 5}, {"BACKEND": 5, "CONFIG": 5}),
        ("nonsense", "nonsense"),
    ],
)
def test_prefixes_of_layers_that_take_one(given: object, expected: object) -> None:
    assert with_own_prefix({"default": given}, NAME) == {"default": expected}
    assert with_own_prefix({"default": expected}, NAME) == {"default": expected}


def test_a_setting_that_is_no_dictionary_is_left_to_the_checks() -> None:
    assert with_own_prefix(None, NAME) is None
