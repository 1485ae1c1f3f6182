"""Starting brokers: one, however many ask; again when it was killed; never beside another."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from tests.services.local import broker_id, end_broker

from fairway.layers.backplane import Unavailable
from fairway.layers.local import starting
from fairway.layers.local.__main__ import main as command
from fairway.layers.local.backplane import LocalBackplane
from fairway.layers.local.connecting import connect
from fairway.layers.local.place import Misplaced, Place, given_place
from fairway.layers.local.starting import answers, claim, start, start_process
from fairway.testing.backplane_contract import DEADLINE, Process


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = given_place(str(tmp_path / "broker.sock"))
    yield place
    end_broker(place)


def test_it_listens_when_it_is_started_and_is_nobodys_child(place: Place) -> None:
    start_process(place)

    number = broker_id(place)
    assert os.getsid(number) != os.getsid(0)
    with pytest.raises(ChildProcessError):
        os.waitpid(number, os.WNOHANG)


def test_its_socket_is_for_this_user_alone(place: Place) -> None:
    start_process(place)

    assert stat.S_IMODE(os.stat(place.path).st_mode) == 0o600


def test_with_a_group_its_members_may_use_it(tmp_path: Path) -> None:
    place = given_place(str(tmp_path / "broker.sock"), os.getgid())
    start_process(place)
    try:
        found = os.stat(place.path)
        assert (stat.S_IMODE(found.st_mode), found.st_gid) == (0o660, os.getgid())
    finally:
        end_broker(place)


def test_many_that_ask_at_once_start_one(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Place] = []
    run = starting._run

    def counted(where: Place) -> None:
        started.append(where)
        run(where)

    monkeypatch.setattr(starting, "_run", counted)
    threads = [threading.Thread(target=start_process, args=(place,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)

    assert started == [place]
    assert broker_id(place)


def test_a_second_one_leaves_the_place_to_the_first(place: Place) -> None:
    start_process(place)
    number = broker_id(place)

    start_process(place)

    assert claim(place) is None
    assert broker_id(place) == number


def test_what_a_killed_one_left_is_no_hindrance(place: Place) -> None:
    start_process(place)
    number = broker_id(place)
    os.kill(number, signal.SIGKILL)

    start_process(place)

    assert broker_id(place) != number


def test_a_lock_that_somebody_else_holds_is_said(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starting, "PATIENCE", 0.1)
    first = claim(place)
    assert first is not None

    with pytest.raises(Misplaced, match="is locked by a process that does not listen at"):
        claim(place)
    first.release()


def test_one_that_cannot_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(Misplaced, match=r"broker\.sock\.starting cannot be opened: No such file or directory"):
        start_process(given_place(str(tmp_path / "nowhere" / "broker.sock")))


@pytest.mark.parametrize(
    ("number", "said"), [(errno.ENOSPC, "No space left on device"), (errno.EROFS, "Read-only file system")]
)
def test_a_full_or_read_only_disk_is_said(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int, said: str
) -> None:
    def fail(*arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", fail)
        with pytest.raises(Misplaced, match=rf"broker\.sock\.starting cannot be opened: {said}"):
            start_process(place)
        assert command(["--socket", place.path]) == 1
    with monkeypatch.context() as patch:
        patch.setattr(socket.socket, "bind", fail)
        assert command(["--socket", place.path]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(": ")[0] for line in lines] == ["python -m fairway.layers.local"] * 2
    assert all(said in line for line in lines)


@pytest.mark.parametrize("which", ["lock", "starting"])
def test_a_lock_that_is_a_link_is_not_followed(place: Place, tmp_path: Path, which: str) -> None:
    os.symlink(tmp_path / "precious", getattr(place, which))

    with pytest.raises((Misplaced, Unavailable), match="cannot be opened: Too many levels of symbolic links"):
        start_process(place)
    assert not (tmp_path / "precious").exists()


def test_a_socket_that_is_a_link_is_replaced_and_not_followed(place: Place, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("here")
    os.symlink(tmp_path / "precious", place.path)
    claimed = claim(place)
    assert claimed is not None
    claimed.listen().close()
    claimed.release()

    assert stat.S_ISSOCK(os.lstat(place.path).st_mode)
    assert (tmp_path / "precious").read_text() == "here"


@pytest.mark.parametrize("what", ["file", "folder"])
def test_what_is_no_socket_stays(place: Place, what: str) -> None:
    place.prepare()
    path = Path(place.path)
    path.write_text("precious") if what == "file" else path.mkdir()
    claimed = claim(place)
    assert claimed is not None
    with pytest.raises(Misplaced, match="is a file that is no socket: it stays"):
        claimed.listen()
    claimed.release()
    assert path.read_text() == "precious" if what == "file" else path.is_dir()


def test_a_program_that_listens_there_and_is_no_broker_is_left_alone(place: Place) -> None:
    def babble() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(place.path)
        listening.listen()
        thread = threading.Thread(target=babble)
        thread.start()
        assert claim(place) is None
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(DEADLINE)


def test_a_stopped_broker_that_accepts_nobody_is_not_waited_for(place: Place) -> None:
    with socket.socket(socket.AF_UNIX) as stopped, contextlib.ExitStack() as waiting:
        stopped.bind(place.path)
        stopped.listen(0)
        for _ in range(8):
            one = waiting.enter_context(socket.socket(socket.AF_UNIX))
            one.setblocking(False)
            if one.connect_ex(place.path):
                break
        assert answers(place), "it is there, though it hangs"
        with pytest.raises(Unavailable, match="accepts no connections: it hangs, or has too many"):
            asyncio.run(connect(cast(Any, None), place, None))


def test_what_its_process_says_is_said(place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    os.mkdir(place.path)

    with pytest.raises(Unavailable, match=r"^the broker cannot be started: python -m fairway.layers.local: "):
        start_process(place)
    os.rmdir(place.path)


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_client_that_may_starts_one_and_another_when_it_was_killed(place: Place) -> None:
    process = Process(LocalBackplane(place, "suite", lambda: start(place)))
    attached = Process(LocalBackplane(place, "suite", None))
    try:
        await attached.events.until(attached.is_up)
        await attached.backplane.subscribe(["g.room"])
        for number in range(3):
            downs = attached.events.downs
            assert await process.backplane.publish("g.room", b"%d" % number) == 1
            await attached.events.received(number + 1)
            await asyncio.to_thread(end_broker, place, signal.SIGKILL)
            await attached.events.until(lambda downs=downs: attached.is_down(downs))
            await process.events.until(lambda number=number: process.events.ups == number + 2)
            await attached.events.until(attached.is_up)
    finally:
        await process.backplane.close()
        await attached.backplane.close()


@pytest.mark.asyncio
async def test_a_client_that_may_not_says_who_does(place: Place) -> None:
    process = Process(LocalBackplane(place, "suite", None, answer_timeout=0.2))
    try:
        with pytest.raises(Unavailable, match=r"no broker listens at .*: it is started by the first server or worker"):
            await process.backplane.publish("g.room", b"")
    finally:
        await process.backplane.close()
