"""What `fairway config` prints."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from fairway.server.cli import main
from fairway.server.in_force import table
from fairway.server.limits import Limits


def rows(text: str) -> dict[str, list[str]]:
    return {line.split()[0]: line.split()[1:] for line in text.splitlines()}


def test_each_limit_has_a_line_with_its_source() -> None:
    limits = Limits(max_message_bytes=5, ping_interval=7.0, deflate=False)
    found = rows(table(limits, {"deflate": "False"}, {"FAIRWAY_PING_INTERVAL": "7"}))
    assert len(found) == len(fields(Limits))
    assert found["MAX_MESSAGE_BYTES"] == ["5", "FAIRWAY['MAX_MESSAGE_BYTES']"]
    assert found["PING_INTERVAL"] == ["7.0", "$FAIRWAY_PING_INTERVAL"]
    assert found["DEFLATE"] == ["off", "--deflate"]
    assert found["SHUTDOWN_TIMEOUT"] == ["10.0", "default"]
    assert found["CERTFILE"] == ["-", "default"]


def test_the_command_serves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "shown_site.py").write_text("async def application(scope, receive, send): ...\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("FAIRWAY_PING_TIMEOUT", "3")
    assert main(["config", "shown_site:application", "--workers", "3", "--max-message-bytes", "99"]) == 0
    found = rows(capsys.readouterr().out)
    assert found["MAX_MESSAGE_BYTES"] == ["99", "--max-message-bytes"]
    assert found["PING_TIMEOUT"] == ["3.0", "$FAIRWAY_PING_TIMEOUT"]


def test_a_mistake_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "shown_site.py").write_text("async def application(scope, receive, send): ...\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert main(["config", "shown_site:application", "--ping-interval", "soon"]) == 1
    assert capsys.readouterr().err.startswith("fairway: --ping-interval ")
