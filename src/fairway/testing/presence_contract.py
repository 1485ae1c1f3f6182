"""The part of the suite for backplanes that is about presence: `BackplaneContract` is in `backplane_contract.py`.

    class TestMyPresence(PresenceContract):
        @pytest.fixture
        def service(self):
            return MyService()      # as for BackplaneContract, and with `async forget()`: it loses all that it holds

A backplane that is not renewed any more stands for a process that was killed, or that stands still.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol

import pytest

from fairway.layers.backplane import NOTE, Departed, Presence
from fairway.testing.backplane_contract import DEADLINE, Service, processes

LONG, SHORT = 600.0, 0.05
"""Leases, in seconds: one that lasts, and one that a test waits for."""

PAUSE = 0.01
MANY = 100_000


class ForgetfulService(Service, Protocol):
    """A service that can lose everything that it holds, while its connections stand."""

    async def forget(self) -> None:
        """Lose everything."""


@asynccontextmanager
async def present(service: Service, count: int, prefix: str = "suite") -> AsyncIterator[list[Presence]]:
    """The presence of this number of processes, each with a lease that lasts."""
    async with processes(service, count, prefix) as started:
        for process in started:
            await process.backplane.presence.renew(LONG, judges=False)
        yield [process.backplane.presence for process in started]


async def until(condition: Callable[[], Awaitable[Any]]) -> Any:
    """The first result that is true."""
    async with asyncio.timeout(DEADLINE):
        while not (result := await condition()):  # noqa: ASYNC110  # what is waited for tells nobody
            await asyncio.sleep(PAUSE)
        return result


async def listed(presence: Presence, subject: str) -> dict[str, dict[str, bytes]]:
    return {one.process: dict(one.entries) for one in await presence.present(subject)}


async def departed(presence: Presence) -> Sequence[Departed]:
    return (await presence.renew(LONG)).departed


@pytest.mark.asyncio
class PresenceContract:
    """Entries of processes under subjects, and leases."""

    async def test_entries_are_listed_for_all_by_process(self, service: ForgetfulService) -> None:
        async with present(service, 3) as (one, two, reader):
            await one.enter("h.room", {"1": b"mira", "2": b"\0\xff", NOTE: b"7"}, 1)
            await two.enter("h.room", {"1": b"tom"}, 1)
            await two.enter("h.hall", {"1": b"tom"}, 1)
            rooms = {one.process: {"1": b"mira", "2": b"\0\xff", NOTE: b"7"}, two.process: {"1": b"tom"}}
            assert await listed(reader, "h.room") == rooms
            assert await listed(reader, "h.hall") == {two.process: {"1": b"tom"}}
            assert await listed(reader, "h.nobody") == {}
            assert [await reader.count(subject) for subject in ("h.room", "h.hall", "h.nobody")] == [3, 1, 0]
            assert {found.term for found in await reader.present("h.room")} == {1}

    async def test_entries_can_be_changed_and_removed(self, service: ForgetfulService) -> None:
        async with present(service, 2) as (one, reader):
            await one.enter("h.room", {"1": b"here", "2": b"here", NOTE: b"1"}, 1)
            await one.enter("h.room", {"1": b"away"}, 1)
            await one.leave("h.room", ["2", "nobody"], 1)
            assert await listed(reader, "h.room") == {one.process: {"1": b"away", NOTE: b"1"}}
            await one.leave("h.room", ["1"], 1)
            await one.leave("h.room", ["1"], 1)
            assert await listed(reader, "h.room") == {}, "the note goes with the last"
            await one.enter("h.room", {"3": b"again"}, 1)
            assert await listed(reader, "h.room") == {one.process: {"3": b"again"}}

    async def test_calls_take_effect_in_their_order(self, service: ForgetfulService) -> None:
        async with present(service, 2) as (one, reader):
            await asyncio.gather(
                *(
                    call
                    for _ in range(20)
                    for call in (one.enter("h.room", {"1": b""}, 1), one.leave("h.room", ["1"], 1))
                ),
                one.enter("h.room", {"2": b""}, 1),
            )
            assert await listed(reader, "h.room") == {one.process: {"2": b""}}

    async def test_a_process_without_a_lease_is_not_listed(self, service: ForgetfulService) -> None:
        async with processes(service, 2) as (one, reader):
            presence = one.backplane.presence
            await presence.enter("h.room", {"1": b"early"}, 0)
            assert await listed(reader.backplane.presence, "h.room") == {}
            assert (await presence.renew(LONG)).term == 1
            assert await listed(reader.backplane.presence, "h.room") == {}

    async def test_one_that_has_died_is_not_listed_and_named_to_one_caller(self, service: ForgetfulService) -> None:
        async with present(service, 4) as (victim, *others):
            await victim.enter("h.room", {"1": b"mira", NOTE: b"1"}, 1)
            await victim.enter("h.hall", {"1": b"mira"}, 1)
            await others[0].enter("h.room", {"1": b"tom"}, 1)
            await victim.renew(SHORT, judges=False)
            await until(lambda: not_listed(others[0], "h.room", victim))
            assert [await others[0].count(subject) for subject in ("h.room", "h.hall")] == [1, 0]
            named = [one for presence in others for one in await departed(presence)]
            assert named == [Departed(victim.process, 1)]
            await others[2].sweep(named[0])
            assert [one for presence in others for one in await departed(presence)] == []
            assert await listed(others[0], "h.room") == {others[0].process: {"1": b"tom"}}

    async def test_it_is_named_again_if_it_is_not_swept(self, service: ForgetfulService) -> None:
        async with present(service, 3) as (victim, first, second):
            first.swept_within = SHORT
            await victim.enter("h.room", {"1": b""}, 1)
            await victim.renew(SHORT, judges=False)
            assert await until(lambda: departed(first)) == [Departed(victim.process, 1)]
            assert await until(lambda: departed(second)) == [Departed(victim.process, 1)]
            await second.sweep(Departed(victim.process, 1))
            assert await departed(first) == []

    async def test_whoever_does_not_judge_is_told_of_nobody(self, service: ForgetfulService) -> None:
        async with present(service, 2) as (victim, other):
            await victim.enter("h.room", {"1": b""}, 1)
            await victim.renew(SHORT, judges=False)
            await until(lambda: not_listed(other, "h.room", victim))
            assert (await other.renew(LONG, judges=False)).departed in ((), [])
            assert await departed(other) == [Departed(victim.process, 1)]

    async def test_one_that_stood_still_begins_another_term(self, service: ForgetfulService) -> None:
        async with present(service, 2) as (sleeper, other):
            await sleeper.enter("h.room", {"1": b"old", NOTE: b"1"}, 1)
            await sleeper.renew(SHORT, judges=False)
            named = await until(lambda: departed(other))
            assert (await sleeper.renew(LONG, judges=False)).term == 2
            assert await listed(other, "h.room") == {}, "it has to enter again"
            await sleeper.enter("h.room", {"1": b"late"}, 1)
            assert await listed(other, "h.room") == {}, "it is the old term that says this"
            await sleeper.enter("h.room", {"1": b"new", NOTE: b"2"}, 2)
            await other.sweep(named[0])
            await sleeper.leave("h.room", ["1"], 1)
            (found,) = await other.present("h.room")
            assert (found.process, found.term, found.entries) == (sleeper.process, 2, {"1": b"new", NOTE: b"2"})
            assert (await sleeper.renew(LONG)).term == 2

    async def test_one_that_stood_still_and_was_missed_by_nobody_begins_another_term_too(
        self, service: ForgetfulService
    ) -> None:
        async with present(service, 2) as (sleeper, other):
            await sleeper.enter("h.room", {"1": b"old"}, 1)
            await sleeper.renew(SHORT, judges=False)
            await until(lambda: not_listed(other, "h.room", sleeper))
            renewal = await sleeper.renew(LONG)
            assert (renewal.term, list(renewal.departed)) == (2, [Departed(sleeper.process, 1)])

    async def test_one_that_lives_is_not_swept(self, service: ForgetfulService) -> None:
        async with present(service, 2) as (one, other):
            await one.enter("h.room", {"1": b""}, 1)
            await other.sweep(Departed(one.process, 1))
            assert await other.count("h.room") == 1
            assert (await one.renew(LONG)).term == 1

    async def test_a_service_that_has_lost_everything_begins_another_term(self, service: ForgetfulService) -> None:
        async with present(service, 2) as (one, other):
            await one.enter("h.room", {"1": b"", NOTE: b"1"}, 1)
            await service.forget()
            renewal = await until(lambda: renewed(one))
            assert renewal.term == 2
            await until(lambda: renewed(other))
            assert await listed(other, "h.room") == {}
            await one.enter("h.room", {"1": b"", NOTE: b"1"}, 2)
            assert await listed(other, "h.room") == {one.process: {"1": b"", NOTE: b"1"}}

    async def test_a_flush_forgets_entries_and_leases(self, service: ForgetfulService) -> None:
        async with processes(service, 2) as (flusher, other):
            presences = [process.backplane.presence for process in (flusher, other)]
            for presence in presences:
                await presence.renew(LONG, judges=False)
                await presence.enter("h.room", {presence.process: b"", NOTE: b"1"}, 1)
            async with present(service, 1) as (dead,):
                await dead.enter("h.hall", {"1": b""}, 1)
                await dead.renew(SHORT, judges=False)
                await flusher.backplane.flush()
                assert [await listed(presences[1], subject) for subject in ("h.room", "h.hall")] == [{}, {}]
                assert await presences[1].count("h.room") == 0
                for presence in presences:
                    assert ((renewal := await presence.renew(LONG)).term, list(renewal.departed)) == (2, [])
                    await presence.enter("h.room", {"1": b"", NOTE: b"2"}, 2)
                assert await listed(presences[0], "h.room") == {
                    presence.process: {"1": b"", NOTE: b"2"} for presence in presences
                }

    async def test_a_lease_ends_by_the_clock_of_the_service(
        self, service: ForgetfulService, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with present(service, 2) as (one, other):
            await one.enter("h.room", {"1": b""}, 1)
            real = time.time
            for hours in (1, -1):
                monkeypatch.setattr(time, "time", lambda hours=hours: real() + hours * 3600)
                assert (await one.renew(LONG)).term == 1
                assert await departed(other) in ((), [])
                assert await other.count("h.room") == 1

    async def test_a_hundred_thousand_entries(self, service: ForgetfulService) -> None:
        async with present(service, 2) as (one, other):
            for begin in range(0, MANY, 5000):
                await one.enter("h.room", {str(number): b"x" * 20 for number in range(begin, begin + 5000)}, 1)
            assert await other.count("h.room") == MANY
            ((_, entries),) = (await listed(other, "h.room")).items()
            assert len(entries) == MANY
            await one.renew(SHORT, judges=False)
            (named,) = await until(lambda: departed(other))
            await other.sweep(named)
            assert await other.count("h.room") == 0

    async def test_thousands_of_subjects_are_swept(self, service: ForgetfulService) -> None:
        async with present(service, 2) as (one, other):
            subjects = [f"h.user-{number}" for number in range(1200)]
            await asyncio.gather(*(one.enter(subject, {"1": b"", NOTE: b"1"}, 1) for subject in subjects))
            await one.renew(SHORT, judges=False)
            (named,) = await until(lambda: departed(other))
            await other.sweep(named)
            assert await departed(other) in ((), [])
            assert set(await asyncio.gather(*map(other.count, subjects))) == {0}

    async def test_prefixes_do_not_see_each_other(self, service: ForgetfulService) -> None:
        async with present(service, 1, "a") as (one,), present(service, 1, "a:") as (two,):
            await one.enter("h.room", {"1": b""}, 1)
            await one.renew(SHORT, judges=False)
            assert await listed(two, "h.room") == {}
            await until(lambda: not_listed(one, "h.room", one))
            assert await departed(two) in ((), [])


async def not_listed(reader: Presence, subject: str, who: Presence) -> bool:
    return who.process not in await listed(reader, subject)


async def renewed(presence: Presence) -> Any:
    """The renewal, unless the connection is only coming back."""
    try:
        return await presence.renew(LONG, judges=False)
    except ConnectionError:
        return None
