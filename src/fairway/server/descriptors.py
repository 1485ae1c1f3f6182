"""Descriptors: how many there are for connections, and what is kept for the application's own files and databases."""

from __future__ import annotations

import os
import sys

if sys.platform != "win32":
    import resource

_WITHOUT_LIMIT = 2**31


def raise_limit() -> None:
    """Raise the soft limit of this process, often 1,024, to the hard one: it is a default for other programs."""
    if sys.platform != "win32":
        _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):
            return  # macOS names a hard limit that it does not grant


def reserve() -> int:
    """Return how many descriptors connections leave free: an eighth, at least 64, but never more than a quarter."""
    limit = _limit()
    return max(limit // 8, min(64, limit // 4))


def for_connections() -> int:
    """Return how many connections there may be, beside what is open now and the reserve."""
    return max(1, _limit() - _open_now() - reserve())


def _limit() -> int:
    if sys.platform == "win32":
        return _WITHOUT_LIMIT
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return _WITHOUT_LIMIT if soft == resource.RLIM_INFINITY else soft


def _open_now() -> int:
    try:
        return len(os.listdir("/dev/fd"))
    except OSError:
        return 16
