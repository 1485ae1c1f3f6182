"""Writes the log: lines about errors and bad input that are safe, few, and seen.

* *Safe.* `get_logger` returns the loggers of this distribution. Control characters in their messages and tracebacks are
  escaped before any handler gets the record, so that no client can forge a line.
* *Few.* `FaultLog` writes lines about bad input, and `ErrorLog` writes tracebacks of errors. Both limit the number of
  lines.
* *Seen.* `set_up` installs a handler, which writes the records that no other handler writes.

All times are arguments, in seconds of one monotonic clock.
"""

from __future__ import annotations

import io
import logging
import math
import os
import re
import select
import stat
import sys
import time
import traceback
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext, suppress
from copy import copy
from itertools import islice
from typing import Any, TextIO

ANSWERS = ("fairway", "django.channels", "django.request", "django.security", "asyncio")
"""These loggers, and all below them, report what happened to a connection and why. `asyncio` logs errors of tasks."""

_PRINTED = ("fairway", "django", "asyncio")

FORMAT = "%(asctime)s [%(process)d] %(levelname)s %(message)s"
"""Time, process and level, then what happened."""

MAX_ARGUMENT_LENGTH = 1024 + len("...")
"""How many characters of one argument a line about bad input shows."""

MAX_ERROR_LENGTH = 4096
"""How many characters of an exception's message a traceback shows. It may quote a whole message of a client."""

_CAUSE = "\nThe above exception was the direct cause of the following exception:\n\n"
_CONTEXT = "\nDuring handling of the above exception, another exception occurred:\n\n"
_MAX_CHAIN = 20
_NOT_ASCII = re.compile(r"[^ -~]")


# Safe -------------------------------------------------------------------------------------------------------------


def get_logger(name: str) -> logging.Logger:
    """Return the logger with this name. Its records are escaped before any handler gets them."""
    logger = logging.getLogger(name)
    logger.addFilter(_SAFE)  # a second call adds nothing
    return logger


class _SafeRecords(logging.Filter):
    """Escapes the arguments of each record, and formats its exception. Formatters use the formatted text unchanged."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, Mapping):
            record.args = {name: _printable_argument(value) for name, value in record.args.items()}
        elif record.args:
            record.args = tuple(map(_printable_argument, record.args))
        if record.exc_info and record.exc_info[1] is not None and not record.exc_text:
            record.exc_text = traceback_text(record.exc_info[1])
        return True


_SAFE = _SafeRecords()


def _printable_argument(argument: object) -> object:
    return argument if isinstance(argument, int | float) else printable(str(argument), MAX_ERROR_LENGTH)


def printable(text: str, limit: int | None = None) -> str:
    """Return the text on one line, with control characters and other invisible characters escaped.

    Letters of all languages stay. A text with more characters than `limit` is cut.
    """
    if limit is not None and len(text) > limit:
        text = f"{text[:limit]}... ({len(text)} characters)"
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else escape_character(one) for one in text)


def escape_character(character: str) -> str:
    """Return the escape sequence that Python would use, but a numeric one also for newlines and tabs."""
    number = ord(character)
    if number <= 0xFF:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number <= 0xFFFF else f"\\U{number:08x}"


def traceback_text(error: BaseException) -> str:
    """The traceback as Python prints it, with each exception's message escaped and on one line."""
    return "".join(_lines(traceback.TracebackException.from_exception(error, compact=True))).rstrip("\n")


def _lines(error: traceback.TracebackException) -> Iterator[str]:
    for one, link in reversed(list(islice(_chain(error), _MAX_CHAIN))):
        if one.stack:
            yield "Traceback (most recent call last):\n"
            yield from one.stack.format()
        yield from _description(one)
        for number, inner in enumerate(one.exceptions or (), 1):
            yield f"  +---------------- {number} ----------------\n"
            yield from (f"  | {line}\n" for text in _lines(inner) for line in text.splitlines())
        yield link


def _chain(error: traceback.TracebackException) -> Iterator[tuple[traceback.TracebackException, str]]:
    """Yield the exception and then its causes, each with the sentence that follows it in a traceback."""
    link, one = "", error
    while True:
        yield one, link
        if one.__cause__ is not None:
            link, one = _CAUSE, one.__cause__
        elif one.__context__ is not None and not one.__suppress_context__:
            link, one = _CONTEXT, one.__context__
        else:
            return


def _description(error: traceback.TracebackException) -> Iterator[str]:
    """The last lines of a traceback: type and message, then the notes, indented so that none looks like a log line."""
    is_first = True
    is_syntax_error = hasattr(error, "filename")  # `traceback` sets it only for syntax errors
    for text in error.format_exception_only():
        line = printable(text.rstrip("\n"), MAX_ERROR_LENGTH)
        yield f"{line}\n" if is_first or is_syntax_error else f"  {line}\n"
        is_first = False


# Few --------------------------------------------------------------------------------------------------------------


class FaultLog:
    """Writes lines about bad input: at most `per_second` for each reason, then one line that counts the rest.

    While lines are left out, the counted spans become longer, because an attack may last for hours: one line and one
    count for the next two seconds, then for the next four, and so on up to 64 seconds. After a span in which no line
    was left out, the count begins anew.

    `reason` must be a fixed phrase of the code, never text of a peer. Call `flush` about once a second, so that the
    count is also written after an attack has stopped.
    """

    __slots__ = ("_level", "_logger", "_per_second", "_windows")

    def __init__(
        self, logger: logging.Logger | None = None, per_second: int = 10, level: int = logging.WARNING
    ) -> None:
        self._logger = logger or get_logger("fairway.server")
        self._per_second = per_second
        self._level = level
        self._windows: dict[str, _Window] = {}

    def report(self, now: float, reason: str, text: str, *arguments: object) -> None:
        """Write a line, or only count it if there were too many. Escapes the arguments, and formats them with `%`."""
        if self.counts(now, reason):
            self.write(text, *arguments)

    def counts(self, now: float, reason: str) -> bool:
        """Count a line. Return whether the caller must write it, with `write`.

        Use this instead of `report` if it takes long to make the text.
        """
        window = self._windows.get(reason)
        if window is not None and window.is_over(now):
            window = self._next(reason, window, now)
        if window is None:
            window = self._windows[reason] = _Window(now, 1.0, self._per_second)
        window.lines += 1
        return window.lines <= window.limit

    def write(self, text: str, *arguments: object) -> None:
        """Write a line for which `counts` returned True."""
        self._logger.log(self._level, text, *map(_ascii, arguments))

    def flush(self, now: float) -> None:
        """Write how many lines were left out in the spans that are over."""
        for reason, window in list(self._windows.items()):
            if window.is_over(now):
                self._next(reason, window, now)

    def _next(self, reason: str, window: _Window, now: float) -> _Window | None:
        """Return the span that follows one that is over: a longer one if lines were left out, else None."""
        suppressed = window.lines - window.limit
        if suppressed <= 0:
            del self._windows[reason]
            return None
        span = "a second" if window.seconds == 1 else f"{window.seconds:g} s"
        self._logger.log(self._level, "%s: %d more like this within %s were not logged", reason, suppressed, span)
        following = self._windows[reason] = _Window(now, min(2 * window.seconds, _LONGEST_WINDOW), 1)
        return following


_LONGEST_WINDOW = 64.0


class _Window:
    __slots__ = ("began", "limit", "lines", "seconds")

    def __init__(self, began: float, seconds: float, limit: int) -> None:
        self.began = began
        self.seconds = seconds
        self.limit = limit
        self.lines = 0

    def is_over(self, now: float) -> bool:
        return now - self.began >= self.seconds


class ErrorLog:
    """Writes errors of the application: the first of each kind with its traceback.

    Further errors of that kind within `period` seconds become one line each, with the limits of `FaultLog`.

    Two errors are of one kind if they have the same type and the same places in their tracebacks, and their causes
    too. So an error that a client causes again and again is of one kind.
    """

    __slots__ = ("_lines", "_logger", "_told")

    def __init__(self, logger: logging.Logger, period: float = 60.0) -> None:
        self._logger = logger
        self._told = Told(period)
        self._lines = FaultLog(logger, level=logging.ERROR)

    def report(self, now: float, error: BaseException, text: str, *arguments: object) -> None:
        """Write `text`, `%`-formatted with the arguments, and the error: its traceback, or one line."""
        if self._told.is_due(now, error):
            self._logger.error(text, *arguments, exc_info=(type(error), error, error.__traceback__))
        else:
            label = f"{type(error).__name__} {_place(error)}"
            self._lines.report(now, label, f"{text}: %s", *arguments, _brief(error))

    def flush(self, now: float) -> None:
        """Write how many lines were left out in the spans that are over. Call it about once a second."""
        self._lines.flush(now)


class Told:
    """Remembers for which kinds of errors a traceback was written, and when."""

    __slots__ = ("_period", "_times")

    MAX_KINDS = 256

    def __init__(self, period: float = 60.0) -> None:
        self._period = period
        self._times: dict[tuple[object, ...], float] = {}  # in the order of the times

    def is_due(self, now: float, error: BaseException) -> bool:
        """Whether to write the traceback now. After True, the caller must write it."""
        kind = _kind(error)
        if now - self._times.get(kind, -math.inf) < self._period:
            return False
        self._times.pop(kind, None)
        if len(self._times) >= self.MAX_KINDS:
            del self._times[next(iter(self._times))]
        self._times[kind] = now
        return True


def _brief(error: BaseException) -> str:
    """The error in one line, if its traceback was written before."""
    text = printable("".join(traceback.format_exception_only(error)).strip(), MAX_ARGUMENT_LENGTH // 2)
    return f"{text} ({_place(error)}; its traceback was logged before)"


def _kind(error: BaseException) -> tuple[object, ...]:
    kind: list[object] = []
    one: BaseException | None = error
    for _ in range(_MAX_CHAIN):
        if one is None:
            break
        # Only the first places, because in a recursion the client may choose the depth, and so make new kinds.
        kind += (type(one), *islice(_places(one), 50))
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)
    return tuple(kind)


def _places(error: BaseException) -> Iterator[tuple[str, int | None]]:
    return ((frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__))


def _place(error: BaseException) -> str:
    innermost = deque(_places(error), maxlen=1)
    return ", ".join(f"in {os.path.basename(name)}, line {line}" for name, line in innermost) or "without a place"


def _ascii(argument: object) -> object:
    if isinstance(argument, int | float):
        return argument
    # Quotes are not escaped: the arguments are not inside quotes, and a path may have been escaped already.
    return _NOT_ASCII.sub(lambda match: escape_character(match.group()), str(argument)[:MAX_ARGUMENT_LENGTH])


# Seen -------------------------------------------------------------------------------------------------------------


def set_up(level: str | None = None, default: str = "info", formatter: logging.Formatter | None = None) -> None:
    """Write the records of our loggers, of Django's and of asyncio's to stderr, unless another handler writes them.

    `level` is the lowest level of the logger `fairway`. Without it, a level that was set before stays, and otherwise
    `default` is set. `formatter` formats the lines. Without it, the previous formatter stays, which is text at first.

    May be called several times, and before or after other code configures logging.
    """
    ours = logging.getLogger("fairway")
    if level is not None:
        ours.setLevel(level.upper())
    elif ours.level == logging.NOTSET:
        ours.setLevel(default.upper())
    switch_on()
    loggers = [logging.getLogger(name) for name in _PRINTED]
    # All loggers share one handler, because its lock prevents that their lines mix.
    before = [handler for logger in loggers for handler in logger.handlers if isinstance(handler, LastHandler)]
    handler = before[0] if before else LastHandler()
    if formatter is not None:
        handler.setFormatter(formatter)
    for logger in loggers:
        if not any(isinstance(each, LastHandler) for each in logger.handlers):
            logger.addHandler(handler)


def switch_on() -> None:
    """Enable the loggers in `ANSWERS`, which `disable_existing_loggers` may have disabled.

    By default, `dictConfig`, and so Django's `LOGGING`, disables every existing logger that it does not name. That
    is never meant for these loggers. To silence one of them, set its level.
    """
    for name in list(logging.root.manager.loggerDict):
        if any(name == own or name.startswith(f"{own}.") for own in ANSWERS):
            logging.getLogger(name).disabled = False


class LastHandler(logging.Handler):
    """Writes the records to stderr that no other handler writes.

    With `DEBUG` off, Django's own configuration writes nothing, and at most sends mail. For each record, this handler
    looks whether another handler of the record's loggers, of any level, writes it, because logging may be configured
    late. If so, it writes nothing.

    It never waits for the reader of stderr. If a pipe has no room, records are dropped. Once the pipe has room again, a
    line says how many.
    """

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(SafeFormatter(FORMAT))
        self._told = Told()
        self._stream: TextIO | None = None
        self._pipe: _Pipe | None = None
        self._dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        if any(_writes(handler, record) for handler in _on_the_way(record)):
            return
        error = record.exc_info[1] if record.exc_info else None
        # A record whose `exc_text` is set comes from our own loggers. Their callers limit tracebacks themselves.
        if error is not None and not record.exc_text and not self._told.is_due(time.monotonic(), error):
            record = copy(record)
            record.exc_info, record.exc_text = None, _brief(error)
        try:
            self._report_dropped()
            if not self._write(f"{self.format(record)}\n"):
                self._dropped += 1
        except Exception:
            self.handleError(record)

    def flush(self) -> None:
        """Write how many records were dropped, if there is room. Called at the end of the process."""
        with self.lock or nullcontext(), suppress(Exception):
            self._report_dropped()

    def _report_dropped(self) -> None:
        if self._dropped:
            text = "%d records of this log were dropped: nobody read standard error"
            record = logging.LogRecord("fairway", logging.WARNING, __file__, 0, text, (self._dropped,), None)
            if self._write(f"{self.format(record)}\n"):
                self._dropped = 0

    def _write(self, text: str) -> bool:
        """Write the text. Return False if it was dropped."""
        # Look up `sys.stderr` each time, because tests and hosting programs replace it.
        stream = sys.stderr
        if stream is not self._stream:
            self._stream, self._pipe = stream, _Pipe.of(stream)
        if self._pipe is not None:
            return self._pipe.write(text.encode(stream.encoding, "backslashreplace"))
        stream.write(text)
        stream.flush()
        return True


class _Pipe:
    """Writes to a pipe or socket without ever waiting for its reader.

    The descriptor stays in blocking mode, because the mode is shared with child processes and the parent.
    """

    @classmethod
    def of(cls, stream: TextIO) -> _Pipe | None:
        """Make one for a stream. None if the stream is neither a pipe nor a socket."""
        try:
            number = stream.fileno()
            mode = os.fstat(number).st_mode
        except (OSError, ValueError, AttributeError):
            return None
        return cls(number) if hasattr(select, "poll") and (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)) else None

    def __init__(self, number: int) -> None:
        self._number = number
        self._poll = select.poll()
        self._poll.register(number, select.POLLOUT)
        self._is_torn = False

    def write(self, data: bytes) -> bool:
        """Write as much as fits. Return whether all of it was written.

        After a record of which only a part was written, the next one begins on a new line.
        """
        if self._is_torn:
            data = b"\n" + data
        while data:
            try:
                # If a pipe has any room, it has room for this many bytes.
                written = os.write(self._number, data[: select.PIPE_BUF]) if self._poll.poll(0) else 0
            except OSError:
                written = 0
            if not written:
                return False
            data = data[written:]
            self._is_torn = bool(data)
        return True


class SafeFormatter(logging.Formatter):
    """Formats exceptions with `traceback_text`, also in records of other loggers than ours."""

    def formatException(self, ei: Any) -> str:
        return traceback_text(ei[1]) if ei[1] is not None else ""


def _on_the_way(record: logging.LogRecord) -> Iterable[logging.Handler]:
    logger: logging.Logger | None = logging.getLogger(record.name)
    while logger is not None:
        yield from logger.handlers
        logger = logger.parent if logger.propagate else None


def _writes(handler: logging.Handler, record: logging.LogRecord) -> bool:
    """Whether this handler writes the record to where people can read it, now or later."""
    if isinstance(handler, LastHandler | logging.NullHandler) or type(handler).__name__ == "AdminEmailHandler":
        return False
    if isinstance(handler, logging.FileHandler) and handler.baseFilename == os.devnull:
        return False
    if isinstance(handler, logging.StreamHandler) and isinstance(handler.stream, io.StringIO):
        return False  # kept in memory, as test runners do
    return bool(handler.filter(record))
