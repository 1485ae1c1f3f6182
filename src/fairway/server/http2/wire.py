"""The wire of one stream: an outbox that is flushed into the outbox of its connection, or passed by.

A frame waits in the outbox of its stream if there is a reason to wait: the windows, a socket that is full, or earlier
frames. Otherwise it goes on at once, as a DATA frame in the outbox of the connection. That is written once in a pass of
the loop in any case, so nothing is gained by noting, and then flushing, the outbox of the stream as well.
"""

from __future__ import annotations

from fairway.delivery import Unfinished
from fairway.protocols.http2 import data_head
from fairway.server.output.lanes import Carried
from fairway.server.output.pieces import Droppable
from fairway.server.wire import Wire


class StreamWire(Wire):
    """A wire over a `fairway.server.http2.transport.StreamTransport`, which is its endpoint too."""

    __slots__ = ()

    endpoint: Carried | None  # type: ignore[assignment]  # more than that, it is also an `Endpoint`

    def append(self, frame: bytes | Droppable | Unfinished, is_broadcast: bool = False) -> bool:
        """Add a frame. True if a chunk, here or of the connection, was full and therefore flushed at once."""
        endpoint = self.endpoint
        if (
            self.frames is None
            and not (is_broadcast or self.blocked)
            and endpoint is not None
            and self.scheduler.fanout.sweep is None  # otherwise it may owe something that comes first
        ):
            size = len(frame)
            number = endpoint.claim(size)
            if number:
                return endpoint.carrier.append(data_head(number, size) + frame)  # type: ignore[operator]  # a `Droppable` is a broadcast
        return super().append(frame, is_broadcast)
