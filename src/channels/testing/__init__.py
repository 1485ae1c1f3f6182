"""What tests of Channels applications use: communicators, which talk to an application without a server."""

from __future__ import annotations

from channels.testing.application import ApplicationCommunicator
from channels.testing.http import HttpCommunicator
from channels.testing.websocket import WebsocketCommunicator

__all__ = ["ApplicationCommunicator", "HttpCommunicator", "WebsocketCommunicator"]
