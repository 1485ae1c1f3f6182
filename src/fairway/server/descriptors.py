"""What the system grants this process: file descriptors, of which some are reserved for the application's own files and
databases, and processors.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
from pathlib import Path

from fairway.server.limits import ConfigurationError

if sys.platform != "win32":
    import fcntl
    import resource

_WITHOUT_LIMIT = 2**31

_LEAST = 32
"""With fewer descriptors, a server cannot even open what it needs before the first connection."""

MOST_ROOM = 1 << 16
"""Descriptors for which the system makes room in advance: half a megabyte of its memory."""


def raise_limit() -> None:
    """Raise the soft limit of this process, often 1,024, to the hard one. The low default is for other programs.

    Raises `ConfigurationError` if that is too few to serve anybody.
    """
    if sys.platform != "win32":
        _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        # macOS reports a hard limit that it does not grant.
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if _limit() < _LEAST:
        raise ConfigurationError(f"this process may open {_limit()} files only: allow at least {_LEAST} (ulimit -n)")


def make_room() -> None:
    """Let the system enlarge its table of this process's descriptors now, as far as it may come to that.

    Linux begins with 64 or 256 places and doubles them whenever they are full. If the process has threads, the call
    that meets a full table waits until all processors have let go of the old one (`expand_fdtable` in `fs/file.c`):
    accepting the 257th, 513th, ... connection would hold up everybody for 5 to 25 ms.
    """
    if sys.platform != "win32":
        with contextlib.suppress(OSError), open(os.devnull, "rb") as nothing:
            os.close(fcntl.fcntl(nothing, fcntl.F_DUPFD_CLOEXEC, min(_limit(), MOST_ROOM) - 1))


def processors() -> int:
    """Return how many processors this process may use: those it may run on, or fewer if its control group says so."""
    try:
        number = len(os.sched_getaffinity(0))
    except AttributeError:
        number = os.cpu_count() or 1
    quota = _quota()
    return number if quota == math.inf else max(1, min(number, math.ceil(quota)))


def _quota() -> float:
    """How many processors the control group may keep busy (cgroup v2, then v1). Infinite without a bound."""
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return math.inf if quota == "max" else int(quota) / int(period)
    with contextlib.suppress(OSError, ValueError):
        quota, period = (Path(f"/sys/fs/cgroup/cpu/cpu.cfs_{one}_us").read_text() for one in ("quota", "period"))
        return math.inf if int(quota) < 0 else int(quota) / int(period)
    return math.inf


def reserve() -> int:
    """Return how many descriptors are not for connections: an eighth, at least 64, but never more than a quarter."""
    limit = _limit()
    return max(limit // 8, min(64, limit // 4))


def for_connections() -> int:
    """Return how many connections fit beside the descriptors that are open now and the reserve."""
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
