"""What systemd is told and hands over: how the server does, where it is a service of `Type=notify` (sd_notify(3)), and
sockets that it has opened for it (sd_listen_fds(3)).
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
    """The descriptors of the sockets that were opened for this process, those of one `name` only if it is given; none
    if there are none. What says so is taken out of the environment: it does not hold for children.
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
