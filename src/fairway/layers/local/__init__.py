"""The layer for several processes on one machine, which talk through a broker over a Unix socket.

As `BACKEND` in `CHANNEL_LAYERS`: "fairway.layers.local.LocalChannelLayer". The broker's process imports this package
too, and needs little of it, so the layer is imported only on demand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fairway.layers.local.layer import LocalChannelLayer

__all__ = ["LocalChannelLayer"]


def __getattr__(name: str) -> Any:
    if name != "LocalChannelLayer":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from fairway.layers.local.layer import LocalChannelLayer
    except ModuleNotFoundError as missing:
        if missing.name != "ormsgpack":
            raise
        raise ImportError("the local channel layer needs ormsgpack: pip install ormsgpack", name="ormsgpack") from None
    return LocalChannelLayer
