"""Brokers of the local layer for tests: a process of this test run."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

from fairway.layers.local import protocol
from fairway.layers.local.place import Place
from fairway.layers.local.protocol import Answer, Decoder

DEADLINE = 30.0


def broker_process(place: Place) -> subprocess.Popen[bytes]:
    """A broker, which listens when this returns. Whoever calls this ends it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "fairway.layers.local", "--socket", place.path], stderr=subprocess.PIPE
    )
    assert process.stderr is not None, "it is a pipe"
    with process.stderr:
        line = process.stderr.readline().decode()
    assert "listens at" in line, line
    return process


@contextlib.contextmanager
def running_broker(place: Place) -> Iterator[subprocess.Popen[bytes]]:
    """A broker that goes on although nobody uses it for a while."""
    process = broker_process(place)
    with greeted(place):
        yield process
    process.terminate()
    process.wait(DEADLINE)


def broker_id(place: Place) -> int:
    """The process of the broker that listens, as it says. OSError if none does."""
    with greeted(place) as (_, number):
        return number


def end_broker(place: Place, how: signal.Signals = signal.SIGTERM) -> None:
    """End the broker that listens, if one does, and wait for it."""
    with contextlib.suppress(OSError), greeted(place) as (connection, number):
        os.kill(number, how)
        while connection.recv(4096):
            pass


@contextlib.contextmanager
def greeted(place: Place) -> Iterator[tuple[socket.socket, int]]:
    """A connection to the broker that listens, which does not end meanwhile for want of somebody, and its process."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(DEADLINE)
        connection.connect(place.path)
        connection.sendall(protocol.hello("suite"))
        ((answer, _, body),) = Decoder(Answer).feed(connection.recv(4096))
        assert answer is Answer.WELCOME
        yield connection, protocol.read_welcome(body)[1]
