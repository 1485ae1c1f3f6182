"""`limits_from_django`: the setting FAIRWAY, if there is a Django with one."""

from __future__ import annotations

from typing import Any

import pytest
from django.conf import LazySettings

from fairway.server.limits import ConfigurationError, Limits
from fairway.settings import limits_from_django


def test_absent_setting_means_the_defaults():
    assert limits_from_django() == Limits()


def test_setting_is_read_when_asked_for(settings: Any):
    settings.FAIRWAY = {"PING_INTERVAL": 7.5}

    assert limits_from_django() == Limits(ping_interval=7.5)


def test_mistake_is_reported(settings: Any):
    settings.FAIRWAY = {"PING_INTERVALL": 7.5}

    with pytest.raises(ConfigurationError, match=r'did you mean "PING_INTERVAL"\?$'):
        limits_from_django()


def test_without_a_django_project_there_are_the_defaults(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("fairway.settings.settings", LazySettings())

    assert limits_from_django() == Limits()
