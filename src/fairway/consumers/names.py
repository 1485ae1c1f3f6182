"""Which method handles a message: the one that is named after its type."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from types import MethodType
from typing import Any

from fairway.consumers.errors import NoHandler, Unhandled
from fairway.delivery import Message

# Applications pass on types that a client has chosen. So the methods that every consumer has are no handlers, except
# `send`, on which code relies.
_reserved: set[str] = set()


def reserve(*classes: type) -> None:
    """Let no message reach the methods of these classes, of which every consumer is made, except `send`."""
    for each in classes:
        _reserved.update(name for name in (*each.__dict__, *each.__annotations__) if not name.startswith("_"))
    _reserved.discard("send")


def _name_for(message_type: Any) -> str:
    if not isinstance(message_type, str):
        raise Unhandled(f"Malformed type in message ({type(message_type).__name__} instead of str)")
    name = message_type.replace(".", "_")
    if name.startswith("_"):
        raise Unhandled("Malformed type in message (leading underscore)")
    if name in _reserved:
        raise NoHandler(message_type)
    return name


# Only types of a length that people write are cached. Errors are not, so they are raised anew each time.
_MAX_CACHED_LENGTH = 128
_cached_name_for = functools.lru_cache(maxsize=1024)(_name_for)


def get_handler_name(message: Message) -> str:
    """The name of the method that handles a message: its type, with underscores for dots.

    ValueError without a `type`, if the name would begin with an underscore, and if it is one that every consumer has,
    such as `dispatch`, apart from `send`.
    """
    try:
        message_type = message["type"]
    except KeyError:
        raise Unhandled("Incoming message has no 'type' attribute") from None
    if type(message_type) is not str or len(message_type) > _MAX_CACHED_LENGTH:
        return _name_for(message_type)
    return _cached_name_for(message_type)


def handler_of(consumer: object, message: Message) -> Callable[[Message], Awaitable[Any]]:
    """The consumer's method that handles a message. `NoHandler` if it has none."""
    # Not cast(): it would build the type anew for each message, which takes longer than finding the handler.
    handler: Any = getattr(consumer, get_handler_name(message), None)
    # It is nearly always a method, and needs no closer look.
    if type(handler) is not MethodType and (not callable(handler) or isinstance(handler, type)):
        raise NoHandler(message["type"])
    return handler
