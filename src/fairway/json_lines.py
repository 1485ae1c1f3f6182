"""Writes the log as JSON lines, one object for each record, for programs that collect logs.

Each record becomes exactly one line of ASCII. `json` escapes control characters and all characters outside of ASCII.
Lone surrogates are replaced, because readers of JSON may reject them. A traceback is one field.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

from fairway.logs import FORMAT, SafeFormatter, traceback_text

MAX_FIELD_LENGTH = 1 << 16
"""How many characters a field may have. Collectors cut long lines, and half a line is not valid JSON."""


class JsonFormatter(logging.Formatter):
    """Formats a record as a JSON object.

    Its fields are `time` (UTC, ISO 8601), `level`, `process`, `logger` and `message`, and also `traceback` and `stack`
    if the record has them. The record's attribute `fields`, which records of requests have, adds further fields.
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
            fields["traceback"] = record.exc_text  # `fairway.logs` has escaped it already
        elif record.exc_info and record.exc_info[1] is not None:
            fields["traceback"] = traceback_text(record.exc_info[1])
        if record.stack_info:
            fields["stack"] = record.stack_info
        return json.dumps({name: _whole(value) if isinstance(value, str) else value for name, value in fields.items()})


def _whole(text: str) -> str:
    """The text, shortened, with lone surrogates replaced."""
    if len(text) > MAX_FIELD_LENGTH:
        text = text[:MAX_FIELD_LENGTH] + "..."
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def formatter_of(name: str) -> logging.Formatter:
    """The formatter for a log format: `json`, or anything else for `text`."""
    return JsonFormatter() if name == "json" else SafeFormatter(FORMAT)
