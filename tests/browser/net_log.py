"""What Chromium itself writes down about its connections, with `--log-net-log`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class NetEvent:
    """`source` is the number of what it happened to, for example of one connection."""

    kind: str
    source: int
    params: dict[str, Any]

    @property
    def fields(self) -> dict[str, str]:
        """Of a HEADERS frame, its fields; those of a pseudo-field begin with a colon."""
        fields = {}
        for line in self.params.get("headers", ()):
            at = line.index(": ", 1)
            fields[line[:at]] = line[at + 2 :]
        return fields


class NetLog:
    """The log of a browser that has been closed; before, it is not complete."""

    def __init__(self, path: Path) -> None:
        log = json.loads(path.read_text())
        names = {number: name for name, number in log["constants"]["logEventTypes"].items()}
        self._events = [
            NetEvent(names[event["type"]], event["source"]["id"], event.get("params", {})) for event in log["events"]
        ]

    def of(self, kind: str, source: int | None = None, stream: int | None = None) -> Iterator[NetEvent]:
        """The events of this kind, in order: those of one source, or of one stream of it."""
        for event in self._events:
            is_source, is_stream = source in (None, event.source), stream in (None, event.params.get("stream_id"))
            if event.kind == kind and is_source and is_stream:
                yield event
