"""The fresh interpreters of a supervisor: nurseries, and workers that must not be forked.

Each generation of the code has at most one nursery. It forks workers, or (if the generation may not be forked) becomes
one of them, and is no nursery after that. A process is ended once it is no nursery and has no worker.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from signal import Signals
from socket import socket

from fairway.server.app_import import current_directory
from fairway.server.workers import WORKERS_VARIABLE
from fairway.server.workers.board import Board
from fairway.server.workers.messages import Channel, channel_pair
from fairway.server.workers.nursery import Inheritance


@dataclass(eq=False)
class Process:
    """A fresh interpreter. `workers` are those that it has forked, has become, or will begin when it has loaded."""

    generation: int
    popen: subprocess.Popen[bytes]
    channel: Channel
    workers: list[Worker] = field(default_factory=list)
    is_loaded: bool = False


@dataclass(eq=False)
class Worker:
    """`process` forks the worker, or becomes it. `channel` is None until then. `is_silent`: its channel has ended."""

    number: int
    slot: int
    process: Process
    channel: Channel | None = None
    pid: int | None = None
    is_silent: bool = False

    def signal(self, number: Signals) -> None:
        """Send the signal, if the worker has begun and lives."""
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


class Interpreters:
    """Starts and ends them. `command` is what each runs, `on_start` is called with each new one."""

    def __init__(
        self,
        command: Sequence[str],
        sockets: Sequence[socket],
        board: Board,
        on_start: Callable[[Process], object],
    ) -> None:
        self.running: list[Process] = []
        self._command = list(command)
        self._directory = _directory()
        self._sockets = sockets
        self._board = board
        self._on_start = on_start
        self._nurseries: dict[int, Process] = {}
        self._unforked: set[int] = set()

    def start_nursery(self, generation: int, wanted: int, is_further: bool) -> None:
        """Load this generation in a new process. `is_further`: see `Inheritance`. Raises `OSError`."""
        self._nurseries[generation] = self._start(generation, wanted, is_further)

    def for_worker(self, number: int, slot: int, generation: int, wanted: int) -> Worker:
        """A worker of a process that has loaded this generation, or that loads it from now on. Raises `OSError`."""
        process = self._nurseries.pop(generation, None) or self._start(generation, wanted, is_further=True)
        if self.may_fork(generation):
            self._nurseries[generation] = process
        worker = Worker(number, slot, process)
        process.workers.append(worker)
        return worker

    def assign(self, worker: Worker) -> Channel:
        """Tell a process that has loaded the application to fork this worker, or to become it. Return our end of the
        worker's channel.
        """
        channel, end = channel_pair()
        worker.channel = channel
        kind = "fork"
        if not self.may_fork(worker.process.generation):
            kind = "become"
            worker.pid = worker.process.popen.pid
        worker.process.channel.send(kind, [end.fileno()], slot=worker.slot)
        end.close()
        return channel

    def may_fork(self, generation: int) -> bool:
        """Whether this generation may be forked, as far as is known."""
        return generation not in self._unforked

    def must_not_fork(self, generation: int) -> None:
        """Give each worker of this generation a process of its own from now on."""
        self._unforked.add(generation)

    def retire(self, generation: int) -> None:
        """Start no more workers from this generation's nursery. The process stays until its last worker has ended."""
        process = self._nurseries.pop(generation, None)
        if process is not None:
            self._end_if_useless(process)

    def retire_all(self) -> None:
        """Retire all nurseries, and make all processes close the listening sockets."""
        for process in self.running:
            process.channel.send("shut")
        for generation in list(self._nurseries):
            self.retire(generation)

    def without(self, worker: Worker) -> None:
        """The worker has ended."""
        worker.process.workers.remove(worker)
        self._end_if_useless(worker.process)

    def take_ended(self) -> list[Process]:
        """The processes that have ended, with their exit codes in `popen`. Each is returned once, for the caller to
        close its channel.
        """
        ended = [one for one in self.running if one.popen.poll() is not None]
        for process in ended:
            self.running.remove(process)
            if self._nurseries.get(process.generation) is process:
                del self._nurseries[process.generation]
        return ended

    def close(self) -> None:
        """Kill all processes that are left."""
        for process in self.running:
            process.popen.kill()
            process.popen.wait()
            process.channel.close()

    def _start(self, generation: int, wanted: int, is_further: bool) -> Process:
        channel, end = channel_pair()
        inherited = Inheritance(
            channel=end.fileno(),
            board=self._board.descriptor,
            slots=self._board.slots,
            sockets=[one.fileno() for one in self._sockets],
            is_further=is_further,
        )
        try:
            popen = subprocess.Popen(
                self._command,
                env={**os.environ, WORKERS_VARIABLE: str(wanted), **inherited.to_environment()},
                cwd=self._directory,
                pass_fds=inherited.descriptors,
                start_new_session=True,
            )
        except OSError:
            channel.close()
            raise
        finally:
            end.close()
        process = Process(generation, popen, channel)
        self.running.append(process)
        self._on_start(process)
        return process

    def _end_if_useless(self, process: Process) -> None:
        if process in self.running and not process.workers and process not in self._nurseries.values():
            process.popen.terminate()


def command_of(arguments: Sequence[str]) -> list[str]:
    """The command that starts an interpreter like this one, and calls `fairway` with the same arguments.

    Raises `AppImportError` if the current directory has been removed.
    """
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    # A module of the project must not hide one of Python's, unless it does so in this interpreter too.
    if not sys.flags.safe_path and sys.path[0] not in ("", current_directory()):
        flags.append("-P")
    return [sys.executable, *flags, "-m", "fairway", *arguments]


def _directory() -> str | None:
    """The working directory by its given path: if a deployment moves a symbolic link, it leads to the new release."""
    given = os.environ.get("PWD", "")
    with contextlib.suppress(OSError):
        if os.path.isabs(given) and os.path.samefile(given, "."):
            return given
    return None
