"""Event streams on the wire, and the requests for them: pure functions, after section 9.2 of the HTML standard."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qs

from fairway.protocols.text import utf8

MAX_ID_LENGTH: Final = 1024
"""An event's id has at most this many characters: a browser sends it back in a header."""

MAX_QUERY_FIELDS: Final = 100

MAX_MEDIA_RANGES: Final = 100
"""At most this many elements of an Accept header are read; a browser sends ten at most."""

_NEWLINE = re.compile(r"\r\n|\r|\n")
# These cannot come back in a header: control characters, and blanks at its ends.
_NOT_IN_AN_ID = re.compile(r"[\x00-\x1f\x7f]|^ | $")


def encode_event(
    data: str | None = None, event: str | None = None, id: str | int | None = None, retry: int | None = None
) -> bytes:
    """Encode an event. Without `data` the browser only takes note of `id` and `retry` (milliseconds).

    Every kind of line break in `data` reaches the browser as LF. ValueError for what the format cannot carry.
    """
    if data is None and id is None and retry is None:
        raise ValueError("an event needs data, or at least an id or a retry")
    lines = [] if event is None else [f"event: {_checked_name(event)}"]
    if id is not None:
        lines.append(f"id: {checked_id(str(id))}")
    if retry is not None:
        lines.append(f"retry: {_checked_retry(retry)}")
    if data is not None:
        lines += [f"data: {line}" for line in _NEWLINE.split(_checked_data(data))]
    return utf8("".join([*(f"{line}\n" for line in lines), "\n"]))


def encode_comment(text: str = "") -> bytes:
    """Encode a comment. Clients ignore it; it keeps proxies from taking the stream for dead."""
    return utf8("".join([*(f": {line}".rstrip(" ") + "\n" for line in _NEWLINE.split(text)), "\n"]))


def checked_id(id: str) -> str:
    """The id; ValueError if no client could send it back."""
    if _NOT_IN_AN_ID.search(id):
        raise ValueError(f"an event's id has no control characters, and no blank at its ends: {id[:100]!r}")
    if len(id) > MAX_ID_LENGTH:
        raise ValueError(f"an event's id has at most {MAX_ID_LENGTH} characters, not {len(id)}")
    return id


def _checked_name(event: str) -> str:
    if _NEWLINE.search(event):
        raise ValueError(f"an event's name is one line: {event[:100]!r}")
    return event


def _checked_retry(retry: int) -> int:
    if not isinstance(retry, int) or retry < 0:
        raise ValueError(f"retry is a whole number of milliseconds, not {retry!r}")
    return retry


def _checked_data(data: str) -> str:
    if not isinstance(data, str):
        raise ValueError(f"the data of an event is text, not {type(data).__name__}: see send_event_json()")
    return data


class EventEncoder:
    """Encodes broadcasts as events of the default kind."""

    def encode_text(self, text: str) -> bytes:
        return encode_event(text)

    def encode_bytes(self, data: bytes) -> bytes:
        raise ValueError("an event stream carries text: broadcast text_data to a group that has one in it")

    begin_text, begin_bytes = encode_text, encode_bytes


def accepts_event_stream(accept: str) -> bool:
    """Whether an Accept header (RFC 9110 section 12.5.1) lets an event stream through; an empty one does."""
    ranges = accept.split(",", MAX_MEDIA_RANGES)[:MAX_MEDIA_RANGES]
    qualities = dict(map(_media_range, filter(str.strip, ranges)))
    for media in ("text/event-stream", "text/*", "*/*"):
        if media in qualities:
            return qualities[media] > 0
    return not qualities


def _media_range(text: str) -> tuple[str, float]:
    media, *parameters = (part.strip().lower() for part in text.split(";"))
    quality = next((value for name, _, value in (p.partition("=") for p in parameters) if name == "q"), "1")
    try:
        return media, float(quality)
    except ValueError:
        return media, 1.0


def last_event_id_of(scope: Mapping[str, Any], parameter: str | None) -> str:
    """The id in the Last-Event-ID header, or else in the query; empty without one. ValueError if it cannot be one."""
    header = header_of(scope, b"last-event-id")
    if header:
        return checked_id(header.decode())
    if parameter is None:
        return ""
    query = parse_qs(scope.get("query_string", b"").decode("latin-1"), errors="strict", max_num_fields=MAX_QUERY_FIELDS)
    return checked_id(query.get(parameter, [""])[-1])


def header_of(scope: Mapping[str, Any], wanted: bytes) -> bytes:
    return b",".join(value for name, value in scope["headers"] if name.lower() == wanted)
