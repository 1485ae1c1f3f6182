"""How an ASGI application enters the next one, without a frame for each that only passes the connection on.

A connection stays suspended inside its whole chain of applications until it ends, so every chain
link that only awaits the next one costs a frame per connection and a step per message. Links whose
own work is synchronous derive from `TailCall`: the link before them gets the awaitable of what
lies further in. Seen from outside (servers, tests, subclasses) they are ordinary coroutine callables.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from types import FunctionType
from typing import Any
from weakref import WeakKeyDictionary

from fairway.asgi.types import Application, Receive, Scope, Send


def is_wsgi(application: Any) -> bool:
    """Whether it certainly takes the two arguments of WSGI, and not the three of ASGI."""
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
    """An application whose last act is to hand the connection on to another one."""

    def enter(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[Any]:
        """Do this application's part and return the awaitable of the next one, not awaited."""
        raise NotImplementedError

    # A real coroutine function: servers tell ASGI 3 from older interfaces by `inspect`, and before
    # Python 3.12 nothing else passes for one.
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> Any:
        entered = self.enter(scope, receive, send)
        # The connection spends its life in the next line. What it does not need there must not live as long.
        del scope, receive, send
        return await entered


# The application behind a function that only calls it, by the function itself: a decorator may copy every attribute of
# what it wraps, but it is another function.
_behind: WeakKeyDictionary[Callable[..., Any], Application] = WeakKeyDictionary()


def note_alias(function: Callable[..., Any], application: Application) -> None:
    """Note that calling this function only calls that application: whoever enters it may do so directly."""
    _behind[function] = application


def enter_application(application: Application, scope: Scope, receive: Receive, send: Send) -> Awaitable[Any]:
    """Return the awaitable of `application`, saving the frames of those that only pass the connection on.

    Errors of the synchronous part are raised here. A subclass with a `__call__` of its own is called
    like any other application.
    """
    # The class is asked, as a call would ask it, so that nobody is deceived by an application that imitates attributes.
    if getattr(type(application), "__call__", None) is TailCall.__call__:  # noqa: B004
        entered: TailCall = application  # type: ignore[assignment]  # established by the line above
        return entered.enter(scope, receive, send)
    if type(application) is FunctionType:
        application = _behind.get(application, application)
    return application(scope, receive, send)


def copy_of(scope: Scope) -> Scope:
    """A copy to change. It stays as small as what came from a `template`, which `dict(scope)` would not."""
    return scope.copy() if type(scope) is dict else dict(scope)


# So many names can the instances of a class share (`SHARED_KEYS_MAX_SIZE` in CPython's dictobject.c).
_MOST_SHARED_NAMES = 30


def template(items: dict[str, Any], room: int) -> dict[str, Any]:
    """A dict with these items, whose copies by `copy()` take half the memory: they have one table of keys in common.

    The copies may get `room` more names, counted over all of them. One that gets more becomes an ordinary dict, which
    has to grow. This is what CPython does for the attributes of a class's instances.
    """

    class Shape:
        pass

    # Each new instance leaves room for one name less to those that come after it.
    for _ in range(_MOST_SHARED_NAMES - len(items) - room):
        shape = Shape()
    shared = vars(shape)
    for name, value in items.items():
        shared[name] = value
    return shared.copy()
