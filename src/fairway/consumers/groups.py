"""What consumers can do with groups besides joining them by name: the mixins that `fairway` exports.

from fairway import AsyncGroupsMixin

class Chat(AsyncGroupsMixin, AsyncJsonWebsocketConsumer): ...
"""

from __future__ import annotations

from fairway.consumers.recovery import AsyncRecovery, SyncRecovery
from fairway.consumers.tracking import AsyncTracking, Tracking


class AsyncGroupsMixin(AsyncRecovery, AsyncTracking):
    """For asynchronous consumers: `since`, `join` and `leave`, and `track` and `untrack`."""


class GroupsMixin(SyncRecovery, Tracking):
    """For synchronous consumers: `since`, `join` and `leave`, and `track` and `untrack`."""
