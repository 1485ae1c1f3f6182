"""Channels that nobody reads: names that somebody has made up do not fill the memory."""

from __future__ import annotations

import asyncio
import tracemalloc

import pytest
from tests.fairway.layers.doubles import new_hub, new_member, waiting

from channels.layers import InMemoryChannelLayer
from fairway.layers.hub import Hub
from fairway.layers.unread import MOST_BYTES, MOST_UNREAD


def small_hub() -> Hub:
    hub = new_hub()
    hub.unread.most = 3
    return hub


def send_to(hub: Hub, *channels: str) -> None:
    for channel in channels:
        assert hub.send(channel, {"to": channel})


async def test_of_too_many_the_one_that_was_sent_to_the_longest_ago_is_dropped(
    caplog: pytest.LogCaptureFixture,
) -> None:
    hub = small_hub()
    send_to(hub, "a", "b", "c", "a", "d", "e")
    assert set(hub.channels) == {"a", "d", "e"}
    assert (len(hub.unread), hub.dropped) == (3, 2)
    assert [await hub.receive("a"), await hub.receive("a")] == [{"to": "a"}] * 2
    assert [line for line in caplog.messages if "nobody reads" in line] == [
        "3 channels that nobody reads hold messages: those of b are dropped, sent to the longest ago"
    ]


async def test_what_they_hold_is_bounded_in_bytes_too() -> None:
    hub = new_hub()
    hub.unread.most_bytes = 100_000
    for number in range(10):
        assert hub.send(f"c{number}", {"text": "x" * 30_000})
    assert (set(hub.channels), hub.dropped) == ({"c7", "c8", "c9"}, 7)
    assert 90_000 < hub.unread.size < 100_000
    # One alone has its capacity.
    for _ in range(5):
        assert hub.send("c9", {"text": "x" * 30_000})
    assert (set(hub.channels), hub.dropped) == ({"c9"}, 9)
    assert hub.take("c9") is not None
    assert hub.unread.size == 0


async def test_what_a_full_channel_refuses_does_not_count() -> None:
    hub = Hub(lambda channel: 2)
    sizes = []
    for _ in range(4):
        hub.send("c", {"text": "hello"})
        sizes.append(hub.unread.size)
    assert sizes[0] < sizes[1] == sizes[2] == sizes[3]


async def test_all_messages_of_one_that_is_dropped_count() -> None:
    hub = small_hub()
    send_to(hub, "a", "a", "a", "b", "c", "d")
    assert hub.dropped == 3


async def test_who_reads_loses_nothing() -> None:
    """A reader that waits, one that takes a message now and then, a consumer, and members of a group."""
    hub = small_hub()
    member = new_member(hub, "member")
    reading = asyncio.ensure_future(hub.receive("waits"))
    await asyncio.sleep(0)
    hub.group_add("group", "grouped")
    hub.group_send("group", {"to": "grouped"})
    send_to(hub, "member", "now and then", "now and then", "waits")
    assert hub.take("now and then") == {"to": "now and then"}
    send_to(hub, *map(str, range(10)))

    assert (hub.dropped, len(hub.unread)) == (7, 3)
    assert waiting(member) == [{"to": "member"}]
    assert hub.take("now and then") == {"to": "now and then"}
    assert hub.take("grouped") == {"to": "grouped"}
    assert await reading == {"to": "waits"}


async def test_what_was_read_or_has_expired_makes_room() -> None:
    hub = small_hub()
    send_to(hub, "a", "b", "c")
    assert hub.take("a") == {"to": "a"}
    send_to(hub, "d")
    new_member(hub, "b")
    send_to(hub, "e")
    assert hub.dropped == 0
    hub.flush()
    send_to(hub, "f", "g", "h")
    assert (hub.dropped, len(hub.unread)) == (0, 3)


async def test_a_channel_in_a_group_that_loses_its_messages_stays_in_it() -> None:
    hub = small_hub()
    hub.group_add("group", "a")
    send_to(hub, "a", "b", "c", "d")
    hub.group_send("group", {"n": 1})
    assert await hub.receive("a") == {"n": 1}


@pytest.mark.slow
async def test_made_up_names_take_a_bounded_amount_of_memory() -> None:
    layer = InMemoryChannelLayer()
    layer.hub.unread.most = 500

    async def flood(begin: int) -> int:
        for number in range(begin, begin + 10_000):
            await layer.send(f"made.up.{number}", {"type": "chat.message", "text": "hello"})
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        first = await flood(0)
        second = await flood(10_000)
    finally:
        tracemalloc.stop()
    assert len(layer.channels) == 500
    assert first < 1_500_000
    assert second < 1.2 * first
    assert (MOST_UNREAD, MOST_BYTES) == (10_000, 64 << 20), "that is what the documentation says"


async def test_a_consumer_whose_channel_somebody_else_has_read_gets_it_back() -> None:
    hub = small_hub()
    member = new_member(hub, "m")
    hub.queue("m")
    send_to(hub, "m", "a", "b", "c")
    assert (hub.channels["m"], hub.dropped) == (member, 1)
    send_to(hub, "m")
    assert member.inbox.take_nowait() == {"to": "m"}
