"""The layer for many processes: a hub in each process, and a backplane between them.

A message to a group is published once, however many members the group has. Each process with members receives it once
and hands it to its hub. The sender's own members also get it only when it comes back. So all processes see a group's
messages in one order, and a message that could not be sent has reached nobody.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from fairway.delivery import Message, Payload
from fairway.layers.backplane import Backplane
from fairway.layers.blocking import BlockingBackplane, Sender
from fairway.layers.codec import Codec, Kind
from fairway.layers.contract import check_message
from fairway.layers.encryption import Encryption
from fairway.layers.errors import ChannelFull
from fairway.layers.history_rules import HistoryOption, history_rules, to_keep
from fairway.layers.hub_layer import HubLayer, delivers_through_hub
from fairway.layers.keeping import Keeper
from fairway.layers.node import Node
from fairway.layers.presence_codec import PresenceCodec
from fairway.layers.receiver import Receiver
from fairway.layers.recovery import Moment, Recovery
from fairway.layers.requests import process_of
from fairway.layers.shared_reach import SharedReach

MAX_MESSAGE_SIZE = 1024 * 1024


@delivers_through_hub
class BackplaneLayer(HubLayer):
    """A layer over a backplane. `make_backplane` makes a new one for each event loop that the layer comes to live in.

    `max_message_size` is in bytes, on the wire. With `confirm`, every send waits until the service has the message. The
    first of the `symmetric_encryption_keys` encrypts all messages, and each of them decrypts. `prefix` separates sites
    that share a service, and is authenticated with every message. `blocking` is the same service for code without an
    event loop. Who is present in a process that dies is missed after `lease` seconds. The other options are those of
    `HubLayer`.

    Channels with an exclamation mark in their name belong to one process. Plain names are queues, for workers.
    """

    def __init__(
        self,
        make_backplane: Callable[[], Backplane],
        max_message_size: int = MAX_MESSAGE_SIZE,
        confirm: bool = False,
        prefix: str = "",
        symmetric_encryption_keys: Sequence[str | bytes] | None = None,
        blocking: BlockingBackplane | None = None,
        lease: float = 5.0,
        history: HistoryOption = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        rules = history_rules(history)
        self.hub.expiry_ends_memberships = False
        encryption = Encryption(symmetric_encryption_keys, prefix) if symmetric_encryption_keys else None
        codec = Codec(max_message_size, encryption)
        receiver = Receiver(self.hub, codec, self._slow_policy, rules)
        self.node = Node(type(self).__name__, self.hub, codec, receiver, make_backplane, confirm)
        entries = PresenceCodec(codec, receiver.undecodable)
        reach = SharedReach(self.presence, self.node.home, entries, lease)
        receiver.presence = self.presence.reach = reach
        if rules is not None and receiver.streaming is not None:
            self.keeper = Keeper(self.node, codec, receiver.streaming, rules)
        if blocking is not None:
            self.node.sender = Sender(
                lambda: self.node.name, codec, self.hub, blocking, self.node.statistics, rules, receiver
            )

    def is_up(self) -> bool:
        """Whether the service is there. A layer that nobody has used counts as up."""
        return self.node.home.is_up()

    async def close(self) -> None:
        """Send what is still waiting, and disconnect. A later call connects again."""
        await self.node.close()

    def retire(self) -> None:
        """Disconnect soon: another layer takes this one's place. Any thread and any event loop may call it."""
        self.node.retire()

    async def flush(self) -> None:
        """Forget all messages and all groups, in every process."""
        await self.node.flush()

    # Channels -------------------------------------------------------------------------------------------------

    async def new_channel(self, prefix: str = "specific") -> str:
        if not self.node.is_ready:
            await self.node.get_ready()
        return f"{prefix.rstrip('.')}.{self.node.name}!{os.urandom(8).hex()}"

    async def send(self, channel: str, message: Message) -> None:
        check_message(message)
        self.require_valid_channel_name(channel)
        process = process_of(channel)
        if process is None:
            await self.node.push(channel, message)
        elif process != self.node.name:
            sent = self.node.post_to_process(process, Kind.DIRECT, [channel, message])
            if sent is not None:
                await sent
        elif not self.hub.send(channel, self.node.reopened(message)):
            raise ChannelFull(channel)

    async def receive(self, channel: str) -> Message:
        message = self.hub.take(channel)
        if message is not None:
            return message
        self.require_valid_channel_name(channel)
        if self.node.mark not in channel:
            assert "!" not in channel, f"{channel} belongs to another process, which alone can receive from it"
            return await self.node.pull(channel)
        if not self.node.is_ready:
            await self.node.get_ready()
        return await self.hub.receive(channel)

    # Groups ---------------------------------------------------------------------------------------------------

    async def group_add(self, group: str, channel: str) -> None:
        self.require_valid_group_name(group)
        self.require_valid_channel_name(channel)
        await self.node.join(group, channel)

    async def group_join(
        self, group: str, channel: str, since: str | Moment | None = None, not_before: Moment | None = None
    ) -> Recovery:
        if process_of(channel) != self.node.name:
            if since is not None:
                raise ValueError(f"{channel} belongs to another process, which alone can make it catch up")
            await self.group_add(group, channel)
            return Recovery(False, 0, "")
        return await super().group_join(group, channel, since, not_before)

    async def group_discard(self, group: str, channel: str) -> None:
        self.require_valid_group_name(group)
        self.require_valid_channel_name(channel)
        await self.node.leave(group, channel)

    def _broadcast(self, group: str, payload: Payload, excluded: Iterable[str]) -> Awaitable[object] | None:
        return self.node.broadcast(group, payload, excluded)

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
        sent = self.node.group_send(group, message)
        if sent is not None:
            await sent
