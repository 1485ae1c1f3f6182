"""What a game writes: a room, with its state and its rules."""

from __future__ import annotations

import inspect
import json
from typing import Any, ClassVar, Literal

from fairway.layers.contract import BaseChannelLayer

METHODS = ("begin", "tick", "publish", "receive", "end")
"""What a room waits for: the methods that are `async def`."""

RESERVED = frozenset({"only", "clock"})
"""What no part of a room's name may be behind its first period. Otherwise visitors of a room with such a name would be
in a group of another room, and hear what that tells one person.
"""

_EVERYBODY: Any = object()


class Room:
    """Something that goes on by itself while somebody is there: a game, an auction, a simulation. Derive from it.

        class Race(Room):
            async def begin(self, saved):
                self.places = saved or {}

            async def receive(self, message):
                self.places.setdefault(message["who"], 0)

            async def tick(self, seconds):
                for who in self.places:
                    self.places[who] += 10 * seconds

            async def publish(self):
                await self.broadcast_json({"places": self.places})

    A room runs in one process at a time, of all that share the channel layer: it begins when the first consumer enters
    it (`AsyncRoomsMixin.enter`), and ends when the last one has gone. Its methods are called one after the other, never
    two at the same time. So they need no locks. What they wait for, all visitors of the room wait for.

    `name` is also that of the group that the visitors are in. A test may make a room by itself, without a layer.
    """

    step: ClassVar[float] = 1 / 20
    """Seconds between two ticks."""

    catch_up: ClassVar[int] = 5
    """How many ticks a late room makes up for at once. More than that are left out, and counted."""

    linger: ClassVar[float] = 0.0
    """Seconds for which a room goes on without visitors. They may come back."""

    most: ClassVar[int] = 1000
    """How many rooms of this class one process is in. More are not begun: `TooManyRooms`."""

    save_every: ClassVar[float] = 1.0
    """Seconds between two calls of `save`."""

    on_error: ClassVar[Literal["restart", "end"]] = "restart"
    """What becomes of the room when `begin`, `tick`, `publish` or `save` raises an exception."""

    _has_changed = False

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        _check(cls)

    def __init__(self, name: str, layer: BaseChannelLayer | None = None) -> None:
        self.name = name
        self.layer = layer

    async def begin(self, saved: Any) -> None:
        """The room begins in this process.

        `saved` is what `save` has returned, if the room has been going on in another process, or was restarted after an
        error. Otherwise, it is None.
        """

    async def tick(self, seconds: float) -> None:
        """Go on by one step. `seconds` is always the same: `step`."""

    async def publish(self) -> None:
        """Tell the visitors how things are. Called after each tick, or once after several that were late.

        If the channel layer's service is away, the error that a send raises is logged, and the room goes on.
        """

    async def receive(self, message: Any) -> None:
        """Somebody has sent a message into the room (`Visit.send`).

        It comes from your consumers, and part of it perhaps from a browser: check it. An exception ends the message and
        not the room: it is logged with its traceback, and counted.
        """

    def save(self) -> Any:
        """What the next process needs to go on, as something that a channel layer carries, or None if it needs nothing.

        Called every `save_every` seconds, after `changed`, when another process has visitors for the first time, and at
        the end. What has happened since the last call is lost if the process is killed.
        """
        return None

    def changed(self) -> None:
        """Something has happened that shall neither wait nor be lost, such as a move in a game of turns.

        When `receive` or `tick` has returned, the room is saved, and only then published: what visitors have seen is
        not undone when the process is killed. Several changes that come together are saved and published once.
        """
        self._has_changed = True

    async def end(self) -> None:
        """The room ends in this process, because nobody is there, or because the server stops. Not after an error."""

    async def broadcast_json(self, content: Any, to: str | int = _EVERYBODY) -> None:
        """Send one WebSocket message to all visitors, past their consumers, as `group_broadcast_json` does.

        With `to`, only those get it who have entered as this person: `enter(room, name, who=to)`.
        """
        group = self._group(to)
        if self.layer is not None:
            await self.layer.group_broadcast(group, json.dumps(content))

    async def send(self, event: dict[str, Any], to: str | int = _EVERYBODY) -> None:
        """Send an event to the handlers of all visitors, as `group_send` does. `to` as for `broadcast_json`."""
        group = self._group(to)
        if self.layer is not None:
            await self.layer.group_send(group, event)

    def _group(self, to: str | int) -> str:
        if to is None:  # perhaps nobody has that seat: what is for one person must not go to all
            raise TypeError("`to` is None, which is nobody: leave it out to tell all visitors")
        return self.name if to is _EVERYBODY else group_of(self.name, to)


def group_of(room: str, who: str | int) -> str:
    """The group of those among a room's visitors that are one person. No room has a name like it: see `RESERVED`."""
    return f"{room}.only.{who}"


def _check(room: type[Room]) -> None:
    """Say at once, with the name, what would fail later in each room of this class."""
    if not isinstance(room.step, int | float) or not room.step > 0:
        raise TypeError(f"{room.__name__}.step is {room.step!r}: use the seconds between two ticks, a number above 0")
    for name in METHODS:
        method = getattr(room, name)
        # A decorator may have made a function that returns what can be awaited.
        if inspect.isfunction(method) and not inspect.iscoroutinefunction(inspect.unwrap(method)):
            raise TypeError(f"{room.__name__}.{name} is awaited: write `async def {name}`")
    if inspect.iscoroutinefunction(room.save):
        raise TypeError(f"{room.__name__}.save is not awaited: write `def save`")
    try:
        inspect.signature(room).bind("name", None)
    except TypeError:
        text = f"{room.__name__} is made with a name and a layer: leave out `__init__`, and set up its state in `begin`"
        raise TypeError(text) from None
