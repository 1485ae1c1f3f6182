"""Which deadline of a connection is the next, and what it means."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from fairway.server.http2.watch import DRAIN_SECONDS, Verdict, Watch
from fairway.server.limits import Limits

LIMITS = Limits(
    settings_timeout=10, keep_alive_timeout=75, ping_interval=25, ping_timeout=20, request_head_timeout=5,
    disconnect_timeout=8,
)  # fmt: skip


def of(acknowledged: bool = True) -> Any:
    return SimpleNamespace(settings_acknowledged=acknowledged, is_waiting=False)


@pytest.mark.parametrize(
    ("notes", "acknowledged", "has_streams", "is_reading", "due"),
    [
        ({}, True, False, True, (175.0, Verdict.IDLE)),
        ({}, False, False, True, (110.0, Verdict.NO_SETTINGS)),
        ({}, False, False, False, (175.0, Verdict.IDLE)),
        ({"heard_at": 120.0}, True, True, True, (145.0, Verdict.ASK)),
        ({"heard_at": 120.0}, True, True, False, (float("inf"), Verdict.IDLE)),
        ({"heard_at": 120.0, "asked_at": 145.0}, True, True, True, (165.0, Verdict.SILENT)),
        ({"heard_at": 146.0, "asked_at": 145.0}, True, True, True, (171.0, Verdict.ASK)),
        ({"head_since": 101.0}, True, True, True, (106.0, Verdict.NO_HEAD)),
        ({"warned_at": 102.0}, True, True, True, (102.0 + DRAIN_SECONDS, Verdict.GOING)),
        ({"left_at": 103.0}, True, True, True, (111.0, Verdict.LEFT)),
        ({"idle_since": 130.0}, True, False, True, (205.0, Verdict.IDLE)),
    ],
)
def test_the_next_deadline(
    notes: dict[str, float], acknowledged: bool, has_streams: bool, is_reading: bool, due: tuple[float, Verdict]
) -> None:
    watch = Watch(LIMITS, 100.0)
    for name, at in notes.items():
        setattr(watch, name, at)
    assert watch.deadline(of(acknowledged), has_streams, is_reading) == due


def test_whether_content_has_gone_is_seen_by_the_window() -> None:
    watch = Watch(LIMITS, 100.0)
    assert [watch.has_moved(window) for window in (65535, 65535, 60000, 60000)] == [True, False, True, False]
