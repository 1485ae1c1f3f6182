"""Ends a connection whose client keeps the event loop inside one call of OpenSSL.

OpenSSL handles records without data, such as key updates, within the call that asks for data. It returns when there is
data, or when no more records have come. So a client that has computed very many of them in advance holds the loop for
as long as they last, and nothing in the loop can interrupt that.

But OpenSSL works without the lock of the interpreter, so another thread can. Ten times a second it looks where the
thread of the loop is, which costs the connections nothing. If that is the same call as before, and the loop's thread
has computed meanwhile, then it is such a flood: decrypting a full record takes microseconds. So both sides of the
socket are ended. The kernel takes nothing more then, and the call returns when it has read what had come before.

`Hold` is pure and decides; `guarding` measures and acts.
"""

from __future__ import annotations

import contextlib
import math
import os
import socket
import threading
import time
from collections.abc import Iterator
from itertools import islice
from types import FrameType

from fairway import whereabouts
from fairway.server.tls.transport import Host, TlsTransport

INTERVAL = 0.1
"""Seconds between two looks. A call may compute for half as long."""

_JOIN_SECONDS = 0.5

# What calls OpenSSL to read: a read does, and so does the end of our side, which looks for the peer's close_notify.
_CALLS = {TlsTransport._receive.__code__, TlsTransport._end.__code__}

_FRAMES_OF_SSL = 3
"""How many frames of the module `ssl` may be inside of such a call, and one more."""


class Hold:
    """Whether one call holds the loop. `most` is in seconds of processor time."""

    def __init__(self, most: float) -> None:
        self._most = most
        self._call: object = None
        self._cpu = 0.0

    def check(self, call: object, cpu: float) -> bool:
        """True, once, if this call has computed for too long since it was first seen here.

        `call` is the object that stands for the call that is under way, or None. `cpu` is the processor time that its
        thread has used, in seconds.
        """
        if call is None or call is not self._call:
            self._call, self._cpu = call, cpu
            return False
        if cpu - self._cpu < self._most:
            return False
        self._cpu = math.inf
        return True


@contextlib.contextmanager
def guarding(host: Host, interval: float = INTERVAL) -> Iterator[None]:
    """Inside the block, guard the running loop, which is the host's.

    It is not guarded where the system does not tell the processor time of a thread (macOS, Windows).
    """
    if not hasattr(time, "pthread_getcpuclockid"):
        yield
        return
    guard = _Guard(host, interval)
    try:
        yield
    finally:
        guard.close()


class _Guard:
    def __init__(self, host: Host, interval: float) -> None:
        self._host = host
        self._interval = interval
        self._process = os.getpid()
        self._loop_thread = threading.get_ident()
        self._clock = time.pthread_getcpuclockid(self._loop_thread)
        self._hold = Hold(interval / 2)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="fairway tls guard", daemon=True)
        self._thread.start()

    def close(self) -> None:
        # A forked child does not have the thread.
        if os.getpid() == self._process:
            self._closed.set()
            self._thread.join(_JOIN_SECONDS)

    def _watch(self) -> None:
        while not self._closed.wait(self._interval):
            call = _call_of(self._loop_thread)
            if self._hold.check(call, time.clock_gettime(self._clock)) and call is not None:
                self._cut(call.f_locals["self"])

    def _cut(self, transport: TlsTransport) -> None:
        peer = transport.get_extra_info("peername")
        with contextlib.suppress(OSError):  # it has returned meanwhile, and the socket is closed
            # Not the method of `TlsSocket`, which would take TLS off the socket.
            socket.socket.shutdown(transport.get_extra_info("socket"), socket.SHUT_RDWR)
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._host.loop.call_soon_threadsafe(self._report, peer)

    def _report(self, peer: object) -> None:
        client = peer[:2] if isinstance(peer, tuple) else None
        text = "TLS records without data keep the server busy, such as key updates: cut"
        self._host.fault("tls", {"client": client, "path": "-"}, text)


def _call_of(thread: int) -> FrameType | None:
    """The frame of the call of OpenSSL that the thread executes, or None."""
    frames = islice(whereabouts.running(thread), _FRAMES_OF_SSL + 1)
    return next((frame for frame in frames if frame.f_code in _CALLS), None)
