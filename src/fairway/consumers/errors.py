"""Exceptions that end a consumer, and the errors for messages that none of its methods handles."""

from __future__ import annotations

import asyncio


class StopConsumer(Exception):
    """Raised by a handler to end its consumer without an error."""

    # Applications import the class from there, and pickles name it so.
    __module__ = "channels.exceptions"


class Overstayed(asyncio.CancelledError):
    """Raised in a handler that still sends long after its client has left, because `disconnect()` waits for it."""


class Unhandled(ValueError):
    """No method handles a message. A server logs it in one line, with `asgi_fault` and without a traceback."""

    asgi_fault = "a message was not handled"


class NoHandler(Unhandled):
    """A consumer has no method for a message of this type."""

    def __init__(self, message_type: str) -> None:
        super().__init__(message_type)
        self.message_type = message_type

    def __str__(self) -> str:
        return f"No handler for message type {self.message_type}"
