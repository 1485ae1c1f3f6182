"""How testers share the tests, and what becomes of them: with tests that are made for it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.testers import LOOK, Reinforcement, units

ROOT = Path(__file__).resolve().parents[1]

CONFTEST = """
import pytest

def pytest_configure(config):
    for marker in ("browser", "slow", "timeout(seconds)"):
        config.addinivalue_line("markers", marker)

@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    folder = tmp_path_factory.getbasetemp()
    yield folder
    if (folder / "spoilt").exists():
        raise RuntimeError("it does not end")
"""


def run(folder: Path, *options: str, **files: str) -> tuple[int, str]:
    """The status and what is printed, if these are the tests, two processes share them, and no plugin is there."""
    (folder / "conftest.py").write_text(CONFTEST)
    for name, source in files.items():
        (folder / f"test_{name}.py").write_text(f"import os, sys, warnings\nimport pytest\n{source}")
    command = [sys.executable, "-m", "pytest", "-p", "tests.testers", "--testers=2", "-p", "no:cacheprovider"]
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": "", "COLUMNS": "200"}
    done = subprocess.run(
        [*command, "-rA", f"--rootdir={folder}", "-c", os.devnull, f"--basetemp={folder / 'temporary'}", *options,
         folder], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.stderr == ""
    return done.returncode, done.stdout


@pytest.mark.slow
def test_what_is_found_elsewhere_is_reported_here(tmp_path: Path):
    status, printed = run(
        tmp_path,
        first="def test_good(): pass\ndef test_bad():\n    print('words of it')\n    assert 1 == 2",
        second="def test_warns(): warnings.warn('take care')\n@pytest.mark.skip(reason='why')\ndef test_skipped(): ...",
        third="@pytest.fixture\ndef broken():\n    yield\n    raise ValueError('at its end')\ndef test_it(broken): ...",
    )

    assert status == pytest.ExitCode.TESTS_FAILED
    assert "1 failed, 3 passed, 1 skipped, 1 warning, 1 error in" in printed
    # What fails is named when it does.
    assert printed.index("FAILED test_first.py::test_bad (call)") < printed.index("= FAILURES =")
    assert "FAILED test_third.py::test_it (teardown)" in printed
    for words in ("assert 1 == 2", "words of it", "UserWarning: take care", "why", "ValueError: at its end"):
        assert words in printed
    assert re.search(r"^ERROR \S*test_third.py::test_it - ValueError: at its end$", printed, re.MULTILINE)


@pytest.mark.slow
def test_one_that_dies_fails_its_test_and_another_does_the_rest(tmp_path: Path):
    dies = "def test_before(): pass\ndef test_dies(): os._exit(7)\ndef test_after(): pass"
    status, printed = run(tmp_path, dies=dies, other="def test_other(): pass")

    assert status == pytest.ExitCode.TESTS_FAILED
    assert "test_dies.py::test_dies - the tester ended with 7 in the middle of this test\n" in printed
    assert "1 failed, 3 passed in" in printed


@pytest.mark.slow
def test_one_that_takes_too_long_says_so_and_where_its_threads_were(tmp_path: Path):
    slow = (
        "import threading\n@pytest.mark.timeout(0.5)\ndef test_slow():\n    over = threading.Event()\n"
        "    threading.Thread(target=over.wait, args=[60], name='beside it', daemon=True).start()\n    over.wait(60)"
    )
    status, printed = run(tmp_path, "-p", "pytest_timeout", slow=slow, other="def test_other(): pass")

    assert status == pytest.ExitCode.TESTS_FAILED
    assert "Timeout (>0.5s) from pytest-timeout" in printed
    assert "Stack of beside it" in printed


@pytest.mark.slow
def test_what_a_test_has_left_running_holds_up_nobody(tmp_path: Path):
    leaves = (
        "import multiprocessing, time\n"
        "def linger():\n"
        "    os.closerange(0, 1000)\n"
        "    time.sleep(100)\n"
        "def test_it():\n"
        "    child = multiprocessing.get_context('fork').Process(target=linger)\n"
        "    child.start()\n"
        "    print('child', child.pid)"
    )
    status, printed = run(tmp_path, leaves=leaves, other="def test_other(): pass")
    os.kill(int(re.findall(r"^child (\d+)$", printed, re.MULTILINE)[0]), signal.SIGKILL)

    assert status == pytest.ExitCode.OK
    assert "2 passed in" in printed


@pytest.mark.slow
def test_what_is_the_sessions_is_shared_by_files_and_its_end_is_that_of_the_last_test(tmp_path: Path):
    uses = "def test_it(shared):\n    print('folder', shared, os.getpid())\n"
    spoils = "def test_spoils(shared): (shared / 'spoilt').touch()"
    status, printed = run(tmp_path, **{f"number_{number}": uses for number in range(8)}, spoils=spoils)

    folders = dict(re.findall(r"^folder \S+/temporary/(\d) (\d+)$", printed, re.MULTILINE))
    assert set(folders) <= {"1", "2"}
    assert len(set(folders.values())) == len(folders)
    assert status == pytest.ExitCode.TESTS_FAILED
    assert "9 passed, 1 error in" in printed
    assert "RuntimeError: it does not end" in printed


@pytest.mark.slow
def test_the_first_failure_may_end_it(tmp_path: Path):
    bad = "def test_bad(): assert False\n"
    status, printed = run(tmp_path, "-x", a=bad, b="".join(bad.replace("bad", f"bad_{n}") for n in range(50)))

    assert status == pytest.ExitCode.TESTS_FAILED
    assert "stopping after 1 failures" in printed
    assert re.search(r"^=+ 1 failed in", printed, re.MULTILINE)


class Marked(NamedTuple):
    """As much of a test as its place among others depends on."""

    nodeid: str
    marks: tuple[pytest.MarkDecorator, ...] = ()

    def get_closest_marker(self, name: str) -> pytest.Mark | None:
        return next((one.mark for one in self.marks if one.mark.name == name), None)


def test_browsers_come_first_then_who_asks_for_time_then_the_slow():
    browser, slow, patient = (pytest.mark.browser,), (pytest.mark.slow,), (pytest.mark.browser, pytest.mark.patient)
    marks = {
        "a.py::one": (), "b.py::one": slow, "c.py::one": (pytest.mark.timeout(200),), "d.py::one": browser,
        "a.py::two": (), "e.py::one": (), "f.py::A::one": (pytest.mark.timeout(timeout=300),),
        "g.py::one": browser, "f.py::B::one": (), "h.py::one": patient,
    }  # fmt: skip

    found = units([Marked(*named) for named in marks.items()])

    names = list(marks)
    assert [[names[number] for number in unit] for unit in found] == [
        ["d.py::one", "g.py::one"],
        ["f.py::A::one", "f.py::B::one"],
        ["c.py::one"],
        ["b.py::one"],
        ["a.py::one", "a.py::two"],
        ["e.py::one"],
        ["h.py::one"],
    ]


def test_there_are_more_while_the_processors_have_little_to_do():
    more = Reinforcement(2)
    counts, idle = [], 0.0
    for number, share in enumerate([0.9, 0.5, 0.9, 0.9, 0.2, 0.0, 0.0, 0.0]):
        idle += share * 4 * LOOK
        more.look(number * LOOK, idle, 4)
        more.look(number * LOOK + LOOK / 2, 10 * idle, 4)  # too early to say anything
        counts.append(more.count)
    assert counts == [0, 1, 2, 2, 2, 1, 0, 0]


@pytest.mark.slow
def test_those_who_are_taken_on_for_a_while_do_their_part_and_leave(tmp_path: Path):
    waits = "import time\ndef test_waits():\n    time.sleep(2)\n    print('pid', os.getpid())"
    status, printed = run(tmp_path, **{f"number_{number}": waits for number in range(9)})

    assert status == pytest.ExitCode.OK
    assert "9 passed in" in printed
