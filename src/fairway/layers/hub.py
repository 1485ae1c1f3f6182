"""Groups and members of one process, and the rules by which events reach them, written once for all our layers.

A *channel* is a name; behind it stands a `Member` (a running consumer) or a `ChannelQueue` (somebody calls `receive`,
or nobody does yet). A *group* is a set of channel names. The hub knows no sockets and no wire formats: it hands each
target a message, or a payload that many share.

`channels` and `groups` keep the shapes that tests of applications look into: name -> queue, group -> {name -> time of
joining}. Times are seconds of the clock given to the constructor, which does not jump as the wall's does. Deliveries
may come from any thread.
"""

from __future__ import annotations

import asyncio
import copy
import threading
import time
from asyncio import AbstractEventLoop, Future
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from itertools import chain, islice
from math import inf
from typing import Any, TypeAlias, TypeVar

from fairway.delivery import WAKES_PER_PASS, Member, Message, Passes, Payload, running_loop_or_none
from fairway.layers.channel_queue import ChannelQueue, finish
from fairway.layers.drops import Drops
from fairway.layers.roster import Roster
from fairway.logs import get_logger

logger = get_logger("fairway.layers")

_IMMUTABLE = frozenset({str, int, float, bool, bytes, type(None), complex})


def is_flat(message: Mapping[Any, Any]) -> bool:
    """Whether a shallow copy of the message isolates: all keys and values are of exact immutable built-in types."""
    return all(type(value) in _IMMUTABLE for value in message.values()) and all(
        type(key) in _IMMUTABLE for key in message
    )


def copied(value: Any) -> Any:
    """A deep copy, quick for what JSON can hold and right for everything else."""
    kind = type(value)
    if kind in _IMMUTABLE:
        return value
    if kind is dict:
        return {key if type(key) in _IMMUTABLE else copy.deepcopy(key): copied(item) for key, item in value.items()}
    if kind is list:
        return [copied(item) for item in value]
    return copy.deepcopy(value)


Target: TypeAlias = Member | ChannelQueue

SLICE = 4096
"""So many consumers are given a message in one pass of the event loop: about 2 ms, at 0.5 µs each. What follows from
it, waking and writing, is spread over passes by the loop's `Waker` and its server.
"""

AHEAD = 4096
"""So many members may be given messages in one pass; who sends more waits until those have had their turn. A small
group counts as `LEAST`, so that a member's capacity is not used up in one pass.
"""

LEAST = 64

NAMES = 256
"""For so many channels that no consumer is attached to a message is queued in one pass: about 4 ms, at 17 µs each."""


class _Round:
    """One message on its way to the members that a group had when it was sent, and to the names without one."""

    __slots__ = ("_slices", "done", "everybody", "left_out", "remaining")

    def __init__(
        self,
        count: int,
        names: Sequence[str],
        deliver: Callable[[int, int], int],
        enqueue: Callable[[Sequence[str]], int],
        done: Future[None],
    ) -> None:
        members, unattended = range(0, count, SLICE), range(0, len(names), NAMES)
        self._slices = chain(
            (partial(deliver, begin, begin + SLICE) for begin in members),
            (partial(enqueue, names[begin : begin + NAMES]) for begin in unattended),
        )
        self.remaining = len(members) + len(unattended)
        self.everybody = count + len(names)
        self.done = done
        self.left_out = 0

    def deliver_slice(self) -> None:
        self.remaining -= 1
        for deliver in islice(self._slices, 1):
            self.left_out += deliver()


class Hub:
    """Groups, channels and their targets.

    `expiry`: after so many seconds an unread message is dropped, and its channel is removed from all groups;
    `group_expiry`: a membership ends so long after the last `add`; `capacity_of`: how many messages a channel holds.
    """

    def __init__(
        self,
        capacity_of: Callable[[str], int],
        expiry: float = 60,
        group_expiry: float = 86400,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.channels: dict[str, Target] = {}
        self.groups: dict[str, dict[str, float]] = {}
        self.expiry = expiry
        self.group_expiry = group_expiry
        self._drops = Drops()
        self._capacity_of = capacity_of
        self._clock = clock
        # When messages were queued for channels without a member, oldest first: what expires is found without a scan.
        self._expiries: deque[tuple[float, str]] = deque()
        self._joins: deque[tuple[float, str, str]] = deque()
        self._compact_expiries_at = self._compact_joins_at = 1000
        self._rosters: dict[str, Roster] = {}
        # The messages that are being delivered in slices, by group and by the event loop that does it.
        self._rounds: dict[tuple[str, AbstractEventLoop | None], deque[_Round]] = {}
        self._ahead = 0
        self._has_expired_members = False
        self._lock = threading.RLock()

    # Members --------------------------------------------------------------------------------------------------

    def attach(self, member: Member) -> None:
        """Deliver to this member from now on; messages that were queued for its name come first."""
        self.expire()
        with self._lock:
            member.owner = self
            earlier = self.channels.get(member.name)
            self.channels[member.name] = member
            if earlier is not None:
                self._rosters.clear()
        if isinstance(earlier, ChannelQueue):
            while not earlier.empty():
                member.deliver(earlier.get_nowait()[1])

    def detach(self, member: Member) -> None:
        """The consumer has ended: forget its channel and its memberships."""
        member.close()
        with self._lock:
            target = self.channels.get(member.name)
            if target is member:
                del self.channels[member.name]
            elif isinstance(target, ChannelQueue) and target.displaced is member:
                target.displaced = None
            for group in member.groups or ():
                self._discard(group, member.name)
            member.groups = None

    def forget_connection(self, member: Member) -> None:
        """The member has none any more. (`fairway.delivery.MemberOwner`)"""
        with self._lock:
            for group in member.groups or ():
                self._rosters.pop(group, None)

    # Channels -------------------------------------------------------------------------------------------------

    def send(self, channel: str, message: Message) -> bool:
        """Deliver a message, which is copied; False when the channel is full."""
        if self._expiries:
            self.expire()
        return self._deliver(channel, copied(message))

    def _deliver(self, channel: str, message: Message) -> bool:
        target = self.channels.get(channel)
        if type(target) is Member:
            delivered = target.deliver(message)
            if not delivered and self._is_gone(target):
                delivered = self._enqueue(channel, message)
        else:
            delivered = self._enqueue(channel, message)
        if not delivered:
            self._count_drop(channel)
        return delivered

    def _is_gone(self, member: Member) -> bool:
        """Whether a member took nothing because it, or its event loop, was closed: then it is forgotten."""
        if not member.closed:
            return False
        self.detach(member)
        return True

    def _enqueue(self, channel: str, message: Message) -> bool:
        expires_at = self._clock() + self.expiry
        with self._lock:
            target = self.channels.get(channel)
            if type(target) is Member and not target.closed:
                # Attached by another thread since the caller looked.
                return target.deliver(message)
            queue = self.queue(channel)
            try:
                queue.put_nowait((expires_at, message))
            except asyncio.QueueFull:
                return False
            self._expiries.append((expires_at, channel))
            if len(self._expiries) > self._compact_expiries_at:
                self._compact_expiries()
        return True

    def _compact_expiries(self) -> None:
        # Messages are read much sooner than they expire: keep the notes of those that still wait.
        oldest = {
            name: target.first_expiry for name, target in self.channels.items() if isinstance(target, ChannelQueue)
        }
        self._expiries = deque(note for note in self._expiries if oldest.get(note[1], inf) <= note[0])
        self._compact_expiries_at = max(1000, 2 * len(self._expiries))

    def queue(self, channel: str) -> ChannelQueue:
        """The queue behind a channel without a member, made if need be."""
        with self._lock:
            target = self.channels.get(channel)
            if isinstance(target, ChannelQueue):
                return target
            queue = self.channels[channel] = ChannelQueue(self._capacity_of(channel))
            queue.displaced = target
            if target is not None:
                self._rosters.clear()
            return queue

    async def receive(self, channel: str) -> Message:
        """Wait for the next message of a channel. Cancelling loses nothing."""
        self.expire()
        with self._lock:
            queue = self.queue(channel)
            queue.readers += 1
        try:
            return (await queue.get())[1]
        finally:
            with self._lock:
                queue.readers -= 1
                self._drop_if_idle(channel, queue)

    def _drop_if_idle(self, channel: str, queue: ChannelQueue) -> None:
        if queue.readers or not queue.empty() or self.channels.get(channel) is not queue:
            return
        if queue.displaced is None:
            del self.channels[channel]
        else:
            self.channels[channel] = queue.displaced

    def _member(self, channel: str) -> Member | None:
        target = self.channels.get(channel)
        return target.displaced if isinstance(target, ChannelQueue) else target

    @property
    def dropped(self) -> int:
        """How many deliveries were refused by channels that were full."""
        return self._drops.total

    def _count_drop(self, channel: str) -> None:
        self._drops.total += 1
        logger.debug("channel %s is full: a message was dropped", channel)

    # Groups ---------------------------------------------------------------------------------------------------

    def group_add(self, group: str, channel: str) -> None:
        """Add a channel to a group, or renew its time of joining."""
        now = self._clock()
        with self._lock:
            self._rosters.pop(group, None)
            self.groups.setdefault(group, {})[channel] = now
            self._joins.append((now, group, channel))
            member = self._member(channel)
            if member is not None:
                if member.groups is None:
                    member.groups = [group]
                elif group not in member.groups:
                    member.groups.append(group)
            if len(self._joins) > self._compact_joins_at:
                self._compact_joins()

    def _compact_joins(self) -> None:
        # Memberships come and go much faster than they expire: keep only notes of those that still stand.
        # Done again when their number has doubled, so that its cost is constant for each `group_add`.
        self._joins = deque(
            (joined, group, channel)
            for joined, group, channel in self._joins
            if self.groups.get(group, {}).get(channel) == joined
        )
        self._compact_joins_at = max(1000, 2 * len(self._joins))

    def group_discard(self, group: str, channel: str) -> None:
        """Take a channel out of a group; nothing happens if it is not in it."""
        with self._lock:
            self._discard(group, channel)
            member = self._member(channel)
            if member is not None and member.groups is not None and group in member.groups:
                member.groups.remove(group)

    def _discard(self, group: str, channel: str) -> None:
        members = self.groups.get(group)
        if members is not None:
            self._rosters.pop(group, None)
            members.pop(channel, None)
            if not members:
                del self.groups[group]

    def group_send(self, group: str, message: Message) -> Awaitable[None] | None:
        """Deliver a copy of the message to every member; those that are full are left out, counted and logged.

        What is returned, if anything, is to be awaited before sending more: for a very large group, or after such a
        one's message, delivery is done in slices, and a sender that is far ahead lets the members have their turn.
        Giving up waiting leaves nobody out.
        """
        self.expire()
        roster = self._roster(group)
        if roster is None:
            return None
        loop = running_loop_or_none()
        if len(roster.members) > SLICE or len(roster.names) > NAMES or (group, loop) in self._rounds:
            message = copied(message)  # what is delivered later must not change meanwhile
        deliver = partial(self._send_to, roster, loop, message, is_flat(message))
        return self._deliver_in_slices(
            group, roster.names, len(roster.members), loop, deliver, partial(copied, message)
        )

    def _send_to(
        self, roster: Roster, loop: AbstractEventLoop | None, message: Message, flat: bool, begin: int, end: int
    ) -> int:
        left_out = 0
        for member in roster.members[begin:end]:
            own = message.copy() if flat else copied(message)
            # Member.deliver, in line: this is the loop that a busy group spends its time in.
            if member.loop is loop and not member.closed:
                if not member.inbox.put_layer(own, member.capacity):
                    member.dropped += 1
                    left_out += 1
            elif not member.deliver(own) and not self._is_gone(member):
                left_out += 1
        return left_out

    def group_broadcast(
        self, group: str, payload: Payload, exclude: frozenset[str] = frozenset()
    ) -> Awaitable[None] | None:
        """Give every member but those excluded the same payload; what is returned is as for `group_send`."""
        self.expire()
        roster = self._roster(group)
        if roster is None:
            return None
        without = {self.channels.get(name) for name in exclude}
        names = [name for name in roster.names if name not in exclude]
        others: Sequence[Member] = ()

        def deliver(begin: int, end: int) -> int:
            nonlocal others
            if not begin:
                others = roster.broadcast(payload, without)
            return self._broadcast_to(others[begin:end], payload)

        return self._deliver_in_slices(
            group, names, len(roster.members), running_loop_or_none(), deliver, payload.as_message
        )

    def _broadcast_to(self, members: Sequence[Member], payload: Payload) -> int:
        left_out = 0
        for member in members:
            if not member.broadcast(payload) and not self._is_gone(member):
                left_out += 1
        return left_out

    # Rosters --------------------------------------------------------------------------------------------------
    #
    # A roster is kept for the next message if all its members are here and know of their membership: then nothing but
    # the joining and leaving of members changes it, and whatever does that forgets it.

    def _roster(self, group: str) -> Roster | None:
        joined = self.groups.get(group)
        if not joined:
            return None
        roster = self._rosters.get(group)
        # Tests of applications reach into the groups.
        if roster is not None and roster.joined is joined and len(roster.members) == len(joined) and roster.is_current:
            return roster
        with self._lock:
            targets = [(name, self.channels.get(name)) for name in joined]
            members = [target for _, target in targets if type(target) is Member]
            names = [name for name, target in targets if type(target) is not Member]
            roster = Roster(joined, members, names)
            if not names and all(member.groups and group in member.groups for member in members):
                self._rosters[group] = roster
            else:
                self._rosters.pop(group, None)
        return roster

    # Slices ---------------------------------------------------------------------------------------------------
    #
    # A message for many thousands is delivered by some thousands, and between them the event loop makes a pass. What is
    # sent to the same group meanwhile takes its turn behind it.

    def _deliver_in_slices(
        self,
        group: str,
        names: Sequence[str],
        count: int,
        loop: AbstractEventLoop | None,
        deliver: Callable[[int, int], int],
        as_message: Callable[[], Message],
    ) -> Awaitable[None] | None:
        def enqueue(names: Sequence[str]) -> int:
            return sum(not self._enqueue(name, as_message()) for name in names)

        rounds = self._rounds.get((group, loop))
        if rounds is None and (loop is None or (count <= SLICE and len(names) <= NAMES)):
            everybody = count + len(names)
            self._count_left_out(group, enqueue(names) + deliver(0, count), everybody)
            return None if loop is None else self._turn_of_members(everybody, loop)
        assert loop is not None
        this = _Round(count, names, deliver, enqueue, loop.create_future())
        if rounds is None:
            self._rounds[group, loop] = deque([this])
            self._next_slice(group, loop)
        else:
            rounds.append(this)
        return this.done

    def _next_slice(self, group: str, loop: AbstractEventLoop) -> None:
        rounds = self._rounds[group, loop]
        this = rounds[0]
        try:
            this.deliver_slice()
        finally:
            if this.remaining <= 0:
                rounds.popleft()
                self._count_left_out(group, this.left_out, this.everybody)
                finish(this.done)
            if rounds:
                loop.call_soon(self._next_slice, group, loop)
            else:
                del self._rounds[group, loop]

    def _turn_of_members(self, count: int, loop: AbstractEventLoop) -> Awaitable[None] | None:
        """What a sender has to await after it has sent to so many members."""
        if not self._ahead and count > LEAST:
            loop.call_soon(self._forget_ahead)
        self._ahead += max(count, LEAST)
        if self._ahead <= AHEAD:
            return None
        self._ahead = 0
        return Passes(1 + count // WAKES_PER_PASS)

    def _forget_ahead(self) -> None:
        self._ahead = 0

    def _count_left_out(self, group: str, left_out: int, count: int) -> None:
        if left_out:
            self._drops.left_out(group, left_out, count)

    # Expiry ---------------------------------------------------------------------------------------------------

    def expire(self) -> None:
        """Drop what has expired: amortised constant time, because both lists are in order of time."""
        if not self._expiries and not self._joins:
            return
        now = self._clock()
        with self._lock:
            while self._expiries and self._expiries[0][0] < now:
                self._expire_channel(self._expiries.popleft()[1], now)
            while self._joins and self._joins[0][0] + self.group_expiry < now:
                joined, group, channel = self._joins.popleft()
                if self.groups.get(group, {}).get(channel) == joined:
                    self._note_expiry(group, channel)
                    self.group_discard(group, channel)

    def _note_expiry(self, group: str, channel: str) -> None:
        member = self._member(channel)
        if member is not None and not member.closed and not self._has_expired_members:
            self._has_expired_members = True
            logger.warning(
                "A consumer that still runs is no longer in group %s, %g s after it has joined (group_expiry); "
                "it would have to join again before. Further ones are not logged",
                group,
                self.group_expiry,
            )

    def _expire_channel(self, channel: str, now: float) -> None:
        queue = self.channels.get(channel)
        if not isinstance(queue, ChannelQueue) or not queue.drop_expired(now):
            return
        self.discard_from_all(channel)
        self._drop_if_idle(channel, queue)

    def discard_from_all(self, channel: str) -> None:
        """Take a channel out of every group."""
        with self._lock:
            for group in [group for group, members in self.groups.items() if channel in members]:
                self.group_discard(group, channel)

    def flush(self) -> None:
        """Forget all queued messages and all groups; members stay attached, and readers go on waiting."""
        with self._lock:
            for name, target in list(self.channels.items()):
                member = self._member(name)
                if member is not None:
                    member.groups = None
                if isinstance(target, ChannelQueue):
                    target.drop_expired(inf)
                    self._drop_if_idle(name, target)
            self.groups.clear()
            self._rosters.clear()
            self._expiries.clear()
            self._joins.clear()


LayerClass = TypeVar("LayerClass", bound=type)

_DELIVERING = ("send", "receive", "new_channel", "group_add", "group_discard", "group_send")
_native: set[type] = set()
_is_native: dict[type, bool] = {}


def delivers_through_hub(layer_class: LayerClass) -> LayerClass:
    """Class decorator: instances have a `hub` that consumers may attach to instead of calling `receive`."""
    _native.add(layer_class)
    return layer_class


def hub_of(layer: object) -> Hub | None:
    """The hub of a layer whose class is one of ours, or a subclass that changes nothing about delivery; else None."""
    layer_class = type(layer)
    native = _is_native.get(layer_class)
    if native is None:
        owner = next((base for base in layer_class.__mro__ if base in _native), None)
        native = owner is not None and all(getattr(layer_class, name) is getattr(owner, name) for name in _DELIVERING)
        _is_native[layer_class] = native
    return layer.hub if native else None  # type: ignore[attr-defined]  # the decorator's promise
