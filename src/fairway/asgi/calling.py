"""Calls the next ASGI application in a chain, without a frame for applications that only pass the connection on.

A connection stays suspended inside its whole chain of applications until it ends. So an application that only awaits
the next one costs a frame for each connection, and a step for each message. Applications whose own work is synchronous
derive from `TailCall`: their caller gets the awaitable of the next application, and awaits that. For servers, tests and
subclasses they are ordinary coroutine functions.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from types import FunctionType
from typing import Any
from weakref import WeakKeyDictionary

from fairway.asgi.types import Application, Receive, Scope, Send


def is_wsgi(application: Any) -> bool:
    """Whether the application takes the two arguments of WSGI and not the three of ASGI. False if that is unknown."""
    try:
        signature = inspect.signature(application)
    except (TypeError, ValueError):
        return False
    return not _binds(signature, 3) and _binds(signature, 2)


def _binds(signature: inspect.Signature, count: int) -> bool:
    try:
        signature.bind(*[None] * count)
    except TypeError:
        return False
    return True


class TailCall:
    """An application that does its work first, and then hands the connection to another application."""

    def enter(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[Any]:
        """Do this application's work, and return the awaitable of the next application without awaiting it."""
        raise NotImplementedError

    # This must be a coroutine function: servers use `inspect` to tell ASGI 3 from older interfaces. Before Python 3.12,
    # other callables cannot be marked as one.
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> Any:
        entered = self.enter(scope, receive, send)
        # The connection stays in the next line until it ends, so this frame must not keep what is not needed there.
        del scope, receive, send
        return await entered


# Maps a function that only calls an application to that application. The key is the function itself, because a
# decorator may copy all attributes of the function that it wraps.
_behind: WeakKeyDictionary[Callable[..., Any], Application] = WeakKeyDictionary()


def note_alias(function: Callable[..., Any], application: Application) -> None:
    """Note that this function only calls that application, so `enter_application` may call the application directly."""
    _behind[function] = application


def enter_application(application: Application, scope: Scope, receive: Receive, send: Send) -> Awaitable[Any]:
    """Call `application`, and return its awaitable, without frames for applications that only pass the connection on.

    Errors of the synchronous work are raised here. A subclass of `TailCall` that overrides `__call__` is called like
    any other application.
    """
    # Look at the class, as a call does: an instance may imitate attributes of another application.
    if getattr(type(application), "__call__", None) is TailCall.__call__:  # noqa: B004
        entered: TailCall = application  # type: ignore[assignment]  # established by the line above
        return entered.enter(scope, receive, send)
    if type(application) is FunctionType:
        application = _behind.get(application, application)
    return application(scope, receive, send)


def copy_of(scope: Scope) -> Scope:
    """A copy that the caller may change. Unlike `dict(scope)`, it stays as small as a dict from a `template`."""
    return scope.copy() if type(scope) is dict else dict(scope)


# How many names the instances of a class can share (`SHARED_KEYS_MAX_SIZE` in CPython's dictobject.c).
_MOST_SHARED_NAMES = 30


def template(items: dict[str, Any], room: int) -> dict[str, Any]:
    """A dict with these items. Copies made with `copy()` take half the memory, because they share one table of keys.

    `room` is the number of further names that the copies may get, counted over all of them. A copy that gets a name
    beyond these becomes an ordinary dict. CPython stores the attributes of a class's instances in the same way.
    """

    class Shape:
        pass

    # Each new instance reduces the room for further names by one.
    for _ in range(_MOST_SHARED_NAMES - len(items) - room):
        shape = Shape()
    shared = vars(shape)
    for name, value in items.items():
        shared[name] = value
    return shared.copy()
