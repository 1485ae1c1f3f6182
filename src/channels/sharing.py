"""Combines calls of many connections that come at the same time into one visit to the database thread, and one query.

`SharedVisit` wraps a function of one argument, and calls it for many connections during one visit to the thread.
`SharedQueries` also combines their queries. It wraps a generator function. Its calls run step by step:

* A call yields a `Row`, which names the row that it needs, and waits.
* When each call waits or has ended, one query fetches all rows of one kind from one database.
* Each call is sent the result for its own key, and continues. The return value of the generator is the result.

A call is sent None if nothing was fetched for it: it is the only call, the query has no answer for its key, or the
query failed. Then the call fetches the row itself, and gets its own error. So no call depends on another one: sharing
changes how many queries there are, and never their results.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections import deque
from collections.abc import Callable, Generator, Hashable, Mapping, Sequence
from contextvars import Context, copy_context
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar
from weakref import WeakKeyDictionary

from asgiref.sync import SyncToAsync
from django.db import connections
from django.db.models import Manager, QuerySet

from channels.db import DatabaseSyncToAsync
from fairway.consumers.tangles import untangle

_R = TypeVar("_R")
_T = TypeVar("_T")

_Call: TypeAlias = tuple[Any, Context, "asyncio.Future[Any]"]
_Outcome: TypeAlias = tuple[Any, BaseException | None]

# Few enough that nobody notices the delay, even if passes are long for another reason.
MAX_PASSES = 8

logger = logging.getLogger("channels.sharing")


# `Generic` is needed before Python 3.11.3, which does not find the type variable in `[[_T], _R]`.
class SharedVisit(DatabaseSyncToAsync[[_T], _R], Generic[_T, _R]):
    """`database_sync_to_async` for a function of one argument that many connections call at once.

    Calls that come while the thread is busy share the next visit to it, and one check of the database connections. A
    change of threads, and a new connection if none is kept, cost more than most queries. Each call runs in the context
    of its caller, and raises its own errors. Cancelling one call does not affect the others.
    """

    max_calls_per_visit = 32
    """How many calls share one visit at most. Others, such as synchronous consumers, wait for the same thread."""

    def __init__(self, func: Callable[[_T], _R]) -> None:
        super().__init__(func)
        self._waiting: WeakKeyDictionary[asyncio.AbstractEventLoop, deque[_Call]] = WeakKeyDictionary()

    async def __call__(self, argument: _T) -> _R:
        if SyncToAsync.thread_sensitive_context.get(None) is not None:
            # This context has a thread of its own.
            return await super().__call__(argument)
        loop = asyncio.get_running_loop()
        answer = loop.create_future()
        try:
            self._enqueue(loop, (argument, copy_context(), answer))
            return await answer  # type: ignore[no-any-return]
        finally:
            del answer  # it would be in a reference cycle with its exception

    def _enqueue(self, loop: asyncio.AbstractEventLoop, call: _Call) -> None:
        waiting = self._waiting.get(loop)
        if waiting is not None:
            waiting.append(call)
            return
        self._waiting[loop] = deque([call])
        # The visits have a task of their own, because they go on when the first call has been cancelled.
        loop.create_task(self._serve(loop), name="channels.sharing.SharedVisit")

    async def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        waiting = self._waiting[loop]
        try:
            while waiting:
                await self._gather(waiting)
                calls = [waiting.popleft() for _ in range(min(len(waiting), self.max_calls_per_visit))]
                await self._visit(calls)
        finally:
            del self._waiting[loop]
            for _, _, answer in waiting:
                answer.cancel()

    async def _gather(self, waiting: deque[_Call]) -> None:
        """Wait up to `MAX_PASSES` while each pass of the loop brings more calls, and until they fill a visit.

        If many clients connect together, each pass brings a few, and a visit costs as much as many calls.
        """
        count = 0
        for _ in range(MAX_PASSES):
            if not count < len(waiting) < self.max_calls_per_visit:
                return
            count = len(waiting)
            await asyncio.sleep(0)

    async def _visit(self, calls: list[_Call]) -> None:
        calls = [call for call in calls if not call[2].done()]
        arguments, contexts = [call[0] for call in calls], [call[1] for call in calls]
        outcomes: list[_Outcome] = []
        try:
            await DatabaseSyncToAsync(self._fill)(outcomes, arguments, contexts)
        except Exception as error:
            # The visit failed as a whole.
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
        # An error refers to the frames that it passed, and they refer to their variables. Of these, only this list
        # refers to errors, so clear it to break the cycle.
        outcomes.clear()

    def _fill(self, outcomes: list[_Outcome], arguments: list[Any], contexts: list[Context]) -> None:
        """Append the outcome of each call. Runs in the thread."""
        outcomes.extend(map(self._outcome, arguments, contexts))

    def _outcome(self, argument: Any, context: Context) -> _Outcome:
        try:
            return context.run(self.func, argument), None
        except Exception as error:
            return None, error


class Row(NamedTuple):
    """The row that a call needs next.

    `fetch` is called with the database and the keys of all calls that have yielded the same `fetch` and `database`. It
    returns, by key, what these calls are sent. A call whose key is missing is sent None, and fetches its row itself.
    """

    fetch: Callable[[str, Sequence[Any]], Mapping[Any, Any]]
    database: str
    key: Hashable


_Steps: TypeAlias = Generator[Row, Any, _R]


class SharedQueries(SharedVisit[_T, _R], Generic[_T, _R]):
    """`SharedVisit` for a generator function that yields the `Row`s that it needs. Those of all calls are fetched
    together.

    For callers, it is an asynchronous function that returns what the generator returns. `func` is the synchronous
    version, which does not share queries.
    """

    max_calls_per_visit = 64
    """A visit of this many calls that share queries is shorter than one of 32 calls that do not.

    A query has this many variables. An old SQLite allows 999.
    """

    def __init__(self, steps: Callable[[_T], _Steps[_R]]) -> None:
        @functools.wraps(steps)
        def alone(argument: _T) -> _R:
            return _alone(steps(argument))

        super().__init__(alone)
        self._steps = steps

    def _fill(self, outcomes: list[_Outcome], arguments: list[Any], contexts: list[Context]) -> None:
        if len(arguments) > 1:
            _together(outcomes, list(map(self._steps, arguments)), contexts)
        else:
            super()._fill(outcomes, arguments, contexts)


def _alone(steps: _Steps[_R]) -> _R:
    try:
        while True:
            steps.send(None)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


def _together(outcomes: list[_Outcome], calls: Sequence[_Steps[Any]], contexts: Sequence[Context]) -> None:
    """Append the outcome of each call."""
    outcomes.extend([_UNDER_WAY] * len(calls))
    answers: dict[int, Any] = dict.fromkeys(range(len(calls)))
    while answers:
        rows = {
            index: row
            for index, answer in answers.items()
            if (row := _go_on(outcomes, index, calls[index], contexts[index], answer)) is not None
        }
        answers = dict(zip(rows, _answers(list(rows.values())), strict=True))


_UNDER_WAY: _Outcome = (None, None)


# An error refers to this frame and the frames below it. So only `outcomes`, of their variables, may refer to errors.
def _go_on(outcomes: list[_Outcome], index: int, steps: _Steps[Any], context: Context, answer: Any) -> Row | None:
    """Continue a call with `answer`. Return the row that it needs next, or note its outcome if it has ended."""
    try:
        return context.run(steps.send, answer)
    except StopIteration as end:
        outcomes[index] = end.value, None
    except Exception as error:
        outcomes[index] = None, error
    return None


def _answers(rows: Sequence[Row]) -> list[Any]:
    """Fetch rows with one query for each kind and database. Return what each call is sent, in the same order."""
    keys: dict[Any, dict[Hashable, None]] = {}
    for row in rows:
        keys.setdefault((row.fetch, row.database), {})[row.key] = None
    found = {(fetch, database): _fetched(fetch, database, list(keys)) for (fetch, database), keys in keys.items()}
    return [found[row.fetch, row.database].get(row.key) for row in rows]


def _fetched(fetch: Any, database: str, keys: list[Any]) -> Mapping[Any, Any]:
    try:
        return fetch(database, keys)  # type: ignore[no-any-return]
    except Exception:
        # Now each call fetches its row itself, and the one that has caused the error gets it.
        logger.debug("One query for %d rows failed; they are asked for one by one", len(keys), exc_info=True)
        return {}


def shared_database(manager: Any) -> str | None:
    """Return the database that `manager` reads from, or None if its queries must not be shared.

    Queries are shared only if the manager selects rows as Django's own does, and the database backend is one of
    Django's. Other backends, and wrappers around queries, may depend on the caller's context, such as those that give
    each tenant a schema.
    """
    kind = type(manager)
    if not (
        kind.get is Manager.get
        and kind.get_queryset is Manager.get_queryset
        and kind.using is Manager.using
        and kind._queryset_class is QuerySet
    ):
        return None
    connection = connections[manager.db]
    if not type(connection).__module__.startswith("django.") or connection.execute_wrappers:
        return None
    return connection.alias
