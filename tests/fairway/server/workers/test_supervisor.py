"""`fairway --workers` as real processes: started, connected to, signalled, killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.fairway.server.site_process import PATIENCE, SiteProcess, until
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from fairway.server.limits import ConfigurationError
from fairway.server.workers.supervisor import Supervisor

pytestmark = pytest.mark.slow

SITE = """
import os
VERSION = "first"
async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        for _ in range(2):
            await send({"type": (await receive())["type"] + ".complete"})
        return
    text = f"{os.getpid()} {VERSION}"
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(text))]})
        await send({"type": "http.response.body", "body": text.encode()})
        return
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": text})
    while (await receive())["type"] != "websocket.disconnect":
        await send({"type": "websocket.send", "text": text})
"""


TRIES = 4


class Workers(SiteProcess):
    """A site served by several. Once all are ready."""

    def __init__(self, directory: Path, source: str, *arguments: str, **options: Any) -> None:
        self.directory = directory
        super().__init__(directory, source, "--no-access-log", *arguments, limits=options.pop("limits", {}), **options)
        self.wait_for("workers are ready")

    def answer(self) -> tuple[int, str]:
        """Which process answers a request, with which version of the site."""
        pid, version = self.get().rpartition(b"\r\n")[2].decode().split()
        return int(pid), version

    def pids(self, count: int) -> set[int]:
        """The processes that answer, once there are so many."""
        found: set[int] = set()
        until(lambda: found.clear() or found.update(self.answer()[0] for _ in range(6 * count)) or len(found) >= count)
        return found

    def deploy(self, old: str, new: str) -> None:
        path = self.directory / "site_under_test.py"
        path.write_text(path.read_text().replace(old, new))


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # the latter if it ends between open and read
        return False


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Workers]]:
    started: list[Workers] = []

    def begin(source: str = SITE, *arguments: str, workers: int = 2, **options: Any) -> Workers:
        started.append(Workers(tmp_path, source, "--workers", str(workers), *arguments, **options))
        return started[-1]

    yield begin
    for one in started:
        if one.popen.poll() is None:
            one.signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                one.end(PATIENCE)
        one.kill()


def asked(server: Workers, count: int) -> list[tuple[socket.socket, int]]:
    """Connections that are kept, and the process that has each."""
    found = []
    for _ in range(count):
        client = server.connect()
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = b""
        while not (match := re.search(rb"(\d+) \w+$", answer)):
            answer += client.recv(4096)
        found.append((client, int(match[1])))
    return found


def test_connections_are_spread_evenly(start: Callable[..., Workers]):
    server = start(workers=4)
    clients = asked(server, 600)
    counts = Counter(pid for _, pid in clients)
    assert len(counts) == 4
    # 159 is what the board allows; a machine that lets one wait for a second allows more.
    assert max(counts.values()) <= 180, counts
    for client, _ in clients:
        client.close()


def test_few_connections_are_shared_one_by_one(tmp_path: Path):
    for number in range(TRIES):
        directory = tmp_path / str(number)
        directory.mkdir()
        server = Workers(directory, SITE, "--workers", "4")
        clients: list[tuple[socket.socket, int]] = []
        try:
            clients = asked(server, 16)
            counts = Counter(pid for _, pid in clients)
        finally:
            server.kill()
            for client, _ in clients:
                client.close()
        assert len(counts) == 4, counts
        # On an idle machine each has four. On a busy one a worker may wake up later than the others wait for it.
        assert max(counts.values()) <= 6, counts


def test_a_worker_that_stands_still_is_left_out(start: Callable[..., Workers]):
    server = start(workers=2)
    one, *_ = server.pids(2)
    os.kill(one, signal.SIGSTOP)
    try:
        clients = asked(server, 60)
        assert one not in {pid for _, pid in clients}
    finally:
        os.kill(one, signal.SIGCONT)
    for client, _ in clients:
        client.close()


def test_a_worker_that_dies_is_replaced_and_others_do_not_notice(start: Callable[..., Workers]):
    server = start()
    clients = asked(server, 20)
    victim = clients[0][1]
    os.kill(victim, signal.SIGKILL)
    line = server.wait_for("was ended by SIGKILL")
    assert f"worker {victim} was ended by SIGKILL; another one starts now" in line
    server.wait_for("all 2 workers are ready", times=2)
    assert len(server.pids(2) - {victim}) == 2
    for client, pid in clients:
        if pid != victim:
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.recv(4096)
        client.close()


def test_a_worker_that_a_signal_without_a_name_has_ended_is_replaced(start: Callable[..., Workers]):
    server = start()
    victim = server.pids(2).pop()
    os.kill(victim, signal.SIGRTMIN + 6)
    server.wait_for(f"worker {victim} was ended by signal {signal.SIGRTMIN + 6}; another one starts now")
    assert victim not in server.pids(2)


def test_sigterm_ends_all_of_them(start: Callable[..., Workers]):
    server = start()
    pids = server.pids(2)
    server.signal(signal.SIGTERM)
    assert server.end(PATIENCE) == 0
    assert not any(map(lives, pids))
    with pytest.raises(ConnectionRefusedError):
        server.connect()


WAITING = SITE.replace(
    '    if scope["type"] == "http":\n',
    '    if scope["type"] == "http":\n'
    "        import asyncio, pathlib\n"
    '        print("waiting", file=__import__("sys").stderr, flush=True)\n'
    '        while scope["path"] == "/slow" and not pathlib.Path("go").exists():\n'
    "            await asyncio.sleep(0.02)\n",
)
"""A request for /slow is answered when there is a file `go`."""


def family(pid: int) -> list[int]:
    """A process and all below it. One of them may end meanwhile."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return [pid]
    return [pid, *(found for child in children for found in family(int(child)))]


def ask_slowly(server: Workers) -> socket.socket:
    client = server.connect()
    client.sendall(b"GET /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    server.wait_for("waiting")
    return client


def refuses(server: Workers) -> bool:
    try:
        server.connect().close()
    except ConnectionRefusedError:
        return True
    return False


def test_sigterm_to_all_processes_at_once_is_graceful_too(start: Callable[..., Workers], tmp_path: Path):
    """As systemd sends it by default (`KillMode=control-group`), before and after the supervisor does."""
    server = start(WAITING)
    with ask_slowly(server) as client:
        pids = family(server.popen.pid)
        assert len(pids) == 4  # supervisor, nursery, two workers
        for pid in pids:
            os.kill(pid, signal.SIGTERM)
        until(lambda: refuses(server))
        for pid in pids[2:]:
            os.kill(pid, signal.SIGTERM)
        (tmp_path / "go").touch()
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert answer.endswith(b" first")
    assert server.end(PATIENCE) == 0
    until(lambda: not any(map(lives, pids)))  # their nursery was not there to wait for them
    assert server.log.count("stopping; once more to stop at once") == 1


def test_the_second_time_they_stop_at_once(start: Callable[..., Workers]):
    server = start(WAITING, limits={"SHUTDOWN_TIMEOUT": 600})
    with ask_slowly(server) as client:
        pids = family(server.popen.pid)
        server.signal(signal.SIGTERM)
        until(lambda: refuses(server))
        server.signal(signal.SIGTERM)
        assert server.end(PATIENCE) == 0
        assert not client.recv(65536).endswith(b" first")
    assert not any(map(lives, pids))
    assert "killed" not in server.log


def test_without_their_supervisor_workers_stop(start: Callable[..., Workers]):
    server = start()
    pids = server.pids(2)
    server.signal(signal.SIGKILL)
    server.popen.wait()
    until(lambda: not any(map(lives, pids)))
    assert server.log.count("the supervisor has gone: stopping") == 2


async def watch(address: tuple[str, int], told: list[int | None]) -> None:
    async with connect("ws://{}:{}/".format(*address)) as client:
        with contextlib.suppress(ConnectionClosed):
            while True:
                await client.recv()
        told.append(client.close_code)


async def ask(address: tuple[str, int], stop: asyncio.Event, answers: Counter[str]) -> None:
    """One request after the other, on a connection that is kept as long as the server wants."""
    while not stop.is_set():
        reader, writer = await asyncio.open_connection(*address)
        with contextlib.suppress(OSError):
            while not stop.is_set():
                writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = int(re.search(rb"content-length: (\d+)", head)[1])  # type: ignore[index]
                answers[(await reader.readexactly(length)).decode().split()[1]] += 1
                if b"connection: close" in head:
                    break
        writer.close()


async def test_sighup_replaces_them_and_no_request_fails(start: Callable[..., Workers]):
    server = start(SITE, limits={"DRAIN_SECONDS": 1})
    before = await asyncio.to_thread(server.pids, 2)
    server.deploy('"first"', '"second"')
    told: list[int | None] = []
    answers: Counter[str] = Counter()
    stop = asyncio.Event()
    sockets = [asyncio.create_task(watch(server.address, told)) for _ in range(40)]
    requests = [asyncio.create_task(ask(server.address, stop, answers)) for _ in range(10)]
    await asyncio.to_thread(until, lambda: answers["first"] > 100)
    server.signal(signal.SIGHUP)
    await asyncio.to_thread(server.wait_for, "all 2 workers are ready", 2)
    await asyncio.wait_for(asyncio.gather(*sockets), PATIENCE)
    await asyncio.to_thread(until, lambda: answers["second"] > 100)
    stop.set()
    await asyncio.wait_for(asyncio.gather(*requests), PATIENCE)  # none has failed
    assert told == [1012] * 40
    await asyncio.to_thread(until, lambda: not any(map(lives, before)))
    assert {(await asyncio.to_thread(server.answer))[1] for _ in range(10)} == {"second"}


@pytest.mark.parametrize(
    ("new", "line"),
    [
        ("1 / 0", "the application could not be loaded anew: the workers stay as they are"),
        (
            'async def application(scope, receive, send):\n    raise SystemExit("no")',
            "the new version of the application does not start: the workers stay as they are",
        ),
    ],
)
def test_a_deploy_that_does_not_start_changes_nothing(start: Callable[..., Workers], new: str, line: str):
    server = start(SITE, "--lifespan", "on")
    before = server.pids(2)
    server.deploy('VERSION = "first"', f'VERSION = "second"\n{new}\n')
    if "application" in new:
        server.deploy(
            "async def application(scope, receive, send):\n    if", "async def former(scope, receive, send):\n    if"
        )
    server.signal(signal.SIGHUP)
    server.wait_for(line)
    assert server.pids(2) == before
    assert server.answer()[1] == "first"


def test_a_symbolic_link_that_was_moved_leads_to_the_new_version(tmp_path: Path, start: Callable[..., Workers]):
    releases = [tmp_path / "one", tmp_path / "two"]
    for release, version in zip(releases, ("first", "second"), strict=True):
        release.mkdir()
        (release / "linked_site.py").write_text(SITE.replace('"first"', f'"{version}"'))
    current = tmp_path / "current"
    current.symlink_to(releases[0])
    environment = {**os.environ, "PWD": str(current), "PYTHONPATH": ""}
    command = [
        sys.executable,
        "-m",
        "fairway",
        "--uds",
        str(tmp_path / "socket"),
        "--workers",
        "2",
        "linked_site:application",
    ]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=current, env=environment, stderr=log)
        try:
            until(lambda: "all 2 workers are ready" in (tmp_path / "log").read_text())
            assert unix_answer(tmp_path / "socket") == "first"
            current.unlink()
            current.symlink_to(releases[1])
            process.send_signal(signal.SIGHUP)
            until(lambda: (tmp_path / "log").read_text().count("all 2 workers are ready") == 2)
            until(lambda: {unix_answer(tmp_path / "socket") for _ in range(10)} == {"second"})
        finally:
            process.terminate()
            assert process.wait(PATIENCE) == 0
    assert not (tmp_path / "socket").exists()


def unix_answer(path: Path) -> str:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE)
        client.connect(str(path))
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        return b"".join(iter(lambda: client.recv(4096), b"")).split()[-1].decode()


def test_a_successor_keeps_the_unix_socket_that_it_has_made_while_the_old_server_stops(tmp_path: Path):
    path = tmp_path / "socket"
    (tmp_path / "linked_site.py").write_text(WAITING)
    begun: list[subprocess.Popen[bytes]] = []

    def begin(name: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "fairway", "--uds", str(path), "--workers", "2", "linked_site:application"]
        with (tmp_path / name).open("w") as log:
            begun.append(subprocess.Popen(command, cwd=tmp_path, stderr=log))
        until(lambda: "all 2 workers are ready" in (tmp_path / name).read_text())
        return begun[-1]

    try:
        old = begin("old")
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(b"GET /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            until(lambda: "waiting" in (tmp_path / "old").read_text())
            old.terminate()
            until(lambda: not path.exists())
            new = begin("new")
            (tmp_path / "go").touch()
            assert old.wait(PATIENCE) == 0
        assert unix_answer(path) == "first"
        new.terminate()
        assert new.wait(PATIENCE) == 0
        assert not path.exists()
    finally:
        for one in begun:
            if one.poll() is None:
                one.kill()
                one.wait()


THREADED = "import threading\nthreading.Thread(target=threading.Event().wait, name='ticker', daemon=True).start()\n"
"""Each of its workers is an interpreter of its own."""


def test_a_worker_that_cannot_be_started_is_tried_again(tmp_path: Path):
    """Its directory is away for a while, as it may be during a deployment."""
    directory, away = tmp_path / "site", tmp_path / "away"
    directory.mkdir()
    server = Workers(directory, THREADED + SITE, "--workers", "2", env={**os.environ, "PWD": str(directory)})
    server.log_path = away / "log"
    try:
        victim = server.pids(2).pop()
        directory.rename(away)
        os.kill(victim, signal.SIGKILL)
        server.wait_for("a worker cannot be started: ")
        away.rename(directory)
        server.log_path = directory / "log"
        server.wait_for("all 2 workers are ready", times=2)
        server.signal(signal.SIGTERM)
        assert server.end(PATIENCE) == 0
    finally:
        server.kill()


def test_a_module_that_starts_threads_is_not_forked(start: Callable[..., Workers]):
    server = start(THREADED + SITE)
    assert len(server.pids(2)) == 2
    line = "workers are not forked, so that each loads the application itself: the application started threads while it"
    assert server.log.count(line) == 1
    victim = server.pids(2).pop()
    os.kill(victim, signal.SIGKILL)
    server.wait_for(f"worker {victim} was ended by SIGKILL; another one starts now")
    server.wait_for("all 2 workers are ready", times=2)
    server.signal(signal.SIGTERM)
    assert server.end(PATIENCE) == 0


def test_changed_files_are_loaded_and_broken_ones_change_nothing(start: Callable[..., Workers]):
    pytest.importorskip("watchfiles")
    server = start(SITE, "--reload", workers=1)
    [before] = server.pids(1)
    server.deploy('"first"', '"second"')
    server.wait_for("site_under_test.py changed: loading the application anew")
    until(lambda: server.answer()[1] == "second")
    until(lambda: not lives(before))

    server.deploy('"second"', '"third')
    server.wait_for("SyntaxError")
    server.wait_for("the application could not be loaded anew: the workers stay as they are")
    assert server.answer()[1] == "second"

    server.deploy('"third', '"third"')
    until(lambda: server.answer()[1] == "third")


def test_an_application_that_does_not_load_is_tried_again_when_its_files_change(tmp_path: Path):
    """With a module that must not be forked, as everywhere on macOS."""
    pytest.importorskip("watchfiles")
    site, path, log = tmp_path / "mended_site.py", tmp_path / "socket", tmp_path / "log"
    site.write_text("1 / 0\n")
    command = [sys.executable, "-m", "fairway", "--uds", str(path), "--reload", "mended_site:application"]
    with log.open("w") as out:
        process = subprocess.Popen(command, cwd=tmp_path, stderr=out)
    try:
        until(lambda: "could not be loaded: it is tried again when its files change" in log.read_text())
        assert "ZeroDivisionError" in log.read_text()
        thread = "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"
        site.write_text(thread + SITE)
        until(lambda: "all 1 workers are ready" in log.read_text())
        assert "workers are not forked" in log.read_text()
        assert unix_answer(path) == "first"
        site.write_text(thread + SITE.replace('"first"', '"second"'))
        until(lambda: unix_answer(path) == "second")
    finally:
        process.terminate()
        assert process.wait(PATIENCE) == 0


def test_a_module_with_the_name_of_one_of_pythons_keeps_no_worker_from_starting(tmp_path: Path):
    (tmp_path / "queue.py").write_text("raise RuntimeError('not the one that was meant')\n")
    (tmp_path / "plain_site.py").write_text(SITE)
    command = [str(Path(sys.executable).parent / "fairway"), "--port", "0", "--workers", "2", "plain_site:application"]
    log_path = tmp_path / "log"
    with log_path.open("w") as log:
        process = subprocess.Popen(command, cwd=tmp_path, stderr=log)
        try:
            until(lambda: "all 2 workers are ready" in log_path.read_text() or process.poll() is not None)
            assert process.poll() is None, log_path.read_text()
        finally:
            process.terminate()
            assert process.wait(PATIENCE) == 0


def test_what_a_worker_starts_holds_none_of_its_sockets(start: Callable[..., Workers]):
    source = SITE.replace(
        '    text = f"{os.getpid()} {VERSION}"',
        "    import subprocess, sys\n"
        "    code = 'import os; print(len([n for n in range(3, 100) if os.path.exists(f\"/proc/self/fd/{n}\")]))'\n"
        "    done = subprocess.run([sys.executable, '-c', code], close_fds=False, capture_output=True, text=True)\n"
        '    text = f"{os.getpid()} {done.stdout.strip()}"',
    )
    assert {start(source).answer()[1]} == {"0"}


def test_one_more_and_one_less(start: Callable[..., Workers]):
    server = start()
    server.signal(signal.SIGTTIN)
    server.wait_for("3 workers are wanted now")
    assert len(server.pids(3)) == 3
    server.signal(signal.SIGTTOU)
    server.wait_for("2 workers are wanted now")
    server.signal(signal.SIGTTOU)
    server.wait_for("1 workers are wanted now")
    until(lambda: len({server.answer()[0] for _ in range(20)}) == 1)
    server.signal(signal.SIGTTOU)
    server.wait_for("there are 1 workers, and cannot be fewer")


def test_an_application_that_does_not_end_is_killed_in_time(start: Callable[..., Workers]):
    source = SITE.replace(
        '    await receive()\n    await send({"type": "websocket.accept"})',
        '    import time\n    await receive()\n    await send({"type": "websocket.accept"})\n    time.sleep(600)',
    )
    server = start(source, limits={"SHUTDOWN_TIMEOUT": 0.5, "LIFESPAN_TIMEOUT": 0.5, "DRAIN_SECONDS": 0.5})
    with server.connect() as client:
        client.sendall(
            b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        time.sleep(0.3)  # nothing is said by a loop that stands still
        server.signal(signal.SIGTERM)
        assert server.end(PATIENCE) == 0


def run_to_its_end(directory: Path, source: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    (directory / "failing_site.py").write_text(source)
    command = [sys.executable, "-m", "fairway", "--port", "0", "--workers", "2", *arguments, "failing_site:application"]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=60)


def test_an_application_that_does_not_load_is_said_once(tmp_path: Path):
    done = run_to_its_end(tmp_path, "1 / 0\n")
    assert done.returncode == 1
    assert done.stderr.count("Traceback") == 1
    assert 'fairway: "failing_site" cannot be imported: ZeroDivisionError: division by zero\n' in done.stderr


def test_an_application_that_refuses_to_start_ends_the_server(tmp_path: Path):
    source = (
        "async def application(scope, receive, send):\n"
        "    await receive()\n"
        '    await send({"type": "lifespan.startup.failed", "message": "no database"})\n'
    )
    done = run_to_its_end(tmp_path, source)
    assert done.returncode == 3
    assert "no database" in done.stderr
    assert "another one starts" not in done.stderr


def test_a_port_in_use_is_said_before_anything_is_loaded(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run_to_its_end(tmp_path, "print('loaded')", "--port", str(port))
    assert done.returncode == 1
    assert done.stdout == ""
    assert f"fairway: port {port} is already in use" in done.stderr


def test_without_its_directory_there_is_one_sentence(tmp_path: Path):
    gone = tmp_path / "gone"
    gone.mkdir()
    script = f'rmdir "{gone}" && {sys.executable} -m fairway "$@"; code=$?; mkdir "{gone}"; exit $code'
    for workers in ("1", "2"):
        command = ["sh", "-c", script, "sh", "--workers", workers, "site:application"]
        done = subprocess.run(command, cwd=gone, capture_output=True, text=True, timeout=60)
        assert done.returncode == 1
        assert done.stderr == "fairway: the current directory has been removed: change to one that exists\n"


@pytest.mark.parametrize("workers", ["1", "2"])
def test_too_few_descriptors_are_said_in_one_sentence(tmp_path: Path, workers: str):
    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))

    (tmp_path / "failing_site.py").write_text(SITE)
    command = [sys.executable, "-m", "fairway", "--port", "0", "--workers", workers, "failing_site:application"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, preexec_fn=few)
    assert done.returncode == 1
    assert done.stderr == "fairway: this process may open 16 files only: allow at least 32 (ulimit -n)\n"


def test_a_system_that_starts_no_process_is_told_in_one_sentence(tmp_path: Path):
    supervisor = Supervisor([str(tmp_path / "no-python")], [], 1, lambda _: None, lambda: None)
    with pytest.raises(ConfigurationError, match=r"no process can be started for the application: .*no-python"):
        supervisor.run()


def test_the_first_process_of_a_container_collects_orphans(tmp_path: Path):
    """PID 1 inherits what workers have left behind; nobody else waits for it."""
    source = SITE.replace(
        "    text = ",
        '    if scope["path"] == "/orphan": subprocess.run(["sh", "-c", "true & exec true"])\n    text = ',
    )
    container = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    if os.geteuid() != 0:
        container.insert(1, "--map-root-user")
    if subprocess.run([*container, "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("this system makes no PID namespaces for us")
    (tmp_path / "failing_site.py").write_text("import subprocess\n" + source)
    path, log = tmp_path / "socket", tmp_path / "log"
    command = [sys.executable, "-m", "fairway", "--uds", str(path), "--workers", "2", "failing_site:application"]
    with log.open("w") as stderr:
        outer = subprocess.Popen([*container, *command], cwd=tmp_path, stderr=stderr)
    try:
        until(lambda: "all 2 workers are ready" in log.read_text())
        (first,) = family(outer.pid)[1:2]
        for _ in range(5):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
                client.sendall(b"GET /orphan HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                assert b"first" in b"".join(iter(lambda: client.recv(4096), b""))
        # Supervisor, nursery, two workers: an orphan may still run, or may have ended and wait to be collected.
        until(lambda: len(of_it := family(first)) == 4 and all(map(lives, of_it)))
        os.kill(first, signal.SIGTERM)
        assert outer.wait(PATIENCE) == 0
    finally:
        outer.kill()
        outer.wait()


@pytest.mark.parametrize("number", ["0", "-1", "many", "1000"])
def test_a_number_of_workers_is_a_number(tmp_path: Path, number: str):
    done = run_to_its_end(tmp_path, "", f"--workers={number}")
    assert done.returncode == 2
    assert f"write a number from 1 to 256, or auto, not '{number}'" in done.stderr


def test_an_empty_variable_is_no_number_of_workers(tmp_path: Path):
    """As compose files give it where nothing is set."""
    (tmp_path / "failing_site.py").write_text("1 / 0\n")
    done = subprocess.run(
        [sys.executable, "-m", "fairway", "--port", "0", "failing_site:application"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, env={**os.environ, "WEB_CONCURRENCY": ""},
    )  # fmt: skip
    assert "division by zero" in done.stderr
    assert done.returncode == 1
