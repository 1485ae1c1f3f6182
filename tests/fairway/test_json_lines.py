"""The log as JSON lines: whatever is in a record, a line is one line, and an object."""

from __future__ import annotations

import json
import logging
import re
import sys
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fairway.json_lines import MAX_FIELD_LENGTH, JsonFormatter


def line(message: str, *arguments: object, **more: Any) -> str:
    record = logging.LogRecord(
        "fairway.server", logging.WARNING, __file__, 1, message, arguments, more.pop("error", None)
    )
    record.__dict__.update(more)
    text = JsonFormatter().format(record)
    assert text.isascii()
    assert text.isprintable()
    return text


def test_a_record_is_an_object() -> None:
    found = json.loads(line("%s is %d", "it", 5))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", found.pop("time"))
    assert found.pop("process") > 0
    assert found == {"level": "WARNING", "logger": "fairway.server", "message": "it is 5"}


def test_fields_of_a_record_are_fields_of_the_object() -> None:
    assert json.loads(line("x", fields={"status": 200, "path": '/a\n"b'}))["path"] == '/a\n"b'


def test_a_traceback_is_one_field() -> None:
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        found = json.loads(line("it failed", error=sys.exc_info()))
    assert found["message"] == "it failed"
    assert found["traceback"].startswith("Traceback (most recent call last):\n")
    assert found["traceback"].endswith("ValueError: first\\x0asecond")


def test_a_stack_and_what_was_formatted_before_are_fields() -> None:
    found = json.loads(line("x", stack_info="Stack:\n  here", exc_text="as before"))
    assert (found["stack"], found["traceback"]) == ("Stack:\n  here", "as before")


def test_a_field_has_an_end() -> None:
    assert len(json.loads(line("x" * 10 * MAX_FIELD_LENGTH))["message"]) == MAX_FIELD_LENGTH + 3


@given(st.text(st.characters(exclude_categories=())))
def test_nothing_breaks_a_line(text: str) -> None:
    found = json.loads(line("%s", text, fields={"path": text}))
    found["path"].encode()  # has no halves of characters
    assert found["message"] == found["path"]
    if not any("\ud800" <= one <= "\udfff" for one in text):
        assert found["path"] == text
