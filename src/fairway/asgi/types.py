"""The types of ASGI, as this project writes them in annotations."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, TypeAlias

from fairway.delivery import Message
from fairway.protocols.http.request import Headers

__all__ = ["Application", "Headers", "HeadersLike", "Message", "Receive", "Scope", "ScopeView", "Send"]

# Dicts, but not annotated as such: a project's middlewares may say `dict`, or name the `TypedDict` of a scope or event.
Scope: TypeAlias = Any
Receive: TypeAlias = Callable[[], Awaitable[Any]]
Send: TypeAlias = Callable[[Any], Awaitable[None]]
Application: TypeAlias = Callable[[Any, Any, Any], Awaitable[Any]]

ScopeView: TypeAlias = Mapping[str, Any]
"""A scope, or the part of one that is kept for the log, for those who only read it."""

HeadersLike: TypeAlias = Iterable[Iterable[bytes]]
"""Headers as an application may give them: any pairs of name and value. In a scope they are `Headers`."""
