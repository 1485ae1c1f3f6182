"""The messages between supervisor, nursery and workers: lines of JSON over a pair of connected sockets. They may carry
descriptors.

| from | to | message | |
|---|---|---|---|
| nursery | supervisor | `loaded` | the application is loaded; `hindrance`: why it must not be forked, or "" |
| | | | `supervision`: the settings that concern the supervisor |
| supervisor | nursery | `fork` | fork a worker for `slot`; carries the worker's end of a channel |
| supervisor | nursery | `become` | the same, but become that worker instead of forking |
| supervisor | nursery | `shut` | the server stops: close the listening sockets, wait for the workers |
| nursery | supervisor | `exited` | the worker `pid` has ended; `status` is as in `subprocess` |
| worker | supervisor | `begun` | the worker is the process `pid` |
| worker | supervisor | `ready` | the worker accepts connections at `addresses`, and may take `seconds` to leave |
| supervisor | worker | `tell` | report your figures |
| worker | supervisor | `figures` | the worker's `figures`: see `fairway.server.management` |
| supervisor | worker | `leave` | end, because another worker takes your place; ask your clients to reconnect |
| supervisor | worker | `abort` | end at once, and finish nothing |

A process that ends closes its sockets, so each side notices when the other is gone.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Sequence
from typing import Any

_READ_BYTES = 65536
_MOST_DESCRIPTORS = 8

Message = dict[str, Any]
"""The fields of a message: its `kind`, its own fields, and the `descriptors` that came with it."""


class ChannelBroken(Exception):
    """The bytes are not a message: something else writes into the channel."""


class Channel:
    """One end of a channel. Wait until the socket is readable before you call `receive`."""

    def __init__(self, end: socket.socket) -> None:
        self.socket = end
        self._rest = b""
        self._descriptors: list[int] = []

    def fileno(self) -> int:
        return self.socket.fileno()

    def send(self, kind: str, descriptors: Sequence[int] = (), **fields: Any) -> bool:
        """Send a message. False if nobody is there to read it."""
        line = json.dumps({"kind": kind, "with": len(descriptors), **fields}).encode() + b"\n"
        try:
            sent = socket.send_fds(self.socket, [line], descriptors) if descriptors else 0
            self.socket.sendall(line[sent:])
        except OSError:
            return False
        return True

    def receive(self) -> list[Message] | None:
        """Read once. Return the messages that are complete now, or None if the other end has gone."""
        try:
            data, descriptors, _, _ = socket.recv_fds(self.socket, _READ_BYTES, _MOST_DESCRIPTORS)
        except BlockingIOError:
            return []
        except OSError:
            return None
        for number in descriptors:
            os.set_inheritable(number, False)
        self._descriptors += descriptors
        if not data:
            return None
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _READ_BYTES:
            raise ChannelBroken(f"a line of more than {_READ_BYTES} bytes")
        return [self._message(line) for line in lines]

    def _message(self, line: bytes) -> Message:
        try:
            message = json.loads(line)
            count = message["with"]
            message["kind"]
        except (ValueError, KeyError, TypeError):
            raise ChannelBroken(f"not a message: {line[:80]!r}") from None
        message["descriptors"], self._descriptors = self._descriptors[:count], self._descriptors[count:]
        return dict(message)

    def close(self) -> None:
        self.socket.close()


def channel_pair() -> tuple[Channel, socket.socket]:
    """Return one end to keep, and the socket of the other end to hand over."""
    ours, theirs = socket.socketpair()
    return Channel(ours), theirs
