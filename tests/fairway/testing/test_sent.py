"""`fairway.testing.record_sent`: over layers of every make, by every way of sending; nothing when nobody records."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.test import TestCase, override_settings
from tests.contracts.foreign import QueueLayer
from tests.services.local import running_broker

from channels.db import database_sync_to_async
from channels.exceptions import ChannelFull
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.layers import InMemoryChannelLayer, broadcast, channel_layers, get_channel_layer
from channels.testing import WebsocketCommunicator
from fairway.layers import sync
from fairway.layers.local.place import Place
from fairway.testing import Sent, record_sent, sent
from fairway.testing.sent import MOST

DEADLINE = 30.0
MEMORY = {"BACKEND": "channels.layers.InMemoryChannelLayer"}
FOREIGN = {"BACKEND": "tests.contracts.foreign.QueueLayer"}
EVENT = {"type": "chat.message", "text": "hello"}
OURS = ["memory", *(pytest.param(name, marks=pytest.mark.slow) for name in ("redis", "local", "forwarding"))]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The socket of a broker."""
    path = tmp_path_factory.mktemp("broker") / "broker.sock"
    with running_broker(Place(str(path), is_ours=False)):
        yield path


@pytest.fixture(params=["foreign", *OURS])
def configured(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each kind of layer in turn, in `CHANNEL_LAYERS`."""
    entry: dict[str, Any] = {"memory": MEMORY, "foreign": FOREIGN}.get(request.param, {})
    prefix = uuid.uuid4().hex
    if request.param in ("redis", "forwarding"):
        url = request.getfixturevalue("redis").url
        options = {"hosts": [url], "prefix": prefix}
        entry = {"BACKEND": "fairway.layers.redis.RedisChannelLayer", "CONFIG": options}
    if request.param == "forwarding":
        both = {"old": FOREIGN, "new": entry}
        entry = {"BACKEND": "fairway.layers.forwarding.ForwardingChannelLayer", "CONFIG": both}
    if request.param == "local":
        options = {"socket": str(request.getfixturevalue("broker")), "prefix": prefix}
        entry = {"BACKEND": "fairway.layers.local.LocalChannelLayer", "CONFIG": options}
    with override_settings(CHANNEL_LAYERS={"default": entry}):
        yield


def layer() -> Any:
    found = get_channel_layer()
    assert found is not None
    return found


async def test_what_asynchronous_code_sends_is_recorded_and_arrives(configured: None) -> None:
    with record_sent() as records:
        channel = await layer().new_channel()
        await layer().group_add("chat", channel)
        await layer().group_send("chat", EVENT)
        await layer().send(group_or_channel := "jobs", {"type": "job"})
        await layer().send(channel=group_or_channel, message={"type": "job", "n": 2})

        async with asyncio.timeout(DEADLINE):
            assert await layer().receive(channel) == EVENT
            assert await layer().receive("jobs") == {"type": "job"}
    assert records == [
        Sent("group_send", "chat", EVENT),
        Sent("send", "jobs", {"type": "job"}),
        Sent("send", "jobs", {"type": "job", "n": 2}),
    ]


async def test_a_broadcast_is_one_record_however_the_layer_carries_it(configured: None) -> None:
    with record_sent() as records:
        await layer().group_broadcast("chat", "for all")
        await broadcast(layer(), "chat", bytes_data=b"\0", exclude=iter(["a", "b"]))
        await layer().group_broadcast_json("chat", {"n": 1}, exclude="a")
    assert records == [
        Sent("group_broadcast", "chat", "for all"),
        Sent("group_broadcast", "chat", b"\0", exclude=("a", "b")),
        Sent("group_broadcast", "chat", '{"n": 1}', exclude=("a",)),
    ]


def test_what_synchronous_code_sends_is_recorded_in_both_ways(configured: None) -> None:
    with record_sent() as records:
        sync.send("jobs", {"type": "job"})
        sync.group_send("chat", EVENT)
        sync.group_broadcast("chat", "for all", exclude=iter(["a"]))
        sync.group_broadcast_json("chat", {"n": 1})
        async_to_sync(layer().group_send)("chat", {"type": "last"})
    assert records == [
        Sent("send", "jobs", {"type": "job"}),
        Sent("group_send", "chat", EVENT),
        Sent("group_broadcast", "chat", "for all", exclude=("a",)),
        Sent("group_broadcast", "chat", '{"n": 1}'),
        Sent("group_send", "chat", {"type": "last"}),
    ]
    assert records.to("chat") == [EVENT, "for all", '{"n": 1}', {"type": "last"}]
    assert records.to("jobs") == [{"type": "job"}]
    assert records.to("jobs", layer="other") == []


@pytest.mark.parametrize("configured", OURS, indirect=True)
async def test_a_call_that_raises_is_no_record(configured: None) -> None:
    with record_sent() as records:
        with pytest.raises(AssertionError):
            await layer().group_send("chat", {"type": "chat.message", "__asgi_channel__": "reserved"})
        with pytest.raises(TypeError):
            await layer().send(EVENT)
        await layer().group_send("chat", EVENT)
        with pytest.raises(TypeError):
            await database_sync_to_async(sync.group_send)("chat", {"type": "chat.message", "lock": threading.Lock()})
    assert records == [Sent("group_send", "chat", EVENT)]


class Greeter(AsyncWebsocketConsumer):
    groups = ["news"]

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        assert self.channel_layer is not None
        await self.channel_layer.group_send("news", {"type": "news.item", "text": text_data})

    async def news_item(self, event: dict[str, Any]) -> None:
        await self.send(event["text"])


@pytest.mark.parametrize("configured", OURS, indirect=True)
async def test_what_consumers_send_is_recorded_and_they_are_reached_as_ever(configured: None) -> None:
    communicator = WebsocketCommunicator(Greeter.as_asgi(), "/")
    assert (await communicator.connect())[0]
    with record_sent() as records:
        await communicator.send_to("good morning")
        assert await communicator.receive_from() == "good morning"
    await communicator.send_to("nobody records")
    assert await communicator.receive_from() == "nobody records"
    await communicator.disconnect()
    assert records == [Sent("group_send", "news", {"type": "news.item", "text": "good morning"})]


# With the layer in memory alone -------------------------------------------------------------------------------------


async def test_layers_that_are_made_and_put_in_place_while_somebody_records_are_recorded() -> None:
    with record_sent() as records:
        with override_settings(CHANNEL_LAYERS={"default": MEMORY, "other": MEMORY}):
            await channel_layers["other"].group_send("chat", EVENT)
            channel_layers.set("other", QueueLayer())
            await channel_layers["other"].group_send("chat", EVENT)
        await layer().group_send("chat", EVENT)
    assert records == [
        Sent("group_send", "chat", EVENT, "other"),
        Sent("group_send", "chat", EVENT, "other"),
        Sent("group_send", "chat", EVENT),
    ]


async def test_nothing_is_left_of_it_afterwards_and_two_may_record_at_once() -> None:
    channel_layers.set("default", made := InMemoryChannelLayer())
    before = dict(vars(made))
    with record_sent() as outer:
        await made.group_send("chat", {"type": "first"})
        with record_sent() as inner:
            await made.group_send("chat", {"type": "second"})
        await made.group_send("chat", {"type": "third"})
    await made.group_send("chat", {"type": "fourth"})
    assert [record.message["type"] for record in outer] == ["first", "second", "third"]
    assert [record.message["type"] for record in inner] == ["second"]
    assert vars(made) == before
    assert channel_layers.watchers == []


async def test_what_a_test_has_patched_meanwhile_is_left_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def patched(group: str, message: dict[str, Any]) -> None: ...

    made = layer()
    with record_sent() as records:
        monkeypatch.setattr(made, "group_send", patched)
        await made.group_send("chat", EVENT)
    assert made.group_send is patched
    assert records == []


async def test_a_record_is_a_copy_of_what_was_sent() -> None:
    message: dict[str, Any] = {"type": "chat.message", "tags": ["new"]}
    with record_sent() as records:
        await layer().group_send("chat", message)
        message["tags"].append("changed")
    assert records.to("chat") == [{"type": "chat.message", "tags": ["new"]}]


async def test_a_full_channel_is_no_record_and_what_it_took_is() -> None:
    channel_layers.set("default", InMemoryChannelLayer(capacity=1))
    with record_sent() as records:
        await layer().send("jobs", EVENT)
        with pytest.raises(ChannelFull):
            await layer().send("jobs", EVENT)
    assert records == [Sent("send", "jobs", EVENT)]


async def test_the_newest_records_are_kept_when_there_are_too_many(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert MOST == 10_000
    monkeypatch.setattr(sent, "MOST", 3)
    with record_sent() as records:
        for number in range(5):
            await layer().group_send("chat", {"type": "count", "n": number})
    assert [message["n"] for message in records.to("chat")] == [2, 3, 4]
    assert records.forgotten == 2
    assert [record.getMessage() for record in caplog.records] == [
        "more than 3 messages have been sent: the first ones are recorded no longer"
    ]


def test_threads_that_send_at_once_are_all_recorded() -> None:
    def work(number: int) -> None:
        for _ in range(50):
            sync.group_send(f"group.{number}", EVENT)

    with record_sent() as records:
        threads = [threading.Thread(target=work, args=[number]) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE)
    assert [len(records.to(f"group.{number}")) for number in range(4)] == [50] * 4


class RecordingTests(TestCase):
    """In a `TestCase`, with the transaction that it is in."""

    def setUp(self) -> None:
        self.sent = self.enterContext(record_sent())

    def test_a_message_on_commit_is_recorded_when_it_is_sent(self) -> None:
        with self.captureOnCommitCallbacks(execute=True):
            sync.group_send_on_commit("orders", EVENT)
            assert self.sent == []
        assert self.sent == [Sent("group_send", "orders", EVENT)]

    def test_each_test_begins_with_nothing(self) -> None:
        assert self.sent == []
