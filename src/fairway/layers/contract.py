"""The contract of channel layers: what every layer can be asked, and the rules for names, capacities and messages.

A layer carries messages (dicts with a `type`) to consumers, from other consumers or from any code. It addresses them by
the names of channels and groups. Other projects' layers also derive from `BaseChannelLayer`, which they import from
`channels.layers`.
"""

from __future__ import annotations

import fnmatch
import json
import re
import warnings
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from fairway.delivery import Message, Payload, note_detour
from fairway.layers.errors import ChannelFull, InvalidChannelLayerError, MessageTooLarge

ChannelCapacity: TypeAlias = Mapping[str | re.Pattern[str], int]
CompiledCapacity: TypeAlias = list[tuple[re.Pattern[str], int]]

RESERVED_KEY = "__asgi_channel__"
"""The key under which some layers write the recipient into a message. No message may use it."""


class BaseChannelLayer:
    """The base class of every channel layer: the contract, and the rules for names and capacities.

    An unread message may be dropped after `expiry` seconds. A channel holds `capacity` messages. `channel_capacity`
    sets other capacities, by globs or compiled patterns of channel names; the first that matches counts.
    """

    __module__ = "channels.layers"  # where applications import it from, and where a pickle looks for it

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
        """The capacities as a list of (pattern, capacity), in the given order, with globs translated."""
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
        """Whether this is a `str` that is shorter than `MAX_NAME_LENGTH`."""
        return isinstance(name, str) and len(name) < self.MAX_NAME_LENGTH

    def require_valid_channel_name(self, name: str, receive: bool = False) -> bool:
        """True, or raises a TypeError. With `receive`, a process-local name must end at its exclamation mark."""
        if not self.match_type_and_length(name) or not self.channel_name_regex.fullmatch(name):
            raise TypeError(self.invalid_name_error.format("Channel"))
        if receive and "!" in name and not name.endswith("!"):
            raise TypeError("a process-local channel name that is received from must end at the !")
        return True

    def require_valid_group_name(self, name: str) -> bool:
        """True, or raises a TypeError."""
        if not self.match_type_and_length(name) or not self.group_name_regex.fullmatch(name):
            raise TypeError(self.invalid_name_error.format("Group"))
        return True

    def valid_channel_names(self, names: Iterable[str], receive: bool = False) -> bool:
        """True if there is at least one name and all are valid. Else raises a TypeError or an AssertionError."""
        names = list(names)
        assert names, "names must be a list of channel names that is not empty"
        return all(self.require_valid_channel_name(name, receive=receive) for name in names)

    def non_local_name(self, name: str) -> str:
        """A process-local name up to and including its exclamation mark; any other name unchanged."""
        head, mark, _ = name.partition("!")
        return head + mark

    def valid_group_name(self, group_name: str) -> bool:
        """The deprecated name of `require_valid_group_name`."""
        warnings.warn("valid_group_name is deprecated: call require_valid_group_name", DeprecationWarning, stacklevel=2)
        return self.require_valid_group_name(group_name)

    def valid_channel_name(self, channel_name: str, receive: bool = False) -> bool:
        """The deprecated name of `require_valid_channel_name`."""
        warnings.warn(
            "valid_channel_name is deprecated: call require_valid_channel_name",
            DeprecationWarning,
            stacklevel=2,
        )
        return self.require_valid_channel_name(channel_name, receive=receive)

    async def send(self, channel: str, message: Message) -> None:
        """Send a message to a channel. Raises `ChannelFull` if the channel is at its capacity."""
        raise NotImplementedError(f"{type(self).__name__} has no send()")

    async def receive(self, channel: str) -> Message:
        """Wait for the next message of a channel. If several receivers wait, only one gets it."""
        raise NotImplementedError(f"{type(self).__name__} has no receive()")

    async def new_channel(self) -> str:
        """A channel name that nobody else has, for the messages to one consumer."""
        raise NotImplementedError(f"{type(self).__name__} has no new_channel()")

    async def flush(self) -> None:
        """Forget all messages and groups."""
        raise NotImplementedError(f"{type(self).__name__} has no flush(): it lacks the flush extension")

    async def group_add(self, group: str, channel: str) -> None:
        """Add a channel to a group. Adding it again renews its membership."""
        raise NotImplementedError(f"{type(self).__name__} has no group_add(): it lacks the groups extension")

    async def group_discard(self, group: str, channel: str) -> None:
        """Take a channel out of a group. Does nothing if the channel is not in it."""
        raise NotImplementedError(f"{type(self).__name__} has no group_discard(): it lacks the groups extension")

    async def group_send(self, group: str, message: Message) -> None:
        """Send a message to every channel of a group. Channels that are full miss it."""
        raise NotImplementedError(f"{type(self).__name__} has no group_send(): it lacks the groups extension")

    async def group_broadcast(
        self,
        group: str,
        text_data: str | None = None,
        bytes_data: bytes | None = None,
        *,
        exclude: str | Iterable[str] = (),
    ) -> None:
        """Send one WebSocket message, text or bytes, to every member of a group, without running a handler of theirs.

        It keeps its place in the order of a member's messages. Channels named in `exclude` are left out. This
        implementation sends it as an event. Layers that can do better make the message once and write it to all
        sockets.
        """
        await broadcast_as_event(self, group, text_data, bytes_data, exclude)

    async def group_broadcast_json(self, group: str, content: Any, *, exclude: str | Iterable[str] = ()) -> None:
        """`group_broadcast` of `content` as JSON text."""
        await self.group_broadcast(group, json.dumps(content), exclude=exclude)


def check_message(message: object) -> None:
    """Raises an AssertionError unless every layer can carry the message."""
    assert isinstance(message, dict), "message is not a dict"
    assert RESERVED_KEY not in message, f"the key {RESERVED_KEY} is reserved: use another one"


def names_in(exclude: str | Iterable[str]) -> Iterable[str]:
    """The channel names in an argument that may also be a single name."""
    return (exclude,) if isinstance(exclude, str) else exclude


async def broadcast_as_event(
    layer: Any, group: str, text_data: str | None, bytes_data: bytes | None, exclude: str | Iterable[str]
) -> None:
    """Send a broadcast over a layer that has only `group_send`. That is slower, and is noted as a detour."""
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
    """`group_broadcast` over any layer with groups, even one that does not derive from `BaseChannelLayer`."""
    if layer is None:
        raise InvalidChannelLayerError("a broadcast needs a channel layer: configure CHANNEL_LAYERS")
    own = getattr(layer, "group_broadcast", None)
    if own is not None:
        await own(group, text_data, bytes_data, exclude=exclude)
    else:
        await broadcast_as_event(layer, group, text_data, bytes_data, exclude)
