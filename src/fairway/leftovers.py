"""What Django's requests leave open: database connections that are kept for a request that will not come.

With `CONN_MAX_AGE`, Django keeps the connections of a thread for the thread's next request. Under ASGI a request has a
thread to itself (asgiref's `ThreadSensitiveContext`), which ends with it: what it keeps can never be used again, and
waits for a garbage collection. So those are closed when Django says that the request has finished.
"""

from __future__ import annotations

import threading
from typing import Any

from asgiref.sync import SyncToAsync
from django.core.signals import request_finished
from django.db import connections


def close_connections_of_request(**kwargs: Any) -> None:
    """Close the connections of a thread that only the request at hand uses; leave those of other threads.

    Receiver of `request_finished`, which is sent in the thread that the request's synchronous code ran in.
    """
    context = SyncToAsync.thread_sensitive_context.get(None)
    executor = None if context is None else SyncToAsync.context_to_thread_executor.get(context)
    # Elsewhere in such a context runs who has called asynchronous code from a thread, a test for example.
    if executor is None or threading.current_thread() not in executor._threads:  # type: ignore[attr-defined]
        return
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close()


request_finished.connect(close_connections_of_request, dispatch_uid="fairway.leftovers")
