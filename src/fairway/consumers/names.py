"""Finds the method that handles a message, by the type of the message."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from types import MethodType
from typing import Any, TypeVar, cast

from fairway.consumers.errors import NoHandler, Unhandled
from fairway.delivery import Message

# The type of a message may come from a client. So the methods that every consumer has cannot be handlers. Only `send`
# can, because existing applications rely on it.
_reserved: set[str] = set()


def reserve(*classes: type) -> None:
    """Reserve the names of these base classes of all consumers: no message is handled by them, except by `send`."""
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


# Longer types are not cached, because a client may have chosen them. Errors are not cached either.
_MAX_CACHED_LENGTH = 128
_cached_name_for = functools.lru_cache(maxsize=1024)(_name_for)


F = TypeVar("F", bound=Callable[..., Any])


class _Helper:
    """A method bound to its consumer. It is called like any other, but no message is handled by it."""

    __slots__ = ("__wrapped__", "_consumer")

    def __init__(self, function: Callable[..., Any], consumer: object) -> None:
        self.__wrapped__ = function
        self._consumer = consumer

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.__wrapped__(self._consumer, *args, **kwargs)


class _HelperMethod:
    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        functools.update_wrapper(cast(Any, self), function)

    def __get__(self, consumer: object, owner: type) -> Any:
        return self._function if consumer is None else _Helper(self._function, consumer)


def not_a_handler(method: F) -> F:
    """Decorator for a method of a mixin: no message is handled by it, whatever the type of the message.

    The names of the base classes are reserved (`reserve`), but a mixin may not reserve names in all consumers.
    """
    return cast(F, _HelperMethod(method))


def get_handler_name(message: Message) -> str:
    """The name of the method that handles a message: its type, with underscores in place of dots.

    Raises ValueError if the message has no `type`, if the name begins with an underscore, or if it is a reserved name,
    such as `dispatch`.
    """
    try:
        message_type = message["type"]
    except KeyError:
        raise Unhandled("Incoming message has no 'type' attribute") from None
    if type(message_type) is not str or len(message_type) > _MAX_CACHED_LENGTH:
        return _name_for(message_type)
    return _cached_name_for(message_type)


def handler_of(consumer: object, message: Message) -> Callable[[Message], Awaitable[Any]]:
    """The consumer's method that handles a message. Raises `NoHandler` if it has none."""
    # An annotation, not cast(): evaluating the type for each message would take longer than finding the handler.
    handler: Any = getattr(consumer, get_handler_name(message), None)
    # Nearly always it is a method, and the other checks are not needed.
    if type(handler) is not MethodType and (not callable(handler) or isinstance(handler, type | _Helper)):
        raise NoHandler(message["type"])
    return handler
