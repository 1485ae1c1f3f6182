"""The layer for a single process: no service, no serialisation, nothing to configure."""

from __future__ import annotations

import random
from binascii import b2a_base64
from collections.abc import Mapping
from typing import Any

from fairway.delivery import Message
from fairway.layers.contract import ChannelCapacity, check_message
from fairway.layers.errors import ChannelFull
from fairway.layers.history_rules import HistoryOption, history_rules, to_keep
from fairway.layers.hub_layer import HubLayer, delivers_through_hub
from fairway.layers.memory_keeping import MemoryKeeper


@delivers_through_hub
class MemoryChannelLayer(HubLayer):
    """The layer for a single process. It takes the options of `HubLayer`, and `history`."""

    keeper: MemoryKeeper | None = None

    def __init__(
        self,
        expiry: float = 60,
        group_expiry: float = 86400,
        capacity: int = 100,
        channel_capacity: ChannelCapacity | None = None,
        slow_consumers: Mapping[str, str] | None = None,
        linger: float = 3.0,
        history: HistoryOption = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(expiry, group_expiry, capacity, channel_capacity, slow_consumers, linger, **kwargs)
        rules = history_rules(history)
        if rules is not None:
            self.keeper = MemoryKeeper(self.hub, self._slow_policy, rules)

    async def send(self, channel: str, message: Message) -> None:
        check_message(message)
        self.require_valid_channel_name(channel)
        if not self.hub.send(channel, message):
            raise ChannelFull(channel)

    async def receive(self, channel: str) -> Message:
        self.require_valid_channel_name(channel)
        return await self.hub.receive(channel)

    async def new_channel(self, prefix: str = "specific.") -> str:
        return f"{prefix}.inmemory!{_random_name()}"

    async def group_add(self, group: str, channel: str) -> None:
        self.require_valid_group_name(group)
        self.require_valid_channel_name(channel)
        self.hub.group_add(group, channel)

    async def group_discard(self, group: str, channel: str) -> None:
        self.require_valid_group_name(group)
        self.require_valid_channel_name(channel)
        self.hub.group_discard(group, channel)

    async def group_send(self, group: str, message: Message, keep: bool | None = None, key: str = "") -> None:
        """Send to every channel of a group. In a group with a history, the message is kept, unless `keep` is False.

        A kept message with a `key` that another one has had in the last five minutes is not sent.
        """
        check_message(message)
        self.require_valid_group_name(group)
        keeper = self.keeper
        if keeper is not None or keep or key:
            kept = to_keep(None if keeper is None else keeper.rules, group, keep, key)
            if kept is not None and keeper is not None:
                await keeper.group_send(group, message, kept, key)
                return
        delivered = self.hub.group_send(group, message)
        if delivered is not None:
            await delivered

    async def flush(self) -> None:
        self.hub.flush()
        self.presence.flush()
        if self.keeper is not None:
            self.keeper.clear()

    async def close(self) -> None:
        """Does nothing: there is nothing to close."""


_IN_NAMES = bytes.maketrans(b"+/", b"-_")


def _random_name() -> str:
    """Twelve random characters that are valid in a channel's name."""
    return b2a_base64(random.getrandbits(72).to_bytes(9, "big"), newline=False).translate(_IN_NAMES).decode("ascii")
