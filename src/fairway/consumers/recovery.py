"""For consumers: joining a group late, and getting what was sent to it before. A part of `fairway.GroupsMixin`."""

from __future__ import annotations

import urllib.parse
from collections.abc import Callable, Coroutine
from typing import Any

from asgiref.sync import async_to_sync

from fairway.consumers.names import not_a_handler
from fairway.layers.errors import InvalidChannelLayerError
from fairway.layers.places import Places
from fairway.layers.recovery import LONGEST, Moment, Recovery

PARAMETER = "since"
"""The parameter of the query in which a client hands back its last position."""

MOST_PARAMETERS = 1000
"""A query with more parameters is not read: it is for each group that a consumer joins."""


class AsyncRecovery:
    """`since`, `join` and `leave` for asynchronous consumers. None of them can be reached by the type of an event."""

    scope: Any
    channel_layer: Any
    channel_name: Any

    @not_a_handler
    def since(self, group: str, default: str | None = None) -> str | None:
        """The position in the group that the client came with; `default` if it came with none.

        It is in the query of the URL, as `since=POSITION`. A client with positions in several groups writes
        `since.GROUP=POSITION` for each. The consumer for Server-Sent Events first looks into the header Last-Event-ID,
        which has the positions of all its groups: `join` takes the right one.
        The position comes from the client. So it says what the client has seen, not what it may see.
        """
        return _since(self, group, default)

    @not_a_handler
    async def join(self, group: str, since: str | Moment | None = None, not_before: Moment | None = None) -> Recovery:
        """Join a group. If `since` is given, what was sent to it since then comes first, to the same handlers.

        `since` is a position, "all", or a time. Messages from before `not_before` are left out: a client can make up a
        position, and so read what was said before it was there. The missed messages do not count against the
        consumer's capacity. They are handled when the running handler has ended.
        """
        recovery = await _join_of(self)(group, self.channel_name, since, not_before)
        places: Places | None = getattr(self, "_fairway_places", None)
        if places is not None:
            places.joined(since, recovery)
        return recovery

    @not_a_handler
    async def leave(self, group: str) -> None:
        """Leave a group."""
        await _layer_of(self).group_discard(group, self.channel_name)


class SyncRecovery:
    """`since`, `join` and `leave` for synchronous consumers: see `AsyncRecovery`."""

    scope: Any
    channel_layer: Any
    channel_name: Any

    @not_a_handler
    def since(self, group: str, default: str | None = None) -> str | None:
        """The position in the group that the client came with; `default` if it came with none."""
        return _since(self, group, default)

    @not_a_handler
    def join(self, group: str, since: str | Moment | None = None, not_before: Moment | None = None) -> Recovery:
        """Join a group. If `since` is given, what was sent to it since then comes first, to the same handlers."""
        return async_to_sync(_join_of(self))(group, self.channel_name, since, not_before)

    @not_a_handler
    def leave(self, group: str) -> None:
        """Leave a group."""
        async_to_sync(_layer_of(self).group_discard)(group, self.channel_name)


def _since(consumer: Any, group: str, default: str | None) -> str | None:
    found: str = getattr(consumer, "last_event_id", "")
    if not found:
        query = _query_of(consumer.scope)
        found = (query.get(f"{PARAMETER}.{group}") or query.get(PARAMETER) or [""])[-1]
    return found if 0 < len(found) <= LONGEST else default


def _query_of(scope: Any) -> dict[str, list[str]]:
    try:
        return urllib.parse.parse_qs(scope.get("query_string", b"").decode("latin-1"), max_num_fields=MOST_PARAMETERS)
    except ValueError:  # too many: over HTTP/2 there may be 30,000
        return {}


def _layer_of(consumer: Any) -> Any:
    if consumer.channel_layer is None:
        raise InvalidChannelLayerError(
            f"{type(consumer).__name__} needs a channel layer to join a group: configure CHANNEL_LAYERS["
            f"{consumer.channel_layer_alias!r}]"
        )
    return consumer.channel_layer


def _join_of(consumer: Any) -> Callable[..., Coroutine[Any, Any, Recovery]]:
    layer = _layer_of(consumer)
    group_join: Callable[..., Coroutine[Any, Any, Recovery]] | None = getattr(layer, "group_join", None)
    if group_join is not None:
        return group_join

    async def join(group: str, channel: str, since: object, not_before: object) -> Recovery:
        if since is not None:
            raise InvalidChannelLayerError(f"{type(layer).__name__} keeps no histories: use a layer of fairway.layers")
        await layer.group_add(group, channel)
        return Recovery(False, 0, "")

    return join
