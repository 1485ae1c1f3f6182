"""Fairway: real time for Django. The engine below the package `channels`, and interfaces that Channels does not have.

Applications import the new interfaces from here, so that code that needs Fairway is easy to recognise. Importing the
package itself loads none of its modules: the mixins for consumers are loaded when they are asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fairway.consumers.groups import AsyncGroupsMixin as AsyncGroupsMixin
    from fairway.consumers.groups import GroupsMixin as GroupsMixin

__version__ = "0.1.0"

_LAZY = {"AsyncGroupsMixin": "fairway.consumers.groups", "GroupsMixin": "fairway.consumers.groups"}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)
