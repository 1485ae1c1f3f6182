"""A client of any ASGI application, for tests: messages in, messages out, no server."""

# ruff: noqa: ASYNC109  the time-outs are part of asgiref's interface

from __future__ import annotations

import asyncio
from typing import Any, cast

from asgiref.compatibility import guarantee_single_callable
from asgiref.testing import ApplicationCommunicator as AsgirefCommunicator

from channels.db import connections_kept_open
from channels.middleware import Application, Receive, Scope, Send
from fairway.delivery import Message


def no_op() -> None:
    """Do nothing. For tests that put it in the place of `channels.db.close_old_connections`."""


class ApplicationCommunicator(AsgirefCommunicator):
    """Runs `application` on `scope` in a task of its own, which starts with the first use.

    The application gets the `scope` object itself, so it can be changed until then. While the application
    runs no database connection is closed on account of age: that of a test would take its transaction along.
    """

    def __init__(self, application: Application, scope: Scope) -> None:
        application = guarantee_single_callable(application)  # type: ignore[no-untyped-call]

        async def keep_connections_open(scope: Scope, receive: Receive, send: Send) -> Any:
            with connections_kept_open():
                return await application(scope, receive, send)

        super().__init__(keep_connections_open, scope)  # type: ignore[no-untyped-call]

    # asgiref's methods carry no annotations; these do, for the communicators built on this one.

    async def send_input(self, message: Message) -> None:
        """Give the application `message` to receive; CancelledError if it was cancelled by a time-out."""
        await super().send_input(message)  # type: ignore[no-untyped-call]

    async def receive_output(self, timeout: float = 1) -> Message:
        """Return the next message that the application sends, or raise what it raised, as soon as it does.

        After `timeout` seconds without one, cancels the application and raises `asyncio.TimeoutError`.
        """
        if self.output_queue.empty() and not self.future.done():
            # asgiref would notice a failure only when the time is up.
            message = asyncio.ensure_future(self.output_queue.get())
            try:
                await asyncio.wait({message, self.future}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
                if message.done():
                    received: Message = message.result()
                    return received
            finally:
                message.cancel()
            if not self.future.done():
                timeout = 0
        return cast(Message, await super().receive_output(timeout))  # type: ignore[no-untyped-call]

    async def receive_nothing(self, timeout: float = 0.1, interval: float = 0.01) -> bool:
        """Whether the application sends nothing for `timeout` seconds; it is asked every `interval` seconds."""
        return cast(bool, await super().receive_nothing(timeout, interval))  # type: ignore[no-untyped-call]

    def stop(self, exceptions: bool = True) -> None:
        """Cancel the application, or raise what it has raised; nothing is raised with `exceptions=False`."""
        super().stop(exceptions)  # type: ignore[no-untyped-call]

    async def wait(self, timeout: float = 1) -> None:
        """Wait until the application ends, raising what it raised; cancel it after `timeout` seconds."""
        await super().wait(timeout)  # type: ignore[no-untyped-call]
