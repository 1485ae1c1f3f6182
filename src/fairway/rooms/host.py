"""The part of this process in one room: its visitors here and, if this is the process that runs it, the room.

While a host has visitors it is a candidate for running the room (`contest.py`). It reads the list of candidates when it
hears of a change, and every other second in any case.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Collection, Iterator
from typing import Any

from fairway.delivery import Message
from fairway.layers.backplane import Unavailable
from fairway.layers.copying import copied
from fairway.layers.errors import ChannelFull
from fairway.layers.hub_layer import HubLayer
from fairway.rooms.contest import Contest
from fairway.rooms.restarts import Restarts
from fairway.rooms.room import Room
from fairway.rooms.runner import AWAY, Outcome, Runner, drop, errors
from fairway.rooms.waiting import Waiting

LOOK_EVERY = 2.0
"""Seconds between two readings of the list of candidates, if nothing is heard of a change."""

MOST_HOPS = 3
"""How often a message is passed on, if the process that it was sent to does not run the room any more."""

MOST_KEPT = 1000
"""How many kept messages are read to find the last. A history of one is enough."""

FAREWELL = 1.0
"""Seconds that the service has to hear that a host leaves."""

FAILED, ENDED = "room.failed", "room.ended"
"""What visitors are told, if their consumers have handlers for it."""

MESSAGE, SAVED, LOOK = "room.message", "room.saved", "room.look"
"""What hosts tell each other, besides."""

_running: set[asyncio.Task[None]] = set()  # an event loop itself keeps no task alive


class Host:
    """One room in one process, from its first visitor here to its last. It lives in the event loop of its visitors."""

    def __init__(self, room_class: type[Room], name: str, layer: HubLayer) -> None:
        self.room_class = room_class
        self.name = name
        self.layer = layer
        self.loop = asyncio.get_running_loop()
        self.has_ended = False
        self._contest = Contest(layer, name)
        self._restarts = Restarts()
        self._runner: Runner | None = None
        self._visitors: dict[str, Collection[str]] = {}
        self._waiting = Waiting(name)
        self._empty_since: float | None = None
        self._woken = asyncio.Event()
        self.task = self.loop.create_task(self._run())
        _running.add(self.task)
        self.task.add_done_callback(_running.discard)

    # Visitors -------------------------------------------------------------------------------------------------

    def add(self, channel: str, hears: Collection[str]) -> None:
        """A consumer of this process enters. `hears` are the types of events that it wants: `FAILED`, `ENDED`."""
        self._visitors[channel] = hears
        self._empty_since = None

    def remove(self, channel: str) -> None:
        """A visitor has gone. Does nothing if it was none."""
        if self._visitors.pop(channel, None) is not None and not self._visitors:
            self._empty_since = self.loop.time()
            self._woken.set()

    def remove_soon(self, channel: str) -> None:
        """The consumer of a visitor has ended, perhaps in another thread."""
        with contextlib.suppress(RuntimeError):  # the loop was closed
            self.loop.call_soon_threadsafe(self.remove, channel)

    async def send(self, message: Any, hops: int = 0) -> None:
        """Bring a message to the room, in whichever process it runs."""
        if self._runner is None and (self.has_ended or hops >= MOST_HOPS):
            drop(self.name)
        elif not self._waiting and self._knows_where():
            await self._pass_on(message, hops)
        else:
            self._waiting.put(message, hops)  # behind those that came before it

    def _knows_where(self) -> bool:
        return self._runner is not None or self._contest.first not in (None, self._contest.channel)

    async def _pass_on(self, message: Any, hops: int) -> None:
        first = self._contest.first
        if self._runner is not None:
            self._runner.put(copied(message))
        elif first is not None:
            try:
                whole = {"type": MESSAGE, "from": self._contest.channel, "message": message, "hops": hops + 1}
                await self.layer.send(first, whole)
            except ChannelFull:
                drop(self.name)

    async def forget(self) -> None:
        """The event loop of this host was closed before it could leave: another one does what is left."""
        await self._contest.withdraw()

    # The life of a host ---------------------------------------------------------------------------------------

    async def _run(self) -> None:
        listening: asyncio.Task[None] | None = None
        is_left = False
        try:
            while not self._is_over():
                self._woken.clear()
                with self._goes_on():
                    await self._contest.open()
                    listening = listening or self.loop.create_task(self._listen())
                    await self._look()
                await self._wait()
            is_left = True
        finally:
            self.has_ended = True
            await self._leave(is_left)
            if listening is not None:
                listening.cancel()

    @contextlib.contextmanager
    def _goes_on(self) -> Iterator[None]:
        """A host does not die of an error: without it, its visitors would have no room."""
        try:
            yield
        except (Unavailable, OSError):
            pass  # the layer's log says so, and it is tried again
        except Exception as error:
            errors.report(time.monotonic(), error, "Room %s has a fault", self.name)

    def _is_over(self) -> bool:
        if self.has_ended:
            return True
        # If there are visitors elsewhere, their process goes on with the room at once.
        linger = self.room_class.linger if not self._contest.others else 0.0
        return self._empty_since is not None and self.loop.time() >= self._empty_since + linger

    async def _wait(self) -> None:
        until = self.loop.time() + LOOK_EVERY
        if self._empty_since is not None:
            until = min(until, self._empty_since + self.room_class.linger)
        alarm = self.loop.call_at(until, self._woken.set)
        try:
            await self._woken.wait()
        finally:
            alarm.cancel()

    async def _look(self) -> None:
        known = self._contest.others
        may_run = await self._contest.look()
        if may_run and self._runner is None:
            await self._recall()
            self._begin()
            known = ()  # of what this process saves
        elif not may_run and self._runner is not None:
            await self._stop()
        if self._runner is not None and any(name not in known for name in self._contest.others):
            self._runner.save_soon()  # whoever has just come knows nothing
        await self._waiting.pass_on(self._pass_on, self._knows_where)

    @property
    def _keeps(self) -> bool:
        """Whether the layer keeps what is saved, by a history of the clock."""
        keeper = self.layer.keeper
        return keeper is not None and keeper.rules.keep_of(self._contest.clock) is not None

    async def _recall(self) -> None:
        """Find what the last process has saved, if nobody has told: all who knew it are gone."""
        if self._restarts.saved is None and self._keeps:
            kept = await self.layer.history(self._contest.clock, limit=MOST_KEPT)
            if kept.messages:
                self._restarts.saved = kept.messages[-1]["saved"]

    def _begin(self) -> None:
        runner = self._runner = Runner(
            self.room_class(self.name, self.layer),
            self._restarts,
            self._contest.is_sure,
            self._publish_save,
            self._tell,
        )
        runner.task.add_done_callback(lambda task: self._has_stopped(runner, task))

    async def _stop(self) -> bool:
        """Stop the room, if it runs here. Returns whether it did."""
        runner, self._runner = self._runner, None
        if runner is None:
            return False
        await runner.stop()
        return True

    def _has_stopped(self, runner: Runner, task: asyncio.Task[Outcome]) -> None:
        """The runner has stopped, by itself or because it was told to."""
        if self._runner is runner:
            self._runner = None
            self._woken.set()
        with self._goes_on():
            self.has_ended |= not task.cancelled() and task.result() is Outcome.ENDED

    async def _leave(self, is_left: bool) -> None:
        """`is_left`: nobody is there. Otherwise the process stops, and visitors may be back soon, elsewhere."""
        ran = await self._stop()
        self._waiting.drop()
        with contextlib.suppress(TimeoutError, *AWAY):
            async with asyncio.timeout(FAREWELL):
                # In this order: whoever takes over has what was saved last.
                if ran:
                    forgets = is_left and not self._contest.others
                    await self._publish_save(None if forgets else self._restarts.saved)
                await self._contest.withdraw()
                if self._contest.others:
                    await self._publish(LOOK)

    # Between hosts --------------------------------------------------------------------------------------------

    async def _publish(self, kind: str, **content: Any) -> None:
        layer: Any = self.layer  # one of ours, which can keep messages
        event = {"type": kind, "from": self._contest.channel, **content}
        await layer.group_send(self._contest.clock, event, keep=kind == SAVED and self._keeps)

    async def _publish_save(self, saved: Any) -> None:
        if self._contest.others or self._keeps:
            await self._publish(SAVED, saved=saved)

    async def _tell(self, pause: float | None) -> None:
        """The room has failed and begins again after a pause, or it has ended: tell all visitors."""
        kind, content = (ENDED, {}) if pause is None else (FAILED, {"again_in": pause})
        self._tell_visitors({"type": kind, "group": self.name, **content})
        if self._contest.others:
            await self._publish(kind, **content)

    def _tell_visitors(self, event: Message) -> None:
        for channel, hears in list(self._visitors.items()):
            if event["type"] in hears:
                self.layer.hub.send(channel, event)

    async def _listen(self) -> None:
        while True:
            try:
                message = await self.layer.receive(self._contest.channel)
            except AWAY:
                await asyncio.sleep(LOOK_EVERY)
                continue
            with self._goes_on():
                await self._hear(message)

    async def _hear(self, message: Message) -> None:
        match message:
            case {"type": "room.message", "from": str() as sender, "message": content, "hops": int() as hops}:
                await self.send(content, hops)
                # All visitors see at once what the message changes. The list says only later who it came from.
                if self._contest.meet(sender) and self._runner is not None:
                    self._runner.save_soon()
            case {"from": str() as sender} if sender == self._contest.channel:
                pass
            case {"type": "room.saved", "saved": saved}:
                if self._runner is None:
                    self._restarts.save(saved)
            case {"type": "presence.diff" | "room.look"}:
                self._woken.set()
            case {"type": "room.failed", "again_in": pause}:
                self._tell_visitors({"type": FAILED, "group": self.name, "again_in": pause})
            case {"type": "room.ended"}:
                self._tell_visitors({"type": ENDED, "group": self.name})
                self.has_ended = True
                self._woken.set()
