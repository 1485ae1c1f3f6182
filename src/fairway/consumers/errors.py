"""Exceptions that end a consumer, and the errors for messages that none of its methods handles."""

from __future__ import annotations

import asyncio


class StopConsumer(Exception):
    """Raised in a handler, ends the consumer cleanly."""

    # Where applications import it from, and what their pickles name.
    __module__ = "channels.exceptions"


class Overstayed(asyncio.CancelledError):
    """Ends a handler that goes on sending after its client has left: `disconnect()` waits for it."""


class Unhandled(ValueError):
    """A message that no method handles. The error says all there is to say, so a server logs it in one line, with
    `asgi_fault`.
    """

    asgi_fault = "a message was not handled"


class NoHandler(Unhandled):
    """A consumer has no method for a message of this type."""

    def __init__(self, message_type: str) -> None:
        super().__init__(message_type)
        self.message_type = message_type

    def __str__(self) -> str:
        return f"No handler for message type {self.message_type}"
