"""A backplane at work in one event loop: what it subscribes to, who waits for it, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence

import pytest
from tests.fairway.loops import LoopFactory, on_each_loop, passes, run

from fairway.layers.backplane import Unavailable
from fairway.layers.engine import Engine
from fairway.layers.interests import Interests
from fairway.layers.session import Session
from fairway.testing.in_process import InProcessBackplane


class NotingBackplane(InProcessBackplane):
    """Notes what it is asked, and waits with subscriptions while the gate is closed."""

    def __init__(self) -> None:
        super().__init__(Engine())
        self.asked: list[tuple[str, list[str]]] = []
        self.gate: asyncio.Event | None = None
        self.is_closed_orderly = False

    async def subscribe(self, subjects: Sequence[str]) -> None:
        self.asked.append(("subscribe", list(subjects)))
        if self.gate is not None:
            await self.gate.wait()
        await super().subscribe(subjects)

    async def unsubscribe(self, subjects: Sequence[str]) -> None:
        self.asked.append(("unsubscribe", list(subjects)))
        await super().unsubscribe(subjects)

    async def close(self, drain: float = 1.0) -> None:
        await super().close(drain)
        self.is_closed_orderly = True


class Nobody:
    def message(self, session: Session, subject: str, data: bytes) -> Awaitable[None] | None:
        return None

    def up(self, session: Session, again: bool) -> None: ...

    async def closing(self, session: Session) -> None: ...

    def subscribed(self, session: Session, subjects: Sequence[str]) -> None: ...

    def unsubscribed(self, subjects: Sequence[str]) -> None: ...


def begun(interests: Interests) -> tuple[Session, NotingBackplane]:
    backplane = NotingBackplane()
    session = Session(backplane, Nobody(), interests)
    session.start()
    return session, backplane


async def test_it_begins_with_all_that_is_wanted_and_asks_for_more_together() -> None:
    interests = Interests("p.me", "ctl")
    interests.opened("room")
    session, backplane = begun(interests)
    await session.stand("g.room")
    for number in range(3):
        interests.opened(str(number))
    await asyncio.gather(*(session.stand(f"g.{number}") for number in range(3)))

    assert backplane.asked == [("subscribe", ["p.me", "ctl", "g.room"]), ("subscribe", ["g.0", "g.1", "g.2"])]
    await session.stand("g.1")
    assert len(backplane.asked) == 2
    await session.close()


async def test_a_group_is_given_up_some_time_after_its_last_member_has_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fairway.layers.interests.LINGER", 0.01)
    interests = Interests("p.me")
    session, backplane = begun(interests)
    interests.opened("room")
    await session.stand("g.room")
    interests.closed("room")
    assert ("unsubscribe", ["g.room"]) not in backplane.asked
    async with asyncio.timeout(10):
        while ("unsubscribe", ["g.room"]) not in backplane.asked:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    await session.close()


async def test_a_subject_that_is_wanted_again_is_not_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fairway.layers.interests.LINGER", 0.01)
    session, backplane = begun(Interests("p.me"))
    for subject in ("h.room", "h.hall"):
        await session.stand(subject)
        session.unwant(subject)
    await session.stand("h.room")
    async with asyncio.timeout(10):
        while ("unsubscribe", ["h.hall"]) not in backplane.asked:  # noqa: ASYNC110
            await asyncio.sleep(0.005)

    assert session.is_standing("h.room")
    assert [names for what, names in backplane.asked if what == "unsubscribe"] == [["h.hall"]]
    await session.close()


async def test_who_waits_is_told_of_an_error_and_asks_again_later() -> None:
    interests = Interests()
    session, backplane = begun(interests)
    backplane.lose(ConnectionError("lost"))
    interests.opened("room")
    with pytest.raises(Unavailable, match="lost"):
        await session.stand("g.room")
    backplane.recover()
    await passes(5)
    assert interests.is_standing("g.room")
    await session.close()


async def test_a_waiter_that_gives_up_does_not_disturb_the_others() -> None:
    interests = Interests()
    session, backplane = begun(interests)
    backplane.gate = asyncio.Event()
    interests.opened("room")
    waiting = [asyncio.ensure_future(session.stand("g.room")) for _ in range(2)]
    await passes()
    waiting[0].cancel()
    await passes()
    backplane.gate.set()
    await waiting[1]
    assert waiting[0].cancelled()
    await session.close()


async def test_closing_tells_those_who_wait() -> None:
    interests = Interests()
    session, backplane = begun(interests)
    backplane.gate = asyncio.Event()
    interests.opened("room")
    waiting = asyncio.ensure_future(session.stand("g.room"))
    await passes()
    await session.close()
    await session.close()
    with pytest.raises(Unavailable, match=r"^the channel layer has been closed$"):
        await waiting
    assert not session.is_alive


@on_each_loop
def test_it_ends_with_its_event_loop(new_loop: LoopFactory) -> None:
    ended: list[NotingBackplane] = []

    async def main() -> None:
        session, backplane = begun(Interests("p.me"))
        await session.stand("p.me")
        ended.append(backplane)

    run(new_loop, main())

    assert ended[0].is_closed_orderly


@on_each_loop
def test_the_end_of_the_loop_completes_a_close_that_has_begun(new_loop: LoopFactory) -> None:
    ended: list[NotingBackplane] = []

    class Reluctant(Nobody):
        async def closing(self, session: Session) -> None:
            await asyncio.sleep(0.001)

    async def main() -> None:
        backplane = NotingBackplane()
        session = Session(backplane, Reluctant(), Interests("p.me"))
        session.start()
        await session.stand("p.me")
        session.retire()
        await passes()
        assert not backplane.is_closed_orderly
        ended.append(backplane)

    run(new_loop, main())

    assert ended[0].is_closed_orderly
