"""Breaks the reference cycles that exceptions from threads leave behind."""

from __future__ import annotations

from asgiref.sync import SyncToAsync

_TANGLED = (SyncToAsync.__call__.__code__, SyncToAsync.thread_handler.__code__)


def untangle(error: BaseException) -> None:
    """Break the reference cycle of an exception that was raised in a thread.

    The frame in which `sync_to_async` waited refers to the future, the future refers to the exception, and the
    exception's traceback refers to the frame. A frame that handled the exception refers to it as well. Without this,
    everything that these frames refer to would be kept until a garbage collection.
    """
    traceback = error.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_code in _TANGLED:
            traceback.tb_frame.clear()
        traceback = traceback.tb_next
