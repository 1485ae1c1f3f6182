"""One line in the log for a whole crowd, where each of its visitors would have two. All other lines stay."""

from __future__ import annotations

import logging
import re

LOGGERS = ("fairway.access", "django.channels.server")  # of `fairway`, of `runserver`
PATH = "/ws/speed/visitor/"  # only the crowd is let in there: others are rejected, and that is written

# From the beginning of the line: what a client sends stands further behind.
_VISITOR = re.compile(
    rf'\S+ "WS {PATH}[^"]*" (?:dis)?connected'  # as `fairway` writes it
    rf"|(?:\x1b\[[\d;]*m)?WebSocket (?:HANDSHAKING|(?:DIS)?CONNECT) {PATH} \["  # as `runserver` does, in colours
)


class WithoutVisitors(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return _VISITOR.match(record.getMessage()) is None


def crowd_left(count: int) -> None:
    """Where their own lines would have been."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    in_use = next((logger for logger in loggers if logger.isEnabledFor(logging.INFO)), loggers[0])
    in_use.info("%d simulated visitors came to %s, and have left", count, PATH)
