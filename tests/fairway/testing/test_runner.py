"""`fairway.testing.runner` as projects use it: `manage.py test --parallel`, in processes of its own, over a real Redis.

Two test cases meet at a barrier of files, so they run at the same time, in two processes.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from tests.services.redis import RedisServer

DEADLINE = 60.0
START_METHODS = sorted({"fork", "spawn"} & set(multiprocessing.get_all_start_methods()))

SETTINGS = """
    SECRET_KEY = "tests only"
    INSTALLED_APPS = ["channels"]
    CHANNEL_LAYERS = {{
        "default": {{
            "BACKEND": "fairway.layers.redis.RedisChannelLayer",
            "CONFIG": {{"hosts": [{url!r}], "prefix": "shop", "confirm": True}},
        }}
    }}
    TEST_RUNNER = {runner!r}
"""

TESTS = """
    import asyncio, pathlib
    from django.conf import settings
    from django.test import SimpleTestCase
    from channels.layers import get_channel_layer

    HERE = pathlib.Path(__file__).parent

    async def meet(what, me):
        (HERE / f"{what}.{me}").touch()
        async with asyncio.timeout(30):
            while len(list(HERE.glob(f"{what}.*"))) < 2:
                await asyncio.sleep(0.01)

    async def hear(me):
        layer = get_channel_layer()
        channel = await layer.new_channel()
        await layer.group_add("room", channel)
        await meet("joined", me)
        await layer.group_send("room", {"type": "said", "by": me})
        await meet("said", me)
        await layer.group_send("room", {"type": "end", "by": me})
        heard = []
        async with asyncio.timeout(30):
            while True:
                event = await layer.receive(channel)
                heard.append(event["by"])
                if event["type"] == "end" and event["by"] == me:
                    return heard

    class Meeting:
        def test_nobody_else_is_heard(self):
            prefix = settings.CHANNEL_LAYERS["default"]["CONFIG"]["prefix"]
            (HERE / f"prefix.{prefix}").touch()
            self.assertEqual(set(asyncio.run(hear(type(self).__name__))), {type(self).__name__})

    class First(Meeting, SimpleTestCase): pass
    class Second(Meeting, SimpleTestCase): pass
"""


def run(folder: Path, redis: RedisServer, runner: str, start_method: str) -> subprocess.CompletedProcess[str]:
    """`manage.py test --parallel 2` in a project with these tests."""
    settings = SETTINGS.format(url=redis.url, runner=runner)
    for name, text in (("settings", settings), ("test_meeting", TESTS)):
        (folder / f"{name}.py").write_text(textwrap.dedent(text))
    command = f"""
        import multiprocessing, sys
        if __name__ == "__main__":
            multiprocessing.set_start_method({start_method!r})
            from django.core.management import execute_from_command_line
            execute_from_command_line(["manage.py", "test", "--parallel", "2"])
    """
    (folder / "manage.py").write_text(textwrap.dedent(command))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment |= {"DJANGO_SETTINGS_MODULE": "settings"}
    return subprocess.run(
        [sys.executable, "manage.py"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("start_method", START_METHODS)
def test_processes_of_a_parallel_run_do_not_hear_each_other(
    tmp_path: Path, redis: RedisServer, start_method: str
) -> None:
    done = run(tmp_path, redis, "fairway.testing.runner.DiscoverRunner", start_method)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "Ran 2 tests" in done.stderr
    prefixes = sorted(path.name.removeprefix("prefix.").rpartition("-")[0] for path in tmp_path.glob("prefix.*"))
    assert prefixes == ["shop-test-1", "shop-test-2"]
