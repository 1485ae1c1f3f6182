"""Who blocks the event loop is named, once, and so is how long it took."""

from __future__ import annotations

import re
import signal
import threading
import time
from pathlib import Path

import pytest
from tests.fairway.server.site_process import PATIENCE, SiteProcess, serving

from fairway.server.watchdog import Blocked, Freed, Pulse

LIMIT = 4.0


def begin() -> Pulse:
    pulse = Pulse(LIMIT, now=100.0, cpu=0.0)
    assert pulse.interval == 1.0
    return pulse


# Policy -------------------------------------------------------------------------------------------------------------


def test_loop_that_turns_is_not_spoken_of():
    pulse = begin()
    for second in range(100):
        pulse.beat(100.0 + second)
        assert pulse.check(100.5 + second, cpu=0.0) is None


def test_loop_that_stands_still_is_named_once_and_its_end_once():
    pulse = begin()
    pulse.beat(101.0)
    said = [pulse.check(100.0 + second, cpu=0.0) for second in range(2, 11)]
    assert said == [None, None, None, Blocked(4.0), *[None] * 5]

    pulse.beat(110.5)
    pulse.beat(111.5)
    assert pulse.check(111.75, cpu=0.0) == Freed(9.5)
    assert pulse.check(112.75, cpu=0.0) is None


def test_each_stall_has_its_warning():
    pulse = begin()
    said = []
    for second in range(30):
        if second % 10 >= 6:
            pulse.beat(100.0 + second)
        said.append(pulse.check(100.25 + second, cpu=0.0))

    assert [each for each in said if each] == [
        Blocked(4.25), Freed(6.0), Blocked(4.25), Freed(7.0), Blocked(4.25), Freed(7.0),
    ]  # fmt: skip


def test_process_that_was_stopped_has_not_blocked():
    pulse = begin()
    pulse.beat(101.0)
    assert pulse.check(101.5, cpu=0.5) is None

    assert pulse.check(3700.0, cpu=1.5) is None  # it was stopped when it had computed for a second
    pulse.beat(3700.0)
    assert pulse.check(3701.0, cpu=1.6) is None


def test_stall_goes_on_after_the_process_was_stopped():
    pulse = begin()
    assert pulse.check(200.0, cpu=0.0) is None

    said = [pulse.check(200.0 + second, cpu=0.0) for second in range(1, 6)]
    assert said == [None, None, None, Blocked(4.0), None]


def test_call_that_kept_the_interpreter_to_itself_has_blocked():
    """The thread was as late as after a stop, but the processor was used."""
    pulse = begin()
    pulse.beat(101.0)
    assert pulse.check(101.5, cpu=0.0) is None

    assert pulse.check(109.0, cpu=2.0) == Blocked(8.0)  # of a busy machine


# Processes ----------------------------------------------------------------------------------------------------------

SITE = """
import asyncio, os, re, time

async def answer(send, body=b"fine"):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})

def sleep_in_the_loop():
    deadline = time.monotonic() + 1.0
    while time.monotonic() < deadline:
        time.sleep(0.05)

def never_match():
    re.match(r"(a+)+$", "a" * 24 + "b")  # a second within one call, which keeps the interpreter to itself

async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        time.sleep(0.5)  # a start-up may take its time
        raise NotImplementedError
    if scope["path"] == "/sleep":
        sleep_in_the_loop()
    if scope["path"] == "/match":
        never_match()
    if scope["path"] == "/callback":
        asyncio.get_running_loop().call_soon(sleep_in_the_loop)
    if scope["path"] == "/fork":
        child = os.fork()
        if child == 0:
            time.sleep(1.0)
            os._exit(0)
        await asyncio.to_thread(os.waitpid, child, 0)
    await answer(send)
"""

SOON = {"STALL_WARNING": 0.2}


def stalls(process: SiteProcess) -> list[str]:
    return re.findall("has been blocked", process.log)


@pytest.mark.slow
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize(("path", "function"), [("/sleep", "sleep_in_the_loop"), ("/match", "never_match")])
def test_function_that_blocks_the_loop_is_named_with_one_stack(tmp_path: Path, loop: str, path: str, function: str):
    with serving(tmp_path, SITE, "--loop", loop, limits=SOON) as process:
        assert stalls(process) == []
        assert process.get(path + "?token=secret").endswith(b"fine")

        end = process.wait_for("the event loop turns again: it was blocked for ")
        (warning,) = [line for line in process.log.splitlines() if "has been blocked" in line]
        assert re.search(
            rf" WARNING the event loop has been blocked for \d\.\d s in {function} \(.*site_under_test\.py:\d+\), "
            rf"which serves {path}\?token=\*\*\* for 127\.0\.0\.1:\d+: nobody is served until it turns again$",
            warning,
        )
        stack = process.log.partition(warning)[2].partition(end)[0]
        assert stack.startswith('\nStack (most recent call last):\n  File "')
        assert stack.splitlines()[2].endswith(", in application")
        assert f"in {function}\n" in stack
        assert process.log.count("Stack (most recent call last)") == 1
        assert " WARNING " in end
        assert re.search(r"blocked for \d+\.\d s$", end)


@pytest.mark.slow
def test_callback_that_blocks_the_loop_is_named(tmp_path: Path):
    with serving(tmp_path, SITE, limits=SOON) as process:
        process.get("/callback")

        line = process.wait_for("has been blocked")
        assert re.search(r"in sleep_in_the_loop \(.*site_under_test\.py:\d+\): nobody is served", line)


@pytest.mark.slow
def test_stop_of_the_process_and_a_child_are_no_stalls(tmp_path: Path):
    with serving(tmp_path, SITE, limits=SOON) as process:
        process.get("/fork")
        process.signal(signal.SIGSTOP)
        threading.Event().wait(1.0)
        process.signal(signal.SIGCONT)
        process.get("/")
        # What is said of a real one afterwards is all that is said.
        process.get("/sleep")
        process.wait_for("turns again")
        assert len(stalls(process)) == 1


@pytest.mark.slow
def test_zero_switches_it_off_and_nothing_is_left_to_wait_for(tmp_path: Path):
    with serving(tmp_path, SITE, limits={"STALL_WARNING": 0}) as process:
        names = [path.read_text() for path in Path(f"/proc/{process.popen.pid}/task").glob("*/comm")]
        process.get("/sleep")
        process.signal()
        assert process.end(PATIENCE) == 0
        assert stalls(process) == []
        assert len(names) == 1


@pytest.mark.slow
def test_server_that_stops_does_not_wait_for_it(tmp_path: Path):
    with serving(tmp_path, SITE, limits={"STALL_WARNING": 240}) as process:
        process.get("/")
        began = time.monotonic()
        process.signal()
        assert process.end(PATIENCE) == 0
        assert time.monotonic() - began < 5.0
