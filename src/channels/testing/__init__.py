"""Tools for tests of applications: communicators, which talk to an application without a server, and a test case with a
server, for browsers.

Importing this package neither imports nor starts a server.
"""

from __future__ import annotations

from channels.testing.application import ApplicationCommunicator
from channels.testing.http import HttpCommunicator
from channels.testing.live import ChannelsLiveServerTestCase
from channels.testing.websocket import WebsocketCommunicator

__all__ = ["ApplicationCommunicator", "ChannelsLiveServerTestCase", "HttpCommunicator", "WebsocketCommunicator"]
