"""The ASGI lifespan protocol (version 2.0): tells the application that the server starts, and that it stops.

A `Lifespan` belongs to one event loop of one worker. It owns one task, in which the application's lifespan call stays
suspended from start-up to shutdown. The task has ended when `shutdown`, or a `startup` that fails, returns. The server
calls `startup` before it accepts the first connection, and `shutdown` after it has closed the last one.
"""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any, Literal

from fairway import running, whereabouts
from fairway.asgi.types import Application, Message
from fairway.logs import get_logger

logger = get_logger("fairway.server")


_CANCEL_TIMEOUT = 1.0
"""Seconds that the cancelled task of the application has to end. After that, it is left behind with a warning."""


class LifespanFailed(Exception):
    """The application cannot start. The server must not accept connections, and exits with `exit_code`."""

    exit_code = 3
    """The same code as uvicorn's. A supervisor can tell it from a crash, and need not start the server again."""


class Lifespan:
    """One run of the protocol for one application.

    With `mode` "off", the application is not called. If it does not support the protocol, this is an error with "on",
    but not with "auto". `timeout` is in seconds, for start-up and shutdown each.
    """

    def __init__(self, app: Application, mode: Literal["auto", "on", "off"], timeout: float) -> None:
        self._app = app
        self._mode = mode
        self._timeout = timeout
        self._state: dict[str, Any] = {}
        self._task: asyncio.Task[None] | None = None
        self._error: BaseException | None = None
        self._was_asked = False  # whether the application has received lifespan.startup
        self._failure: str | None = None  # the message of its startup.failed or shutdown.failed

    async def startup(self) -> dict[str, Any] | None:
        """Run the application's start-up, and return the state to copy into each scope.

        None if the mode is "off" or the application does not support the protocol: then scopes have no `state`. Raises
        `LifespanFailed`, which has been logged, if the start-up fails or takes too long, or if the mode is "on" and the
        application does not support the protocol. Cancelling ends the application's task.
        """
        if self._mode == "off":
            return None
        loop = asyncio.get_running_loop()
        self._started: asyncio.Future[None] = loop.create_future()
        self._stopping: asyncio.Future[None] = loop.create_future()
        self._stopped: asyncio.Future[None] = loop.create_future()
        self._exhausted: asyncio.Future[None] = loop.create_future()
        self._task = asyncio.create_task(self._run(), name="lifespan", context=contextvars.Context())
        try:
            await asyncio.wait({self._task, self._started}, timeout=self._timeout, return_when="FIRST_COMPLETED")
        except asyncio.CancelledError:
            await self._end_task()
            raise
        if not self._started.done():
            await self._refuse()
            return None
        if self._failure is not None:
            await self._wait_for_end()
            raise _failed(f"the application refused to start: {self._failure or 'it gave no reason'}")
        return self._state

    async def shutdown(self) -> None:
        """Run the application's shutdown, and end its task. Errors are logged, not raised.

        Does nothing if the application does not support the protocol, or if its lifespan call has already failed.
        """
        if self._task is None:
            return
        if not self._task.done():
            self._stopping.set_result(None)
            try:
                await asyncio.wait({self._task, self._stopped}, timeout=self._timeout, return_when="FIRST_COMPLETED")
                if not self._stopped.done() and not self._task.done():
                    logger.warning("the application did not finish its lifespan shutdown within %g s", self._timeout)
                elif self._failure is not None:
                    logger.error("the application's shutdown failed: %s", self._failure or "it gave no reason")
                if self._stopped.done():
                    await self._wait_for_end()
            finally:
                await self._end_task()
        self._task = None

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self._state}
        try:
            await self._app(scope, self._receive, self._send)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self._error = error
            if self._started.done() and self._failure is None:
                logger.error("the application's lifespan raised an exception", exc_info=error)

    async def _receive(self) -> Message:
        if not self._was_asked:
            self._was_asked = True
            return {"type": "lifespan.startup"}
        if not self._stopped.done():
            # Do not await the future directly: an application that cancels `receive` would cancel the future.
            await asyncio.wait({self._stopping})
            return {"type": "lifespan.shutdown"}
        # No event follows. If the application calls `receive` again and again, the cancellation of its task ends it.
        if not self._exhausted.done():
            self._exhausted.set_result(None)
        never: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        return await never

    async def _send(self, message: Message) -> None:
        kind = message["type"]
        if kind in ("lifespan.startup.complete", "lifespan.startup.failed"):
            answered = self._started
        elif kind in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
            answered = self._stopped
        else:
            raise ValueError(f"unknown lifespan message {kind!r}")
        if answered.done() or (answered is self._stopped and not self._stopping.done()):
            raise RuntimeError(f"{kind} was not expected now")
        if kind.endswith(".failed"):
            self._failure = str(message.get("message", ""))
        answered.set_result(None)

    async def _refuse(self) -> None:
        """The application has not answered the start-up: its call has ended, or the time is over."""
        assert self._task is not None
        if not self._task.done():
            await self._end_task()
            raise _failed(f"the application did not finish its lifespan start-up within {self._timeout:g} s")
        error, self._task = self._error, None
        if error is not None and not isinstance(error, Exception):
            raise _failed(f"the application ended its lifespan start-up with {error!r}", error) from error
        if self._mode == "on":
            if error is None:
                raise _failed("the application returned from its lifespan call without completing the start-up")
            raise _failed("the application raised an exception in its lifespan call", error) from error
        if self._was_asked and error is not None:
            # The application has asked for the event, so it may support the protocol, and the error be a mistake.
            logger.warning(
                "lifespan is not used: the application raised %s: %s at start-up (--lifespan on shows where)",
                type(error).__name__,
                error,
            )
        else:
            logger.debug("lifespan is not used: the application does not support it", exc_info=error)

    async def _wait_for_end(self) -> None:
        assert self._task is not None
        await asyncio.wait({self._task, self._exhausted}, timeout=self._timeout, return_when="FIRST_COMPLETED")
        await self._end_task()

    async def _end_task(self) -> None:
        task, self._task = self._task, None
        if task is None or task.done():
            return
        task.cancel()
        await asyncio.wait({task}, timeout=_CANCEL_TIMEOUT)
        if not task.done():
            place = whereabouts.of_task(task)
            logger.warning("the application's lifespan task ignores its cancellation: left behind in %s", place)
            running.left_behind.append(task)


def _failed(text: str, error: BaseException | None = None) -> LifespanFailed:
    logger.error("%s", text, exc_info=error)
    return LifespanFailed(text)
