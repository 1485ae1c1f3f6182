"""The layer for one process: no service, no serialisation, nothing to configure."""

from __future__ import annotations

import fnmatch
import random
import re
from binascii import b2a_base64
from collections.abc import Iterable, Mapping
from typing import Any

from fairway.delivery import Message, Payload, SlowPolicy
from fairway.layers.contract import BaseChannelLayer, ChannelCapacity, check_message, names_in
from fairway.layers.errors import ChannelFull
from fairway.layers.hub import Hub
from fairway.layers.native import delivers_through_hub, hub_of


@delivers_through_hub
class MemoryChannelLayer(BaseChannelLayer):
    """The layer for one process: no service, no serialisation, nothing to configure.

    Consumers that run on it are reached straight through its hub. Capacity counts for each channel by itself.
    `group_expiry` is in seconds, from the last `group_add`. `slow_consumers`: what becomes of broadcasts for clients
    that do not take them fast enough, by glob of the group's name, the first that matches: `close` (the default),
    `drop-oldest` or `keep-latest`.
    """

    extensions = ["groups", "flush"]  # noqa: RUF012

    option_error: type[Exception] = ValueError
    """Raised for an option that makes no sense."""

    def __init__(
        self,
        expiry: float = 60,
        group_expiry: float = 86400,
        capacity: int = 100,
        channel_capacity: ChannelCapacity | None = None,
        slow_consumers: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        self._slow_policies = _slow_policies(slow_consumers or {}, self.option_error)
        self.hub = Hub(self.get_capacity, expiry, group_expiry)
        super().__init__(expiry=expiry, capacity=capacity, channel_capacity=channel_capacity, **kwargs)
        self.channel_capacity = self.compile_capacities(self.channel_capacity)

    @property
    def expiry(self) -> float:
        return self.hub.expiry

    @expiry.setter
    def expiry(self, seconds: float) -> None:
        self.hub.expiry = seconds

    @property
    def group_expiry(self) -> float:
        return self.hub.group_expiry

    @group_expiry.setter
    def group_expiry(self, seconds: float) -> None:
        self.hub.group_expiry = seconds

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

    async def group_broadcast(
        self,
        group: str,
        text_data: str | None = None,
        bytes_data: bytes | None = None,
        *,
        exclude: str | Iterable[str] = (),
    ) -> None:
        if hub_of(self) is None:  # a subclass that sees to delivery itself
            await super().group_broadcast(group, text_data, bytes_data, exclude=exclude)
            return
        self.require_valid_group_name(group)
        excluded = frozenset(names_in(exclude))
        payload = Payload(text_data, bytes_data, self._slow_policy(group), group)
        delivered = self.hub.group_broadcast(group, payload, excluded)
        if delivered is not None:
            await delivered

    def _slow_policy(self, group: str) -> SlowPolicy:
        for pattern, policy in self._slow_policies:
            if pattern.match(group):
                return policy
        return SlowPolicy.CLOSE

    async def flush(self) -> None:
        self.hub.flush()

    async def close(self) -> None:
        """There is nothing to close."""


_IN_NAMES = bytes.maketrans(b"+/", b"-_")


def _random_name() -> str:
    """Twelve characters that may stand in a channel's name."""
    return b2a_base64(random.getrandbits(72).to_bytes(9, "big"), newline=False).translate(_IN_NAMES).decode("ascii")


def _slow_policies(by_glob: Mapping[str, str], error: type[Exception]) -> list[tuple[re.Pattern[str], SlowPolicy]]:
    known = {policy.value: policy for policy in SlowPolicy}
    for glob, name in by_glob.items():
        if name not in known:
            raise error(f"slow_consumers[{glob!r}] is {name!r}: use one of {', '.join(known)} (CHANNEL_LAYERS, CONFIG)")
    return [(re.compile(fnmatch.translate(glob)), known[name]) for glob, name in by_glob.items()]
