"""The layer for a single process: no service, no serialisation, nothing to configure."""

from __future__ import annotations

import random
from binascii import b2a_base64

from fairway.delivery import Message
from fairway.layers.contract import check_message
from fairway.layers.errors import ChannelFull
from fairway.layers.hub_layer import HubLayer, delivers_through_hub


@delivers_through_hub
class MemoryChannelLayer(HubLayer):
    """The layer for a single process. It takes the options of `HubLayer`."""

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

    async def group_send(self, group: str, message: Message) -> None:
        check_message(message)
        self.require_valid_group_name(group)
        delivered = self.hub.group_send(group, message)
        if delivered is not None:
            await delivered

    async def flush(self) -> None:
        self.hub.flush()

    async def close(self) -> None:
        """Does nothing: there is nothing to close."""


_IN_NAMES = bytes.maketrans(b"+/", b"-_")


def _random_name() -> str:
    """Twelve random characters that are valid in a channel's name."""
    return b2a_base64(random.getrandbits(72).to_bytes(9, "big"), newline=False).translate(_IN_NAMES).decode("ascii")
