"""Share the tests among processes that are copies of one: `python -m pytest -p tests.testers --testers 3`.

To load ten thousand tests takes ten seconds, so it is done once, by the process that was started. It then forks: each
*tester* has all tests before it, and asks for one *unit* after the other until none is left. A unit is the tests of a
file, so that what these share is started once; all that drive a browser are one unit, so that one browser runs at a
time, beside tests without one. Those that are marked `patient` need not be in it: they have no deadline that a second
browser would make them miss. What a tester finds comes over a pipe, and is reported as if it had been found here.

Many tests wait most of the time. So while the processors have little to do, there are up to twice as many testers.

A tester is pytest itself, which ends fixtures and plugins as it always does. Then it is gone at once, as a process of
pytest-xdist is: what a failed test has left running would hold up an interpreter that ends. What it prints, a test's
output apart, is not shown. One that dies fails the test that it was at, and another takes its place.
"""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from itertools import zip_longest
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any

import pytest
from _pytest.config import create_terminal_writer

LOOK = 3.0
"""Seconds between two looks at the processors."""

IDLE, BUSY = 0.35, 0.12
"""From which idle share of the processors on there is one tester more, and up to which one less."""

ENDINGS = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
"""How a tester ends that has not been cut off."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--testers", type=int, default=0, metavar="N", help="share the tests among N processes")


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    options = session.config.option
    if options.testers < 2 or options.collectonly or options.usepdb:
        return None
    if session.testsfailed and not options.continue_on_collection_errors:
        return None
    return Crew(session, options.testers).run()


# Units ---------------------------------------------------------------------------------------------------------------


def units(items: Sequence[pytest.Item]) -> list[list[int]]:
    """The tests by their numbers: browsers first, then files with tests that ask for more time than others, then those
    with slow ones. What is quick comes last, so that all testers end at the same time.
    """
    found: dict[str, list[int]] = {}
    for number, item in enumerate(items):
        is_alone = item.get_closest_marker("browser") is not None and item.get_closest_marker("patient") is None
        found.setdefault("" if is_alone else item.nodeid.partition("::")[0], []).append(number)

    def rank(named: tuple[str, list[int]]) -> tuple[bool, float, bool]:
        name, unit = named
        of_it = [items[number] for number in unit]
        return bool(name), -max(map(patience, of_it)), not any(item.get_closest_marker("slow") for item in of_it)

    return [unit for _, unit in sorted(found.items(), key=rank)]


def patience(item: pytest.Item) -> float:
    """How many seconds a test has asked for by its marker."""
    marker = item.get_closest_marker("timeout")
    return float(marker.kwargs.get("timeout") or marker.args[0]) if marker else 0.0


# In the process that was started -------------------------------------------------------------------------------------


class Tester:
    """One of the copies, as the process that was started knows it."""

    def __init__(self, pid: int, line: Connection) -> None:
        self.pid = pid
        self.line = line
        self.unit: list[int] = []
        self.test: int | None = None


class Reinforcement:
    """How many testers there should be beyond the fixed number. Pure: times are arguments, in seconds."""

    def __init__(self, most: int) -> None:
        self.count = 0
        self.most = most
        self.seen: tuple[float, float] | None = None

    def look(self, now: float, idle: float, processors: int) -> None:
        """`idle` is the time that all processors together have been idle, since whenever."""
        if self.seen is not None:
            passed = now - self.seen[0]
            if passed < LOOK:
                return
            share = (idle - self.seen[1]) / (passed * processors)
            if share >= IDLE:
                self.count = min(self.count + 1, self.most)
            elif share <= BUSY:
                self.count = max(self.count - 1, 0)
        self.seen = now, idle


def idle_seconds() -> float:
    """How long all processors together have been idle. Always 0 where the system does not tell."""
    try:
        with open("/proc/stat") as file:
            _, _, _, _, idle, waiting, *_ = file.readline().split()
    except OSError:
        return 0.0
    return (int(idle) + int(waiting)) / os.sysconf("SC_CLK_TCK")


class Crew:
    """The testers of a run."""

    def __init__(self, session: pytest.Session, count: int) -> None:
        self.session = session
        self.count = count
        self.more = Reinforcement(count)
        self.units = deque(units(session.items))
        self.testers: dict[Connection, Tester] = {}
        self.taken_on = 0
        session.config._tmp_path_factory.getbasetemp()  # of which each has a part

    def run(self) -> bool:
        """Returns when all is done: here, and in each of the copies when its part is."""
        try:
            while True:
                self.more.look(time.monotonic(), idle_seconds(), os.cpu_count() or 1)
                while self.units and len(self.testers) < self.count + self.more.count:
                    if line := self.take_on():
                        work(self.session, line)
                        return True
                if not self.testers:
                    return True
                for line in wait(list(self.testers), LOOK if self.units else None):
                    self.hear(self.testers[line])
        finally:
            for tester in list(self.testers.values()):
                tester.line.close()
                os.waitpid(tester.pid, 0)

    def take_on(self) -> Connection | None:
        """Fork. In the copy: the line to where it came from."""
        here, there = Pipe()
        if reporter := self.session.config.pluginmanager.get_plugin("terminalreporter"):
            # What becomes of one file after another is not printed beside its name.
            reporter.showfspath = False
            reporter.flush()
        sys.stdout.flush()
        sys.stderr.flush()
        self.taken_on += 1
        pid = os.fork()
        if pid:
            there.close()
            self.testers[here] = Tester(pid, here)
            return None
        for line in [here, *self.testers]:
            line.close()
        self.testers.clear()
        become_tester(self.session.config, self.taken_on)
        return there

    def hear(self, tester: Tester) -> None:
        try:
            word, what = tester.line.recv()
        except (EOFError, ConnectionError):
            self.part_with(tester)
            return
        match word:
            case "asks":
                is_wanted = len(self.testers) <= self.count + self.more.count
                tester.unit = self.units.popleft() if self.units and is_wanted else []
                with suppress(ConnectionError):  # the end is noticed in a moment
                    tester.line.send(tester.unit)
            case "leaves":
                self.part_with(tester)
            case "begins":
                tester.test = what
            case "has found":
                item, tester.test = self.session.items[tester.test or 0], None
                self.report(item, what)

    def report(self, item: pytest.Item, found: list[tuple[str, Any]]) -> None:
        config = self.session.config
        for kind, data in found:
            if kind == "warning":
                config.hook.pytest_warning_recorded.call_historic(kwargs=warning_of(data))
            else:
                report = config.hook.pytest_report_from_serializable(config=config, data=data)
                config.hook.pytest_runtest_logreport(report=report)
                if report.failed:
                    self.name_failure(report)
        config.hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        if self.session.shouldfail:
            raise self.session.Failed(self.session.shouldfail)
        if self.session.shouldstop:
            raise self.session.Interrupted(self.session.shouldstop)

    def name_failure(self, report: pytest.TestReport) -> None:
        """Name it now: what is wrong with it is printed when all are done, minutes later."""
        if (reporter := self.session.config.pluginmanager.get_plugin("terminalreporter")) and reporter.verbosity < 1:
            reporter.ensure_newline()
            reporter.write_line(f"{report.outcome.upper()} {report.nodeid} ({report.when})", red=True)

    def part_with(self, tester: Tester) -> None:
        """It has ended. If not of its own accord, the test that it was at has failed, and others do the rest."""
        del self.testers[tester.line]
        tester.line.close()
        code = os.waitstatus_to_exitcode(os.waitpid(tester.pid, 0)[1])
        if tester.test is None and code in ENDINGS:
            return
        number = tester.unit[-1] if tester.test is None else tester.test
        if rest := tester.unit[tester.unit.index(number) + 1 :]:
            self.units.appendleft(rest)
        item = self.session.items[number]
        words = f"the tester ended with {code} {'after' if tester.test is None else 'in the middle of'} this test"
        report = pytest.TestReport(item.nodeid, item.location, {}, "failed", words, "call")
        findings = Findings(self.session.config)
        findings.pytest_runtest_logreport(report)
        self.report(item, findings.taken())


# In a tester ---------------------------------------------------------------------------------------------------------


class Findings:
    """What a test leads to: reports and warnings, in a form that a pipe takes."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.found: list[tuple[str, Any]] = []
        self.ending = int(pytest.ExitCode.INTERNAL_ERROR)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, exitstatus: int) -> None:
        self.ending = int(exitstatus)

    @pytest.hookimpl(trylast=True)
    def pytest_unconfigure(self) -> None:
        sys.stderr.flush()
        os._exit(self.ending)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        data = self.config.hook.pytest_report_to_serializable(config=self.config, report=report)
        self.found.append(("report", data))

    def pytest_warning_recorded(
        self, warning_message: warnings.WarningMessage, when: str, nodeid: str, location: object
    ) -> None:
        of_it = warning_message
        text = str(of_it.message), of_it.category.__name__, of_it.filename, of_it.lineno
        self.found.append(("warning", (text, when, nodeid, location)))

    def taken(self) -> list[tuple[str, Any]]:
        found, self.found = self.found, []
        return found


def warning_of(data: Any) -> dict[str, Any]:
    """The arguments of pytest's hook. The category is one of the same name: the true one may be a test's own."""
    (words, category, filename, line), when, nodeid, location = data
    message = warnings.WarningMessage(words, type(category, (Warning,), {}), filename, line)
    return {"warning_message": message, "when": when, "nodeid": nodeid, "location": location}


def become_tester(config: pytest.Config, number: int) -> None:
    """Share with the others neither the terminal, nor the file for output, nor a folder, nor a database.

    Plugins ask for `workerinput`: who has it runs beside others, and leaves what is left to say to somebody else.
    """
    config.workerinput = {"workerid": f"gw{number}", "testrunuid": str(os.getppid())}
    plugins = config.pluginmanager
    plugins.unregister(name="terminalreporter")
    # A test that takes too long is ended after all stacks were written: that is part of its output here.
    config.get_terminal_writer = lambda: create_terminal_writer(config)
    if (capture := plugins.get_plugin("capturemanager")) and config.option.capture != "no":
        capture.stop_global_capturing()
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
        capture.start_global_capturing()
        capture.suspend_global_capture()
    folders = config._tmp_path_factory
    folders._basetemp = folders.getbasetemp() / str(number)
    folders._basetemp.mkdir(mode=0o700)


def work(session: pytest.Session, line: Connection) -> None:
    """Do one unit after the other. Whoever gave them may go away, and that is the end."""
    findings = Findings(session.config)
    session.config.pluginmanager.register(findings)
    number = None
    with suppress(ConnectionError, EOFError):
        while unit := ask(line):
            for number, following in zip_longest(unit, unit[1:]):
                line.send(("begins", number))
                # Behind the last one all ends but what is the session's.
                session.config.hook.pytest_runtest_protocol(
                    item=session.items[number], nextitem=session if following is None else session.items[following]
                )
                line.send(("has found", findings.taken()))
                if session.shouldfail or session.shouldstop:
                    return
        if number is not None:
            line.send(("begins", number))
            end_of_session(session, session.items[number])
            line.send(("has found", findings.taken()))
        # Who listens does not wait for the end of the line, which a fork of a test's may hold.
        line.send(("leaves", None))


def ask(line: Connection) -> list[int]:
    line.send(("asks", None))
    return line.recv()


def end_of_session(session: pytest.Session, item: pytest.Item) -> None:
    """End the fixtures of the session. If one fails at it, so does the last test."""
    call = pytest.CallInfo.from_call(lambda: session._setupstate.teardown_exact(None), when="teardown")
    if call.excinfo is not None:
        report = pytest.TestReport.from_item_and_call(item, call)
        session.config.hook.pytest_runtest_logreport(report=report)
