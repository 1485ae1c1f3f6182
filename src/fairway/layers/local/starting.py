"""Starting a broker: by its own command, or by a server or worker that finds none.

Two locks make sure that there is only one. A broker holds `Place.lock` while it lives; its holder may remove an old
socket and listen. Whoever starts a broker holds `Place.starting` meanwhile, so that of ten processes that begin
together, one starts a broker and nine wait for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

from fairway.layers.backplane import Unavailable
from fairway.layers.engine import Engine
from fairway.layers.local import history_frames, protocol
from fairway.layers.local.broker import QUEUE_BYTES, Heritage
from fairway.layers.local.fields import ProtocolError
from fairway.layers.local.listening import listen
from fairway.layers.local.place import Misplaced, Place
from fairway.layers.local.protocol import Answer, Decoder, Role

PATIENCE = 15.0
"""Seconds that an ending broker has to free its place."""

_START_TIMEOUT = 30.0


async def start(place: Place) -> None:
    """Start a broker in its own process, unless somebody else does. Raises `Unavailable` if it does not start."""
    await asyncio.get_running_loop().run_in_executor(None, start_process, place)


def start_process(place: Place) -> None:
    """`start`, for callers that may block. Returns when a broker listens, even if another process has started it."""
    place.prepare()
    lock = _open(place.starting, place)
    try:
        was_alone = True
        gives_up_at = time.monotonic() + _START_TIMEOUT
        while not _is_locked(lock):
            was_alone = False
            if time.monotonic() > gives_up_at:
                return
            time.sleep(0.02)
        if was_alone or not answers(place):
            _run(place)
    finally:
        os.close(lock)


@contextlib.contextmanager
def broker_for_a_while(place: Place) -> Iterator[Place]:
    """A broker in the same folder that nobody else finds. It is started in the same way as the one at the place."""
    folder = os.path.dirname(place.path)
    beside = Place(f"{folder}/trial-{os.urandom(4).hex()}.sock", place.is_ours, place.group)
    start_process(beside)
    try:
        yield beside
    finally:
        _end(beside)
        for path in (beside.lock, beside.starting):
            with contextlib.suppress(OSError):
                os.unlink(path)


def _end(place: Place) -> None:
    """End the broker that listens there, and wait for it."""
    decoder = Decoder(Answer)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection, contextlib.suppress(OSError):
        connection.settimeout(PATIENCE)
        connection.connect(place.path)
        place.check_peer(connection)
        connection.sendall(protocol.hello(""))
        while data := connection.recv(4096):
            for op, _, body in decoder.feed(data):
                if op is Answer.WELCOME:
                    os.kill(protocol.read_welcome(body)[1], signal.SIGTERM)


def _run(place: Place) -> None:
    command = [sys.executable, "-m", "fairway.layers.local", "--detach", "--socket", place.path]
    if place.group is not None:
        command += ["--group", str(place.group)]
    ours = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    path = os.pathsep.join(filter(None, [ours, os.environ.get("PYTHONPATH")]))
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=_START_TIMEOUT,
            env={**os.environ, "PYTHONPATH": path},
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"the broker cannot be started: {error}") from None
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {done.returncode}"]
        raise Unavailable(f"the broker cannot be started: {lines[-1]}")


class Claim:
    """The right to be the broker of a place, until `release` or the end of the process."""

    def __init__(self, place: Place, lock: int, heritage: Heritage) -> None:
        self.heritage = heritage
        self._place = place
        self._lock = lock

    def release(self) -> None:
        """Give the claim up before the process ends."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def listen(self) -> socket.socket:
        """Make the listening socket. An old file at its path is removed."""
        return listen(self._place)


def claim(place: Place, version: int = protocol.VERSION) -> Claim | None:
    """Claim the right to be the broker. None if there is a broker of this version or a newer one already.

    A broker of an older version hands over. Raises `Misplaced` if nothing can be done.
    """
    place.prepare()
    lock = _open(place.lock, place)
    heritage = Heritage()
    gives_up_at = time.monotonic() + PATIENCE
    # One that answers although nobody has the lock is a broker, too: its lock file was removed, and this one is new.
    while not _is_locked(lock) or answers(place):
        if _inherit(place, version, heritage):
            continue
        if answers(place):
            os.close(lock)
            return None
        if time.monotonic() > gives_up_at:
            raise Misplaced(f"{place.lock} is locked by a process that does not listen at {place.path}: end it")
        time.sleep(0.02)
    return Claim(place, lock, heritage)


def answers(place: Place) -> bool:
    """Whether a broker, or any other process, listens there, even if it hangs."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.setblocking(False)
        return connection.connect_ex(place.path) in (0, errno.EAGAIN)  # EAGAIN: too many wait for it already


def _inherit(place: Place, version: int, heritage: Heritage) -> bool:
    """Take over the state of the running broker. False if it hands over nothing: it is gone, or is not older."""
    decoder = Decoder(Answer)
    engine = Engine(QUEUE_BYTES)
    now = time.monotonic()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(PATIENCE)
        try:
            connection.connect(place.path)
            place.check_peer(connection)
            connection.sendall(protocol.hello("", version, Role.SUCCESSOR))
            while data := connection.recv(2**18):
                for op, name, body in decoder.feed(data):
                    if op is Answer.PREFIX:
                        engine = heritage.engines.setdefault(
                            protocol.read_prefix(body), Engine(QUEUE_BYTES, os.urandom(4).hex())
                        )
                    elif op is Answer.QUEUED:
                        seconds, message = protocol.read_queued(body)
                        engine.restore(name, now + seconds, message)
                    elif op is Answer.FOLLOWERS:
                        for group, queue, seconds in protocol.read_followers(body):
                            engine.follow(group, queue, seconds, now)
                    elif op in _OF_HISTORIES:
                        _continue(engine, op, name, body, now)
                    elif op is Answer.DONE:
                        heritage.subscribed = protocol.number(body)
                        return True
                    else:
                        return False
        except (OSError, ProtocolError):
            return False
    return False


_OF_HISTORIES = frozenset({Answer.EPOCH, Answer.KEPT, Answer.KEY})


def _continue(engine: Engine, op: Answer, subject: str, body: bytes, now: float) -> None:
    """Take over a part of the predecessor's histories."""
    histories = engine.histories
    if op is Answer.EPOCH:
        seconds, top = history_frames.read_epoch(body)
        histories.restore_epoch(subject, top, now + seconds)
    elif op is Answer.KEPT:
        seconds, kept = history_frames.read_kept(body, histories.top(subject, now).epoch)
        histories.restore_message(subject, now + seconds, kept, len(kept.data))
    else:
        seconds, place, key = history_frames.read_key(body)
        histories.restore_key(subject, key, now + seconds, place)


def _open(path: str, place: Place) -> int:
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        if place.group is not None and os.fstat(lock).st_uid == os.getuid():
            os.fchmod(lock, 0o660)
            os.fchown(lock, -1, place.group)
    except OSError as error:
        raise Misplaced(f"{path} cannot be opened: {error.strerror}") from None
    return lock


def _is_locked(lock: int) -> bool:
    """Try to lock the file. False if another process has locked it."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
