"""One connection to the broker: answers in their order, counts of what was posted, and what no broker says."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import pytest
from tests.fairway.layers.redis.doubles import FakeTransport
from tests.fairway.loops import passes

from fairway.layers.backplane import BackplaneStatistics, Refused
from fairway.layers.local import protocol
from fairway.layers.local.link import Link
from fairway.layers.local.protocol import Answer, Ask


class Owner:
    def __init__(self) -> None:
        self.statistics = BackplaneStatistics()
        self.heard: list[object] = []

    def pushed(self, subject: str, data: bytes) -> Awaitable[None] | None:
        self.heard.append((subject, data))
        return None

    def item(self, queue: str, data: bytes) -> None:
        self.heard.append((queue, data))

    def going(self, link: Link) -> None:
        self.heard.append("going")

    def lost(self, link: Link, error: Exception) -> None:
        self.heard.append(str(error))


def new_link() -> tuple[Link, FakeTransport, Owner]:
    owner, transport = Owner(), FakeTransport()
    link = Link(owner)
    link.connection_made(transport)
    return link, transport, owner


@pytest.mark.parametrize("size", [1, 3, 1000])
async def test_answers_and_messages_are_told_apart_however_they_are_cut(size: int) -> None:
    link, _, owner = new_link()
    for _ in range(3):
        assert link.post("g.a", b"x") is None
    calls = [asyncio.ensure_future(link.call(protocol.publish("g.a", b""))) for _ in range(2)]
    await passes()
    said = (
        protocol.post("g.a", b"one") + protocol.done(7) + protocol.posted(2, 1) + protocol.frame(Answer.ITEM, "q", b"i")
        + protocol.refused("no") + protocol.post("g.a", b"two") + protocol.posted(1, 0)
    )  # fmt: skip
    for begin in range(0, len(said), size):
        link.data_received(said[begin : begin + size])

    assert protocol.number((await calls[0])[2]) == 7
    with pytest.raises(Refused, match=r"^no$"):
        await calls[1]
    assert owner.heard == [("g.a", b"one"), ("q", b"i"), ("g.a", b"two")]
    assert owner.statistics.unheard == 1
    link.connection_lost(None)
    assert owner.statistics.uncertain == 0


async def test_it_leaves_a_broker_that_goes() -> None:
    link, transport, owner = new_link()
    link.data_received(protocol.frame(Answer.GOING))
    await passes()

    assert owner.heard == ["going"]
    assert transport.written == [protocol.frame(Ask.LEAVE)]


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "a frame of 1213486160 bytes"),
        (protocol.done(), "DONE without having been asked"),
        (protocol.posted(1, 0), "1 messages confirmed of 0"),
        (protocol.frame(Answer.POSTED, body=b"1"), "a body of 1 bytes"),
    ],
    ids=["http", "unasked", "unposted", "short"],
)
async def test_what_no_broker_says_ends_the_connection(said: bytes, complaint: str) -> None:
    link, transport, owner = new_link()
    link.data_received(said)
    assert transport.is_aborted
    link.connection_lost(None)

    assert owner.heard == [f"the broker does not speak our language: {complaint}"]
