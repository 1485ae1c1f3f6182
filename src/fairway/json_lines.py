"""The log as JSON lines: one object for each record, for programs that collect logs.

Every record becomes exactly one line of ASCII: `json` escapes control characters and everything outside ASCII. Lone
surrogates are replaced, because a JSON reader may reject them. A traceback is one field.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

from fairway.logs import FORMAT, SafeFormatter, traceback_text

MAX_FIELD_LENGTH = 1 << 16
"""The most characters of one field. Collectors cut long lines, and a line that was cut is not valid JSON."""


class JsonFormatter(logging.Formatter):
    """Writes `time` (UTC, ISO 8601), `level`, `process`, `logger` and `message`; `traceback` and `stack` if the record
    has them; and the entries of the record's `fields`, such as those of an access log.
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
            fields["traceback"] = record.exc_text  # `fairway.logs` has made it safe already
        elif record.exc_info and record.exc_info[1] is not None:
            fields["traceback"] = traceback_text(record.exc_info[1])
        if record.stack_info:
            fields["stack"] = record.stack_info
        return json.dumps({name: _whole(value) if isinstance(value, str) else value for name, value in fields.items()})


def _whole(text: str) -> str:
    """The text without lone surrogates, cut to `MAX_FIELD_LENGTH`."""
    if len(text) > MAX_FIELD_LENGTH:
        text = text[:MAX_FIELD_LENGTH] + "..."
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def formatter_of(name: str) -> logging.Formatter:
    """The formatter for the log format `text` or `json`."""
    return JsonFormatter() if name == "json" else SafeFormatter(FORMAT)
