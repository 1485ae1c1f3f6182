"""Two layers at once, while a running site moves from one to the other.

A message to a group is sent over both layers, and processes with this layer receive from both. So they can talk to
processes that still have only the old layer, and to those that already have only the new one. Each message to a group
carries a number under the key `NUMBER`. A process that receives it twice delivers it once, without the number.

One of the two layers *leads*. It gives channels their names. A message to a queue has exactly one reader, so it is
written to the leading layer only, and read from both. The old layer leads until every process has this one; then the
new layer does. A channel of this process has a name in each layer, but only the leading layer's name is ever shown.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import re
from collections import OrderedDict, deque
from collections.abc import Awaitable, Mapping
from typing import Any

from fairway.delivery import Message
from fairway.layers.contract import BaseChannelLayer, check_message
from fairway.layers.errors import InvalidChannelLayerError

NUMBER = "fairway.forwarded"
"""The key of a message's number. Processes with only one of the layers see it in their events."""

LINGER = 60.0
"""Seconds for which a channel without a reader is kept."""

MOST_NUMBERS = 1000
"""How many numbers are remembered for each channel."""

_OURS = re.compile(r"[^!]*\.[0-9a-f]{16}![^!]*")
# A channel of channels_redis.pubsub, which has no exclamation mark.
_OF_PUBSUB = re.compile(r".*[0-9a-f]{32}")


class ForwardingChannelLayer(BaseChannelLayer):
    """`old` and `new` are layers, or `{"BACKEND": ..., "CONFIG": ...}`. `lead` is "old" or "new".

    The new layer must be one of ours that writes the process into its channel names, as every `BackplaneLayer` does.
    """

    extensions = ["groups", "flush"]  # noqa: RUF012

    def __init__(self, old: Any, new: Any, lead: str = "old", **options: Any) -> None:
        if lead not in ("old", "new"):
            raise InvalidChannelLayerError(f'CHANNEL_LAYERS, CONFIG: lead is {lead!r}: use "old" or "new"')
        super().__init__(**options)
        self.old, self.new = _layer(old, "old"), _layer(new, "new")
        self.layers = (self.old, self.new) if lead == "old" else (self.new, self.old)  # the leading one first
        self._channels: dict[str, _Channel] = {}

    async def new_channel(self, prefix: str = "specific") -> str:
        leading, following = self.layers
        name: str = await leading.new_channel(prefix)
        self._channels[name] = _Channel(name, await following.new_channel(prefix), self)
        return name

    async def send(self, channel: str, message: Message) -> None:
        check_message(message)
        await self._layer_of(channel).send(channel, message)

    async def receive(self, channel: str) -> Message:
        known = self._channels.get(channel)
        if known is None:  # a queue
            known = self._channels[channel] = _Channel(channel, channel, self)
        return await known.receive()

    async def group_add(self, group: str, channel: str) -> None:
        for layer, name in self._names(channel):
            await layer.group_add(group, name)

    async def group_discard(self, group: str, channel: str) -> None:
        for layer, name in self._names(channel):
            await layer.group_discard(group, name)

    async def group_send(self, group: str, message: Message) -> None:
        """Send over both layers, even if one fails. Its error is raised afterwards."""
        check_message(message)
        numbered = {**message, NUMBER: os.urandom(8).hex()}
        await _both(self.old.group_send(group, numbered), self.new.group_send(group, numbered))

    async def flush(self) -> None:
        await _both(self.old.flush(), self.new.flush())

    async def close(self) -> None:
        """Disconnect both layers."""
        for known in list(self._channels.values()):
            known.end()
        for layer in (self.old, self.new):
            close = getattr(layer, "close", None) or getattr(layer, "close_pools", None)
            if close is not None:
                await close()

    def forget(self, name: str) -> None:
        """Nobody has read from this channel for `LINGER` seconds."""
        self._channels.pop(name, None)

    def _layer_of(self, channel: str) -> Any:
        """The layer that named a channel. Another process may have the other layer in the lead."""
        if channel in self._channels or not isinstance(channel, str):
            return self.layers[0]
        if _OURS.fullmatch(channel):
            return self.new
        return self.old if "!" in channel or _OF_PUBSUB.fullmatch(channel) else self.layers[0]

    def _names(self, channel: str) -> list[tuple[Any, str]]:
        known = self._channels.get(channel)
        if known is None:
            return [(self._layer_of(channel), channel)]
        return list(zip(self.layers, (known.name, known.other), strict=True))


class _Channel:
    """What arrives for one channel of this process over both layers. One reader task per layer waits for a message.

    When the task that calls `receive` ends, so do the readers. Messages they already had are kept for `LINGER` seconds.
    """

    def __init__(self, name: str, other: str, layer: ForwardingChannelLayer) -> None:
        self.name = name
        self.other = other
        self._layer = layer
        self._numbers: OrderedDict[str, None] = OrderedDict()
        self._waiting: deque[Message] = deque()
        self._readers: dict[int, asyncio.Task[Message]] = {}
        self._reading: asyncio.Task[Any] | None = None
        self._forgetting: asyncio.TimerHandle | None = None

    async def receive(self) -> Message:
        self._is_read_by(asyncio.current_task())
        while True:
            while self._waiting:
                message = self._waiting.popleft()
                if self._is_new(message):
                    return message
            self._read()
            await asyncio.wait(self._readers.values(), return_when=asyncio.FIRST_COMPLETED)
            self._collect()

    def _is_read_by(self, task: asyncio.Task[Any] | None) -> None:
        if self._forgetting is not None:
            self._forgetting.cancel()
            self._forgetting = None
        if task is not None and task is not self._reading:
            self._reading = task
            task.add_done_callback(self._ended)

    def _read(self) -> None:
        loop = asyncio.get_running_loop()
        for index, (layer, name) in enumerate(zip(self._layer.layers, (self.name, self.other), strict=True)):
            reader = self._readers.get(index)
            if reader is None or reader.get_loop() is not loop:
                self._readers[index] = loop.create_task(layer.receive(name))

    def _collect(self) -> None:
        """Take the messages of readers that are done. If one has failed, raise its error. The other one continues."""
        for index, reader in list(self._readers.items()):
            if reader.done():
                del self._readers[index]
                self._waiting.append(reader.result())

    def _is_new(self, message: Message) -> bool:
        number = message.pop(NUMBER, None)
        if number is None:
            return True
        if number in self._numbers:
            return False
        self._numbers[number] = None
        if len(self._numbers) > MOST_NUMBERS:
            self._numbers.popitem(last=False)
        return True

    def _ended(self, task: asyncio.Task[Any]) -> None:
        if task is self._reading:
            self._reading = None
            for reader in self._readers.values():
                reader.cancel()
                reader.add_done_callback(self._keep)
            self._readers.clear()
            self._forgetting = task.get_loop().call_later(LINGER, self._layer.forget, self.name)

    def _keep(self, reader: asyncio.Task[Message]) -> None:
        """A cancelled reader has ended. It may still have received a message."""
        if not reader.cancelled() and reader.exception() is None:
            self._waiting.append(reader.result())

    def end(self) -> None:
        """The layer is closed."""
        if self._forgetting is not None:
            self._forgetting.cancel()
        for reader in self._readers.values():
            reader.cancel()
            reader.add_done_callback(self._keep)
        self._readers.clear()


def _layer(entry: Any, which: str) -> Any:
    if not isinstance(entry, Mapping):
        return entry
    path = entry.get("BACKEND", "")
    module, _, name = path.rpartition(".")
    try:
        layer_class = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InvalidChannelLayerError(
            f"CHANNEL_LAYERS, CONFIG: the BACKEND of {which}, {path!r}, cannot be imported: {error}"
        ) from error
    return layer_class(**entry.get("CONFIG", {}))


async def _both(*calls: Awaitable[object]) -> None:
    for result in await asyncio.gather(*calls, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result
