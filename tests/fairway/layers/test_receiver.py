"""What comes from other processes and cannot be read: wrong keys, copies from elsewhere, releases to come."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import pytest
from tests.fairway.layers.conftest import NewLayer

from fairway.layers.codec import VERSION, Codec, Kind
from fairway.layers.encryption import Encryption
from fairway.layers.layer import BackplaneLayer
from fairway.layers.session import Session


async def member_of(layer: BackplaneLayer, group: str = "room") -> str:
    name = await layer.new_channel()
    await layer.group_add(group, name)
    return name


def session_of(layer: BackplaneLayer) -> Session:
    session = layer.node.home.here()
    assert session is not None
    return session


async def test_who_has_the_keys_reads_everything(new_layer: NewLayer) -> None:
    here = new_layer(symmetric_encryption_keys=["old", "new"])
    there = new_layer(symmetric_encryption_keys=["new", "old"])
    name = await member_of(here)
    await there.group_send("room", {"type": "group"})
    await there.send(name, {"type": "direct"})
    await here.send(name, {"type": "own"})
    await there.send("work", {"type": "queue"})
    other = await there.new_channel()
    await there.group_add("hall", other)
    await there.group_add("room", name)  # which its own process does

    # What a process sends to itself takes another way.
    assert sorted([(await here.receive(name))["type"] for _ in range(3)]) == ["direct", "group", "own"]
    assert (await here.receive("work"))["type"] == "queue"
    assert here.node.statistics.undecodable == there.node.statistics.undecodable == 0


async def test_who_lacks_the_key_drops_counts_and_says_so_once_for_each_sender(
    new_layer: NewLayer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    moments = itertools.count(0, 100)  # far apart, so that not the rate is what keeps lines away
    monkeypatch.setattr("fairway.layers.receiver.time", SimpleNamespace(monotonic=lambda: float(next(moments))))
    here = new_layer(symmetric_encryption_keys=["key"])
    strangers = [new_layer(symmetric_encryption_keys=["another"]) for _ in range(2)]
    plain = new_layer()
    name = await member_of(here)
    for _ in range(5):
        for stranger in (*strangers, plain):
            await stranger.group_send("room", {"type": "stranger"})
    await here.group_send("room", {"type": "own"})

    assert (await here.receive(name))["type"] == "own"
    assert here.node.statistics.undecodable == 15
    assert [line[:60] for line in caplog.messages] == [
        "Dropped a message for g.room: it is encrypted with a key tha",
        "Dropped a message for g.room: it is encrypted with a key tha",
        "Dropped a message for g.room: it is not encrypted, and whoev",
    ]


async def test_a_message_is_not_moved_to_another_group_queue_or_prefix(new_layer: NewLayer) -> None:
    here = new_layer(symmetric_encryption_keys=["key"], prefix="a")
    name = await member_of(here)
    await member_of(here, "hall")
    published = session_of(here).backplane
    codec = Codec(1000, Encryption(["key"], "a"))
    stolen = codec.encode(Kind.EVENT, {"type": "stolen"}, "g.hall")
    for subject in ("g.room", f"p.{here.node.name}", "ctl"):
        await published.publish(subject, stolen)
    await published.push("hall", stolen, 10, 60)
    await here.send("hall", {"type": "genuine"})
    other = Codec(1000, Encryption(["key"], "b"))
    await published.publish("g.room", other.encode(Kind.EVENT, {"type": "stolen"}, "g.room"))
    await here.group_send("room", {"type": "genuine"})

    assert (await here.receive(name))["type"] == "genuine"
    assert (await here.receive("hall"))["type"] == "genuine"
    assert here.node.statistics.undecodable == 5


async def test_what_a_later_release_sends_is_dropped_and_the_rest_arrives(
    new_layer: NewLayer, caplog: pytest.LogCaptureFixture
) -> None:
    here, there = new_layer(), new_layer()
    name = await member_of(here)
    await there.new_channel()
    later = bytes([VERSION + 1 << 4 | Kind.EVENT]) + b"\x81\xa4type\xa1a"
    future_kind = bytes([VERSION << 4 | 14]) + b"\x90"
    for _ in range(3):
        for data in (later, future_kind):
            await session_of(there).backplane.publish("g.room", data)
    await session_of(there).backplane.push("work", later, 10, 60)
    await there.send("work", {"type": "now"})
    await there.group_send("room", {"type": "now"})

    assert (await here.receive(name))["type"] == "now"
    assert (await here.receive("work"))["type"] == "now"
    assert here.node.statistics.undecodable == 7
    assert caplog.messages[0] == (
        "Dropped a message for g.room: the message is of version 2, and this release of Fairway reads 1"
    )


FORGED: dict[str, tuple[Kind, Any]] = {
    "a join without a ticket": (Kind.JOIN, ["room", "CHANNEL", "asker"]),
    "a join of a group that is none": (Kind.JOIN, [["room"], "CHANNEL", "asker", 1]),
    "a join of a name that is none": (Kind.JOIN, ["ro om", "CHANNEL", "asker", 1]),
    "a join with an asker that is none": (Kind.JOIN, ["room", "CHANNEL", "x" * 1000, 1]),
    "a join with a ticket that is none": (Kind.JOIN, ["room", "CHANNEL", "asker", {}]),
    "a join of a channel of others": (Kind.JOIN, ["room", "specific.0123456789abcdef!0", "asker", 1]),
    "a join of a queue": (Kind.JOIN, ["room", "work", "asker", 1]),
    "a leave of a channel that is none": (Kind.LEAVE, ["room", 5, "asker", 1]),
    "a message for a channel of others": (Kind.DIRECT, ["specific.0123456789abcdef!0", {"type": "a"}]),
    "a message for a queue": (Kind.DIRECT, ["work", {"type": "a"}]),
    "a message for a channel that is none": (Kind.DIRECT, [None, {"type": "a"}]),
    "a message for a long channel": (Kind.DIRECT, ["LONG", {"type": "a"}]),
    "a message that is none": (Kind.DIRECT, ["CHANNEL", "text"]),
    "a broadcast of a number": (Kind.BROADCAST, [5, None, []]),
    "a broadcast of bytes that are none": (Kind.BROADCAST, [None, "text", []]),
    "a broadcast without those excluded": (Kind.BROADCAST, ["text", None, 5]),
    "a follower that is none": (Kind.FOLLOW, ["room", {"a": 1}, 60]),
    "a follower for ever": (Kind.FOLLOW, ["room", "work", float("inf")]),
    "a follower for no time": (Kind.FOLLOW, ["room", "work", float("nan")]),
    "a follower for a text": (Kind.FOLLOW, ["room", "work", "long"]),
    "an unfollower of too few": (Kind.UNFOLLOW, ["room"]),
    "an answer to nobody": (Kind.DONE, [[1]]),
}


@pytest.mark.parametrize("which", FORGED)
async def test_what_is_forged_does_nothing_and_is_counted(new_layer: NewLayer, which: str) -> None:
    here, there = new_layer(), new_layer()
    name = await member_of(here)
    await there.new_channel()
    kind, body = FORGED[which]
    body = [{"CHANNEL": name, "LONG": name + "x" * 100}.get(part, part) if type(part) is str else part for part in body]
    subject = f"p.{here.node.name}"
    await session_of(there).backplane.publish(subject, Codec(10_000).encode(kind, body, subject))
    await there.send(name, {"type": "good"})

    assert await here.receive(name) == {"type": "good"}
    assert here.node.statistics.undecodable == 1
    assert {group: set(members) for group, members in here.hub.groups.items()} == {"room": {name}}
    assert here.hub.channels == {}
    assert here.node.followers.is_idle


async def test_what_is_larger_than_a_message_may_be_is_not_even_decoded(new_layer: NewLayer) -> None:
    here, there = new_layer(max_message_size=1000), new_layer()
    name = await member_of(here)
    await there.group_send("room", {"type": "a", "text": "x" * 1000})
    await there.group_send("room", {"type": "good"})

    assert await here.receive(name) == {"type": "good"}
    assert here.node.statistics.undecodable == 1
