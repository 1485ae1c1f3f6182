"""What the caller of a protocol may do wrong."""

from __future__ import annotations


class LocalProtocolError(Exception):
    """The caller broke the protocol; nothing was produced and no state has changed."""
