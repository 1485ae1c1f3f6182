"""Channel layers: the contract, the registry of configured layers, and the layer for one process.

A layer carries events (dicts with a `type`) between consumers, and from any code to consumers, by the names of
channels and groups. `get_channel_layer()` gives the one configured in `CHANNEL_LAYERS`.
"""

from __future__ import annotations

import fnmatch
import json
import random
import re
import string
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from channels import DEFAULT_CHANNEL_LAYER
from channels.exceptions import ChannelFull, InvalidChannelLayerError, MessageTooLarge
from fairway.delivery import Payload, SlowPolicy, note_detour
from fairway.layers.hub import Hub, delivers_through_hub, hub_of

Message: TypeAlias = dict[str, Any]
ChannelCapacity: TypeAlias = Mapping[str | re.Pattern[str], int]
CompiledCapacity: TypeAlias = list[tuple[re.Pattern[str], int]]

# The key under which some layers note the recipient inside a message.
RESERVED_KEY = "__asgi_channel__"


class ChannelLayerManager:
    """The layers of this process by alias, made when first asked for and remade when `CHANNEL_LAYERS` changes."""

    def __init__(self) -> None:
        self.backends: dict[str, BaseChannelLayer] = {}
        self._lock = threading.RLock()  # two threads that ask first must not get two layers
        setting_changed.connect(self._reset_backends)

    def _reset_backends(self, setting: str, **kwargs: Any) -> None:
        if setting == "CHANNEL_LAYERS":
            self.backends = {}

    @property
    def configs(self) -> dict[str, Any]:
        """The setting, read anew each time; empty if there is none."""
        return getattr(settings, "CHANNEL_LAYERS", {})

    def make_backend(self, name: str) -> BaseChannelLayer:
        """A new layer from the `CONFIG` of an alias. `InvalidChannelLayerError` if it is not configured properly."""
        return self._make_backend(name, self.configs[name].get("CONFIG", {}))

    def make_test_backend(self, name: str) -> BaseChannelLayer:
        """A new layer from the `TEST_CONFIG` of an alias, which must be there."""
        try:
            config = self.configs[name]["TEST_CONFIG"]
        except KeyError:
            raise InvalidChannelLayerError(f"CHANNEL_LAYERS[{name!r}] has no TEST_CONFIG: add one") from None
        return self._make_backend(name, config)

    def _make_backend(self, name: str, config: dict[str, Any]) -> BaseChannelLayer:
        return self.backend_class(name)(**config)

    def backend_class(self, name: str) -> Callable[..., BaseChannelLayer]:
        """What the `BACKEND` of an alias names, imported. `InvalidChannelLayerError` if there is no such thing."""
        entry = self.configs[name]
        if not isinstance(entry, Mapping):
            raise InvalidChannelLayerError(f"CHANNEL_LAYERS[{name!r}] must be a dictionary, not {entry!r}")
        if "ROUTING" in entry:
            raise InvalidChannelLayerError(
                f"CHANNEL_LAYERS[{name!r}] has a ROUTING key, which belongs to Channels 1: remove it"
            )
        if "BACKEND" not in entry:
            raise InvalidChannelLayerError(f"CHANNEL_LAYERS[{name!r}] names no BACKEND: add its dotted path")
        try:
            return import_string(entry["BACKEND"])  # type: ignore[no-any-return]
        except ImportError as error:
            raise InvalidChannelLayerError(
                f"the BACKEND of CHANNEL_LAYERS[{name!r}], {entry['BACKEND']!r}, cannot be imported: {error}"
            ) from error

    def __getitem__(self, key: str) -> BaseChannelLayer:
        with self._lock:
            if key not in self.backends:
                if key not in self.configs:
                    raise KeyError(key)
                self.backends[key] = self.make_backend(key)
            return self.backends[key]

    def __contains__(self, key: str) -> bool:
        return key in self.configs

    def set(self, key: str, layer: BaseChannelLayer) -> BaseChannelLayer | None:
        """Put a layer in an alias's place; the one that was there, if it had been made."""
        previous = self.backends.pop(key, None)
        self.backends[key] = layer
        return previous


class BaseChannelLayer:
    """What every channel layer derives from: the contract, and the rules for names and capacities.

    `expiry`: seconds after which an unread message may be dropped; `capacity`: messages that a channel holds;
    `channel_capacity`: other capacities, by glob or compiled pattern of the channel's name, the first that matches.
    """

    MAX_NAME_LENGTH = 100
    extensions: list[str] = []  # noqa: RUF012  # part of the layer contract: replaced, not mutated
    ChannelFull = ChannelFull
    MessageTooLarge = MessageTooLarge

    channel_name_regex = re.compile(r"[A-Za-z0-9_.\-]+(![A-Za-z0-9_.\-]*)?")
    group_name_regex = re.compile(r"[A-Za-z0-9_.\-]+")
    invalid_name_error = (
        "{} name is not valid: use fewer than 100 ASCII letters, digits, hyphens, underscores and periods"
    )

    def __init__(
        self, expiry: float = 60, capacity: int = 100, channel_capacity: ChannelCapacity | None = None
    ) -> None:
        self.expiry = expiry
        self.capacity = capacity
        self.channel_capacity: Any = channel_capacity or {}

    def compile_capacities(self, channel_capacity: ChannelCapacity) -> CompiledCapacity:
        """The capacities as a list of (pattern, capacity) in their order; globs are translated."""
        compiled: CompiledCapacity = []
        for pattern, capacity in channel_capacity.items():
            regex = re.compile(fnmatch.translate(pattern)) if isinstance(pattern, str) else pattern
            compiled.append((regex, capacity))
        return compiled

    def get_capacity(self, channel: str) -> int:
        """How many messages the channel may hold."""
        capacities = self.channel_capacity
        if isinstance(capacities, Mapping):
            if not capacities:
                return self.capacity
            capacities = self.compile_capacities(capacities)
        for pattern, capacity in capacities:
            if pattern.match(channel):
                return int(capacity)
        return self.capacity

    def match_type_and_length(self, name: object) -> bool:
        return isinstance(name, str) and len(name) < self.MAX_NAME_LENGTH

    def require_valid_channel_name(self, name: str, receive: bool = False) -> bool:
        """True, or a TypeError. With `receive`, a process-local name must end at its exclamation mark."""
        if not self.match_type_and_length(name) or not self.channel_name_regex.fullmatch(name):
            raise TypeError(self.invalid_name_error.format("Channel"))
        if receive and "!" in name and not name.endswith("!"):
            raise TypeError("a process-local channel name that is received from must end at the !")
        return True

    def require_valid_group_name(self, name: str) -> bool:
        """True, or a TypeError."""
        if not self.match_type_and_length(name) or not self.group_name_regex.fullmatch(name):
            raise TypeError(self.invalid_name_error.format("Group"))
        return True

    def valid_channel_names(self, names: Iterable[str], receive: bool = False) -> bool:
        """True if all the names are valid and there is at least one; else a TypeError or an AssertionError."""
        names = list(names)
        assert names, "names must be a list of channel names that is not empty"
        return all(self.require_valid_channel_name(name, receive=receive) for name in names)

    def non_local_name(self, name: str) -> str:
        """A process-local name up to and including its exclamation mark; any other name as it is."""
        head, mark, _ = name.partition("!")
        return head + mark

    def valid_group_name(self, group_name: str) -> bool:
        warnings.warn("valid_group_name is deprecated: call require_valid_group_name", DeprecationWarning, stacklevel=2)
        return self.require_valid_group_name(group_name)

    def valid_channel_name(self, channel_name: str, receive: bool = False) -> bool:
        warnings.warn(
            "valid_channel_name is deprecated: call require_valid_channel_name",
            DeprecationWarning,
            stacklevel=2,
        )
        return self.require_valid_channel_name(channel_name, receive=receive)

    async def send(self, channel: str, message: Message) -> None:
        """Send a message to a channel; `ChannelFull` if it holds its capacity already."""
        raise NotImplementedError(f"{type(self).__name__} has no send()")

    async def receive(self, channel: str) -> Message:
        """Wait for the next message of a channel; only one of several receivers gets it."""
        raise NotImplementedError(f"{type(self).__name__} has no receive()")

    async def new_channel(self) -> str:
        """A channel name that nobody else has, for the messages of one consumer."""
        raise NotImplementedError(f"{type(self).__name__} has no new_channel()")

    async def flush(self) -> None:
        """Forget all messages and groups."""
        raise NotImplementedError(f"{type(self).__name__} has no flush(): it lacks the flush extension")

    async def group_add(self, group: str, channel: str) -> None:
        """Add a channel to a group; adding it again renews its membership."""
        raise NotImplementedError(f"{type(self).__name__} has no group_add(): it lacks the groups extension")

    async def group_discard(self, group: str, channel: str) -> None:
        """Take a channel out of a group; no error if it is not in it."""
        raise NotImplementedError(f"{type(self).__name__} has no group_discard(): it lacks the groups extension")

    async def group_send(self, group: str, message: Message) -> None:
        """Send a message to every channel of a group; those that are full miss it."""
        raise NotImplementedError(f"{type(self).__name__} has no group_send(): it lacks the groups extension")

    async def group_broadcast(
        self,
        group: str,
        text_data: str | None = None,
        bytes_data: bytes | None = None,
        *,
        exclude: str | Iterable[str] = (),
    ) -> None:
        """Send one WebSocket message, text or bytes, to every member of a group: no handler of theirs runs.

        It takes its place among the other messages for a member. `exclude`: channel names that are left out. Here it
        travels as an event; a layer that can do better makes the message once and writes it to all sockets.
        """
        await broadcast_as_event(self, group, text_data, bytes_data, exclude)

    async def group_broadcast_json(self, group: str, content: Any, *, exclude: str | Iterable[str] = ()) -> None:
        """`group_broadcast` of `content` as JSON text."""
        await self.group_broadcast(group, json.dumps(content), exclude=exclude)


@delivers_through_hub
class InMemoryChannelLayer(BaseChannelLayer):
    """The layer for one process: no service, no serialisation, nothing to configure.

    Consumers that run on it are reached straight through the hub. `channels` and `groups` may be looked into; a
    channel is a queue of `(expires_at, message)`. Capacity counts for each channel by itself. `group_expiry` is in
    seconds, from the last `group_add`. `slow_consumers`: what becomes of broadcasts for clients that do not take them
    fast enough, by glob of the group's name, the first that matches: `close` (the default), `drop-oldest` or
    `keep-latest`.
    """

    extensions = ["groups", "flush"]  # noqa: RUF012

    def __init__(
        self,
        expiry: float = 60,
        group_expiry: float = 86400,
        capacity: int = 100,
        channel_capacity: ChannelCapacity | None = None,
        slow_consumers: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        self._slow_policies = _slow_policies(slow_consumers or {})
        # Looked up with each call: tests replace the functions of `time`.
        self.hub = Hub(self.get_capacity, expiry, group_expiry, clock=lambda: time.monotonic())
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

    @property
    def channels(self) -> dict[str, Any]:
        """Channel name -> queue, for the channels that hold messages or have a reader."""
        return self.hub.channels

    @property
    def groups(self) -> dict[str, dict[str, float]]:
        """Group name -> {channel name -> time of joining}; a group without members does not exist."""
        return self.hub.groups

    async def send(self, channel: str, message: Message) -> None:
        _check_message(message)
        self.require_valid_channel_name(channel)
        if not self.hub.send(channel, message):
            raise ChannelFull(channel)

    async def receive(self, channel: str) -> Message:
        self.require_valid_channel_name(channel)
        return await self.hub.receive(channel)

    async def new_channel(self, prefix: str = "specific.") -> str:
        letters = "".join(random.choices(string.ascii_letters, k=12))
        return f"{prefix}.inmemory!{letters}"

    async def group_add(self, group: str, channel: str) -> None:
        self.require_valid_group_name(group)
        self.require_valid_channel_name(channel)
        self.hub.group_add(group, channel)

    async def group_discard(self, group: str, channel: str) -> None:
        self.require_valid_group_name(group)
        self.require_valid_channel_name(channel)
        self.hub.group_discard(group, channel)

    async def group_send(self, group: str, message: Message) -> None:
        _check_message(message)
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
        payload = Payload(text_data, bytes_data, self._slow_policy(group), group)
        delivered = self.hub.group_broadcast(group, payload, frozenset(names_in(exclude)))
        if delivered is not None:
            await delivered

    def _slow_policy(self, group: str) -> SlowPolicy:
        for pattern, policy in self._slow_policies:
            if pattern.match(group):
                return policy
        return SlowPolicy.CLOSE

    def _clean_expired(self) -> None:
        """Drop messages and memberships that have expired, which also happens by itself."""
        self.hub.expire()

    def _remove_from_groups(self, channel: str) -> None:
        """Take a channel out of every group."""
        self.hub.discard_from_all(channel)

    async def flush(self) -> None:
        self.hub.flush()

    async def close(self) -> None:
        """There is nothing to close."""


def _slow_policies(by_glob: Mapping[str, str]) -> list[tuple[re.Pattern[str], SlowPolicy]]:
    known = {policy.value: policy for policy in SlowPolicy}
    for glob, name in by_glob.items():
        if name not in known:
            raise ImproperlyConfigured(
                f"slow_consumers[{glob!r}] is {name!r}: use one of {', '.join(known)} (CHANNEL_LAYERS, CONFIG)"
            )
    return [(re.compile(fnmatch.translate(glob)), known[name]) for glob, name in by_glob.items()]


def _check_message(message: object) -> None:
    assert isinstance(message, dict), "message is not a dict"
    assert RESERVED_KEY not in message, f"the key {RESERVED_KEY} is reserved: use another one"


def names_in(exclude: str | Iterable[str]) -> Iterable[str]:
    """The channel names in an argument that may also be a single one."""
    return (exclude,) if isinstance(exclude, str) else exclude


async def broadcast_as_event(
    layer: Any, group: str, text_data: str | None, bytes_data: bytes | None, exclude: str | Iterable[str]
) -> None:
    """Send a broadcast over a layer that knows only `group_send`, which is slower; noted as a detour."""
    note_detour(f"{type(layer).__name__} has no broadcasts of its own", "Broadcasts are sent as events")
    message = Payload(text_data, bytes_data).as_message()
    if excluded := list(names_in(exclude)):
        message["exclude"] = excluded
    await layer.group_send(group, message)


async def broadcast(
    layer: Any,
    group: str,
    text_data: str | None = None,
    bytes_data: bytes | None = None,
    *,
    exclude: str | Iterable[str] = (),
) -> None:
    """`group_broadcast` over any layer with groups, also one that does not derive from `BaseChannelLayer`."""
    if layer is None:
        raise InvalidChannelLayerError("a broadcast needs a channel layer: configure CHANNEL_LAYERS")
    own = getattr(layer, "group_broadcast", None)
    if own is not None:
        await own(group, text_data, bytes_data, exclude=exclude)
    else:
        await broadcast_as_event(layer, group, text_data, bytes_data, exclude)


def get_channel_layer(alias: str = DEFAULT_CHANNEL_LAYER) -> BaseChannelLayer | None:
    """The configured layer of that alias, the same one on every call; None if the alias is not configured."""
    if alias not in channel_layers.backends and alias not in channel_layers:
        return None
    return channel_layers[alias]


channel_layers = ChannelLayerManager()
