"""A process that has loaded the application, and forks workers.

It is a fresh interpreter, so that it loads the code as it is now. All workers share the memory of what it has loaded,
unless one of them writes to it. The collector would, so everything is collected and frozen before the first fork. The
nursery runs no event loop and no thread, and ends when the supervisor does.

After a fork, everything is in two processes, and some things must not be. A thread runs in only one of them, and both
would write to the same connection. If the application has made either while it was imported, it is not forked: the
nursery becomes a worker itself, and every other worker gets its own process, which loads the application again.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import socket
import stat
import sys
import threading
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

from fairway.server.workers.messages import Channel, Message

VARIABLE = "FAIRWAY_WORKERS_OF"
"""The environment variable that makes a process a nursery. It takes the variable out as it starts."""


@dataclass(frozen=True)
class Inheritance:
    """What a nursery gets from its supervisor: descriptors, and the number of slots on the board."""

    channel: int
    board: int
    slots: int
    sockets: Sequence[int]
    is_further: bool
    """Whether an earlier nursery has logged the warnings already."""

    @property
    def descriptors(self) -> list[int]:
        return [self.channel, self.board, *self.sockets]

    def to_environment(self) -> dict[str, str]:
        return {VARIABLE: json.dumps(asdict(self))}


def inheritance(environment: MutableMapping[str, str]) -> Inheritance | None:
    """What this process has inherited, if it is a nursery. Takes the variable away, so that no child is one."""
    text = environment.pop(VARIABLE, None)
    return None if text is None else Inheritance(**json.loads(text))


@dataclass(frozen=True)
class Assignment:
    """What makes this process a worker: its own channel, and its slot."""

    channel: Channel
    slot: int


def hindrance(inherited: Inheritance) -> str:
    """Why this process must not be forked, or "" if it may be."""
    if sys.platform == "darwin":
        return "macOS does not let processes that use its frameworks be forked"
    threads = [one.name for one in threading.enumerate() if one is not threading.main_thread()]
    if threads:
        return f"the application started threads while it was imported ({', '.join(threads[:3])})"
    if any(_is_socket(number) for number in _open_descriptors() if number > 2 and number not in inherited.descriptors):
        return "the application opened a connection while it was imported"
    return ""


def _open_descriptors() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc/self/fd")]
    except OSError:
        return []


def _is_socket(number: int) -> bool:
    try:
        return stat.S_ISSOCK(os.fstat(number).st_mode)
    except OSError:
        return False  # the descriptor of the listing itself, closed by now


def tend(
    inherited: Inheritance, reason: str = "", supervision: Mapping[str, Any] = MappingProxyType({})
) -> Assignment | None:
    """Fork workers as the supervisor asks.

    Returns an `Assignment` in each worker. In the nursery it returns None, when the supervisor is gone or needs it no
    more. `reason`: why the application must not be forked, if the caller knows one. `supervision`: the settings that
    concern the supervisor.
    """
    for number in inherited.descriptors:
        os.set_inheritable(number, False)  # processes that the application starts must not hold them
    channel = Channel(socket.socket(fileno=inherited.channel))
    reason = reason or hindrance(inherited)
    if not reason:
        gc.collect()
        gc.freeze()
    channel.send("loaded", hindrance=reason, supervision=dict(supervision))
    with _woken_by_children() as wake:
        while True:
            either: list[Any] = [channel, wake]
            readable, _, _ = select.select(either, [], [])
            if wake in readable:
                wake.recv(4096)
                _tell_of_children(channel)
            if channel not in readable:
                continue
            messages = channel.receive()
            if messages is None:
                return None
            for message in messages:
                if message["kind"] == "shut":
                    for number in inherited.sockets:
                        os.close(number)
                    continue
                assignment = _follow(channel, message)
                if assignment is not None:
                    channel.close()
                    return assignment


def _follow(channel: Channel, message: Message) -> Assignment | None:
    """Do what a message asks for. Returns an assignment in the process that is a worker now."""
    (end,) = message["descriptors"]
    if message["kind"] == "fork":
        pid = os.fork()
        if pid:
            os.close(end)
            return None
    own = Channel(socket.socket(fileno=end))
    own.send("begun", pid=os.getpid())
    return Assignment(own, message["slot"])


def _tell_of_children(channel: Channel) -> None:
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            channel.send("exited", pid=pid, status=os.waitstatus_to_exitcode(status))


@contextlib.contextmanager
def _woken_by_children() -> Iterator[socket.socket]:
    """Inside the block, the socket becomes readable when a child ends."""
    reading, writing = socket.socketpair()
    writing.setblocking(False)
    before = signal.signal(signal.SIGCHLD, lambda *_: None)
    number = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
    try:
        yield reading
    finally:
        signal.set_wakeup_fd(number)
        signal.signal(signal.SIGCHLD, before)
        reading.close()
        writing.close()
