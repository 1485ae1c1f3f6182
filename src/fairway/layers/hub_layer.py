"""What layers have in common that deliver through a hub: its options."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping
from typing import Any

from fairway.delivery import SlowPolicy
from fairway.layers.contract import BaseChannelLayer, ChannelCapacity
from fairway.layers.hub import Hub


class HubLayer(BaseChannelLayer):
    """A layer whose consumers are reached straight through its hub. Capacity counts for each channel by itself.

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

    def _slow_policy(self, group: str) -> SlowPolicy:
        for pattern, policy in self._slow_policies:
            if pattern.match(group):
                return policy
        return SlowPolicy.CLOSE


def _slow_policies(by_glob: Mapping[str, str], error: type[Exception]) -> list[tuple[re.Pattern[str], SlowPolicy]]:
    known = {policy.value: policy for policy in SlowPolicy}
    for glob, name in by_glob.items():
        if name not in known:
            raise error(f"slow_consumers[{glob!r}] is {name!r}: use one of {', '.join(known)} (CHANNEL_LAYERS, CONFIG)")
    return [(re.compile(fnmatch.translate(glob)), known[name]) for glob, name in by_glob.items()]
