"""Tells systemd the state of the server, if it is a service of `Type=notify` (sd_notify(3))."""

from __future__ import annotations

import contextlib
import os
import socket


def notify(state: str) -> None:
    """Send a state such as `READY=1`. Does nothing unless `NOTIFY_SOCKET` asks for it, and never raises."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")) or not hasattr(socket, "AF_UNIX"):
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as telling:
        telling.connect("\0" + path[1:] if path.startswith("@") else path)
        telling.send(state.encode())
