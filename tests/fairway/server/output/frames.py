"""A look into an outbox."""

from __future__ import annotations

from fairway.server.output.outbox import Outbox
from fairway.server.output.pieces import Piece


def frames_of(outbox: Outbox) -> list[Piece]:
    """What waits in it, in order, whichever form it is kept in."""
    frames = outbox.frames
    if frames is None:
        return []
    return [frames] if isinstance(frames, bytes) else frames
