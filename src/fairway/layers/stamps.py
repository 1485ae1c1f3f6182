"""Stamps: what a service writes in front of a message that it keeps, so that receivers know its place. Pure.

    NUL  epoch "-" offset  " "  offset of the message before it  " "  time in ms  LF  data

A stamped message travels like any other message to its subject, and keeps its place among them. The messages of a layer
never begin with a NUL. So receivers that know no stamps drop a stamped message as one that they cannot read.
"""

from __future__ import annotations

import re

from fairway.layers.backplane import Kept, Position

MARK = b"\0"
"""The first byte of a stamp."""

_STAMP = re.compile(rb"\0([0-9a-z]{1,40})-([0-9]{1,18}) ([0-9]{1,18}) ([0-9]{1,18})\n")


def stamped(kept: Kept[bytes]) -> bytes:
    """The data of a message with its stamp."""
    return b"\0%b %d %d\n%b" % (str(kept.position).encode(), kept.previous, round(kept.at * 1000), kept.data)


def unstamped(data: bytes) -> Kept[bytes] | None:
    """The message behind a stamp. None if there is no stamp."""
    found = _STAMP.match(data)
    if found is None:
        return None
    epoch, offset, previous, at = found.groups()
    return Kept(data[found.end() :], Position(epoch.decode(), int(offset)), int(at) / 1000, int(previous))
