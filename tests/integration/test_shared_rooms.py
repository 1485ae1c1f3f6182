"""A room over two server processes and the local layer: one of them runs it, and the other one when that is killed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import django
import pytest
from django.conf import settings
from websockets.asyncio.client import connect

from fairway.layers.local.place import given_place
from fairway.testing import ServerProcess
from tests.integration.rooms import DEADLINE, Client, received, two_servers
from tests.integration.shared_room import application
from tests.services.local import end_broker

pytestmark = pytest.mark.slow


def set_up(path: str) -> None:
    """What a server process begins with. Leases are short, so that little time passes."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    django.setup()
    config = {"socket": path, "lease": 1.0, "linger": 1.0}
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "fairway.layers.local.LocalChannelLayer", "CONFIG": config}}


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[list[ServerProcess]]:
    place = given_place(str(tmp_path / "broker.sock"))
    with two_servers(partial(set_up, place.path), application) as started:
        yield started
    end_broker(place)


async def heard(client: Client, condition: Callable[[Any], bool]) -> Any:
    async with asyncio.timeout(DEADLINE):
        while not condition(message := await received(client)):
            pass
    return message


def at(server: ServerProcess) -> Any:
    return connect(f"ws://127.0.0.1:{server.port.value}/")


async def test_one_process_runs_the_room_and_another_goes_on_with_it(servers: list[ServerProcess]) -> None:
    first, second = servers
    async with at(first) as one:
        process = (await heard(one, bool))["process"]
        assert process == first.pid
        async with at(second) as two:
            await two.send(json.dumps("from the other process"))
            message = await heard(two, lambda message: message["said"])
            assert (message["process"], message["said"]) == (first.pid, ["from the other process"])

            # What the other one's page sees of its own has been saved there.
            # A process that stands still for longer than its lease is overtaken, and notices before it says anything.
            os.kill(first.pid, signal.SIGSTOP)
            taken = await heard(two, lambda message: message["process"] == second.pid)
            os.kill(first.pid, signal.SIGCONT)
            assert taken["said"] == ["from the other process"]
            assert taken["ticks"] >= message["ticks"] - 10
            ticks = taken["ticks"]
            for _ in range(100):
                message = await received(two)
                assert message["process"] == second.pid
                assert message["ticks"] > ticks
                ticks = message["ticks"]
            assert (await heard(one, lambda message: message["ticks"] >= ticks))["process"] == second.pid

            # Killed: the other one again, and its page notices only a pause.
            second.kill()
            second.join(DEADLINE)
            message = await heard(one, lambda message: message["process"] == first.pid)
            assert message["said"] == ["from the other process"]
            assert message["ticks"] >= ticks - 10
