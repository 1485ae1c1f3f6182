"""The log as JSON lines: one object for each record, for programs that collect logs.

Whatever is in a record, its line is one line of ASCII: `json` escapes control characters and what is not ASCII, and
half characters (lone surrogates), which no reader of JSON has to take, are replaced. A traceback is one field.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

from fairway.logs import FORMAT, SafeFormatter, traceback_text

MAX_FIELD_LENGTH = 1 << 16
"""At most this many characters go into one field: collectors cut longer lines, and a half is no object."""


class JsonFormatter(logging.Formatter):
    """`time` (UTC, ISO 8601), `level`, `process`, `logger`, `message`; `traceback` and `stack` where there is one; and
    what a record has as `fields`, as those of requests do.
    """

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        fields: dict[str, object] = {
            "time": time.replace("+00:00", "Z"),
            "level": record.levelname,
            "process": record.process,
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_text:
            fields["traceback"] = record.exc_text  # our own loggers have made it safe already
        elif record.exc_info and record.exc_info[1] is not None:
            fields["traceback"] = traceback_text(record.exc_info[1])
        if record.stack_info:
            fields["stack"] = record.stack_info
        return json.dumps({name: _whole(value) if isinstance(value, str) else value for name, value in fields.items()})


def _whole(text: str) -> str:
    """The text without halves of characters, and not too long."""
    if len(text) > MAX_FIELD_LENGTH:
        text = text[:MAX_FIELD_LENGTH] + "..."
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def formatter_of(name: str) -> logging.Formatter:
    """That of the format `text` or `json`."""
    return JsonFormatter() if name == "json" else SafeFormatter(FORMAT)
