"""What tests of Channels applications use: communicators, which talk to an application without a server.

`ChannelsLiveServerTestCase` runs a real server and is imported on first use, so that tests that
need none of it do not load one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .application import ApplicationCommunicator
from .http import HttpCommunicator
from .websocket import WebsocketCommunicator

if TYPE_CHECKING:
    from .live import ChannelsLiveServerTestCase

__all__ = [
    "ApplicationCommunicator",
    "ChannelsLiveServerTestCase",
    "HttpCommunicator",
    "WebsocketCommunicator",
]


def __getattr__(name: str) -> Any:
    if name == "ChannelsLiveServerTestCase":
        from .live import ChannelsLiveServerTestCase

        return ChannelsLiveServerTestCase
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
