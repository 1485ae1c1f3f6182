"""Small ASGI applications that the tests of `channels` put inside routers and middlewares."""

from __future__ import annotations

from typing import Any


class Recorder:
    """Notes the scopes it was called with, and returns `answer`."""

    def __init__(self, answer: Any = None) -> None:
        self.answer = answer
        self.scopes: list[dict[str, Any]] = []
        self.sends: list[Any] = []

    @property
    def scope(self) -> dict[str, Any]:
        (scope,) = self.scopes
        return scope

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> Any:
        self.scopes.append(scope)
        self.sends.append(send)
        return self.answer


async def receive_nothing() -> dict[str, Any]:
    raise AssertionError("this application was not to receive anything")


class Sent(list[dict[str, Any]]):
    """An ASGI `send` that keeps the messages."""

    async def __call__(self, message: dict[str, Any]) -> None:
        self.append(message)
