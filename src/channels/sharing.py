"""Calls of many connections that come together: one visit to the database's thread, and one query for all.

`SharedVisit` takes a function of one argument, and calls it for each connection during one visit to the thread.
`SharedQueries` also fetches together what the calls need. It takes a generator function, whose calls take turns:

* A call yields a `Row`, which names the row that it needs, and waits for it.
* When every call waits or has ended, one query fetches all rows of one kind from one database.
* Each call is sent what was found for its own key, and nothing else, and goes on. Its return value is the result.

A call is sent `None` where nothing was fetched: it is the only call, its key was not answered, or the query failed. It
then asks for the row itself, in the general way, and gets its own error. So no call depends on another: sharing changes
how often the database is asked, never what it answers.
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

# Short of what anybody would notice, even if passes are long for another reason.
MAX_PASSES = 8

logger = logging.getLogger("channels.sharing")


# Before 3.11.3, Python finds no type variable within the brackets of parameters: `Generic` names both.
class SharedVisit(DatabaseSyncToAsync[[_T], _R], Generic[_T, _R]):
    """`database_sync_to_async` for a function of one argument that many connections call at once.

    Calls that come while the thread is busy share the next visit to it, and with that one look at the database's
    connections: a hop, and a new connection where none is kept, cost more than most queries. Each call runs in the
    context of its caller; what it raises is its own; cancelling one does not disturb the others.
    """

    max_calls_per_visit = 32
    """Synchronous consumers, among others, wait for the same thread."""

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
        # The visit has a task of its own, because it serves other calls when the first has long been cancelled.
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
        """Wait while each pass of the loop brings more calls, some passes long, and until they fill a visit.

        In a storm each pass brings a few connections, and a visit costs as much as the calls of many.
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
            # The visit to the thread failed as a whole.
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


class Row(NamedTuple):
    """The row that a call needs next.

    `fetch` is called with the database and the keys of all calls that named the same `fetch` and `database`. It
    returns what those calls are to be sent, by key. Keys that it leaves out are asked for by the calls themselves.
    """

    fetch: Callable[[str, Sequence[Any]], Mapping[Any, Any]]
    database: str
    key: Hashable


_Steps: TypeAlias = Generator[Row, Any, _R]


class SharedQueries(SharedVisit[_T, _R], Generic[_T, _R]):
    """`SharedVisit` for a generator function that yields the `Row`s it needs: those of all calls are fetched at once.

    To its callers it is an asynchronous function that returns what the generator returns. `func` is the synchronous
    one, which fetches nothing together with others.
    """

    max_calls_per_visit = 64
    """A visit that shares its queries is shorter than one of 32 calls that do not share; if it cannot share, it is
    twice as long. A query has this many variables; an old SQLite takes 999.
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


# An error keeps this frame and those below it: no variable of theirs but `outcomes` may lead to it.
def _go_on(outcomes: list[_Outcome], index: int, steps: _Steps[Any], context: Context, answer: Any) -> Row | None:
    """Let a call go on with `answer`. Return the row that it needs next, or note its outcome if it has ended."""
    try:
        return context.run(steps.send, answer)
    except StopIteration as end:
        outcomes[index] = end.value, None
    except Exception as error:
        outcomes[index] = None, error
    return None


def _answers(rows: Sequence[Row]) -> list[Any]:
    """Fetch rows, in one query for each kind and database; what each call is to be sent, in the same order."""
    keys: dict[Any, dict[Hashable, None]] = {}
    for row in rows:
        keys.setdefault((row.fetch, row.database), {})[row.key] = None
    found = {(fetch, database): _fetched(fetch, database, list(keys)) for (fetch, database), keys in keys.items()}
    return [found[row.fetch, row.database].get(row.key) for row in rows]


def _fetched(fetch: Any, database: str, keys: list[Any]) -> Mapping[Any, Any]:
    try:
        return fetch(database, keys)  # type: ignore[no-any-return]
    except Exception:
        # Each call now asks for itself, and the one at fault gets the error.
        logger.debug("One query for %d rows failed; they are asked for one by one", len(keys), exc_info=True)
        return {}


def shared_database(manager: Any) -> str | None:
    """Return the database that `manager` would read from now, or `None` if a query of it is not to be shared.

    Shared are queries of managers that choose rows as Django's do, on backends of Django's own: another backend, and
    code that is wrapped around queries, may depend on the caller's context, as those do that give tenants a schema.
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
