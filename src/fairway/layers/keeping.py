"""Groups with a history, as a layer over a backplane uses them: messages that are kept, joining late, and reading."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from fairway.delivery import Message, Payload
from fairway.layers.backplane import Keep
from fairway.layers.codec import EVENT, Codec, Kind
from fairway.layers.history_rules import HistoryRules
from fairway.layers.interests import subject_of
from fairway.layers.node import Node
from fairway.layers.recovery import History, Recovery
from fairway.layers.streaming import Streaming
from fairway.layers.tracks import Sought


class Keeper:
    """Belongs to one layer. Its methods may be called from any event loop."""

    def __init__(self, node: Node, codec: Codec, streaming: Streaming, rules: HistoryRules) -> None:
        self.rules = rules
        self._node = node
        self._codec = codec
        self._streaming = streaming

    async def group_send(self, group: str, message: Message, keep: Keep, key: str) -> None:
        """Send and keep a message. Returns when the service has it."""
        await self._send(group, EVENT, message, message, keep, key)

    async def broadcast(
        self, group: str, payload: Payload, exclude: Iterable[str], keep: Keep, is_object: bool
    ) -> None:
        """Broadcast and keep a payload. `is_object`: its text is a JSON object, and receivers add the position."""
        excluded = list(exclude)
        kind = Kind.BROADCAST_JSON if is_object else Kind.BROADCAST
        body = [payload.text, payload.data, excluded]
        await self._send(group, kind, body, payload.as_message(), keep, "", excluded)

    async def join(
        self, group: str, channel: str, since: Sought, not_before: float = 0.0, asks: bool = True
    ) -> Recovery:
        """Add a channel of this process to a group. If it `asks`, deliver what was sent to the group since then."""
        return await self._node.home.call(
            lambda session: self._streaming.join(session, group, channel, since, not_before, asks), receives=True
        )

    async def history(self, group: str, after: Sought, limit: int) -> History:
        """At most `limit` messages that were sent to the group."""
        return await self._node.home.call(lambda session: self._streaming.history(session, group, after, limit))

    async def _send(
        self,
        group: str,
        kind: Kind,
        body: Any,
        message: Message,
        keep: Keep,
        key: str,
        excluded: Collection[str] = (),
    ) -> None:
        subject = subject_of(group)
        data = self._codec.encode(kind, body, subject)

        is_followed = not self._node.followers.is_idle
        if is_followed:
            await self._node.following.know()
        appended = await self._node.home.call(
            lambda session: session.backplane.streams.append_once(subject, data, keep, key)
        )
        if is_followed and appended.is_new:
            await self._node.following.push(group, message, excluded)
