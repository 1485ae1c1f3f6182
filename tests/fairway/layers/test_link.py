"""What every link to a service does: one write in a pass, the window, pauses, and its end.

`Lines` is a link to a service that speaks lines: `message`, and `ok` for an answer. Anything else is none of them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Iterator
from typing import Any

import pytest
from tests.fairway.layers.redis.doubles import FakeTransport
from tests.fairway.loops import passes

from fairway.layers.backplane import BackplaneStatistics, Unavailable
from fairway.layers.link import WINDOW_BYTES, WINDOW_MESSAGES, ServiceLink, Window


class Owner:
    def __init__(self) -> None:
        self.statistics = BackplaneStatistics()
        self.losses: list[str] = []

    def lost(self, link: Any, error: Exception) -> None:
        self.losses.append(str(error))


class Lines(ServiceLink):
    SERVICE = "the service of lines"

    def __init__(self) -> None:
        self.owner, self.there = Owner(), FakeTransport()
        super().__init__(self.owner)
        self.lines: deque[bytes] = deque()
        self.expected: deque[asyncio.Future[None]] = deque()
        self.messages = 0
        self.handling: Awaitable[None] | None = None
        self.connection_made(self.there)

    def ask_whether_alive(self) -> None:
        self.write(b"?")

    def post(self, data: bytes) -> Awaitable[None] | None:
        self.write(data)
        return self._window.add(len(data))

    async def ask(self) -> None:
        self._check()
        self.ask_whether_alive()
        self.expected.append(self._loop.create_future())
        await self.expected[-1]

    async def _everything_is_answered(self) -> None:
        await self.ask()

    def _read(self, data: bytes) -> None:
        self.lines.extend(data.splitlines())
        while self.lines and not self.is_paused:
            line = self.lines.popleft()
            if line == b"ok":
                self.expected.popleft().set_result(None)
            elif line != b"message":
                raise ConnectionError(f"no line: {line!r}")
            else:
                self.messages += 1
                if self.handling is not None:
                    self._pause(self.handling)

    def _waiting(self) -> Iterator[asyncio.Future[None]]:
        return iter(self.expected)


async def test_all_that_is_sent_in_a_pass_is_one_write() -> None:
    link = Lines()
    for data in (b"a", b"b"):
        link.write(data)
    await passes()
    link.write(b"c")
    await passes()

    assert link.there.written == [b"ab", b"c"]
    link.write(b"d")
    link.abort(ConnectionError("too late"))
    await passes()
    assert link.there.written == [b"ab", b"c"]


@pytest.mark.parametrize(
    ("count", "size", "half"), [(WINDOW_MESSAGES, 1, WINDOW_MESSAGES // 2), (4, WINDOW_BYTES // 4, 2)]
)
async def test_who_posts_beyond_the_window_waits_until_half_of_it_is_confirmed(
    count: int, size: int, half: int
) -> None:
    window = Window()
    full = [window.add(size) for _ in range(count)]
    assert [one is None for one in full] == [True] * (count - 1) + [False]
    waiting = [asyncio.ensure_future(one) for one in (full[-1], window.add(0)) if one is not None]
    await passes()
    window.confirmed(half - 1, size * (half - 1))
    await passes()
    assert not any(one.done() for one in waiting)
    waiting[0].cancel()
    await passes()

    window.confirmed(2, size)
    await waiting[1]
    assert window.count == count + 1 - half - 1


async def test_reading_goes_on_where_it_stopped_when_a_message_has_been_handled() -> None:
    link = Lines()
    link.handling = handled = asyncio.get_running_loop().create_future()
    link.data_received(b"message\nmessage\n")
    link.data_received(b"message\n")  # which the transport had read already
    await passes()
    assert (link.messages, link.is_paused, link.there.is_reading) == (1, True, False)

    link.handling = None
    handled.set_result(None)
    await passes()
    assert (link.messages, link.is_paused, link.there.is_reading) == (3, False, True)


async def test_what_is_no_protocol_ends_the_connection_also_behind_a_pause() -> None:
    link = Lines()
    link.data_received(b"nonsense\n")
    assert link.there.is_aborted

    link = Lines()
    link.handling = handled = asyncio.get_running_loop().create_future()
    link.data_received(b"message\nnonsense\n")
    assert not link.there.is_aborted
    handled.set_result(None)
    await passes()
    assert (link.there.is_aborted, link.there.is_reading) == (True, False)
    link.connection_lost(None)
    assert link.owner.losses == ["no line: b'nonsense'"]


async def test_its_end_fails_all_who_wait_and_counts_what_is_uncertain() -> None:
    link = Lines()
    room = [link.post(b"x") for _ in range(WINDOW_MESSAGES)][-1]
    assert room is not None
    waiting = [asyncio.ensure_future(room), asyncio.ensure_future(link.ask())]
    await passes()
    cause = OSError("cable")
    link.connection_lost(cause)

    for error in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(error, Unavailable)
        assert str(error) == "the connection to the service of lines was lost: cable"
        assert error.__cause__ is cause
    assert link.owner.statistics.uncertain == WINDOW_MESSAGES
    assert link.owner.losses == ["cable"]
    assert link.ended.done()
    with pytest.raises(Unavailable, match="cable"):
        await link.ask()


async def test_the_service_may_end_it_and_the_first_reason_is_kept() -> None:
    link = Lines()
    link.connection_lost(None)
    assert link.owner.losses == ["the service of lines has closed the connection"]

    link = Lines()
    link.abort(ConnectionError("silent"))
    link.abort(ConnectionError("later"))
    link.connection_lost(OSError("reset"))
    assert link.owner.losses == ["silent"]


async def test_closing_waits_until_everything_is_answered_but_not_for_ever() -> None:
    link = Lines()
    closing = asyncio.ensure_future(link.close(60))
    await passes()
    assert (link.there.written, link.there.is_aborted) == ([b"?"], False)
    link.data_received(b"ok\n")
    await passes()
    assert link.there.is_aborted
    assert not closing.done(), "the connection is still there"
    link.connection_lost(None)
    await closing
    await link.close(60)  # once more, and nothing is there

    link = Lines()
    closing = asyncio.ensure_future(link.close(0.01))
    while not link.there.is_aborted:  # noqa: ASYNC110
        await asyncio.sleep(0.005)
    link.connection_lost(None)
    await closing
    assert link.owner.losses == ["it was closed here"]


async def test_a_close_that_is_cancelled_cuts_the_connection() -> None:
    link = Lines()
    closing = asyncio.ensure_future(link.close(60))
    await passes()
    closing.cancel()
    await asyncio.wait([closing])

    assert link.there.is_closing()
