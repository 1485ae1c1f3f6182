"""Calls of many connections that come together: one visit to the database's thread for all."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Any, Generic, TypeAlias, TypeVar
from weakref import WeakKeyDictionary

from asgiref.sync import SyncToAsync

from channels.db import DatabaseSyncToAsync
from fairway.consumers.tangles import untangle

_R = TypeVar("_R")
_T = TypeVar("_T")

_Call: TypeAlias = tuple[Any, Context, "asyncio.Future[Any]"]
_Outcome: TypeAlias = tuple[Any, BaseException | None]


# Before 3.11.3, Python finds no type variable within the brackets of parameters: `Generic` names both.
class SharedVisit(DatabaseSyncToAsync[[_T], _R], Generic[_T, _R]):
    """`database_sync_to_async` for a function of one argument that many connections call at once.

    Calls that come while the thread is busy share the next visit to it, and with that one look at the database's
    connections: a hop, and a new connection where none is kept, cost more than most queries. Each call runs in the
    context of its caller; what it raises is its own; cancelling one does not disturb the others.
    """

    max_calls_per_visit = 32
    """Others, synchronous consumers for example, wait for the same thread."""

    def __init__(self, func: Callable[[_T], _R]) -> None:
        super().__init__(func)
        self._waiting: WeakKeyDictionary[asyncio.AbstractEventLoop, deque[_Call]] = WeakKeyDictionary()

    async def __call__(self, argument: _T) -> _R:
        if SyncToAsync.thread_sensitive_context.get(None) is not None:
            # The thread belongs to this context.
            return await super().__call__(argument)
        loop = asyncio.get_running_loop()
        answer = loop.create_future()
        try:
            self._enqueue(loop, (argument, copy_context(), answer))
            return await answer  # type: ignore[no-any-return]
        finally:
            del answer  # it would be in a circle with its exception

    def _enqueue(self, loop: asyncio.AbstractEventLoop, call: _Call) -> None:
        waiting = self._waiting.get(loop)
        if waiting is not None:
            waiting.append(call)
            return
        self._waiting[loop] = deque([call])
        # In a task of its own: it serves others, when the first has long been cancelled.
        loop.create_task(self._serve(loop), name="channels.sharing.SharedVisit")

    async def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        waiting = self._waiting[loop]
        try:
            while waiting:
                calls = [waiting.popleft() for _ in range(min(len(waiting), self.max_calls_per_visit))]
                await self._visit(calls)
        finally:
            del self._waiting[loop]
            for _, _, answer in waiting:
                answer.cancel()

    async def _visit(self, calls: list[_Call]) -> None:
        calls = [call for call in calls if not call[2].done()]
        arguments, contexts = [call[0] for call in calls], [call[1] for call in calls]
        outcomes: list[_Outcome] = []
        try:
            await DatabaseSyncToAsync(self._fill)(outcomes, arguments, contexts)
        except Exception as error:
            # The thread could not be visited at all.
            untangle(error)
            outcomes[:] = [(None, error)] * len(calls)
        except BaseException:
            for _, _, answer in calls:
                answer.cancel()
            raise
        for (_, _, answer), (result, failure) in zip(calls, outcomes, strict=True):
            if answer.done():
                continue
            if failure is None:
                answer.set_result(result)
            else:
                answer.set_exception(failure)
        # An error keeps the frames that it passed, and those keep their variables: this list is the only one of them
        # that knows errors, and no one knows who is to get them.
        outcomes.clear()

    def _fill(self, outcomes: list[_Outcome], arguments: list[Any], contexts: list[Context]) -> None:
        """Append the outcome of each call. Runs in the thread."""
        outcomes.extend(map(self._outcome, arguments, contexts))

    def _outcome(self, argument: Any, context: Context) -> _Outcome:
        try:
            return context.run(self.func, argument), None
        except Exception as error:
            return None, error
