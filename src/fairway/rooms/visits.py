"""How consumers enter rooms: the mixins `AsyncRoomsMixin` and `RoomsMixin`, and the `Visit` that they get."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterable
from typing import Any
from weakref import WeakKeyDictionary

from asgiref.sync import async_to_sync

from fairway.consumers.names import not_a_handler
from fairway.layers.errors import InvalidChannelLayerError
from fairway.layers.hub_layer import HubLayer, hub_of
from fairway.logs import FaultLog
from fairway.rooms.counters import counters
from fairway.rooms.host import ENDED, FAILED, Host
from fairway.rooms.room import RESERVED, Room, group_of
from fairway.rooms.runner import logger

_hosts: WeakKeyDictionary[HubLayer, dict[asyncio.AbstractEventLoop, dict[str, Host]]] = WeakKeyDictionary()
# Those of each layer and event loop, by the names of their rooms.


_faults = FaultLog(logger, per_second=1)


class TooManyRooms(Exception):
    """This process is in as many rooms of a class as it may be: `Room.most`. Close the connection."""


class Visit:
    """A consumer's stay in a room. It ends with the consumer, or by `leave`."""

    def __init__(self, host: Host, channel: str, groups: Collection[str]) -> None:
        self._host = host
        self._channel = channel
        self._groups = groups

    async def send(self, message: Any) -> None:
        """Send a message into the room: to its `receive`, in whichever process it runs.

        `message` is anything that the channel layer carries. Messages of one consumer arrive in their order. While
        nobody runs the room (a process has just died), some messages wait. Of a room that is behind, messages are
        dropped and counted. Raises ConnectionError while the layer's service is away.
        """
        await self._host.send(message)

    async def leave(self) -> None:
        """Leave the room, and its group."""
        self._host.remove(self._channel)
        self._host.layer.hub.endings.remove(self._channel, self._host.remove_soon)
        for group in self._groups:
            await self._host.layer.group_discard(group, self._channel)


class SyncVisit:
    """The same for synchronous consumers."""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit

    def send(self, message: Any) -> None:
        """See `Visit.send`."""
        async_to_sync(self._visit.send)(message)

    def leave(self) -> None:
        """See `Visit.leave`."""
        async_to_sync(self._visit.leave)()


class AsyncRoomsMixin:
    """For asynchronous consumers: `enter`.

        class Player(AsyncRoomsMixin, AsyncJsonWebsocketConsumer):
            async def connect(self):
                self.race = await self.enter(Race, "race.1")
                await self.accept()

            async def receive_json(self, content):
                await self.race.send({"who": self.scope["user"].pk, "turn": content["turn"]})

    A consumer that has these handlers gets these events:

    * `room_failed`: the room has raised an exception, and begins again after `event["again_in"]` seconds.
    * `room_ended`: it has raised an exception, and has ended (`Room.on_error`). Whoever enters now begins a new one.
    """

    @not_a_handler
    async def enter(self, room: type[Room], name: str, who: str | int | None = None) -> Visit:
        """Enter a room, and join the group of its name. The room begins with its first visitor.

        `name` is a name for groups, of at most 90 characters. `who` is the person, such as the user's primary key: the
        room can then say something to this person alone, at all connections (`Room.broadcast_json`). The visit ends by
        itself with the consumer. Raises `InvalidChannelLayerError` if the channel layer is not one of Fairway's own:
        others cannot say who runs a room.
        """
        return await enter(self, room, name, who)


class RoomsMixin:
    """For synchronous consumers: see `AsyncRoomsMixin`."""

    @not_a_handler
    def enter(self, room: type[Room], name: str, who: str | int | None = None) -> SyncVisit:
        """See `AsyncRoomsMixin.enter`."""
        return SyncVisit(async_to_sync(enter)(self, room, name, who))


async def enter(consumer: Any, room: type[Room], name: str, who: str | int | None) -> Visit:
    """Let a consumer enter a room. If it has ended meanwhile, it has left again."""
    layer: HubLayer = consumer.channel_layer
    hub = hub_of(layer)
    if hub is None:
        what = "no channel layer" if layer is None else f"the channel layer {type(layer).__name__}, which has none"
        raise InvalidChannelLayerError(f"rooms need one of Fairway's own channel layers; this consumer has {what}")
    _require_room(layer, room, name)
    groups = [name] if who is None else [name, group_of(name, who)]
    _require_group(layer, groups[-1], f"{who!r} cannot be who somebody is in {name}")
    channel: str = consumer.channel_name
    host = await _host_of(layer, room, name)
    visit = Visit(host, channel, groups)
    host.add(channel, [kind for kind in (FAILED, ENDED) if hasattr(consumer, kind.replace(".", "_"))])
    hub.endings.add(channel, host.remove_soon)
    for group in groups:
        await layer.group_add(group, channel)
    if consumer._fairway_member is None:  # it has ended meanwhile
        await visit.leave()
    return visit


async def _host_of(layer: HubLayer, room: type[Room], name: str) -> Host:
    loop = asyncio.get_running_loop()
    loops = _hosts.setdefault(layer, {})
    for closed in [each for each in loops if each.is_closed()]:
        for host in loops.pop(closed).values():
            await host.forget()
    hosts = loops.setdefault(loop, {})
    found = hosts.get(name)
    if found is None or found.has_ended:
        _require_place(room, hosts.values())
        host = hosts[name] = Host(room, name, layer)
        host.task.add_done_callback(lambda _: hosts.pop(name) if hosts.get(name) is host else None)
        return host
    if found.room_class is not room:
        raise ValueError(f"{name} is a room of {found.room_class.__name__}, not of {room.__name__}")
    return found


def _require_room(layer: HubLayer, room: Any, name: str) -> None:
    if not (isinstance(room, type) and issubclass(room, Room)):
        raise TypeError(f"enter needs a class that is derived from fairway.rooms.Room, and not {room!r}")
    _require_group(layer, f"{name}.clock", f"{name!r} cannot be the name of a room")
    for part in name.split(".")[1:]:
        if part in RESERVED:
            raise TypeError(f"{name!r} cannot be the name of a room: there are groups of Fairway's with .{part} in it")


def _require_group(layer: HubLayer, group: str, problem: str) -> None:
    try:
        layer.require_valid_group_name(group)
    except TypeError:
        what = "at most 90 ASCII letters, digits, hyphens, underscores and periods"
        raise TypeError(f"{problem}: use {what}") from None


def _require_place(room: type[Room], hosts: Iterable[Host]) -> None:
    # Whoever has many rooms pays for this with each of them, and far more for their ticks.
    if sum(host.room_class is room for host in hosts) < room.most:
        return
    counters.refused += 1
    text = "%s.most: this process is in %s such rooms already, and a visitor of another one was refused"
    _faults.report(time.monotonic(), "refused", text, room.__name__, room.most)
    raise TooManyRooms(f"this process is in {room.most} rooms of {room.__name__} ({room.__name__}.most)")
