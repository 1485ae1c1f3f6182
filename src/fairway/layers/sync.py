"""The channel layer for synchronous code: views, signals, management commands, Celery tasks.

    from fairway.layers.sync import group_send, group_send_on_commit, presence

These are plain functions. Those that send return when the layer has accepted the message. How it is sent depends on the
layer:

* *Layers between processes.* The calling thread or greenlet sends over a blocking socket, and keeps the connection for
  later calls (`fairway.layers.blocking`).
* *The in-memory layer.* The event loop of the receivers delivers the message (`fairway.layers.memory_sender`).
* *Layers of other projects.* All calls of the process run in one background event loop, in a thread that the first call
  starts. So these layers keep their connections from call to call. `async_to_sync` would make a new event loop, and
  with it a new connection, for each call.

The module imports Django for `group_send_on_commit`: a message about a database row should not arrive before the row is
committed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from typing import Any

from django.core.exceptions import SynchronousOnlyOperation
from django.db import transaction

from channels import DEFAULT_CHANNEL_LAYER
from channels.layers import get_channel_layer
from fairway.delivery import Message, Payload, running_loop_or_none
from fairway.layers.background import background as _background
from fairway.layers.background import finished as _finished
from fairway.layers.contract import BaseChannelLayer, broadcast, names_in
from fairway.layers.copying import copied
from fairway.layers.errors import InvalidChannelLayerError
from fairway.layers.history_rules import no_history
from fairway.layers.hub_layer import hub_of
from fairway.layers.memory import MemoryChannelLayer
from fairway.layers.memory_sender import MemorySender
from fairway.layers.recovery import History, Moment, since_of

__all__ = [
    "History",
    "group_broadcast",
    "group_broadcast_json",
    "group_send",
    "group_send_on_commit",
    "history",
    "presence",
    "presence_count",
    "send",
]

_FOR_EVER = 1e7  # seconds; sockets do not accept infinity as a timeout

TIMEOUT = 10.0
"""Seconds that a layer has to accept a message, unless the call passes another `timeout`."""


def send(
    channel: str, message: Message, *, layer: str = DEFAULT_CHANNEL_LAYER, timeout: float | None = TIMEOUT
) -> None:
    """Send a message to a channel.

    `layer` is an alias in `CHANNEL_LAYERS`. `timeout` is in seconds; None waits without a limit.

    Raises `ChannelFull` if the channel is at its capacity, and `SynchronousOnlyOperation` inside an event loop. Raises
    `TimeoutError` if the layer has not accepted the message in time: the message may still arrive. Any other error of
    the layer is raised as it is.
    """
    _require_no_loop("send")
    backend = _layer(layer)
    if isinstance(backend, BaseChannelLayer):
        backend.require_valid_channel_name(channel)
    _require_message(message)
    sender = _sender_of(backend)
    if sender is not None:
        sender.send(channel, message, _deadline(timeout))
    else:
        _background.run(backend.send, channel, message, timeout=timeout)


def group_send(
    group: str,
    message: Message,
    *,
    keep: bool | None = None,
    key: str = "",
    layer: str = DEFAULT_CHANNEL_LAYER,
    timeout: float | None = TIMEOUT,
) -> None:
    """Send a message to every channel of a group. For the other arguments and the errors, see `send`.

    In a group with a history, the message is kept, unless `keep` is False. A kept message with a `key` that another one
    has had in the last five minutes is not sent: a task may be tried again. Messages that one thread sends arrive in
    the order of its calls.
    """
    backend = _layer_for("group_send", layer, group)
    _require_message(message)
    _group_send(backend, group, message, timeout, keep, key)


def group_broadcast(
    group: str,
    text_data: str | None = None,
    bytes_data: bytes | None = None,
    *,
    exclude: str | Iterable[str] = (),
    keep: bool | None = None,
    layer: str = DEFAULT_CHANNEL_LAYER,
    timeout: float | None = TIMEOUT,
) -> None:
    """Send one WebSocket message, text or bytes, to every member of a group. No handler of the consumers runs.

    `exclude` names channels that do not get the message. For `keep`, see `group_send`; for the other arguments and the
    errors, see `send`.
    """
    backend = _layer_for("group_broadcast", layer, group)
    _broadcast(backend, group, Payload(text_data, bytes_data), exclude, timeout, keep)


def group_broadcast_json(
    group: str,
    content: Any,
    *,
    exclude: str | Iterable[str] = (),
    keep: bool | None = None,
    layer: str = DEFAULT_CHANNEL_LAYER,
    timeout: float | None = TIMEOUT,
) -> None:
    """Encode `content` as JSON, and send the text with `group_broadcast`.

    If it is an object and kept, its position is added under the key "layer.position".
    """
    backend = _layer_for("group_broadcast_json", layer, group)
    _broadcast(backend, group, Payload(json.dumps(content)), exclude, timeout, keep, isinstance(content, dict))


def history(
    group: str,
    after: str | Moment = "",
    limit: int = 100,
    *,
    layer: str = DEFAULT_CHANNEL_LAYER,
    timeout: float | None = TIMEOUT,
) -> History:
    """At most `limit` kept messages of a group, as events, the oldest first. `after` is a position or a time.

    Raises `InvalidChannelLayerError` if the group has no history. For the other arguments and the errors, see `send`.
    """
    backend = _layer_for("history", layer, group)
    sender = _sender_of(backend)
    keeper = getattr(backend, "keeper", None)
    if sender is None or keeper is None or keeper.rules.keep_of(group) is None:
        raise InvalidChannelLayerError(no_history(group))
    since = None if after == "" else since_of(after)
    found: History = sender.history(group, since, max(1, limit), _deadline(timeout))
    return found


def group_send_on_commit(
    group: str,
    message: Message,
    *,
    using: str | None = None,
    layer: str = DEFAULT_CHANNEL_LAYER,
    timeout: float | None = TIMEOUT,
    robust: bool = False,
    keep: bool | None = None,
    key: str = "",
) -> None:
    """Call `group_send` once the open transaction of this thread's database connection `using` is committed.

    Without an open transaction, the message is sent at once. If the transaction, or the savepoint around the call, is
    rolled back, the message is never sent. The message is checked and copied now, so later changes to it have no
    effect.

    `using` and `robust` have the meaning that they have in Django's `transaction.on_commit`. If the layer fails and
    `robust` is true, the error is logged, and the other callbacks of the commit still run. If `robust` is false, the
    error is raised from the commit.
    """
    backend = _layer_for("group_send", layer, group)
    _require_message(message)
    own = copied(message)

    def send_after_commit() -> None:
        _group_send(backend, group, own, timeout, keep, key)

    transaction.on_commit(send_after_commit, using=using, robust=robust)


def presence(
    group: str, *, layer: str = DEFAULT_CHANNEL_LAYER, timeout: float | None = TIMEOUT
) -> dict[str, list[Any]]:
    """Who is present in a group: the keys of all persons, each with the different data of its connections.

    For the other arguments and the errors, see `send`. Raises `InvalidChannelLayerError` for a layer without presence.
    """
    attendance, sender = _attendance("presence.members", layer, group)
    found: dict[str, list[Any]]
    if isinstance(sender, MemorySender):
        found = _finished(attendance.members(group))
    elif sender is not None:
        found = attendance.reach.members_by(sender, group, _deadline(timeout))
    else:
        found = _background.run(attendance.members, group, timeout=timeout)
    return found


def presence_count(group: str, *, layer: str = DEFAULT_CHANNEL_LAYER, timeout: float | None = TIMEOUT) -> int:
    """How many connections are present in a group. That is quicker than `presence`, but a person may have several."""
    attendance, sender = _attendance("presence.count", layer, group)
    found: int
    if isinstance(sender, MemorySender):
        found = _finished(attendance.count(group))
    elif sender is not None:
        found = attendance.reach.count_by(sender, group, _deadline(timeout))
    else:
        found = _background.run(attendance.count, group, timeout=timeout)
    return found


def _attendance(method: str, alias: str, group: str) -> tuple[Any, Any]:
    """What knows who is present, and what asks the service without an event loop, if anything does."""
    backend = _layer_for(method, alias, group)
    attendance = getattr(backend, "presence", None)
    if attendance is None:
        raise InvalidChannelLayerError(f"{type(backend).__name__} has no presence: use one of Fairway's channel layers")
    return attendance, _sender_of(backend)


def _group_send(
    backend: Any, group: str, message: Message, timeout: float | None, keep: bool | None = None, key: str = ""
) -> None:
    sender = _sender_of(backend)
    if sender is not None:
        sender.group_send(group, message, _deadline(timeout), keep, key)
    elif keep or key:
        raise ValueError(f"{type(backend).__name__} keeps no histories: leave out keep and key")
    else:
        _background.run(backend.group_send, group, message, timeout=timeout)


def _broadcast(
    backend: Any,
    group: str,
    payload: Payload,
    exclude: str | Iterable[str],
    timeout: float | None,
    keep: bool | None,
    is_object: bool = False,
) -> None:
    sender = _sender_of(backend)
    if sender is not None:
        sender.broadcast(group, payload, names_in(exclude), _deadline(timeout), keep, is_object)
    elif keep:
        raise ValueError(f"{type(backend).__name__} keeps no histories: leave out keep")
    else:
        _background.run(broadcast, backend, group, payload.text, payload.data, exclude=exclude, timeout=timeout)


def _sender_of(backend: Any) -> Any:
    if hub_of(backend) is None:  # another project's layer, or a subclass whose own sending methods must be called
        return None
    if isinstance(backend, MemoryChannelLayer):
        return MemorySender(backend)
    node = getattr(backend, "node", None)
    return getattr(node, "sender", None)


def _deadline(timeout: float | None) -> float:
    return time.monotonic() + (_FOR_EVER if timeout is None else timeout)


def _layer_for(method: str, alias: str, group: str) -> Any:
    _require_no_loop(method)
    backend = _layer(alias)
    if isinstance(backend, BaseChannelLayer):
        backend.require_valid_group_name(group)
    return backend


def _require_no_loop(method: str) -> None:
    if running_loop_or_none() is not None:
        raise SynchronousOnlyOperation(
            "fairway.layers.sync is for code outside of event loops: "
            f"write `await get_channel_layer().{method}(...)` instead, or call it in a function that "
            "database_sync_to_async or sync_to_async runs"
        )


def _layer(alias: str) -> Any:
    layer = get_channel_layer(alias)
    if layer is None:
        raise InvalidChannelLayerError(f"CHANNEL_LAYERS has no {alias!r}: add it, or name another layer")
    return layer


def _require_message(message: object) -> None:
    if not isinstance(message, dict):
        raise TypeError(f"a message is a dict with a 'type', not {message!r}")
    if not isinstance(message.get("type"), str):
        raise ValueError("the message has no 'type': add the name of its handler, such as 'chat.message'")
