"""Presence for consumers: `track` and `untrack`, as a mixin.

    class Chat(AsyncTracking, AsyncJsonWebsocketConsumer):
        async def connect(self):
            await self.accept()
            await self.track("chat.lobby", {"name": self.scope["user"].username})

        async def presence_state(self, event):      # once: everybody who is there
            await self.send_json(event)

        async def presence_diff(self, event):       # who has joined and left since
            await self.send_json(event)

A consumer gets the events that its class has handlers for. It is untracked when it ends.
"""

from __future__ import annotations

from typing import Any

from asgiref.sync import async_to_sync

from fairway.consumers.loop import ConsumerLoop
from fairway.consumers.names import not_a_handler
from fairway.layers.attendance import Attendance
from fairway.layers.audiences import DIFF, STATE
from fairway.layers.errors import InvalidChannelLayerError
from fairway.layers.hub_layer import hub_of


class AsyncTracking:
    """A mixin for asynchronous consumers."""

    @not_a_handler
    async def track(self, group: str, data: Any = None, key: str | None = None) -> None:
        """Be present in a group, until `untrack`, or until this consumer ends. Another call changes the data.

        `data` is what others are told: something that a layer can carry, of at most 4096 bytes. Consumers with the same
        `key` are one person. By default the key is that of the user, and others do not see it. A consumer without a
        user is a person of its own.
        """
        await track(self, group, data, key)

    @not_a_handler
    async def untrack(self, group: str) -> None:
        """Leave the group at once. A consumer that ends is missed only after a while (`linger`)."""
        await untrack(self, group)


class Tracking:
    """The same for synchronous consumers."""

    @not_a_handler
    def track(self, group: str, data: Any = None, key: str | None = None) -> None:
        """See `AsyncTracking.track`."""
        async_to_sync(track)(self, group, data, key)

    @not_a_handler
    def untrack(self, group: str) -> None:
        """See `AsyncTracking.untrack`."""
        async_to_sync(untrack)(self, group)


async def track(consumer: Any, group: str, data: Any, key: str | None) -> None:
    """Track a consumer. Does nothing for one that has ended."""
    presence = _presence_of(consumer)
    channel = consumer.channel_name
    if consumer._fairway_member is None:
        return
    own_key = key if key is not None else _key_of_user(consumer)
    hears = [kind for kind in (STATE, DIFF) if hasattr(consumer, kind.replace(".", "_"))]
    await presence.track(group, channel, data, own_key, hides_key=key is None, hears=hears)
    if consumer._fairway_member is None:  # it has ended meanwhile
        await presence.untrack(group, channel)


async def untrack(consumer: Any, group: str) -> None:
    """Untrack a consumer."""
    await _presence_of(consumer).untrack(group, consumer.channel_name)


def _presence_of(consumer: ConsumerLoop) -> Attendance:
    layer = consumer.channel_layer
    if hub_of(layer) is None:
        what = "no channel layer" if layer is None else f"the channel layer {type(layer).__name__}, which has none"
        raise InvalidChannelLayerError(f"presence needs one of Fairway's own channel layers; this consumer has {what}")
    presence: Attendance = layer.presence
    return presence


def _key_of_user(consumer: ConsumerLoop) -> str | None:
    pk = getattr(consumer.scope.get("user"), "pk", None)
    return None if pk is None else str(pk)
