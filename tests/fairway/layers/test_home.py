"""In which event loop a layer's connection lives, and what becomes of calls when that loop ends."""

from __future__ import annotations

import asyncio
import threading

import pytest
from tests.fairway.layers.test_session import Nobody, NotingBackplane
from tests.fairway.loops import LoopThread, passes

from fairway.layers.background import background
from fairway.layers.backplane import Unavailable
from fairway.layers.home import Home
from fairway.layers.interests import Interests
from fairway.layers.session import Session
from fairway.testing.in_process import InProcessBackplane

DEADLINE = 10.0


class Homes:
    """Makes a home, and keeps its sessions, which share their interests."""

    def __init__(self) -> None:
        self.interests = Interests()
        self.sessions: list[Session] = []
        self.backplanes: list[NotingBackplane] = []
        self.home = Home("Test", self.open, lambda: None)

    def open(self) -> Session:
        self.backplanes.append(NotingBackplane())
        session = Session(self.backplanes[-1], Nobody(), self.interests)
        session.posts = not background.is_its_own(session.loop)
        session.start()
        self.sessions.append(session)
        return session


async def stand(session: Session) -> Session:
    await session.stand("g.room")
    return session


async def loop_of(session: Session) -> asyncio.AbstractEventLoop:
    assert session.loop is asyncio.get_running_loop()
    return session.loop


async def test_who_only_sends_shares_the_background_loop_until_somebody_receives() -> None:
    homes = Homes()
    here = asyncio.get_running_loop()
    assert background.is_its_own(await homes.home.call(loop_of))
    assert await homes.home.call(loop_of, receives=True) is here
    assert await homes.home.call(loop_of) is here
    assert homes.home.here() is homes.sessions[1]
    async with asyncio.timeout(DEADLINE):
        while not homes.sessions[0].is_closed:  # noqa: ASYNC110  # it is retired in another thread
            await asyncio.sleep(0.005)
    await homes.home.close()
    assert homes.home.here() is None


async def test_the_session_in_the_background_has_stopped_before_the_next_begins() -> None:
    homes = Homes()
    await homes.home.call(loop_of)
    held = threading.Event()
    homes.sessions[0].loop.call_soon_threadsafe(held.wait, DEADLINE)
    homes.interests.opened("room")  # it is about to ask for this, and nobody would wait for the answer
    receiving = [asyncio.ensure_future(homes.home.call(stand, receives=True)) for _ in range(2)]
    with LoopThread(asyncio.new_event_loop) as elsewhere:
        others = [elsewhere.submit(homes.home.call(stand, receives=receives)) for receives in (True, False)]
        await passes(20)
        assert len(homes.sessions) == 1
        held.set()
        async with asyncio.timeout(DEADLINE):
            found = await asyncio.gather(*receiving, *map(asyncio.wrap_future, others))

    assert found == [homes.sessions[1]] * 4
    assert [backplane.asked for backplane in homes.backplanes] == [[], [("subscribe", ["g.room"])]]
    await homes.home.close()


async def test_who_waits_in_the_background_waits_in_the_next_session() -> None:
    homes = Homes()
    await homes.home.call(loop_of)
    homes.backplanes[0].gate = asyncio.Event()
    waiting = asyncio.ensure_future(homes.home.call(stand))
    async with asyncio.timeout(DEADLINE):
        while not homes.backplanes[0].asked:  # noqa: ASYNC110  # in another thread
            await asyncio.sleep(0.005)
        assert await homes.home.call(loop_of, receives=True) is asyncio.get_running_loop()
        assert await waiting is homes.sessions[1]
    await homes.home.close()


async def test_a_background_loop_that_is_held_up_is_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fairway.layers.home.PATIENCE", 0.01)
    homes = Homes()
    await homes.home.call(loop_of)
    held = threading.Event()
    homes.sessions[0].loop.call_soon_threadsafe(held.wait, DEADLINE)
    homes.interests.opened("room")
    try:
        async with asyncio.timeout(DEADLINE):
            assert await homes.home.call(stand, receives=True) is homes.sessions[1]
    finally:
        held.set()
    await homes.home.close()


async def test_who_gives_up_while_it_would_take_over_leaves_that_to_the_next() -> None:
    homes = Homes()
    await homes.home.call(loop_of)
    held = threading.Event()
    homes.sessions[0].loop.call_soon_threadsafe(held.wait, DEADLINE)
    first = asyncio.ensure_future(homes.home.call(stand, receives=True))
    await passes(5)
    first.cancel()
    await asyncio.wait([first])
    held.set()
    async with asyncio.timeout(DEADLINE):
        assert (await homes.home.call(stand, receives=True)).loop is asyncio.get_running_loop()
    await homes.home.close()


async def test_other_loops_hand_over_to_the_first_that_receives() -> None:
    homes = Homes()
    here = asyncio.get_running_loop()
    await homes.home.call(loop_of, receives=True)
    with LoopThread(asyncio.new_event_loop) as elsewhere:
        assert await asyncio.wrap_future(elsewhere.submit(homes.home.call(loop_of, receives=True))) is here
        assert await asyncio.wrap_future(elsewhere.submit(homes.home.call(loop_of))) is here
    assert len(homes.sessions) == 1
    await homes.home.close()


def test_another_loop_takes_over_when_the_home_has_ended() -> None:
    homes = Homes()
    for _ in range(3):
        asyncio.run(homes.home.call(loop_of, receives=True))
    assert [session.is_closed for session in homes.sessions] == [True] * 3


def test_a_call_whose_home_ends_meanwhile_says_so() -> None:
    homes = Homes()

    begun = threading.Event()

    async def never(session: Session) -> None:
        begun.set()
        await asyncio.Event().wait()

    async def caller() -> None:
        with pytest.raises(Unavailable, match=r"^the event loop that held the channel layer's connection has ended$"):
            await homes.home.call(never)

    with LoopThread(asyncio.new_event_loop) as home:
        home.call(homes.home.call(loop_of, receives=True))

        async def main() -> None:
            calling = asyncio.ensure_future(caller())
            assert await asyncio.to_thread(begun.wait, DEADLINE)

            async def cancel_all() -> None:
                for task in asyncio.all_tasks() - {asyncio.current_task()}:
                    task.cancel()

            await asyncio.wrap_future(home.submit(cancel_all()))
            async with asyncio.timeout(DEADLINE):
                await calling

        asyncio.run(main())
        home.call(homes.home.close())


async def test_an_error_of_the_home_is_raised_where_it_was_called() -> None:
    homes = Homes()

    async def fail(session: Session) -> None:
        raise ValueError("in the other loop")

    with pytest.raises(ValueError, match="in the other loop"):
        await homes.home.call(fail)
    await homes.home.close()


async def test_it_is_up_until_it_is_known_not_to_be() -> None:
    homes = Homes()
    assert homes.home.is_up()
    assert not homes.home.is_used()
    await homes.home.call(loop_of, receives=True)
    assert homes.home.is_used()
    backplane = homes.sessions[0].backplane
    assert isinstance(backplane, InProcessBackplane)
    backplane.lose(ConnectionError("lost"))
    assert not homes.home.is_up()
    backplane.recover()
    assert homes.home.is_up()
    await homes.home.close()
    assert homes.home.is_up()
