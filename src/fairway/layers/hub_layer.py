"""Layers that deliver through a hub: which layers these are, and what they have in common.

A consumer attaches to the hub of such a layer instead of calling the layer's `receive`.
"""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Awaitable, Iterable, Mapping
from typing import Any, Protocol, TypeVar

from fairway.delivery import Message, Payload, SlowPolicy
from fairway.layers.attendance import Attendance
from fairway.layers.backplane import Keep
from fairway.layers.contract import BaseChannelLayer, ChannelCapacity, names_in
from fairway.layers.errors import InvalidChannelLayerError
from fairway.layers.history_rules import HistoryRules, no_history, to_keep
from fairway.layers.hub import Hub
from fairway.layers.recovery import History, Moment, ObjectText, Recovery, seconds_of, since_of, text_for
from fairway.layers.tracks import Sought

LayerClass = TypeVar("LayerClass", bound=type)

_DELIVERING = ("send", "receive", "new_channel", "group_add", "group_discard", "group_send")
_native: set[type] = set()
_is_native: dict[type, bool] = {}


def delivers_through_hub(layer_class: LayerClass) -> LayerClass:
    """Class decorator: instances have a `hub`, to which consumers may attach instead of calling `receive`."""
    _native.add(layer_class)
    return layer_class


def hub_of(layer: object) -> Hub | None:
    """The hub of a layer of our own, or of a subclass that does not override delivery. None for any other layer."""
    layer_class = type(layer)
    native = _is_native.get(layer_class)
    if native is None:
        owner = next((base for base in layer_class.__mro__ if base in _native), None)
        native = owner is not None and all(getattr(layer_class, name) is getattr(owner, name) for name in _DELIVERING)
        _is_native[layer_class] = native
    return layer.hub if native else None  # type: ignore[attr-defined]  # the decorator's promise


class Keeping(Protocol):
    """Groups with a history, as the layers do it: `fairway.layers.keeping` and `fairway.layers.memory_keeping`."""

    rules: HistoryRules

    async def group_send(self, group: str, message: Message, keep: Keep, key: str) -> None: ...

    async def broadcast(
        self, group: str, payload: Payload, exclude: Iterable[str], keep: Keep, is_object: bool
    ) -> None: ...

    async def join(
        self, group: str, channel: str, since: Sought, not_before: float = 0.0, asks: bool = True
    ) -> Recovery: ...

    async def history(self, group: str, after: Sought, limit: int) -> History: ...


class HubLayer(BaseChannelLayer):
    """A layer that reaches consumers through its hub. Each channel has its own capacity.

    `group_expiry` is in seconds, counted from the last `group_add`. `slow_consumers` says what happens to broadcasts
    for clients that are too slow: a mapping from globs of group names to `close` (the default), `drop-oldest` or
    `keep-latest`. The first glob that matches counts. Our layers also take `history`, which says of which groups how
    many messages are kept, and for how many seconds: `{"chat.*": {"size": 100, "seconds": 300}}`.

    `presence` knows who is present in which group. Whoever leaves is missed after `linger` seconds.
    """

    keeper: Keeping | None = None
    """What keeps messages, if any group has a history."""

    extensions = ["groups", "flush"]  # noqa: RUF012

    def __init__(
        self,
        expiry: float = 60,
        group_expiry: float = 86400,
        capacity: int = 100,
        channel_capacity: ChannelCapacity | None = None,
        slow_consumers: Mapping[str, str] | None = None,
        linger: float = 3.0,
        **kwargs: Any,
    ) -> None:
        self._slow_policy = _SlowPolicies(slow_consumers or {})
        self.hub = Hub(self.get_capacity, expiry, group_expiry)
        self.presence = Attendance(self.hub, self.require_valid_group_name, linger)
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

    async def group_broadcast(
        self,
        group: str,
        text_data: str | None = None,
        bytes_data: bytes | None = None,
        *,
        exclude: str | Iterable[str] = (),
        keep: bool | None = None,
    ) -> None:
        """`keep` says whether the message is kept. By default, it is if the group has a history."""
        if hub_of(self) is None:  # a subclass that overrides delivery
            await super().group_broadcast(group, text_data, bytes_data, exclude=exclude)
            return
        self.require_valid_group_name(group)
        excluded = names_in(exclude)
        payload = Payload(text_data, bytes_data, self._slow_policy(group), group)
        keeper = self.keeper
        if keeper is not None or keep:
            kept = to_keep(None if keeper is None else keeper.rules, group, keep)
            if kept is not None and keeper is not None:
                await keeper.broadcast(group, payload, excluded, kept, type(text_data) is ObjectText)
                return
        sent = self._broadcast(group, payload, excluded)
        if sent is not None:
            await sent

    async def group_broadcast_json(
        self, group: str, content: Any, *, exclude: str | Iterable[str] = (), keep: bool | None = None
    ) -> None:
        """`group_broadcast` of `content` as JSON text. If it is an object and kept, its position is added."""
        await self.group_broadcast(group, text_for(self, content, json.dumps(content)), exclude=exclude, keep=keep)

    async def group_join(
        self, group: str, channel: str, since: str | Moment | None = None, not_before: Moment | None = None
    ) -> Recovery:
        """Add a channel of this process to a group with a history. What it has missed since a position follows.

        `since` is a position as text, "all" for everything that is kept, or a time. Messages from before `not_before`
        are left out. The missed messages, and then the others, come to the channel in order, each once. Raises
        `InvalidChannelLayerError` if `since` is given and the group has no history.
        """
        self.require_valid_group_name(group)
        self.require_valid_channel_name(channel)
        keeper = self.keeper
        if keeper is not None and keeper.rules.keep_of(group) is not None:
            earliest = 0.0 if not_before is None else seconds_of(not_before)
            return await keeper.join(
                group, channel, None if since is None else since_of(since), earliest, since is not None
            )
        if since is not None:
            raise InvalidChannelLayerError(no_history(group))
        await self.group_add(group, channel)
        return Recovery(False, 0, "")

    async def history(self, group: str, after: str | Moment = "", limit: int = 100) -> History:
        """At most `limit` kept messages of a group, as events, the oldest first. `after` is a position or a time.

        Raises `InvalidChannelLayerError` if the group has no history.
        """
        self.require_valid_group_name(group)
        keeper = self.keeper
        if keeper is None or keeper.rules.keep_of(group) is None:
            raise InvalidChannelLayerError(no_history(group))
        return await keeper.history(group, None if after == "" else since_of(after), max(1, limit))

    def _broadcast(self, group: str, payload: Payload, excluded: Iterable[str]) -> Awaitable[object] | None:
        """Bring a payload to a group, except to some channels. Await the result, if any, before sending more."""
        return self.hub.group_broadcast(group, payload, excluded)


class _SlowPolicies:
    """The policy for slow clients of each group, by globs of names. The first glob that matches counts."""

    __slots__ = ("_policies",)

    def __init__(self, by_glob: Mapping[str, str]) -> None:
        known = {policy.value: policy for policy in SlowPolicy}
        for glob, name in by_glob.items():
            if name not in known:
                raise InvalidChannelLayerError(
                    f"slow_consumers[{glob!r}] is {name!r}: use one of {', '.join(known)} (CHANNEL_LAYERS, CONFIG)"
                )
        self._policies = [(re.compile(fnmatch.translate(glob)), known[name]) for glob, name in by_glob.items()]

    def __call__(self, group: str) -> SlowPolicy:
        for pattern, policy in self._policies:
            if pattern.match(group):
                return policy
        return SlowPolicy.CLOSE
