"""Groups with a history on the in-memory layer: messages that are kept, joining late, and reading.

Keeping a message and delivering it is one step, and so is joining and catching up. A lock sees to that, because several
threads may use the layer. So the order of a history is the order in which its members get the messages.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

from fairway.delivery import Message, Payload, SlowPolicy
from fairway.layers.backplane import Keep, Kept, Position
from fairway.layers.copying import copied
from fairway.layers.footprint import footprint
from fairway.layers.histories import Histories
from fairway.layers.history_rules import HistoryRules
from fairway.layers.hub import Hub
from fairway.layers.recovery import POSITION, History, Recovery, spliced
from fairway.layers.tracks import Since, Sought, chosen
from fairway.timing.source import IN_FORCE


@dataclass(frozen=True, slots=True)
class _Broadcast:
    text: str | None
    data: bytes | None
    is_object: bool


_BROADCAST_BYTES = 56

_Sent: TypeAlias = Message | _Broadcast


class MemoryKeeper:
    """Belongs to one layer. `policy_of` returns a group's policy for slow clients. Any thread may call the methods."""

    def __init__(self, hub: Hub, policy_of: Callable[[str], SlowPolicy], rules: HistoryRules) -> None:
        self.rules = rules
        self._hub = hub
        self._policy_of = policy_of
        self._histories: Histories[_Sent] = Histories(os.urandom(4).hex())
        self._lock = threading.RLock()

    async def group_send(self, group: str, message: Message, keep: Keep, key: str) -> None:
        """Send and keep a message."""
        own: Message = copied(message)
        with self._lock:
            kept = self._append(group, own, footprint(own), keep, key)
            if kept is None:
                return
            delivered = self._hub.group_send(group, {**own, POSITION: str(kept.position)})
        if delivered is not None:
            await delivered

    async def broadcast(
        self, group: str, payload: Payload, exclude: Iterable[str], keep: Keep, is_object: bool
    ) -> None:
        """Broadcast and keep a payload. `is_object`: its text is a JSON object, to which the position is added."""
        sent = _Broadcast(payload.text, payload.data, is_object)
        with self._lock:
            kept = self._append(group, sent, footprint(sent.text) + footprint(sent.data) + _BROADCAST_BYTES, keep, "")
            assert kept is not None, "it has no key"
            delivered = self._hub.group_broadcast(group, self._payload(group, sent, kept.position), exclude)
        if delivered is not None:
            await delivered

    async def join(
        self, group: str, channel: str, since: Sought, not_before: float = 0.0, asks: bool = True
    ) -> Recovery:
        """Add a channel to a group. If it `asks`, deliver what was sent to the group since then."""
        with self._lock:
            messages: list[Kept[_Sent]] = []
            top, is_complete = self._histories.top(group, IN_FORCE.monotonic()), False
            if asks:
                messages, top, is_complete = self._read_all(group, chosen(since, top.epoch))
            messages = [kept for kept in messages if kept.at >= not_before]
            self._hub.group_add(group, channel, [self._item(group, kept) for kept in messages])
        return Recovery(is_complete, len(messages), str(top))

    async def history(self, group: str, after: Sought, limit: int) -> History:
        """At most `limit` messages that were sent to the group."""
        return self.history_now(group, after, limit)

    def history_now(self, group: str, after: Sought, limit: int) -> History:
        """`history`, for code without an event loop."""
        with self._lock:
            now = IN_FORCE.monotonic()
            page = self._histories.read(group, chosen(after, self._histories.top(group, now).epoch), limit, now)
            items = [self._item(group, kept) for kept in page.messages]
        events = [item.as_message() if isinstance(item, Payload) else item for item in items]
        last = page.messages[-1].position if page.messages else page.top
        return History(events, page.is_complete, str(last), str(page.top))

    def clear(self) -> None:
        """Forget all histories."""
        with self._lock:
            self._histories.clear()

    def _append(self, group: str, sent: _Sent, size: int, keep: Keep, key: str) -> Kept[_Sent] | None:
        now = IN_FORCE.monotonic()
        self._histories.expire(now)
        return self._histories.append(group, sent, size, keep, now, IN_FORCE.time(), key)[1]

    def _read_all(self, group: str, since: Since) -> tuple[list[Kept[_Sent]], Position, bool]:
        messages: list[Kept[_Sent]] = []
        page = self._histories.read(group, since, _MANY, IN_FORCE.monotonic())
        is_complete = page.is_complete
        while page.messages:
            messages += page.messages
            page = self._histories.read(group, page.messages[-1].position, _MANY, IN_FORCE.monotonic())
        return messages, page.top, is_complete

    def _item(self, group: str, kept: Kept[_Sent]) -> Message | Payload:
        sent = kept.data
        if isinstance(sent, _Broadcast):
            return self._payload(group, sent, kept.position)
        event: Message = copied(sent)
        event[POSITION] = str(kept.position)
        return event

    def _payload(self, group: str, sent: _Broadcast, position: Position) -> Payload:
        text, place = sent.text, str(position)
        if sent.is_object and text is not None:
            text = spliced(text, place)
        return Payload(text, sent.data, self._policy_of(group), group, place)


_MANY = 1000
