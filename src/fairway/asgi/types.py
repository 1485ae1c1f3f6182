"""The types of ASGI for annotations."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, TypeAlias

from fairway.delivery import Message
from fairway.protocols.http.request import Headers

__all__ = ["Application", "Headers", "HeadersLike", "Message", "Receive", "Scope", "ScopeView", "Send"]

# These are dicts, but annotated as Any: middlewares may annotate them as `dict`, or as a `TypedDict`.
Scope: TypeAlias = Any
Receive: TypeAlias = Callable[[], Awaitable[Any]]
Send: TypeAlias = Callable[[Any], Awaitable[None]]
Application: TypeAlias = Callable[[Any, Any, Any], Awaitable[Any]]

ScopeView: TypeAlias = Mapping[str, Any]
"""A scope, or the part of a scope that is kept for the log. Read only."""

HeadersLike: TypeAlias = Iterable[Iterable[bytes]]
"""Headers that an application sends: any pairs of name and value. The headers in a scope are `Headers`."""
