"""Consumers written once for the synchronous and the asynchronous classes.

A method is a generator that yields each call of the consumer's own interface: `yield self.send("x")`. In the
synchronous class the call is over when it is yielded; in the asynchronous one it is a coroutine, which is awaited.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator
from functools import partial
from typing import Any

from asgiref.sync import async_to_sync

from channels.generic.websocket import (
    AsyncJsonWebsocketConsumer,
    AsyncWebsocketConsumer,
    JsonWebsocketConsumer,
    WebsocketConsumer,
)

Steps = Generator[Any, Any, Any]


def _synchronous(method: Callable[..., Steps]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        steps = method(*args, **kwargs)
        result = None
        while True:
            try:
                result = steps.send(result)
            except StopIteration as stop:
                return stop.value

    return run


def _asynchronous(method: Callable[..., Steps]) -> Callable[..., Any]:
    async def run(*args: Any, **kwargs: Any) -> Any:
        steps = method(*args, **kwargs)
        go_on: Callable[[], Any] = partial(steps.send, None)
        while True:
            try:
                awaitable = go_on()
            except StopIteration as stop:
                return stop.value
            try:
                result = await awaitable if inspect.isawaitable(awaitable) else awaitable
            except BaseException as error:
                go_on = partial(steps.throw, error)  # there a method that is written with `await` would see it
            else:
                go_on = partial(steps.send, result)

    return run


class Twin:
    """One of the two families of generic consumers."""

    def __init__(self, is_sync: bool) -> None:
        self.is_sync = is_sync

    def __call__(self, definition: type, json: bool = False) -> Any:
        """The consumer class of this family with the methods of `definition`."""
        if self.is_sync:
            base: type = JsonWebsocketConsumer if json else WebsocketConsumer
        else:
            base = AsyncJsonWebsocketConsumer if json else AsyncWebsocketConsumer
        members = {name: self._adapt(member) for name, member in vars(definition).items() if name not in _DROPPED}
        return type(definition.__name__, (base,), {"through": self._through(), **members})

    def _adapt(self, member: Any) -> Any:
        if isinstance(member, classmethod):
            return classmethod(self._adapt(member.__func__))
        if not inspect.isfunction(member):
            return member
        if not inspect.isgeneratorfunction(member):
            return member
        return _synchronous(member) if self.is_sync else _asynchronous(member)

    def _through(self) -> Callable[..., Any]:
        """`self.through(self.channel_layer.group_send, ...)`: call a coroutine function in this family's way."""
        if self.is_sync:
            return lambda consumer, function, *args, **kwargs: async_to_sync(function)(*args, **kwargs)
        return lambda consumer, function, *args, **kwargs: function(*args, **kwargs)


_DROPPED = {"__dict__", "__weakref__", "__firstlineno__", "__static_attributes__"}
