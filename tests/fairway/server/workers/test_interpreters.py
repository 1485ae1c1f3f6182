"""Fresh interpreters: which process is a nursery, which is a worker's own, and when each is ended."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fairway.server.site_process import PATIENCE

from fairway.server.workers.board import make_board
from fairway.server.workers.interpreters import Interpreters, Process, command_of

WAITS = ["/bin/sleep", "1000"]


@pytest.fixture
def started() -> list[Process]:
    return []


@pytest.fixture
def interpreters(started: list[Process]) -> Iterator[Interpreters]:
    board = make_board(4)
    one = Interpreters(WAITS, [], board, started.append)
    yield one
    one.close()
    for process in started:
        process.popen.wait(PATIENCE)
        process.channel.close()
    board.close()


def test_all_workers_of_a_generation_come_from_its_nursery(interpreters: Interpreters, started: list[Process]):
    interpreters.start_nursery(1, 2, is_further=False)
    first, second = (interpreters.for_worker(number, number, 1, 2) for number in (1, 2))
    assert first.process is second.process is started[0]
    assert started[0].workers == [first, second]
    assert interpreters.running == started


def test_what_must_not_be_forked_has_a_process_for_each_worker(interpreters: Interpreters, started: list[Process]):
    interpreters.start_nursery(1, 2, is_further=False)
    interpreters.must_not_fork(1)
    first, second = (interpreters.for_worker(number, number, 1, 2) for number in (1, 2))
    assert [first.process, second.process] == started
    assert not interpreters.may_fork(1)
    assert interpreters.may_fork(2)


def test_a_retired_nursery_ends_with_its_last_worker(interpreters: Interpreters, started: list[Process]):
    interpreters.start_nursery(1, 2, is_further=False)
    worker = interpreters.for_worker(1, 0, 1, 2)
    interpreters.retire(1)
    assert started[0].popen.poll() is None
    interpreters.without(worker)
    assert started[0].popen.wait(PATIENCE) == -signal.SIGTERM
    assert interpreters.take_ended() == started
    assert interpreters.take_ended() == []


def test_a_nursery_without_workers_ends_when_it_is_retired(interpreters: Interpreters, started: list[Process]):
    interpreters.start_nursery(1, 2, is_further=False)
    interpreters.retire_all()
    assert started[0].popen.wait(PATIENCE) == -signal.SIGTERM


def test_a_nursery_that_has_ended_is_started_again_for_the_next_worker(
    interpreters: Interpreters, started: list[Process]
):
    interpreters.start_nursery(1, 2, is_further=False)
    started[0].popen.kill()
    started[0].popen.wait(PATIENCE)
    interpreters.take_ended()
    assert interpreters.for_worker(1, 0, 1, 2).process is started[1]


def test_the_directory_is_that_which_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started: list[Process]):
    release, current = tmp_path / "release", tmp_path / "current"
    release.mkdir()
    current.symlink_to(release)
    monkeypatch.chdir(current)
    monkeypatch.setenv("PWD", str(current))
    board = make_board(4)
    one = Interpreters(["/bin/sh", "-c", "echo $PWD > here"], [], board, started.append)
    one.start_nursery(1, 1, is_further=False)
    assert started[0].popen.wait(PATIENCE) == 0
    assert (release / "here").read_text().strip() == str(current)
    one.close()
    board.close()


def test_the_command_is_this_interpreter_with_the_same_arguments():
    command = command_of(["--workers", "2", "site:application"])
    assert command[0] == sys.executable
    assert command[-5:] == ["-m", "fairway", "--workers", "2", "site:application"]
    assert os.path.exists(command[0])
