"""Closes the database connections that a Django request leaves open.

With `CONN_MAX_AGE`, Django keeps a thread's database connections for the thread's next request. Under ASGI, every
request has its own thread (asgiref's `ThreadSensitiveContext`), and the thread ends with the request. So the kept
connections can never be used again, and would stay open until a garbage collection. Therefore the thread closes them
as its last action, however the request has ended. Django's signal `request_finished` is not enough: it may not be sent
if the client leaves while the view runs.
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
    """Let the thread of the current request close its connections when it ends. Receiver of `connection_created`."""
    context = SyncToAsync.thread_sensitive_context.get(None)
    executor = None if context is None else SyncToAsync.context_to_thread_executor.get(context)
    if type(executor) is ThreadPoolExecutor:
        # asgiref makes these executors and shuts them down. Replacing `shutdown` in the instance would make a reference
        # cycle with the executor.
        executor.__class__ = ClosingExecutor


connection_created.connect(close_with_thread, dispatch_uid="fairway.leftovers")
