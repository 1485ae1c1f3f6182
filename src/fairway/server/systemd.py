"""Talking to systemd: tell it the state of a service of `Type=notify` (sd_notify(3)), and take over the sockets that it
has opened (sd_listen_fds(3)).
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import MutableMapping


def notify(state: str) -> None:
    """Send a state such as `READY=1`. Does nothing unless `NOTIFY_SOCKET` asks for it, and never raises."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")) or not hasattr(socket, "AF_UNIX"):
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as telling:
        telling.connect("\0" + path[1:] if path.startswith("@") else path)
        telling.send(state.encode())


_FIRST_DESCRIPTOR = 3


def handed_over(environment: MutableMapping[str, str], name: str = "") -> list[int]:
    """The descriptors of the sockets that systemd has opened for this process; with a `name`, only those called so.

    Removes the variables from the environment, because they do not hold for child processes.
    """
    pid, count, names = (environment.pop(f"LISTEN_{each}", "") for each in ("PID", "FDS", "FDNAMES"))
    if pid != str(os.getpid()) or not count.isdecimal():
        return []
    called = names.split(":")
    return [
        _FIRST_DESCRIPTOR + index
        for index in range(int(count))
        if not name or (index < len(called) and called[index] == name)
    ]
