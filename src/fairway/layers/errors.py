"""What channel layers raise. Applications import these from `channels.exceptions`, which their pickles name as well."""

from __future__ import annotations


class InvalidChannelLayerError(ValueError):
    """A channel layer is missing, cannot be built from its settings, or lacks what is asked of it."""

    __module__ = "channels.exceptions"


class ChannelFull(Exception):
    """A channel is over its capacity; the message was not sent."""

    __module__ = "channels.exceptions"


class MessageTooLarge(Exception):
    """A channel layer cannot carry a message of this size."""

    __module__ = "channels.exceptions"


class Undecodable(ValueError):
    """Bytes that are no message, or not one that this release can read. `sender`: whose they are, if they say so."""

    def __init__(self, reason: str, sender: str = "") -> None:
        super().__init__(reason)
        self.sender = sender
