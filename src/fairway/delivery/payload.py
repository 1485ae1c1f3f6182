"""A message for many clients, and what may become of it on its way to a slow one."""

from __future__ import annotations

import enum
from typing import Any, Protocol, TypeAlias, cast

Message: TypeAlias = dict[str, Any]
"""An ASGI event, or an event sent through a channel layer: a dict with a `type`."""


class Encoder(Protocol):
    """One way in which a transport puts a message on its wire. Compared by identity, so instances are shared."""

    def encode_text(self, text: str) -> bytes: ...

    def encode_bytes(self, data: bytes) -> bytes: ...


class SlowPolicy(enum.Enum):
    """What becomes of broadcasts for a client that does not take them as fast as they come."""

    CLOSE = "close"
    """When the bound of its outbox is reached, the connection is closed: the application sees 1013."""
    DROP_OLDEST = "drop-oldest"
    """The oldest broadcasts that can be dropped make room for the new one."""
    KEEP_LATEST = "keep-latest"
    """While the socket takes nothing, only the newest broadcast of each group waits for it."""


class Payload:
    """A message for many clients: text or bytes, encoded at most once for each encoder.

    `policy` says what becomes of it on its way to a slow client, `group` which others it may replace there.
    """

    __slots__ = ("data", "forms", "group", "is_droppable", "policy", "text")

    forms: dict[Encoder, bytes]
    """The encoded messages that have been made (`form`), by their encoders; to be looked at only."""

    def __init__(
        self,
        text: str | None = None,
        data: bytes | None = None,
        policy: SlowPolicy = SlowPolicy.CLOSE,
        group: str = "",
    ) -> None:
        if (text is None) == (data is None):
            raise ValueError("a payload has either text or bytes: pass one of them")
        self.text = text
        self.data = data
        self.policy = policy
        self.is_droppable = policy is not SlowPolicy.CLOSE
        self.group = group
        self.forms = {}

    def form(self, encoder: Encoder) -> bytes:
        """The encoded message; the same `bytes` object for every caller with the same encoder."""
        form = self.forms.get(encoder)
        if form is None:
            if self.text is not None:
                form = encoder.encode_text(self.text)
            else:
                form = encoder.encode_bytes(cast(bytes, self.data))
            self.forms[encoder] = form
        return form

    def as_event(self) -> Message:
        """The keys of a `websocket.send` event."""
        return {"text": self.text} if self.text is not None else {"bytes": self.data}

    def as_message(self) -> Message:
        """The message by which a consumer that cannot be reached in this process learns of the payload."""
        return {"type": "fairway.broadcast", **self.as_event()}
