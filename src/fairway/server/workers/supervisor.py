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
import time
from collections.abc import Callable, Container, Iterator, Sequence
from typing import Any

from fairway.logs import get_logger
from fairway.server import systemd
from fairway.server.limits import ConfigurationError
from fairway.server.workers import crew
from fairway.server.workers.board import make_board
from fairway.server.workers.crew import Crew, State
from fairway.server.workers.interpreters import Interpreters, Process, Worker
from fairway.server.workers.messages import Channel, ChannelBroken, Message
from fairway.server.workers.reloading import Reloader
from fairway.server.workers.watch import Watch

logger = get_logger("fairway.server")

MOST_WORKERS = 256

_STOPPING = [getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGQUIT") if hasattr(signal, name)]
_OTHERS = [getattr(signal, name) for name in ("SIGHUP", "SIGTTIN", "SIGTTOU", "SIGCHLD") if hasattr(signal, name)]
_IGNORED = [getattr(signal, name) for name in ("SIGUSR1", "SIGUSR2", "SIGPIPE") if hasattr(signal, name)]


class Load:
    """Which generation of the code is being loaded, and whether it has to be loaded once more.

    Who asks while the application is being loaded may have changed a file that was read already. So what is asked for
    then is done when that load has ended.
    """

    def __init__(self) -> None:
        self.under_way: int | None = None
        self.has_succeeded = False
        """Whether any generation could be loaded."""
        self.wanted_because = ""
        """Why the application has to be loaded anew; "" if it has not."""
        self._generation = 0

    def ask(self, why: str) -> None:
        self.wanted_because = why

    def begin(self) -> int:
        """Return the generation to load now. Until the first has been loaded, it stays the first."""
        if self.has_succeeded or not self._generation:
            self._generation += 1
        self.under_way, self.wanted_because = self._generation, ""
        return self._generation

    def succeeded(self) -> None:
        self.under_way, self.has_succeeded = None, True

    def failed(self) -> None:
        self.under_way = None


class Supervisor:
    """`command` starts an interpreter that calls `fairway` with the same arguments.

    `let_go` closes the sockets. It is called as soon as no more connections are wanted, because a successor may listen
    on the same address from then on. The caller calls it too, in case the server ends without having been asked.

    With a `reloader`, changed files do what SIGHUP does, and an application that does not load at the start is tried
    again when its files change.
    """

    def __init__(
        self,
        command: Sequence[str],
        sockets: Sequence[socket.socket],
        workers: int,
        on_ready: Callable[[list[str]], object],
        let_go: Callable[[], object],
        reloader: Reloader | None = None,
    ) -> None:
        self._board = make_board(2 * workers + 2)
        self._crew = Crew(workers, self._board.slots)
        self._on_ready = on_ready
        self._let_go = let_go
        self._was_ready = False
        self._selector = selectors.DefaultSelector()
        self._load = Load()
        self._workers: dict[int, Worker] = {}
        self._interpreters = Interpreters(command, sockets, self._board, self._listen_to)
        self._watch = Watch(self._board, self._crew, self._workers)
        self._reloader = reloader
        self._exit_code: int | None = None

    def run(self) -> int:
        """Serve until a signal stops it, and return the exit code. Raises `ConfigurationError` if this system starts no
        process for it.
        """
        with _woken_by_signals() as wake, contextlib.ExitStack() as watching:
            self._selector.register(wake, selectors.EVENT_READ, lambda: self._on_signal(wake))
            if self._reloader is not None:
                changes = watching.enter_context(self._reloader.changes())
                self._selector.register(changes, selectors.EVENT_READ, lambda: self._on_change(changes))
            try:
                try:
                    self._interpreters.start_nursery(self._load.begin(), self._crew.wanted, is_further=False)
                except OSError as error:
                    raise ConfigurationError(f"no process can be started for the application: {error}") from error
                while self._exit_code is None:
                    for key, _ in self._selector.select(self._timeout()):
                        key.data()
                    self._see_who_has_gone()
                    self._renew_again()
                    if self._load.has_succeeded or self._crew.is_stopping:
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
                self._load.ask("SIGHUP")
            elif number in (signal.SIGTTIN, signal.SIGTTOU):
                self._resize(1 if number == signal.SIGTTIN else -1)

    def _on_change(self, changes: socket.socket) -> None:
        self._load.ask(changes.recv(4096).decode(errors="replace"))

    def _listen_to(self, process: Process) -> None:
        self._selector.register(process.channel, selectors.EVENT_READ, lambda: self._nursery_says(process))

    def _nursery_says(self, process: Process) -> None:
        messages = self._received(process.channel)
        for message in messages or ():
            if message["kind"] == "loaded":
                self._loaded(process, message)
            elif message["kind"] == "exited":
                worker = next((one for one in self._workers.values() if one.pid == message["pid"]), None)
                if worker is not None:
                    self._ended(worker, message["status"])

    def _worker_says(self, worker: Worker, channel: Channel) -> None:
        messages = self._received(channel)
        if messages is None:
            worker.is_silent = True  # its nursery will report how it has ended
        for message in messages or ():
            member = self._crew.members.get(worker.number)
            if message["kind"] == "begun":
                worker.pid = message["pid"]
                if member is not None and member.state is State.LEAVING:
                    worker.signal(signal.SIGTERM)
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
        for process in self._interpreters.take_ended():
            self._process_ended(process, process.popen.returncode)
        if os.getpid() == 1:
            _bury_orphans({one.popen.pid for one in self._interpreters.running})
        running = self._interpreters.running
        for worker in [one for one in self._workers.values() if one.is_silent and one.process not in running]:
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

    def _loaded(self, process: Process, message: Message) -> None:
        process.is_loaded = True
        generation, hindrance = process.generation, message["hindrance"]
        if hindrance and self._interpreters.may_fork(generation):
            self._interpreters.must_not_fork(generation)
            logger.warning("workers are not forked, so that each loads the application itself: %s", hindrance)
        if self._load.under_way == generation:
            self._load.succeeded()
            if generation > 1:
                self._watch.follow_if_possible(message["supervision"])
                self._crew.renew(generation)
            else:
                self._watch.follow(message["supervision"])
        for worker in process.workers:
            if worker.channel is None:
                self._assign(worker)

    def _process_ended(self, process: Process, status: int) -> None:
        """A nursery has ended, or a worker that was not forked."""
        self._close_channel(process.channel)
        if self._load.under_way == process.generation and not self._crew.is_stopping:
            self._load.failed()
            if self._load.has_succeeded:
                logger.error("the application could not be loaded anew: the workers stay as they are")
            elif self._reloader is not None:
                logger.error("the application could not be loaded: it is tried again when its files change")
            else:
                self._exit_code = status if status > 0 else 1
        for worker in list(process.workers):
            if worker.channel is None or worker.pid == process.popen.pid:
                self._ended(worker, status)

    def _ended(self, worker: Worker, status: int | None) -> None:
        del self._workers[worker.number]
        if worker.channel is not None:
            self._close_channel(worker.channel)
        self._board.clear(worker.slot)
        self._watch.forget(worker.number)
        self._interpreters.without(worker)
        is_news = not self._crew.is_stopping and self._crew.members[worker.number].state is not State.LEAVING
        delay = self._crew.ended(worker.number, status, time.monotonic())
        self._watch.restarts += delay is not None
        if is_news:
            logger.error("worker %s %s%s", worker.pid, _how(status), _what_follows(delay))

    def _renew_again(self) -> None:
        """Load the application anew if somebody has asked for it, and if it is not being loaded already."""
        why = self._load.wanted_because
        if not why or self._crew.is_stopping or self._load.under_way is not None:
            return
        logger.info("%s: loading the application anew", why)
        try:
            self._interpreters.start_nursery(self._load.begin(), self._crew.wanted, self._load.has_succeeded)
        except OSError as error:
            self._load.failed()
            logger.error("the application could not be loaded anew: %s: the workers stay as they are", error)

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
            self._let_go()
            self._interpreters.retire_all()
        self._crew.stop()

    # What is done ---------------------------------------------------------------------------------------------

    def _decide(self) -> None:
        for action in self._crew.decide(time.monotonic()):
            match action:
                case crew.Start(number):
                    self._start(number)
                case crew.Leave(number, is_replaced):
                    self._ask_to_leave(self._workers[number], is_replaced)
                case crew.Abort(number):
                    self._abort(self._workers[number])
                case crew.Kill(number):
                    self._workers[number].signal(signal.SIGKILL)
                    logger.error("worker %s did not end in time: killed", self._workers[number].pid)
                case crew.Abandon(generation):
                    logger.error("the new version of the application does not start: the workers stay as they are")
                    self._interpreters.retire(generation)
                case crew.Retire(generation):
                    self._interpreters.retire(generation)
                case crew.Exit(code):
                    self._exit_code = code

    def _start(self, number: int) -> None:
        member = self._crew.members[number]
        try:
            worker = self._interpreters.for_worker(number, member.slot, member.generation, self._crew.wanted)
        except OSError as error:
            delay = self._crew.ended(number, None, time.monotonic())
            logger.error("a worker cannot be started: %s%s", error, _what_follows(delay))
            return
        self._workers[number] = worker
        if worker.process.is_loaded:
            self._assign(worker)

    def _assign(self, worker: Worker) -> None:
        channel = self._interpreters.assign(worker)
        self._selector.register(channel, selectors.EVENT_READ, lambda: self._worker_says(worker, channel))

    def _ask_to_leave(self, worker: Worker, is_replaced: bool) -> None:
        if worker.channel is None:
            self._ended(worker, None)
        elif is_replaced:
            worker.channel.send("leave")
        else:
            worker.signal(signal.SIGTERM)

    def _abort(self, worker: Worker) -> None:
        if worker.channel is None:
            self._ended(worker, None)
        else:
            # No second SIGTERM, which some send to all processes of a server.
            worker.channel.send("abort")

    def _end_hanging(self, worker: Worker) -> None:
        logger.error("worker %s hangs, and its event loop does not turn: killed", worker.pid)
        worker.signal(signal.SIGKILL)
        self._board.clear(worker.slot)  # so that it does not count as hanging again

    def _close_channel(self, channel: Channel) -> None:
        with contextlib.suppress(KeyError):
            self._selector.unregister(channel)
        channel.close()

    def _close(self) -> None:
        self._interpreters.close()
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


def _what_follows(delay: float | None) -> str:
    return "" if delay is None else f"; another one starts {f'in {delay:.1f} s' if delay else 'now'}"


def _how(status: int | None) -> str:
    if status is None:
        return "has gone"
    if status < 0:
        return f"was ended by {_signal_name(-status)}"
    return f"ended with exit code {status}"


def _bury_orphans(own: Container[int]) -> None:
    """Collect the processes that have ended without their parent. In a container, the first process inherits them."""
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) and ended.si_pid not in own:
            os.waitpid(ended.si_pid, 0)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"  # most real-time signals have no name


def _is_at_a_terminal() -> bool:
    return any(map(os.isatty, range(3)))
