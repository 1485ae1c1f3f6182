"""Logs: safe lines, few of them, and that somebody sees them."""

from __future__ import annotations

import io
import logging
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fairway.logs import ErrorLog, FaultLog, LastHandler, Told, get_logger, set_up, traceback_text

FORGED = 'no such room\n127.0.0.1:1 "GET /admin/ HTTP/1.1" 200\x1b[2J\u2028\u202e'


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Any:
    caplog.set_level(logging.INFO, logger="fairway")
    return lambda: [record.getMessage() for record in caplog.records if record.name.startswith("fairway")]


def raised(error: BaseException, cause: BaseException | None = None) -> BaseException:
    """The error with a traceback, as an application raises it."""
    try:
        raise error from cause
    except BaseException as caught:
        return caught


def is_safe(text: str) -> bool:
    return all(line.isprintable() for line in text.split("\n")) and "\n127.0.0.1" not in text


# Safe -------------------------------------------------------------------------------------------------------------


def test_text_of_a_client_in_an_exception_forges_no_line():
    text = traceback_text(raised(ValueError(FORGED)))

    assert is_safe(text)
    assert text.splitlines()[0] == "Traceback (most recent call last):"
    assert "    raise error from cause" in text.splitlines()
    assert text.splitlines()[-1] == (
        'ValueError: no such room\\x0a127.0.0.1:1 "GET /admin/ HTTP/1.1" 200\\x1b[2J\\u2028\\u202e'
    )


@pytest.mark.parametrize(
    "error",
    [
        raised(KeyError("outer"), raised(ValueError(FORGED))),
        raised(ExceptionGroup(FORGED, [raised(ValueError(FORGED)), ValueError("other")])),
        raised(SyntaxError(FORGED, ("x\ny.py", 1, 1, FORGED))),
        raised(type(FORGED, (Exception,), {})("x")),
        raised(UnicodeDecodeError("utf-8", b"\xff\n", 0, 1, FORGED)),
    ],
)
def test_no_kind_of_exception_forges_a_line(error: BaseException):
    assert is_safe(traceback_text(error))


def test_notes_and_causes_are_there_and_safe():
    error = raised(KeyError("outer"), raised(ValueError("inner")))
    error.add_note(FORGED)
    text = traceback_text(error)

    assert is_safe(text)
    assert "ValueError: inner\n\nThe above exception was the direct cause of the following exception:\n\n" in text
    assert text.splitlines()[-1].startswith('  127.0.0.1:1 "GET /admin/')


def test_what_people_write_stays_readable_and_short():
    assert traceback_text(ValueError("\u623f\u95f4 \u00e9")) == "ValueError: \u623f\u95f4 \u00e9"
    assert len(traceback_text(ValueError("x" * 1_000_000))) < 5000


def test_every_handler_of_ours_gets_safe_records():
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    logger = get_logger("fairway.of_a_test")
    logger.addHandler(handler)
    try:
        logger.error("failed: %s, %d", FORGED, 3, exc_info=raised(ValueError(FORGED)))
        logger.error("failed: %(text)s", {"text": FORGED})
    finally:
        logger.removeHandler(handler)

    assert is_safe(stream.getvalue())
    assert stream.getvalue().startswith("ERROR failed: no such room\\x0a127")
    assert ", 3\nTraceback (most recent call last):\n" in stream.getvalue()


# Few --------------------------------------------------------------------------------------------------------------


def test_faults_are_limited_per_reason_and_counted(lines: Any):
    log = FaultLog(per_second=2)
    for number in range(5):
        log.report(100.0 + number / 10, "bad request", "%s: bad request line %s", "1.2.3.4", number)
    log.report(100.5, "bad frame", "another reason has its own count")
    log.report(101.0, "bad request", "the next second begins")

    assert lines() == [
        "1.2.3.4: bad request line 0",
        "1.2.3.4: bad request line 1",
        "another reason has its own count",
        "bad request: 3 more like this within a second were not logged",
        "the next second begins",
    ]


def test_whoever_takes_long_to_say_what_it_is_asks_first(lines):
    log = FaultLog(per_second=2)
    written = [log.counts(100.0 + number / 10, "bad request") for number in range(5)]
    log.write("%s: bad", "1.2.3.4\n")
    log.flush(102.0)

    assert written == [True, True, False, False, False]
    assert lines() == ["1.2.3.4\\x0a: bad", "bad request: 3 more like this within a second were not logged"]


def test_flush_tells_the_count_when_nothing_more_comes(lines: Any):
    log = FaultLog(per_second=1)
    for _ in range(3):
        log.report(100.0, "bad request", "line")
    log.flush(100.9)
    assert lines() == ["line"]

    log.flush(101.0)
    log.flush(102.0)

    assert lines() == ["line", "bad request: 2 more like this within a second were not logged"]


def test_the_longer_bad_input_goes_on_the_fewer_lines_it_has(lines: Any):
    log = FaultLog(per_second=10)
    for twentieth in range(20 * 600):
        log.report(twentieth / 20, "bad request", "line")
    log.flush(600.0 + 64)

    assert len(lines()) < 10 + 2 * (6 + 3600 / 64) + 3
    assert sum(int(line.split()[2]) for line in lines() if "more" in line) + lines().count("line") == 12_000

    log.flush(800.0)
    for _ in range(3):
        log.report(900.0, "bad request", "again")
    assert lines().count("again") == 3, "what was quiet for a while is new"


def test_fault_lines_are_safe_and_short(lines: Any):
    log = FaultLog()
    log.report(0.0, "bad request", "from %s: %s after %d bytes in %.1f s", "::1", 'a\n"\x1b[31m', 7, 1.25)
    log.report(0.0, "bad request", "%s", "/a\nb")
    log.report(0.0, "bad request", "%s", "x" * 5000)

    assert lines()[:2] == ['from ::1: a\\x0a"\\x1b[31m after 7 bytes in 1.2 s', "/a\\x0ab"]
    assert len(lines()[2]) < 1100


def test_error_has_its_traceback_once_and_then_lines(caplog: pytest.LogCaptureFixture):
    log = ErrorLog(get_logger("fairway.server"), period=60.0)
    for number in range(30):
        log.report(100.0 + number / 100, raised(ValueError(f"bad {number}")), "exception for %s", "/x")
    log.flush(102.0)

    first, *others, last = caplog.records
    assert first.getMessage() == "exception for /x"
    assert first.exc_info is not None
    assert len(others) == 10
    assert all(record.exc_info is None and record.levelno == logging.ERROR for record in others)
    place = r"in test_logs\.py, line \d+"
    assert re.fullmatch(rf"exception for /x: ValueError: bad 1 \({place}; .* before\)", others[0].getMessage())
    assert re.fullmatch(rf"ValueError {place}: 19 more like this within a second .*", last.getMessage())


def test_another_place_type_or_cause_is_another_kind():
    told = Told(period=60.0)
    elsewhere = ValueError("x")
    try:
        raise elsewhere
    except ValueError:
        pass
    errors = [
        raised(ValueError("x")), raised(TypeError("x")), elsewhere, raised(ValueError("x"), raised(TypeError("y"))),
    ]  # fmt: skip

    assert [told.is_due(0.0, error) for error in errors] == [True] * 4
    assert [told.is_due(1.0, error) for error in errors] == [False] * 4
    assert [told.is_due(60.0, error) for error in errors] == [True] * 4


def test_kinds_are_bounded():
    told = Told()
    for number in range(Told.MAX_KINDS + 1):
        told.is_due(0.0, type(f"Error{number}", (Exception,), {})())

    assert len(told._times) == Told.MAX_KINDS


# Seen -------------------------------------------------------------------------------------------------------------

_LOGGERS = ["", "fairway", "fairway.server", "fairway.access", "django", "django.channels", "django.request", "asyncio"]


@contextmanager
def bare_logging() -> Iterator[logging.Logger]:
    """No handler anywhere, as in a process that has just begun; what was there comes back afterwards."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    before = [(logger, logger.handlers, logger.level, logger.propagate, logger.disabled) for logger in loggers]
    for logger in loggers:
        logger.handlers, logger.propagate = [], True
        logger.setLevel(logging.WARNING if logger is logging.root else logging.NOTSET)
    try:
        yield logging.getLogger("fairway")
    finally:
        for logger, handlers, level, propagate, disabled in before:
            logger.handlers, logger.propagate, logger.disabled = handlers, propagate, disabled
            logger.setLevel(level)


PREFIX = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} "


def test_log_goes_to_stderr_with_time_level_and_process(capsys: pytest.CaptureFixture[str]):
    with bare_logging():
        set_up()
        set_up()
        logging.getLogger("fairway.server").info("listening")
        logging.getLogger("fairway.server").debug("detail")
        logging.getLogger("django.channels.security").warning("refused")

    one, two = capsys.readouterr().err.splitlines()
    assert re.fullmatch(PREFIX + r"\[\d+\] INFO listening", one)
    assert re.fullmatch(PREFIX + r"\[\d+\] WARNING refused", two)


def test_log_level_is_the_one_given(capsys: pytest.CaptureFixture[str]):
    with bare_logging():
        set_up("debug")
        logging.getLogger("fairway.server").debug("detail")

    assert re.fullmatch(PREFIX + r"\[\d+\] DEBUG detail\n", capsys.readouterr().err)


def test_level_that_the_application_has_set_stays():
    with bare_logging() as ours:
        ours.setLevel(logging.ERROR)
        set_up()

        assert ours.level == logging.ERROR


@pytest.mark.parametrize("name", ["", "fairway", "fairway.access"])
def test_what_others_write_down_is_not_written_twice(name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    handler = logging.FileHandler(tmp_path / "log")
    with bare_logging():
        set_up()
        logging.getLogger(name).addHandler(handler)  # later, as an application may in its lifespan
        logging.getLogger("fairway.access").error("once")
        handler.close()

    assert (tmp_path / "log").read_text() == "once\n"
    assert capsys.readouterr().err == ""


class AdminEmailHandler(logging.Handler):
    """Named as Django's, which mails."""

    def emit(self, record: logging.LogRecord) -> None:
        pass


class OnlyWhenDebugging(logging.StreamHandler[Any]):
    """As Django's default one with DEBUG off."""

    def __init__(self) -> None:
        super().__init__()
        self.addFilter(lambda record: False)


@pytest.mark.parametrize("handler", [AdminEmailHandler(), OnlyWhenDebugging(), logging.NullHandler()])
def test_handler_that_nobody_reads_does_not_count(handler: logging.Handler, capsys: pytest.CaptureFixture[str]):
    with bare_logging():
        set_up()
        logging.getLogger("django").addHandler(handler)
        logging.getLogger("django.channels.security").warning("refused")

    assert capsys.readouterr().err.endswith("refused\n")


@pytest.mark.parametrize("name", ["fairway.server", "django.channels.security", "django.request", "asyncio"])
def test_loggers_switched_off_in_passing_are_switched_on(name: str):
    logger = logging.getLogger(name)
    with bare_logging():
        logger.disabled = True
        set_up()

        assert not logger.disabled


def test_errors_that_others_log_are_written_in_full_once(capsys: pytest.CaptureFixture[str]):
    with bare_logging():
        set_up()
        for _ in range(3):
            error = raised(ValueError(FORGED))
            logging.getLogger("django.request").error("Internal Server Error: /x", exc_info=error)

    text = capsys.readouterr().err
    assert text.count("Traceback (most recent call last):") == 1
    assert text.count("Internal Server Error: /x") == 3
    assert text.count("its traceback was logged before") == 2
    assert is_safe(text)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_what_nobody_reads_is_dropped_and_counted(monkeypatch: pytest.MonkeyPatch, kind: str):
    ours, theirs = socket.socketpair() if kind == "socket" else (None, None)
    reading, writing = (theirs.detach(), ours.detach()) if ours and theirs else os.pipe()
    os.set_blocking(reading, False)
    logger = logging.getLogger("fairway.server")
    with bare_logging(), open(writing, "w") as stream, open(reading, "rb") as reader:
        set_up()
        monkeypatch.setattr("sys.stderr", stream)
        for number in range(5000):
            logger.warning("%d " + "x" * (100 if number % 10 else 9000), number)
        first = reader.read().decode()
        for name in ("fairway.server", "django.request"):
            logging.getLogger(name).warning("read again")
        second = reader.read().decode()
        monkeypatch.undo()

    complete = len(re.findall(r" WARNING \d+ x{100}(?:x{8900})?\n", first))
    (dropped,) = re.findall(r"^\S+ \S+ \[\d+\] WARNING (\d+) records of this log were dropped: ", second, re.MULTILINE)
    assert complete > 0
    assert complete + int(dropped) == 5000
    lines = [line for line in second.splitlines() if line]
    assert lines[0].endswith(": nobody read standard error")
    assert [line.partition("WARNING ")[2] for line in lines[1:]] == ["read again", "read again"]


def test_what_was_dropped_is_said_at_the_end_at_the_latest(monkeypatch: pytest.MonkeyPatch):
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    with bare_logging(), open(writing, "w") as stream, open(reading, "rb") as reader:
        set_up()
        monkeypatch.setattr("sys.stderr", stream)
        for _ in range(100):
            logging.getLogger("fairway.server").warning("x" * 4000)
        handler = next(each for each in logging.getLogger("fairway").handlers if isinstance(each, LastHandler))
        handler.flush()
        first = reader.read().decode()
        handler.flush()
        handler.flush()
        second = reader.read().decode()
        monkeypatch.undo()

    assert "dropped" not in first
    assert second.count(" records of this log were dropped: nobody read standard error\n") == 1


SITE = """
async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        raise NotImplementedError
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body"})
"""


@pytest.mark.slow
def test_server_goes_on_while_nobody_reads_its_standard_error(tmp_path: Path):
    (tmp_path / "site_under_test.py").write_text(SITE)
    request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    with socket.create_server(("127.0.0.1", 0)) as listening:
        process = subprocess.Popen(
            [sys.executable, "-m", "fairway", "--fd", str(listening.fileno()), "site_under_test:application"],
            cwd=tmp_path, pass_fds=[listening.fileno()], stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            with socket.create_connection(listening.getsockname(), timeout=20) as client:
                for _ in range(3000):
                    client.sendall(request)
                    assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
                assert process.stderr is not None
                lines = [process.stderr.readline() for _ in range(200)]  # there is room again
                client.sendall(request)
                assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
            process.terminate()
            lines += process.stderr.readlines()
            assert process.wait(20) == 0
        finally:
            process.kill()
            process.communicate()

    (dropped,) = re.findall(r"WARNING (\d+) records of this log were dropped: nobody read", "".join(lines))
    assert int(dropped) + sum('"GET / HTTP/1.1" 200' in line for line in lines) == 3001
    assert lines[-1].endswith("INFO stopped\n")


def test_standard_error_may_be_gone(monkeypatch: pytest.MonkeyPatch):
    with bare_logging():
        set_up()
        monkeypatch.setattr("sys.stderr", None)
        logging.getLogger("fairway.server").warning("to nobody")
        monkeypatch.undo()

    assert not any(isinstance(handler, LastHandler) for handler in logging.root.handlers)
