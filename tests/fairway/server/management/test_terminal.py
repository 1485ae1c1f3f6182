"""`fairway status`: its picture, its sentences, and how it looks at a real terminal."""

from __future__ import annotations

import copy
import io
import json
import os
import pty
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from fcntl import ioctl
from typing import Any

import pytest
from tests.fairway.server.management.test_metrics import FIGURES

from fairway.server.management.address import Address
from fairway.server.management.endpoint import Endpoint, listen
from fairway.server.management.overview import Overview, ProcessView
from fairway.server.management.pages import Page
from fairway.server.management.terminal import duration, lag, lines, main, number

PATIENCE = 20.0


def status(**changes: Any) -> dict[str, Any]:
    processes = tuple(ProcessView(slot, 4000 + slot, "ready", 1, 90.0, 0.1, FIGURES) for slot in range(2))
    overview = Overview(**{"wanted": 2, "uptime": 91.0, "processes": processes, **changes})
    return dict(json.loads(overview.to_json()))


def later(before: dict[str, Any], messages: int, delivered: int) -> dict[str, Any]:
    after = copy.deepcopy(before)
    for one in after["processes"]:
        one["figures"]["counters"]["server"]["messages_received"] += messages
        one["figures"]["delivered"] += delivered
    return after


def test_rates_are_what_has_come_since() -> None:
    before = status()
    shown = lines(later(before, 20, 5000), before, 2.0)
    assert "ready, 2 of 2   up 1m31s   restarts 0" in shown[0]
    assert shown[1] == "connections 12 (http1 2, http2 0, websocket 10, arriving 0)"
    assert shown[2] == "messages 20/s   broadcasts 5,000/s   requests 0/s   errors 0/s"
    assert shown[-2].split() == ["0", "4000", "ready", "1m30s", "6", "10", "2,500", "0", "250ms", "0%", "30M"]


def test_without_an_earlier_answer_there_are_no_rates() -> None:
    shown = lines(status(), None, 0.0)
    assert shown[2] == "messages -   broadcasts -   requests -   errors -"
    assert shown[-1].split() == ["1", "4001", "ready", "1m30s", "6", "-", "-", "-", "250ms", "-", "30M"]


def test_a_process_that_is_new_has_no_rates_and_one_that_says_nothing_has_a_row() -> None:
    before, after = status(), status()
    after["processes"][1]["pid"] = 5000
    after["processes"][0] |= {"figures": {}, "state": "starting", "pid": None}
    shown = lines(after, before, 1.0)
    assert shown[-2].split() == ["0", "-", "starting", "1m30s", *["-"] * 7]
    assert shown[-1].split()[5:8] == ["-"] * 3


def test_a_layer_that_is_away_shows_although_another_process_has_it() -> None:
    one = status()
    one["processes"][0]["figures"]["up"] = {"channel layer Redis": True}
    one["processes"][1]["figures"]["up"] = {"channel layer Redis": False}
    assert "channel layer Redis: DOWN" in lines(one, None, 0.0)


def test_a_layer_that_nobody_uses_yet_shows_as_such() -> None:
    one = status()
    for process in one["processes"]:
        process["figures"] |= {"up": {"channel layer Redis": True}, "unused": ["channel layer Redis"]}
    assert "channel layer Redis: not used yet" in lines(one, None, 0.0)
    one["processes"][1]["figures"]["unused"] = []
    assert "channel layer Redis: up" in lines(one, None, 0.0)


def test_bytes_and_what_waits_are_shown() -> None:
    before = status()
    after = later(before, 0, 0)
    for one in after["processes"]:
        one["figures"]["received_bytes"]["http1"] += 3_000_000
        one["figures"]["sent_bytes"]["http2"] += 500
    shown = lines(after, before, 1.0)
    assert "bytes: in 6,000k/s   out 1,000/s" in shown
    assert "waiting: messages 6 (largest 2)   bytes 1,800 (largest 800)" in shown


def test_large_numbers_fit_80_columns_and_nothing_reaches_the_terminal_as_it_is() -> None:
    before = status(uptime=9e7, restarts=123_456)
    for one in before["processes"]:
        one |= {"pid": 4_194_304, "uptime": 9e7, "slot": 99}
        one["figures"] |= {
            "connections": dict.fromkeys(("http1", "http2", "websocket", "arriving"), 99_999),
            "up": {f"channel layer \x1b[2J{'x' * 200}": True},
            "resident": 99_999_000_000,
            "waiting": dict.fromkeys(("messages", "most_messages", "bytes", "most_bytes"), 99_999_999),
            "loop_lag": 1234.5,
        }
    shown = lines(later(before, 10**9, 10**10), before, 1.0)
    assert max(map(len, shown)) <= 80, shown
    assert all(line.isprintable() for line in shown)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.25, "0.2"),
        (9, "9"),
        (12.7, "13"),
        (99_999, "99,999"),
        (123_456, "123k"),
        (2e7, "20M"),
        (5e10, "50G"),
    ],
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.5, "0s"), (61, "1m01s"), (3 * 3600 + 120, "3h02m"), (86400 * 400, "400d00h")]
)
def test_durations_are_short(seconds: float, text: str) -> None:
    assert duration(seconds) == text
    assert (lag(0.0123), lag(75)) == ("12ms", "75s")


class Server:
    """Answers `/status` with what the test has put there."""

    def __init__(self) -> None:
        listening = listen(Address(host="127.0.0.1", port=0))
        self.name = f"127.0.0.1:{listening.getsockname()[1]}"
        self.body = json.dumps(status())
        self.endpoint = Endpoint(listening, {"/status": lambda: Page(200, self.body)})
        self.endpoint.start()


@pytest.fixture
def server() -> Iterator[Server]:
    one = Server()
    yield one
    one.endpoint.close()


@pytest.mark.slow
def test_it_prints_once_or_as_json(server: Server) -> None:
    out = io.StringIO()
    assert main(["--once"], server.name, out) == 0
    assert "messages 0/s" in out.getvalue() or "messages -" in out.getvalue()
    assert "\x1b" not in out.getvalue()
    out = io.StringIO()
    assert main([server.name, "--json"], "", out) == 0
    assert json.loads(out.getvalue()) == status()


def error(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main([*arguments, "--json"]) == 1
    text = capsys.readouterr().err
    assert text.startswith("fairway: ")
    assert text.count("\n") == 1
    return text


def test_mistakes_are_one_sentence(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert "say where the server's management socket is" in error(capsys)
    assert "the address is no address: write unix:/path" in error(capsys, "here")
    assert "nothing listens at unix:/nowhere/at/all: is the server running" in error(capsys, "unix:/nowhere/at/all")
    server.body = '{"ready": 5}'
    assert "is no management socket of this version" in error(capsys, server.name)
    server.body = "\x1b[2J"
    assert "is no management socket of this version" in error(capsys, server.name)


def test_another_protocol_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        process = subprocess.Popen(
            [sys.executable, "-m", "fairway", "status", f"127.0.0.1:{listening.getsockname()[1]}", "--json"],
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        accepted, _ = listening.accept()
        with accepted:
            accepted.sendall(b"SSH-2.0-OpenSSH\r\n")
            assert process.communicate(timeout=PATIENCE)[1].startswith("fairway: 127.0.0.1:")
    assert process.returncode == 1


@pytest.mark.slow
def test_it_draws_at_a_terminal_until_it_is_ended(server: Server) -> None:
    terminal, end = pty.openpty()
    ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "fairway", "status", server.name], stdin=end, stdout=end, stderr=end,
        env={key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES")},
    )  # fmt: skip
    os.close(end)
    seen = b""

    def read_until(text: bytes, times: int = 1) -> None:
        nonlocal seen
        deadline = time.monotonic() + PATIENCE
        while seen.count(text) < times:
            assert select.select([terminal], [], [], deadline - time.monotonic())[0], seen
            seen += os.read(terminal, 65536)

    read_until(b"fairway ", times=3)  # it is drawn anew
    server.endpoint.close()
    read_until(b"is the server running")
    process.send_signal(signal.SIGINT)
    read_until(b"\x1b[?25h")  # the cursor is shown again
    assert process.wait(PATIENCE) == 0
    os.close(terminal)
    pictures = seen.split(b"\x1b[H")[1:]
    rows = [row.split(b"\x1b")[0].rstrip() for picture in pictures for row in picture.split(b"\n")]
    assert max(map(len, rows)) < 80
