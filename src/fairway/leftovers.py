"""Closes what Django's requests leave open: database connections that are kept for a request that will not come.

With `CONN_MAX_AGE`, Django keeps the connections of a thread for the thread's next request. Under ASGI a request has a
thread to itself (asgiref's `ThreadSensitiveContext`), which ends with it: what it keeps can never be used again, and
waits for a garbage collection. So the thread closes them as the last thing that it does, however the request has ended.
Django's signal `request_finished` would not do: a view whose client has left may end without it.
"""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor

from asgiref.sync import SyncToAsync
from django.db import connections
from django.db.backends.signals import connection_created


class ClosingExecutor(ThreadPoolExecutor):
    """An executor of one thread, which closes its database connections before it ends."""

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        with contextlib.suppress(RuntimeError):  # it was shut down before
            self.submit(connections.close_all)
        super().shutdown(wait, cancel_futures=cancel_futures)


def close_with_thread(**kwargs: object) -> None:
    """Have the connections of a request's own thread closed at its end. Receiver of `connection_created`."""
    context = SyncToAsync.thread_sensitive_context.get(None)
    executor = None if context is None else SyncToAsync.context_to_thread_executor.get(context)
    if type(executor) is ThreadPoolExecutor:
        # asgiref makes these executors and shuts them down. A bound method here would be in a cycle with its executor.
        executor.__class__ = ClosingExecutor


connection_created.connect(close_with_thread, dispatch_uid="fairway.leftovers")
