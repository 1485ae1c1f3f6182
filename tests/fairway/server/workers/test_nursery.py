"""A nursery as the child of a test, which plays the supervisor."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from fairway.server.workers.messages import Channel, channel_pair
from fairway.server.workers.nursery import VARIABLE, Inheritance, hindrance, inheritance

CHILD = """
import os, sys
from fairway.server.workers.nursery import inheritance, tend
{before}
assignment = tend(inheritance(os.environ))
if assignment is None:
    sys.exit(7)
assignment.channel.send("serving", slot=assignment.slot, pid=os.getpid())
while assignment.channel.receive() is not None:
    pass
sys.exit(5)
"""


class Nursery:
    def __init__(self, before: str = "") -> None:
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.channel, end = channel_pair()
        inherited = Inheritance(end.fileno(), os.open(os.devnull, os.O_RDWR), 4, [self.listening.fileno()], False)
        self.popen = subprocess.Popen(
            [sys.executable, "-c", CHILD.format(before=before)],
            env=os.environ | inherited.to_environment(),
            pass_fds=inherited.descriptors,
        )
        os.close(inherited.board)
        end.close()
        self.heard: dict[Channel, list[dict[str, Any]]] = {self.channel: []}

    def hear(self, kind: str, channel: Channel | None = None) -> dict[str, Any]:
        channel = channel or self.channel
        heard = self.heard[channel]
        while True:
            for message in heard:
                if message["kind"] == kind:
                    heard.remove(message)
                    return message
            messages = channel.receive()
            assert messages is not None, f"it ended without {kind!r}"
            heard += messages

    def assign(self, kind: str, slot: int) -> Channel:
        channel, end = channel_pair()
        self.heard[channel] = []
        self.channel.send(kind, [end.fileno()], slot=slot)
        end.close()
        return channel

    def close(self) -> None:
        for channel in self.heard:
            channel.close()
        self.listening.close()
        self.popen.kill()
        self.popen.wait()


@pytest.fixture
def nursery() -> Iterator[Nursery]:
    made = Nursery()
    yield made
    made.close()


pytestmark = pytest.mark.slow


def test_it_forks_and_says_how_its_children_have_ended(nursery: Nursery):
    assert nursery.hear("loaded")["hindrance"] == ""
    first, second = nursery.assign("fork", 0), nursery.assign("fork", 3)
    pids = [nursery.hear("begun", first)["pid"], nursery.hear("begun", second)["pid"]]
    assert [nursery.hear("serving", first)["slot"], nursery.hear("serving", second)["slot"]] == [0, 3]
    assert nursery.popen.pid not in pids
    first.close()
    told = nursery.hear("exited")
    assert (told["pid"], told["status"]) == (pids[0], 5)
    os.kill(pids[1], signal.SIGKILL)
    told = nursery.hear("exited")
    assert (told["pid"], told["status"]) == (pids[1], -signal.SIGKILL)
    assert second.receive() is None


def test_a_child_lives_on_without_it(nursery: Nursery):
    nursery.hear("loaded")
    channel = nursery.assign("fork", 0)
    nursery.hear("serving", channel)
    nursery.popen.kill()
    nursery.popen.wait()
    assert channel.send("anything")
    channel.close()


def test_it_ends_with_its_supervisor(nursery: Nursery):
    nursery.hear("loaded")
    nursery.channel.close()
    assert nursery.popen.wait(20) == 7


def test_it_becomes_a_worker_itself(nursery: Nursery):
    nursery.hear("loaded")
    channel = nursery.assign("become", 2)
    told = nursery.hear("serving", channel)
    assert (told["pid"], told["slot"]) == (nursery.popen.pid, 2)


def test_when_the_server_stops_nobody_can_connect_any_more(nursery: Nursery):
    nursery.hear("loaded")
    address = nursery.listening.getsockname()
    nursery.listening.close()
    socket.create_connection(address).close()
    nursery.channel.send("shut")
    nursery.hear("serving", nursery.assign("become", 0))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)


@pytest.mark.parametrize(
    ("before", "why"),
    [
        (
            "import threading; threading.Thread(target=threading.Event().wait, name='ticker', daemon=True).start()",
            "the application started threads while it was imported (ticker)",
        ),
        ("import socket; kept = socket.socketpair()", "the application opened a connection while it was imported"),
        ("kept = open(os.devnull)", ""),
    ],
)
def test_what_must_not_be_forked_is_said(before: str, why: str):
    nursery = Nursery(before)
    try:
        assert nursery.hear("loaded")["hindrance"] == why
    finally:
        nursery.close()


def test_the_environment_is_read_once():
    environment = {VARIABLE: json.dumps({"channel": 3, "board": 4, "slots": 6, "sockets": [5], "is_further": True})}
    assert inheritance(environment) == Inheritance(3, 4, 6, [5], True)
    assert environment == {}
    assert inheritance(environment) is None


def test_a_thread_that_has_ended_is_no_hindrance():
    thread = threading.Thread(target=int)
    thread.start()
    thread.join()
    assert "threads" not in hindrance(Inheritance(0, 0, 0, [], False)) or threading.active_count() > 1
