"""Sends to a client from the threads in which synchronous consumers run their handlers."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future

from fairway.delivery import Connection, Message, running_loop_or_none


class ThreadSend:
    """The `send` of a connection for code in other threads.

    It waits until the event loop has accepted the message, but never for the client, and raises what the connection's
    `send_nowait` raises. In the event loop itself, it sends at once.
    """

    __slots__ = ("_connection", "_loop")

    def __init__(self, connection: Connection, loop: asyncio.AbstractEventLoop) -> None:
        self._connection = connection
        self._loop = loop

    def __call__(self, message: Message) -> None:
        if running_loop_or_none() is self._loop:
            self._connection.send_nowait(message)
            return
        outcome: Future[None] = Future()
        self._loop.call_soon_threadsafe(self._send, message, outcome)
        outcome.result()

    def _send(self, message: Message, outcome: Future[None]) -> None:
        try:
            self._connection.send_nowait(message)
        except Exception as error:
            outcome.set_exception(error)
        else:
            outcome.set_result(None)
