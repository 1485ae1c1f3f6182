"""Reference cycles that code in threads leaves behind."""

from __future__ import annotations

from asgiref.sync import SyncToAsync

_TANGLED = (SyncToAsync.__call__.__code__, SyncToAsync.thread_handler.__code__)


def untangle(error: BaseException) -> None:
    """Cut the cycle that an exception from a thread leaves. It would keep everything that it refers to until a
    collection.

    The frame in which `sync_to_async` waited refers to the future, the future to the exception, and that, by its
    traceback, to the frame. A frame that ran while the exception was being handled refers to it as well.
    """
    traceback = error.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_code in _TANGLED:
            traceback.tb_frame.clear()
        traceback = traceback.tb_next
