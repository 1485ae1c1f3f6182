"""A client for tests of ASGI applications, which exchanges messages with an application without a server."""

# ruff: noqa: ASYNC109  the time-outs are part of asgiref's interface

from __future__ import annotations

import asyncio
from typing import Any, cast

from asgiref.compatibility import guarantee_single_callable
from asgiref.testing import ApplicationCommunicator as AsgirefCommunicator

from channels.db import connections_kept_open
from channels.middleware import Application, Receive, Scope, Send
from fairway.delivery import Message
from fairway.timing.source import IN_FORCE


def no_op() -> None:
    """Do nothing. Tests replace `channels.db.close_old_connections` by this."""


class ApplicationCommunicator(AsgirefCommunicator):
    """Runs `application` with `scope` in a task of its own, which starts with the first use.

    The application gets the `scope` object itself, so the test may change it before that. While the application runs,
    no old database connection is closed, because this would end the transaction of the test. If a test has set a clock
    of its own (`fairway.testing.VirtualClock`), the application goes by it.
    """

    def __init__(self, application: Application, scope: Scope) -> None:
        application = guarantee_single_callable(application)  # type: ignore[no-untyped-call]

        async def keep_connections_open(scope: Scope, receive: Receive, send: Send) -> Any:
            IN_FORCE.host()
            with connections_kept_open():
                return await application(scope, receive, send)

        super().__init__(keep_connections_open, scope)  # type: ignore[no-untyped-call]

    # asgiref's methods have no annotations. These methods add them for the subclasses.

    async def send_input(self, message: Message) -> None:
        """Let the application receive `message`. Raises CancelledError if a time-out has cancelled the application."""
        await super().send_input(message)  # type: ignore[no-untyped-call]

    async def receive_output(self, timeout: float = 1) -> Message:
        """Return the next message that the application sends. If it raises an error, raise that at once.

        If no message comes within `timeout` seconds, cancel the application, and raise `asyncio.TimeoutError`.
        """
        if self.output_queue.empty() and not self.future.done():
            # asgiref would notice an error only after the time-out.
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
        """Whether the application sends nothing for `timeout` seconds. This is checked every `interval` seconds."""
        return cast(bool, await super().receive_nothing(timeout, interval))  # type: ignore[no-untyped-call]

    def stop(self, exceptions: bool = True) -> None:
        """Cancel the application. If it has raised an error, raise that, unless `exceptions` is false."""
        super().stop(exceptions)  # type: ignore[no-untyped-call]

    async def wait(self, timeout: float = 1) -> None:
        """Wait until the application ends, and raise its error. After `timeout` seconds, cancel it."""
        await super().wait(timeout)  # type: ignore[no-untyped-call]
