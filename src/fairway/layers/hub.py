"""Delivery inside one process: brings messages for channels and groups to consumers, queues and readers.

A *channel* is a name. Behind it stands a `Member` (a running consumer) or a `ChannelQueue` (for callers of `receive`,
present or future). A *group* is a set of channel names. The hub knows no sockets and no wire formats. It hands each
target a message, or a payload that many targets share.

A channel is in one of four states:

* *Absent*: nothing stands behind the name. The next message makes a queue.
* *Queued*: a queue holds messages, or somebody reads from it. It goes when it is empty and nobody reads, or when too
  many others that nobody reads were sent to (`Unread`).
* *Attended*: a member takes the messages, until `detach`, or until its event loop is found closed.
* *Displaced*: somebody calls `receive` for the channel of a running consumer. A queue stands in front of the member,
  which gets its channel back after the last reader.

`Memberships` knows which channels are in which group; `Pace` decides when a message is delivered. Times are in seconds
of the clock given to the constructor, which must be monotonic. Every method may be called from any thread.
"""

from __future__ import annotations

import os
import weakref
from asyncio import AbstractEventLoop
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from math import inf
from types import MappingProxyType

from fairway.delivery import Member, Message, Payload, Record, register_source, running_loop_or_none
from fairway.layers.channel_queue import ChannelQueue, Target, member_behind
from fairway.layers.copying import copied, is_flat
from fairway.layers.drops import Drops
from fairway.layers.endings import Endings
from fairway.layers.expiry import ExpiryQueue
from fairway.layers.gaps import Gaps
from fairway.layers.memberships import Memberships
from fairway.layers.pace import Pace
from fairway.layers.parcels import Parcels
from fairway.layers.unread import Unread
from fairway.layers.watchers import GroupWatcher
from fairway.logs import get_logger
from fairway.timing.source import monotonic

logger = get_logger("fairway.layers")


class Hub:
    """The channels of one layer in this process, and delivery to them and to groups.

    An unread message is dropped after `expiry` seconds. Its channel is then also removed from all groups, unless
    `expiry_ends_memberships` is false. A membership ends `group_expiry` seconds after the last `group_add`.
    `capacity_of` returns how many messages a channel holds.

    `endings` are those who want to know when consumers end.

    `channels` and `groups` have the shapes that applications' tests look into: name -> queue, and group -> {name ->
    time of joining}.
    """

    def __init__(
        self,
        capacity_of: Callable[[str], int],
        expiry: float = 60,
        group_expiry: float = 86400,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.channels: dict[str, Target] = {}
        self.memberships = Memberships(self.channels)
        self.groups = self.memberships.groups
        self.expiry = expiry
        self.group_expiry = group_expiry
        self.expiry_ends_memberships = True
        self.gaps = Gaps()
        self.drops = Drops()
        self.endings = Endings()
        self._pace = Pace(self.drops)
        self.capacity_of = capacity_of
        self._clock = clock
        # When the messages queued for channels without a member expire.
        self._expiries: ExpiryQueue[tuple[float, Sequence[str]]] = ExpiryQueue(self._waits)
        self._lock = self.memberships.lock
        self.unread = Unread(self.channels, self._lock, self.drops, self._drop_if_idle)
        register_source("layers", self)
        _hubs.add(self)

    # Members --------------------------------------------------------------------------------------------------

    def attach(self, member: Member) -> None:
        """Deliver to this member from now on, beginning with the messages queued under its name."""
        self.expire()
        with self._lock:
            member.owner = self
            earlier = self.channels.get(member.name)
            self.channels[member.name] = member
            if earlier is not None or self.memberships.has_unattended:
                self.memberships.forget_rosters()
            self.unread.forget(member.name)
        if isinstance(earlier, ChannelQueue):
            while not earlier.empty():
                member.deliver(earlier.get_nowait()[1])

    def forget_connection(self, member: Member) -> None:
        """The member has lost its connection. (`fairway.delivery.MemberOwner`)"""
        self.memberships.forget_connection(member)

    def detach(self, member: Member) -> None:
        """The consumer has ended: forget its channel and its memberships. (`fairway.delivery.MemberOwner`)"""
        member.close()
        if self.gaps:
            self.gaps.discard(member)
        if self.endings:
            self.endings.ended(member.name)
        with self._lock:
            target = self.channels.get(member.name)
            if target is member:
                del self.channels[member.name]
            elif isinstance(target, ChannelQueue) and target.displaced is member:
                target.displaced = None
            self.memberships.end(member)

    def _is_gone(self, member: Member) -> bool:
        """Whether a member refused a message because it, or its event loop, is closed. If so, forget the member."""
        if not member.closed:
            return False
        self.detach(member)
        return True

    # Channels -------------------------------------------------------------------------------------------------

    def send(self, channel: str, message: Message) -> bool:
        """Deliver a copy of a message. False if the channel is full."""
        if self._expiries.oldest < inf:
            self.expire()
        message = copied(message)
        target = self.channels.get(channel)
        if type(target) is Member:
            delivered = target.deliver(message)
            is_queued = not delivered and self._is_gone(target)
        else:
            is_queued = True
        if is_queued:
            delivered = not self._enqueue(lambda: message, (channel,))
            if delivered:
                self.unread.sent(channel, message)
        if not delivered:
            self.drops.total += 1
            logger.debug("channel %s is full: a message was dropped", channel)
        return delivered

    async def receive(self, channel: str) -> Message:
        """Wait for the next message of a channel. Cancelling loses nothing."""
        message = self.take(channel)
        if message is not None:
            return message
        with self._lock:
            queue = self.queue(channel)
            queue.readers += 1
        try:
            return (await queue.get())[1]
        finally:
            with self._lock:
                queue.readers -= 1
                self._drop_if_idle(channel, queue)

    def take(self, channel: str) -> Message | None:
        """The next message waiting on a channel, or None."""
        self.expire()
        queue = self.channels.get(channel)
        if type(queue) is not ChannelQueue:
            return None
        message = queue.take()
        with self._lock:
            self.unread.forget(channel)
            self._drop_if_idle(channel, queue)
        return message

    def queue(self, channel: str) -> ChannelQueue:
        """The queue behind a channel, made if need be. It displaces a member."""
        with self._lock:
            target = self.channels.get(channel)
            if isinstance(target, ChannelQueue):
                return target
            queue = self.channels[channel] = ChannelQueue(self.capacity_of(channel))
            queue.displaced = target
            if target is not None:
                self.memberships.forget_rosters()
            return queue

    @property
    def dropped(self) -> int:
        """How many deliveries full channels have refused."""
        return self.drops.total

    def statistics(self) -> Record:
        """Numbers of what exists, and of `dropped_messages` so far. (`StatisticsSource`)

        `expiry_notes` counts notes about messages and memberships, some of which may be gone already.
        """
        return MappingProxyType(
            {
                "channels": len(self.channels),
                **self.memberships.statistics(),
                "expiry_notes": len(self._expiries) + len(self.memberships.joins),
                "dropped_messages": self.dropped,
            }
        )

    def _enqueue(self, copy: Callable[[], Message], channels: Sequence[str]) -> int:
        """Queue a message for channels without a member, each a copy; how many were full."""
        expires_at = self._clock() + self.expiry
        parcel = expires_at, copy
        target_of = self.channels.get
        left_out = 0
        with self._lock:
            for channel in channels:
                target = target_of(channel)
                if type(target) is ChannelQueue:
                    left_out += not target.put(parcel)
                elif type(target) is Member and not target.closed:
                    # Attached since the caller looked: by another thread, or after its roster was made.
                    left_out += not target.deliver(copy())
                else:
                    left_out += not self.queue(channel).put(parcel)
            if left_out < len(channels):
                self._expiries.add((expires_at, channels))
        return left_out

    def _waits(self, note: tuple[float, Sequence[str]]) -> bool:
        """Whether any of the messages of a note may still be unread."""
        until, channels = note
        queues = map(self.channels.get, channels)
        return any(type(queue) is ChannelQueue and queue.first_expiry <= until for queue in queues)

    def _drop_if_idle(self, channel: str, queue: ChannelQueue) -> None:
        if queue.readers or not queue.empty() or self.channels.get(channel) is not queue:
            return
        self.unread.forget(channel)
        if queue.displaced is None:
            del self.channels[channel]
        else:
            self.channels[channel] = queue.displaced
            self.memberships.forget_rosters()

    # Groups ---------------------------------------------------------------------------------------------------

    def group_add(self, group: str, channel: str, missed: Sequence[Message | Payload] = ()) -> None:
        """Add a channel to a group, or renew its time of joining.

        What it has `missed` is delivered in order, past its capacity, and before anything that is sent later.
        """
        self.memberships.add(group, channel, self._clock())
        if not missed:
            return
        target = self.channels.get(channel)
        if type(target) is Member:
            target.catch_up(missed)
            return
        with self._lock:
            queue = self.queue(channel)
            expires_at = self._clock() + self.expiry
            for item in missed:
                message = item.as_message() if isinstance(item, Payload) else item
                queue.put_missed((expires_at, partial(copied, message)))
            self._expiries.add((expires_at, (channel,)))

    def group_discard(self, group: str, channel: str) -> None:
        """Take a channel out of a group. Does nothing if the channel is not in it."""
        self.memberships.discard(group, channel)

    def watch(self, watcher: GroupWatcher) -> None:
        """Tell the watcher who is in which group now, and then every change, until `unwatch`."""
        self.memberships.watch(watcher)

    def unwatch(self, watcher: GroupWatcher) -> None:
        """Tell the watcher nothing more. Does nothing if it does not watch."""
        self.memberships.unwatch(watcher)

    def group_send(self, group: str, message: Message, was_missed: bool = False) -> Awaitable[None] | None:
        """Deliver a copy of the message to every member. Full channels miss it; that is counted and logged.

        With `was_missed`, it is one of many that come at once, after an outage: it leaves later ones their room.

        Await the result, if there is one, before sending more. A message for a very large group is delivered in slices,
        and so are messages behind it; and a sender that is far ahead has to let the members have their turn. Cancelling
        the wait does not stop the delivery.
        """
        self.expire()
        roster = self.memberships.roster(group)
        if roster is None:
            return None
        loop = running_loop_or_none()
        members, names = roster.members, roster.names
        in_slices = self._pace.needs_slices(group, loop, len(members), len(names))
        if names or in_slices:
            message = copied(message)  # what is taken or delivered later must not change meanwhile
        copy = message.copy if is_flat(message) else partial(copied, message)
        if in_slices:
            deliver = partial(self._send_to, members, loop, copy, was_missed)
            return self._pace.deliver_in_slices(group, len(members), names, deliver, partial(self._enqueue, copy))
        left_out = self._enqueue(copy, names) if names else 0
        left_out += self._send_to(members, loop, copy, was_missed, 0, len(members))
        return self._pace.delivered(group, loop, roster.size, left_out)

    def _send_to(
        self,
        members: Sequence[Member],
        loop: AbstractEventLoop | None,
        copy: Callable[[], Message],
        was_missed: bool,
        begin: int,
        end: int,
    ) -> int:
        left_out = 0
        here = None if was_missed else loop
        deliver = Member.deliver_missed if was_missed else Member.deliver
        parcels: Parcels | None = None
        for member in members[begin:end]:
            own = copy()
            # Member.deliver, in line: this is the loop that a busy group spends its time in.
            if member.loop is here and not member.closed:
                if not member.inbox.put_layer(own, member.capacity):
                    member.dropped += 1
                    left_out += 1
            elif member.loop is not loop:
                if not self._is_gone(member):
                    parcels = parcels or Parcels(was_missed)
                    parcels.add(member, own)
            elif not deliver(member, own) and not self._is_gone(member):
                left_out += 1
        if parcels is not None:
            parcels.post(self.detach)
        return left_out

    def group_broadcast(
        self, group: str, payload: Payload, exclude: Iterable[str] = (), was_missed: bool = False
    ) -> Awaitable[None] | None:
        """Give every member, except those excluded, the same payload. Otherwise like `group_send`."""
        self.expire()
        roster = self.memberships.roster(group)
        if roster is None:
            return None
        excluded = frozenset(exclude)
        without = {self.channels.get(name) for name in excluded}
        names = [name for name in roster.names if name not in excluded]
        others: Sequence[Member] = ()

        def deliver(begin: int, end: int) -> int:
            nonlocal others
            if not begin:
                others = roster.broadcast(payload, without)
            return self._broadcast_to(others[begin:end], payload, was_missed) if others else 0

        loop, members = running_loop_or_none(), len(roster.members)
        if self._pace.needs_slices(group, loop, members, len(names)):
            enqueue = partial(self._enqueue, payload.as_message)
            return self._pace.deliver_in_slices(group, members, names, deliver, enqueue)
        left_out = self._enqueue(payload.as_message, names) if names else 0
        left_out += deliver(0, members)
        return self._pace.delivered(group, loop, members + len(names), left_out)

    def _broadcast_to(self, members: Sequence[Member], payload: Payload, was_missed: bool) -> int:
        left_out = 0
        loop = running_loop_or_none()
        parcels: Parcels | None = None
        for member in members:
            if member.loop is not loop:
                if not self._is_gone(member):
                    parcels = parcels or Parcels(was_missed)
                    parcels.add(member, payload)
            elif not member.broadcast(payload, was_missed) and not self._is_gone(member):
                left_out += 1
        if parcels is not None:
            parcels.post(self.detach)
        return left_out

    # The end of things ----------------------------------------------------------------------------------------

    def expire(self) -> None:
        """Drop what has expired. Every send and every reader calls this. It costs nothing until something has."""
        queued, joined = self._expiries.oldest, self.memberships.joins.oldest
        if queued == inf and joined == inf:
            return
        now = self._clock()
        if queued < now:
            self._expire_messages(now)
        if joined + self.group_expiry < now:
            self.memberships.expire(now, self.group_expiry)

    def _expire_messages(self, now: float) -> None:
        with self._lock:
            for channel in [channel for _, channels in self._expiries.take_due(now) for channel in channels]:
                queue = self.channels.get(channel)
                if isinstance(queue, ChannelQueue) and queue.drop_expired(now):
                    if self.expiry_ends_memberships:
                        self.memberships.discard_from_all(channel)
                    self._drop_if_idle(channel, queue)

    def flush(self) -> None:
        """Forget all queued messages and all groups. Members stay attached, and readers go on waiting."""
        with self._lock:
            self.memberships.clear()
            for name, target in list(self.channels.items()):
                if isinstance(target, ChannelQueue):
                    target.drop_expired(inf)
                    self._drop_if_idle(name, target)
            self._expiries.clear()
            self.unread.clear()


_hubs: weakref.WeakSet[Hub] = weakref.WeakSet()


def _leave_members_to_parent() -> None:
    """In a forked child: the members live in event loops of the parent's, whose threads are not here."""
    for hub in list(_hubs):
        for target in list(hub.channels.values()):
            member = member_behind(target)
            if member is not None:
                member.closed = True


os.register_at_fork(after_in_child=_leave_members_to_parent)
