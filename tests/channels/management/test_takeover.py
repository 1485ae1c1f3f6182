"""Whose `runserver` it is, for every place where `channels` may stand; asked of real `manage.py` processes."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.apps import apps
from django.core.management import get_commands
from tests.channels.management.project import STATICFILES, Project

from channels.management.takeover import claim_runserver

OURS = "--websocket_handshake_timeout"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("apps", "ours"),
    [
        (["channels"], True),
        (["channels", STATICFILES], True),
        ([STATICFILES, "channels"], True),
        ([STATICFILES, "override", "channels"], True),
        (["override", STATICFILES, "channels"], False),
        (["override", "channels"], False),
        (["channels", "override", STATICFILES], True),
        ([STATICFILES], False),
    ],
)
def test_runserver_is_ours_unless_another_app_comes_first(tmp_path: Path, apps: list[str], ours: bool):
    done = Project(tmp_path, apps).manage("runserver", "--help")

    assert done.returncode == 0, done.stderr
    assert (OURS in done.stdout) is ours
    assert ("the runserver of the app named override" in done.stdout) is (apps[0] == "override")
    assert ("--nostatic" in done.stdout) is (STATICFILES in apps and apps[0] != "override")


@pytest.mark.parametrize(
    ("found", "kept"),
    [
        ("django.core", "channels"),
        ("django.contrib.staticfiles", "channels"),
        ("channels", "channels"),
        ("somebody.elses", "somebody.elses"),
    ],
)
def test_only_djangos_own_command_is_replaced(monkeypatch: pytest.MonkeyPatch, found: str, kept: str):
    monkeypatch.setitem(get_commands(), "runserver", found)

    claim_runserver()

    assert get_commands()["runserver"] == kept


def test_the_app_claims_it_when_it_is_ready():
    get_commands.cache_clear()

    apps.get_app_config("channels").ready()

    assert get_commands()["runserver"] == "channels"
