"""Where the site is mounted, for proxies that strip the prefix and for those that do not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

Application = Callable[[Any, Any, Any], Awaitable[None]]


class RootPath:
    """`application`, with `root_path` in each scope and at the head of each `path`, as ASGI has it.

    A path that begins with it already is left as it is: Daphne takes both kinds, where Fairway's own option is for
    proxies that strip it. `receive` and `send` are handed on as they are.
    """

    def __init__(self, application: Application, root_path: str) -> None:
        self.application = application
        self.root_path = "/" + root_path.strip("/")

    def __call__(self, scope: Any, receive: Any, send: Any) -> Awaitable[None]:
        if "path" in scope:
            scope["root_path"] = self.root_path
            if not f"{scope['path']}/".startswith(f"{self.root_path}/"):
                scope["path"] = self.root_path + scope["path"]
        return self.application(scope, receive, send)
