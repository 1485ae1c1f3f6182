"""A message for many clients, and what happens to it if a client is slow."""

from __future__ import annotations

import enum
from typing import Any, Protocol, TypeAlias, cast, runtime_checkable

Message: TypeAlias = dict[str, Any]
"""An ASGI event, or an event sent through a channel layer: a dict with a `type`."""


class Unfinished(Protocol):
    """An encoded message that is made piece by piece, because that takes long.

    Its length is that of the message, and of what making it takes meanwhile.
    """

    @property
    def shrinks(self) -> bool:
        """Whether the result may be much shorter."""

    def __len__(self) -> int: ...

    def go_on(self, most: int) -> bytes | None:
        """Encode up to `most` bytes more of the message. Return the result once that was all."""


@runtime_checkable
class Unjoined(Protocol):
    """A long text from a client, which is joined when its consumer takes it. `getsizeof` tells its memory before."""

    def __len__(self) -> int: ...

    def whole(self) -> str:
        """Join the pieces."""


class Encoder(Protocol):
    """Encodes a message for a transport's wire. Encoders are compared by identity, so connections share instances.

    The `begin` methods leave a long message to be encoded piece by piece, if that takes long.
    """

    def encode_text(self, text: str) -> bytes: ...

    def encode_bytes(self, data: bytes) -> bytes: ...

    def begin_text(self, text: str) -> bytes | Unfinished: ...

    def begin_bytes(self, data: bytes) -> bytes | Unfinished: ...


class SlowPolicy(enum.Enum):
    """What happens to broadcasts for a client that reads more slowly than they are sent."""

    CLOSE = "close"
    """When too much waits in the outbox, the connection is closed, and the application sees code 1013."""
    DROP_OLDEST = "drop-oldest"
    """When the outbox is full, the oldest broadcasts with this policy are dropped to make room for the new one."""
    KEEP_LATEST = "keep-latest"
    """While the socket accepts no data, only the newest broadcast of each group is kept."""


class Payload:
    """A message for many clients: text or bytes, encoded at most once for each encoder.

    `policy` says what happens to the message if a client is slow. With `KEEP_LATEST`, it replaces waiting messages of
    the same `group`. `position` is its place in the group's history, if it has one. Raises ValueError unless exactly
    one of `text` and `data` is given.
    """

    __slots__ = ("data", "forms", "group", "is_droppable", "policy", "position", "text")

    forms: dict[Encoder, bytes]
    """The encoded messages that `form` has made so far, by encoder. Callers must not change it."""

    def __init__(
        self,
        text: str | None = None,
        data: bytes | None = None,
        policy: SlowPolicy = SlowPolicy.CLOSE,
        group: str = "",
        position: str = "",
    ) -> None:
        if (text is None) == (data is None):
            raise ValueError("a payload has either text or bytes: pass one of them")
        self.text = text
        self.data = data
        self.policy = policy
        self.is_droppable = policy is not SlowPolicy.CLOSE
        self.group = group
        self.position = position
        self.forms = {}

    def form(self, encoder: Encoder) -> bytes:
        """Return the encoded message, the same `bytes` object for all calls with the same encoder."""
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
        """The payload as an event of the channel layer, for receivers that this process cannot write to."""
        return {"type": "fairway.broadcast", **self.as_event()}
