"""The process that has the listening sockets, and starts and watches the workers.

It loads nothing of the application, and runs no event loop. It waits for signals and for messages from nurseries and
workers, lets the `Crew` decide, and acts. To systemd, a container or a terminal, this process is the server.

| signal | what happens |
|---|---|
| SIGTERM, SIGINT, SIGQUIT | all workers stop: gracefully the first time, at once the second; the third kills them |
| SIGHUP | the application is loaded anew, then worker after worker is replaced; at a terminal, as SIGTERM |
| SIGTTIN, SIGTTOU | one worker more, one less |

A nursery and its workers belong to a session of their own. So a Ctrl-C reaches the supervisor only, which stops them.
"""

from __future__ import annotations

import contextlib
import math
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from fairway.logs import get_logger
from fairway.server import systemd
from fairway.server.workers import WORKERS_VARIABLE, crew
from fairway.server.workers.board import Board, make_board
from fairway.server.workers.crew import Crew, State
from fairway.server.workers.messages import Channel, ChannelBroken, Message, channel_pair
from fairway.server.workers.nursery import Inheritance
from fairway.server.workers.watch import Watch

logger = get_logger("fairway.server")

MOST_WORKERS = 256

_STOPPING = [getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGQUIT") if hasattr(signal, name)]
_OTHERS = [getattr(signal, name) for name in ("SIGHUP", "SIGTTIN", "SIGTTOU", "SIGCHLD") if hasattr(signal, name)]
_IGNORED = [getattr(signal, name) for name in ("SIGUSR1", "SIGUSR2", "SIGPIPE") if hasattr(signal, name)]


@dataclass(eq=False)
class _Process:
    """A fresh interpreter: a nursery, or a future worker. `waiting` workers begin when it has loaded."""

    generation: int
    popen: subprocess.Popen[bytes]
    channel: Channel
    waiting: list[_Worker] = field(default_factory=list)
    is_loaded: bool = False


@dataclass(eq=False)
class _Worker:
    """`process` is the nursery that forks the worker, or that becomes it. `is_silent`: its channel has ended."""

    number: int
    slot: int
    process: _Process
    channel: Channel | None = None
    pid: int | None = None
    is_silent: bool = False


@dataclass(frozen=True, slots=True)
class _Launcher:
    """Starts interpreters with the same command, directory, sockets and board."""

    command: list[str]
    directory: str | None
    sockets: Sequence[socket.socket]
    board: Board

    def start(self, generation: int, wanted: int, is_further: bool) -> _Process:
        """Start one. Raises `OSError`."""
        channel, end = channel_pair()
        inherited = Inheritance(
            channel=end.fileno(),
            board=self.board.descriptor,
            slots=self.board.slots,
            sockets=[one.fileno() for one in self.sockets],
            is_further=is_further,
        )
        popen = subprocess.Popen(
            self.command,
            env={**os.environ, WORKERS_VARIABLE: str(wanted), **inherited.to_environment()},
            cwd=self.directory,
            pass_fds=inherited.descriptors,
            start_new_session=True,
        )
        end.close()
        return _Process(generation, popen, channel)


class Supervisor:
    """`command` starts an interpreter that calls `fairway` with the same arguments. The caller closes the sockets."""

    def __init__(
        self,
        command: Sequence[str],
        sockets: Sequence[socket.socket],
        workers: int,
        on_ready: Callable[[list[str]], object],
    ) -> None:
        self._sockets = list(sockets)
        self._board = make_board(2 * workers + 2)
        self._crew = Crew(workers, self._board.slots)
        self._on_ready = on_ready
        self._was_ready = False
        self._selector = selectors.DefaultSelector()
        self._generation = 1
        self._loading: int | None = 1
        self._nurseries: dict[int, _Process] = {}
        self._processes: list[_Process] = []
        self._workers: dict[int, _Worker] = {}
        self._launcher = _Launcher(list(command), _directory(), self._sockets, self._board)
        self._watch = Watch(self._board, self._crew, self._workers)
        self._spawning: set[int] = set()
        self._exit_code: int | None = None

    def run(self) -> int:
        """Serve until a signal stops it, and return the exit code."""
        with _woken_by_signals() as wake:
            self._selector.register(wake, selectors.EVENT_READ, lambda: self._on_signal(wake))
            self._nurseries[1] = self._interpreter(1)
            try:
                while self._exit_code is None:
                    for key, _ in self._selector.select(self._timeout()):
                        key.data()
                    self._see_who_has_gone()
                    if self._loading != 1 or self._crew.is_stopping:
                        self._decide()
                    for number in self._watch.look(time.monotonic()):
                        self._end_hanging(self._workers[number])
            finally:
                self._close()
        return self._exit_code

    # What is reported -----------------------------------------------------------------------------------------

    def _on_signal(self, wake: socket.socket) -> None:
        for number in wake.recv(4096):
            if number in _STOPPING or (number == signal.SIGHUP and _is_at_a_terminal()):
                self._stop()
            elif number == signal.SIGHUP:
                self._renew()
            elif number in (signal.SIGTTIN, signal.SIGTTOU):
                self._resize(1 if number == signal.SIGTTIN else -1)

    def _nursery_says(self, process: _Process) -> None:
        messages = self._received(process.channel)
        for message in messages or ():
            if message["kind"] == "loaded":
                self._loaded(process, message)
            elif message["kind"] == "exited":
                worker = next((one for one in self._workers.values() if one.pid == message["pid"]), None)
                if worker is not None:
                    self._ended(worker, message["status"])

    def _worker_says(self, worker: _Worker, channel: Channel) -> None:
        messages = self._received(channel)
        if messages is None:
            worker.is_silent = True  # its nursery will report how it has ended
        for message in messages or ():
            member = self._crew.members.get(worker.number)
            if message["kind"] == "begun":
                worker.pid = message["pid"]
                if member is not None and member.state is State.LEAVING:
                    self._signal(worker, signal.SIGTERM)
            elif message["kind"] == "figures":
                self._watch.heard(worker.number, message["figures"])
            elif message["kind"] == "ready" and member is not None:
                self._crew.ready(worker.number, message["seconds"])
                logger.debug("worker %s is ready", worker.pid)
                self._see_whether_all_are_ready(message["addresses"])

    def _received(self, channel: Channel) -> list[Message] | None:
        try:
            messages = channel.receive()
        except ChannelBroken as error:
            logger.error("a message from one of this server's processes is broken: %s", error)
            messages = None
        if messages is None:
            self._selector.unregister(channel)
        return messages

    def _see_who_has_gone(self) -> None:
        for process in [one for one in self._processes if one.popen.poll() is not None]:
            self._processes.remove(process)
            self._process_ended(process, process.popen.returncode)
        for worker in [one for one in self._workers.values() if one.is_silent and one.process not in self._processes]:
            self._ended(worker, None)

    def _timeout(self) -> float | None:
        deadline = min(self._crew.next_deadline(), self._watch.next_look())
        return None if deadline == math.inf else max(0.0, deadline - time.monotonic())

    def _see_whether_all_are_ready(self, addresses: list[str]) -> None:
        if len(self._crew.of(State.READY, generation=self._crew.generation)) < self._crew.wanted:
            return
        if not self._was_ready:
            self._was_ready = True
            self._on_ready(addresses)
            systemd.notify("READY=1")
        logger.info("all %d workers are ready", self._crew.wanted)

    # What follows from it -------------------------------------------------------------------------------------

    def _loaded(self, process: _Process, message: Message) -> None:
        process.is_loaded = True
        generation, hindrance = process.generation, message["hindrance"]
        if hindrance and generation not in self._spawning:
            self._spawning.add(generation)
            logger.warning("workers are not forked, so that each loads the application itself: %s", hindrance)
        if self._loading == generation:
            self._loading = None
            if generation > 1:
                self._watch.follow_if_possible(message["supervision"])
                self._crew.renew(generation)
            else:
                self._watch.follow(message["supervision"])
        while process.waiting:
            self._assign(process.waiting.pop(0))

    def _process_ended(self, process: _Process, status: int) -> None:
        """A nursery has ended, or a worker that was not forked."""
        with contextlib.suppress(KeyError):
            self._selector.unregister(process.channel)
        process.channel.close()
        if self._nurseries.get(process.generation) is process:
            del self._nurseries[process.generation]
        if self._loading == process.generation and not self._crew.is_stopping:
            self._loading = None
            if process.generation == 1:
                self._exit_code = status if status > 0 else 1
            else:
                logger.error("the application could not be loaded anew: the workers stay as they are")
        for worker in [one for one in self._workers.values() if one.process is process]:
            if worker in process.waiting or worker.pid == process.popen.pid:
                self._ended(worker, status)

    def _ended(self, worker: _Worker, status: int | None) -> None:
        del self._workers[worker.number]
        if worker.channel is not None:
            with contextlib.suppress(KeyError):
                self._selector.unregister(worker.channel)
            worker.channel.close()
        self._board.clear(worker.slot)
        self._watch.forget(worker.number)
        self._end_if_useless(worker.process)
        is_news = not self._crew.is_stopping and self._crew.members[worker.number].state is not State.LEAVING
        delay = self._crew.ended(worker.number, status, time.monotonic())
        self._watch.restarts += delay is not None
        if is_news:
            soon = "" if delay is None else f"; another one starts {f'in {delay:.1f} s' if delay else 'now'}"
            logger.error("worker %s %s%s", worker.pid, _how(status), soon)

    def _renew(self) -> None:
        if self._crew.is_stopping or self._loading is not None:
            logger.info("SIGHUP: the application is being loaded already")
            return
        logger.info("SIGHUP: loading the application anew")
        try:
            nursery = self._interpreter(self._generation + 1)
        except OSError as error:
            logger.error("the application could not be loaded anew: %s: the workers stay as they are", error)
            return
        self._generation += 1
        self._loading = self._generation
        self._nurseries[self._generation] = nursery

    def _resize(self, by: int) -> None:
        if self._crew.resize(by):
            logger.info("%d workers are wanted now", self._crew.wanted)
        else:
            logger.warning("there are %d workers, and cannot be %s", self._crew.wanted, "more" if by > 0 else "fewer")

    def _stop(self) -> None:
        if not self._crew.is_stopping:
            logger.info("stopping; once more to stop at once")
            systemd.notify("STOPPING=1")
            # Nurseries hold the listening sockets too. They have to close them, or clients would connect and never be
            # served.
            for listening in self._sockets:
                listening.close()
            for process in self._processes:
                process.channel.send("shut")
            for generation in list(self._nurseries):
                self._end_nursery(generation)
        self._crew.stop()

    # What is done ---------------------------------------------------------------------------------------------

    def _decide(self) -> None:
        for action in self._crew.decide(time.monotonic()):
            match action:
                case crew.Start(number):
                    self._start(number)
                case crew.Leave(number, is_replaced):
                    self._ask_to_leave(self._workers[number], is_replaced)
                case crew.Kill(number):
                    self._signal(self._workers[number], signal.SIGKILL)
                    logger.error("worker %s did not end in time: killed", self._workers[number].pid)
                case crew.Abandon(generation):
                    logger.error("the new version of the application does not start: the workers stay as they are")
                    self._end_nursery(generation)
                case crew.Retire(generation):
                    self._end_nursery(generation)
                case crew.Exit(code):
                    self._exit_code = code

    def _start(self, number: int) -> None:
        member = self._crew.members[number]
        generation = member.generation
        # A process that must not be forked becomes a worker itself, and is no nursery after that.
        process = self._nurseries.pop(generation, None) or self._interpreter(generation)
        if generation not in self._spawning:
            self._nurseries[generation] = process
        worker = self._workers[number] = _Worker(number, member.slot, process)
        if process.is_loaded:
            self._assign(worker)
        else:
            process.waiting.append(worker)

    def _assign(self, worker: _Worker) -> None:
        process = worker.process
        channel, end = channel_pair()
        worker.channel = channel
        self._selector.register(channel, selectors.EVENT_READ, lambda: self._worker_says(worker, channel))
        kind = "fork"
        if process.generation in self._spawning:
            kind = "become"
            worker.pid = process.popen.pid
        process.channel.send(kind, [end.fileno()], slot=worker.slot)
        end.close()

    def _ask_to_leave(self, worker: _Worker, is_replaced: bool) -> None:
        if worker.channel is None:
            worker.process.waiting.remove(worker)
            self._ended(worker, None)
        elif is_replaced:
            worker.channel.send("leave")
        else:
            self._signal(worker, signal.SIGTERM)

    def _end_hanging(self, worker: _Worker) -> None:
        logger.error("worker %s hangs, and its event loop does not turn: killed", worker.pid)
        self._signal(worker, signal.SIGKILL)
        self._board.clear(worker.slot)  # so that it does not count as hanging again

    def _signal(self, worker: _Worker, number: signal.Signals) -> None:
        if worker.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker.pid, number)

    def _interpreter(self, generation: int) -> _Process:
        is_further = self._was_ready or bool(self._processes)
        process = self._launcher.start(generation, self._crew.wanted, is_further)
        self._processes.append(process)
        self._selector.register(process.channel, selectors.EVENT_READ, lambda: self._nursery_says(process))
        return process

    def _end_nursery(self, generation: int) -> None:
        """Fork nothing more from this nursery. It stays until its last worker has ended."""
        process = self._nurseries.pop(generation, None)
        if process is not None:
            self._end_if_useless(process)

    def _end_if_useless(self, process: _Process) -> None:
        is_used = process in self._nurseries.values() or any(one.process is process for one in self._workers.values())
        if process in self._processes and not is_used:
            process.popen.terminate()

    def _close(self) -> None:
        for process in self._processes:
            process.popen.kill()
            process.popen.wait()
            process.channel.close()
        self._watch.close()
        self._selector.close()
        self._board.close()


@contextlib.contextmanager
def _woken_by_signals() -> Iterator[socket.socket]:
    """Inside the block, the socket becomes readable when a signal arrives. Read the number of the signal from it."""
    reading, writing = socket.socketpair()
    writing.setblocking(False)
    handlers: dict[int, Any] = dict.fromkeys([*_STOPPING, *_OTHERS], lambda *_: None)
    handlers |= dict.fromkeys(_IGNORED, signal.SIG_IGN)
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    woken_before = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
    try:
        yield reading
    finally:
        signal.set_wakeup_fd(woken_before)
        for number, handler in before.items():
            signal.signal(number, handler)
        reading.close()
        writing.close()


def command_of(arguments: Sequence[str]) -> list[str]:
    """The command that starts an interpreter like this one, and calls `fairway` with the same arguments."""
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    # A module of the project must not hide one of Python's, unless it does so in this interpreter too.
    if not sys.flags.safe_path and sys.path[0] not in ("", os.getcwd()):
        flags.append("-P")
    return [sys.executable, *flags, "-m", "fairway", *arguments]


def _directory() -> str | None:
    """The working directory by its given path: if a deployment moves a symbolic link, it leads to the new release."""
    given = os.environ.get("PWD", "")
    with contextlib.suppress(OSError):
        if os.path.isabs(given) and os.path.samefile(given, "."):
            return given
    return None


def _how(status: int | None) -> str:
    if status is None:
        return "has gone"
    if status < 0:
        return f"was ended by {signal.Signals(-status).name}"
    return f"ended with exit code {status}"


def _is_at_a_terminal() -> bool:
    return any(map(os.isatty, range(3)))
