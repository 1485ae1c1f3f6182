"""The exceptions of channel layers. Applications import them from `channels.exceptions`, and pickles name that too."""

from __future__ import annotations


class InvalidChannelLayerError(ValueError):
    """A channel layer is missing, cannot be built from its settings, or lacks what is asked of it."""

    __module__ = "channels.exceptions"


class ChannelFull(Exception):
    """A channel is at its capacity. The message was not sent."""

    __module__ = "channels.exceptions"


class MessageTooLarge(Exception):
    """A channel layer cannot carry a message of this size."""

    __module__ = "channels.exceptions"


class Undecodable(ValueError):
    """Bytes that are not a message, or not one that this release can read. `sender` names their sender, if known."""

    def __init__(self, reason: str, sender: str = "") -> None:
        super().__init__(reason)
        self.sender = sender
