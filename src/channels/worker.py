"""The worker: runs the application for the messages of named channels, in a process of its own.

For each channel there is a listener, an `InputQueue`, and one or more running instances of the application. The
listener fetches a message from the layer only when an instance waits for one. So messages that nobody can handle yet
stay in the layer, where other workers find them, and where they survive the end of this process. If an instance fails,
it is replaced, and the next message goes to the new instance.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import math
import signal
import time
from collections.abc import Hashable, Iterable
from typing import Any

from asgiref.server import StatelessServer

from channels.exceptions import StopConsumer
from fairway.consumers.input_queue import InputQueue, Instance
from fairway.delivery import Message, serving
from fairway.layers.outage import MISTAKES, backoff, outage_of, receive_through
from fairway.logs import ErrorLog, FaultLog, get_logger
from fairway.running import cancel, first, handling_signals, left_behind, run
from fairway.whereabouts import of_task

__all__ = ["InputQueue", "Worker"]

logger = get_logger("django.channels.worker")

_MISTAKES_AT_START = (*MISTAKES, ValueError, LookupError)
"""Errors that mean that the application cannot be started, such as those of a router without the channel."""

_LONGEST_DELAY = 30.0
_CANCEL_TIMEOUT = 2.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM)

_FLUSH_SECONDS = 1.0

_FAILED = "A handler of channel %s failed"
_NO_CLIENT = (
    "a consumer that is run by a worker has no client to send() to: "
    "use channel_layer.send() or channel_layer.group_send() to reach other consumers"
)
_CANCELLED = (
    "Instances cancelled, because their handlers did not finish: %d. "
    "A handler that runs in a thread goes on all the same; one more SIGTERM ends the process"
)
_LEFT_BEHIND = "Instances that do not end although they were cancelled: left behind: %d: %s"
_MOST_NAMED = 5


class Worker(StatelessServer):
    """Runs the application for named channels, and takes their messages from a channel layer.

    Each channel has `concurrency` instances of the application, by default one, until the worker ends. If a handler
    raises, the error is logged, the instance is replaced, and no other message is affected. If the layer fails, the
    worker tries again until it works.
    """

    concurrency: int = 1
    """How many instances each channel has. A single instance handles the messages in order. Several instances do not
    wait for each other.
    """

    shutdown_timeout: float = 10.0
    """Seconds that handlers have to end when the worker stops. After that, they are cancelled."""

    def __init__(
        self, application: Any, channels: Iterable[str], channel_layer: Any, max_applications: int = 1000
    ) -> None:
        """With more channels than `max_applications`, the instances of channels that are idle longest are ended."""
        super().__init__(application, max_applications)  # type: ignore[no-untyped-call]
        if channel_layer is None:
            raise ValueError("a worker needs a channel layer: configure one in CHANNEL_LAYERS")
        self.channels = list(channels)
        self.channel_layer = channel_layer
        self._errors = ErrorLog(logger)
        self._faults = FaultLog(logger, level=logging.ERROR)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop_is_asked = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._instances: set[asyncio.Task[None]] = set()

    # Life -----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Run in a new event loop until `stop` is called. In the main thread, SIGINT and SIGTERM stop it, too.

        A second signal cancels the handlers that still run. Raises the error of a listener.
        """
        with contextlib.suppress(KeyboardInterrupt):
            run(self.arun())

    async def arun(self) -> None:
        """Like `run`, but in the running event loop. Cancelling it cancels the handlers."""
        self._stopping, self._aborting = asyncio.Event(), asyncio.Event()
        self._loop = asyncio.get_running_loop()
        if self._stop_is_asked:
            self._stopping.set()
        handling = asyncio.ensure_future(self.handle())
        flushing = asyncio.ensure_future(self._keep_flushing())
        with serving(), handling_signals(dict.fromkeys(_SIGNALS, self._note_signal)):
            try:
                if not await first(handling, self._stopping):
                    handling.result()
            except asyncio.CancelledError:
                self._aborting.set()
                raise
            finally:
                await cancel(handling)
                await self._finish()
                await cancel(flushing)
                self._flush_logs(math.inf)

    def stop(self) -> None:
        """End `run`, as the first SIGTERM does. Any thread may call this, even before `run`."""
        self._stop_is_asked = True
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has been closed
                self._loop.call_soon_threadsafe(self._stopping.set)

    def _note_signal(self, number: int, frame: object) -> None:
        assert self._loop is not None, "signals are handled while the worker runs"
        self._loop.call_soon_threadsafe(self._on_signal)

    def _on_signal(self) -> None:
        if self._stopping.is_set():
            self._aborting.set()
        else:
            logger.info("Stopping; once more to cancel the handlers that still run")
            self._stopping.set()

    async def _finish(self) -> None:
        """Let all instances end, and cancel those that do not end within `shutdown_timeout`."""
        queues = {scope_id: details["input_queue"] for scope_id, details in self.application_instances.items()}
        for queue in queues.values():
            queue.close()
        if self._tasks:
            ended = asyncio.ensure_future(asyncio.wait(self._tasks, timeout=self.shutdown_timeout))
            await first(ended, self._aborting)
            await cancel(ended)
        if self._tasks:
            logger.warning(_CANCELLED, len(self._tasks))
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks, timeout=_CANCEL_TIMEOUT)
        if self._tasks:
            logger.warning(_LEFT_BEHIND, len(self._tasks), "; ".join(self._names_of_tasks()))
            left_behind.extend(self._tasks)
        for scope_id, queue in queues.items():
            if queue.qsize():
                logger.error("%d messages of channel %s were not handled", queue.qsize(), scope_id)
        self.application_instances.clear()

    def _names_of_tasks(self) -> list[str]:
        """Describe the instances that still run: their channel, and the line that they are at."""
        tasks = [task for task in self._instances if not task.done()]
        return [f"{task.get_name()} in {of_task(task)}" for task in tasks[:_MOST_NAMED]]

    # Messages -------------------------------------------------------------------------------------------------

    async def handle(self) -> None:
        """Listen to all channels until a listener fails. Raises its error."""
        listeners = [asyncio.ensure_future(self.listener(channel)) for channel in dict.fromkeys(self.channels)]
        try:
            await asyncio.gather(*listeners)
        finally:
            await cancel(*listeners)

    async def listener(self, channel: str) -> None:
        """Give the messages of one channel to its instances, without end. Raises ValueError if one has no type."""
        scope = {"type": "channel", "channel": channel}
        while True:
            await self.get_or_create_application_instance(channel, scope).wanted()
            message = await self._fetch(channel)
            if not message.get("type"):
                raise ValueError(f"Worker received message with no type on channel {channel!r}: add a 'type' to it")
            self.get_or_create_application_instance(channel, scope).put_nowait(message)

    async def _fetch(self, channel: str) -> Message:
        """Receive from the layer, and try again while it fails. Errors in `MISTAKES` are raised."""
        receive = functools.partial(self.channel_layer.receive, channel)
        return await receive_through(outage_of(self.channel_layer), receive, unless=MISTAKES)

    async def application_send(self, scope: Any, message: Any) -> None:
        """The `send` of the application. Raises `NotImplementedError`, because there is no client."""
        raise NotImplementedError(_NO_CLIENT)

    # Instances ------------------------------------------------------------------------------------------------

    def get_or_create_application_instance(self, scope_id: Hashable, scope: Any) -> InputQueue:
        """Return the input queue of a scope. If the scope has no instances, they are started."""
        details = self.application_instances.get(scope_id)
        if details is None:
            if len(self.application_instances) >= self.max_applications:
                self.delete_oldest_application_instance()
            details = self.application_instances[scope_id] = self._start(scope)
        details["last_used"] = time.time()
        queue: InputQueue = details["input_queue"]
        return queue

    def delete_oldest_application_instance(self) -> None:
        """Of the scopes with nothing to do, end the instances of the one that was used least recently."""
        idle = {
            scope_id: details["last_used"]
            for scope_id, details in self.application_instances.items()
            if details["input_queue"].idle
        }
        if idle:
            self.delete_application_instance(min(idle, key=idle.__getitem__))

    def delete_application_instance(self, scope_id: Hashable) -> None:
        """End the instances of a scope, once they have handled all messages in their queue."""
        self.application_instances.pop(scope_id)["input_queue"].close()

    async def application_exception(self, exception: BaseException, application_details: dict[str, Any]) -> None:
        """Log an exception of the application: the first of its kind with its traceback, unless it has `asgi_fault`.

        Of further ones there are few lines, and the others are counted.
        """
        channel, now = application_details["scope"].get("channel"), time.monotonic()
        fault = getattr(exception, "asgi_fault", None)
        if isinstance(fault, str):
            self._faults.report(now, fault, f"{_FAILED}: %s", channel, exception)
        else:
            self._errors.report(now, exception, _FAILED, channel)

    def _flush_logs(self, now: float) -> None:
        self._errors.flush(now)
        self._faults.flush(now)

    async def _keep_flushing(self) -> None:
        while True:
            await asyncio.sleep(_FLUSH_SECONDS)
            self._flush_logs(time.monotonic())

    def _start(self, scope: Any) -> dict[str, Any]:
        details: dict[str, Any] = {"input_queue": InputQueue(), "scope": scope}
        tasks = [asyncio.create_task(self._keep_running(details)) for _ in range(self.concurrency)]
        for task in tasks:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        details["future"] = asyncio.gather(*tasks, return_exceptions=True)
        return details

    async def _keep_running(self, details: dict[str, Any]) -> None:
        """Run one instance after another until the queue is closed and empty."""
        queue: InputQueue = details["input_queue"]
        failures = 0
        while not queue.closed or queue.qsize():
            instance = Instance(queue)
            await self._run_instance(instance, details)
            if instance.has_received:
                failures = 0
            elif queue.closed or queue.error is not None:
                return
            else:
                await queue.pause(backoff(failures, _LONGEST_DELAY))
                failures += 1

    async def _run_instance(self, instance: Instance, details: dict[str, Any]) -> None:
        queue: InputQueue = details["input_queue"]
        queue.instances.add(instance)
        try:
            # Each instance runs in a task of its own, so that it does not see the context variables of the one before.
            await self._in_a_task(instance, details["scope"])
            if not instance.has_asked:
                logger.error("The application for %s ended without receiving a message", details["scope"])
        except StopConsumer:
            pass
        except _MISTAKES_AT_START as error:
            if instance.has_asked:
                await self.application_exception(error, details)
            else:
                queue.fail(error)
        except asyncio.CancelledError as error:
            if _is_cancelled():
                raise
            await self.application_exception(error, details)
        except BaseException as error:
            # `SystemExit` counts as an error of the handler as well.
            await self.application_exception(error, details)
        finally:
            queue.instances.discard(instance)
            instance.inbox.clear()

    async def _in_a_task(self, instance: Instance, scope: Any) -> None:
        name = f"channel {scope.get('channel')}"
        task = asyncio.create_task(self._call_application(instance, scope), name=name)
        self._instances.add(task)
        task.add_done_callback(self._instances.discard)
        await task

    async def _call_application(self, instance: Instance, scope: Any) -> None:
        await self.application(dict(scope), instance.receive, functools.partial(self.application_send, scope))


def _is_cancelled() -> bool:
    """Whether the current task was cancelled, and not something that it awaits."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
