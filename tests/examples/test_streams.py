"""The consumers of docs/howto/miss-nothing.md."""

from __future__ import annotations

import datetime
import importlib
import json
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.test import RequestFactory

from channels.layers import InMemoryChannelLayer, channel_layers
from channels.testing import HttpCommunicator, WebsocketCommunicator
from fairway.testing import VirtualClock

consumers: Any = importlib.import_module("examples.streams.consumers")
tests: Any = importlib.import_module("examples.streams.tests")
tasks: Any = importlib.import_module("examples.streams.tasks")
views: Any = importlib.import_module("examples.streams.views")

HISTORY = {
    "chat.*": {"size": 100, "seconds": 300},
    "board.*": {"size": 1, "seconds": 86400},
    "notices.*": {"size": 50, "seconds": 86400},
    "job.*": {"size": 20, "seconds": 3600},
}


@pytest.fixture
def layer() -> InMemoryChannelLayer:
    layer = InMemoryChannelLayer(history=HISTORY)
    channel_layers.set("default", layer)
    return layer


async def connected(consumer: Any, query: str = "", **scope: Any) -> WebsocketCommunicator:
    client = WebsocketCommunicator(consumer.as_asgi(), f"/{query}")
    client.scope.update(scope)
    assert (await client.connect())[0]
    return client


def in_room(name: str) -> dict[str, Any]:
    return {"url_route": {"kwargs": {"room": name}}}


class TestThatAProjectHas:
    """What docs/howto/test-streams-and-presence.md shows."""

    @pytest.mark.parametrize("test", [test for name, test in vars(tests).items() if name.startswith("test_")])
    async def test_it_passes(self, layer: InMemoryChannelLayer, test: Any) -> None:
        await test()


async def test_a_page_of_the_chat_misses_nothing(layer: InMemoryChannelLayer) -> None:
    request = RequestFactory().get("/")
    page = json.loads((await sync_to_async(views.room)(request, "a")).content)
    writer = await connected(consumers.Chat, url_route={"kwargs": {"room": "a"}})
    assert not (await writer.receive_json_from())["recovered"]
    for text in ("one", "two"):
        await writer.send_json_to({"text": text})
        assert (await writer.receive_json_from())["text"] == text
    reader = await connected(consumers.Chat, f"?since={page['position']}", **in_room("a"))
    # The page has not got them yet. With the newest position it would miss them if it lost the connection now.
    assert await reader.receive_json_from() == {"recovered": True, "position": None}
    missed = [await reader.receive_json_from() for _ in range(2)]
    assert [message["text"] for message in missed] == ["one", "two"]
    again = await connected(consumers.Chat, f"?since={missed[-1]['position']}", **in_room("a"))
    assert await again.receive_json_from() == {"recovered": True, "position": missed[-1]["position"]}
    for client in (writer, reader, again):
        await client.disconnect()


async def test_a_dashboard_shows_the_newest_value_at_once(layer: InMemoryChannelLayer) -> None:
    for total in (1, 2, 3):
        await sync_to_async(tasks.sold)(total)
    board = await connected(consumers.Board)
    assert json.loads(await board.receive_from())["total"] == 3
    await sync_to_async(tasks.sold)(4)
    assert json.loads(await board.receive_from())["total"] == 4
    await board.disconnect()


async def test_notices_from_before_the_login_are_not_shown(layer: InMemoryChannelLayer) -> None:
    class User:
        pk = 7
        last_login: datetime.datetime

    with VirtualClock() as clock:
        await layer.group_send("notices.7", {"type": "notice", "text": "old"})
        clock.skip(1)
        User.last_login = clock.datetime()
        await layer.group_send("notices.7", {"type": "notice", "text": "new"})
        client = await connected(consumers.Notices, user=User())
    assert (await client.receive_json_from())["text"] == "new"
    assert await client.receive_nothing()
    await client.disconnect()


async def test_the_steps_of_a_job_are_seen_once_however_late_one_comes(layer: InMemoryChannelLayer) -> None:
    for _ in range(2):  # the task is tried again
        await sync_to_async(tasks.convert)(5)
    client = HttpCommunicator(consumers.Progress.as_asgi(), "GET", "/")
    client.scope["url_route"] = {"kwargs": {"number": "5"}}
    await client.send_input({"type": "http.request", "body": b""})
    seen = b""
    while b"stored" not in seen:
        seen += (await client.receive_output()).get("body", b"")
    assert [line for line in seen.decode().splitlines() if line.startswith("data")] == [
        "data: read", "data: converted", "data: stored"
    ]  # fmt: skip


async def test_the_page_is_told_of_a_gap(layer: InMemoryChannelLayer) -> None:
    client = await connected(consumers.Chat, "?since=0-1", **in_room("a"))
    assert not (await client.receive_json_from())["recovered"]
    layer.hub.gaps.tell_of("chat.a", "epoch")
    assert await client.receive_json_from() == {"recovered": False}
    await client.disconnect()
