"""What the engine reads of Django's settings, if there is a Django: the limits, and layers that do not fit."""

from __future__ import annotations

from typing import Any

import pytest
from django.conf import LazySettings

from fairway.server.limits import ConfigurationError, Limits
from fairway.settings import DIVIDED_HINT, in_memory_aliases, limits_from_django, limits_problem, start_warnings


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
    monkeypatch.setattr("django.conf.settings", LazySettings())

    assert limits_from_django() == Limits()
    assert limits_problem() is None


def test_mistake_is_one_sentence(settings: Any):
    settings.FAIRWAY = {"PING_INTERVAL": 0}

    assert limits_problem() == 'FAIRWAY["PING_INTERVAL"] must be more than 0 seconds, not 0'


MEMORY = {"BACKEND": "channels.layers.InMemoryChannelLayer"}
OTHER = {"BACKEND": "channels_redis.core.RedisChannelLayer"}


@pytest.mark.parametrize(
    ("layers", "aliases"),
    [
        ({"default": MEMORY}, ["default"]),
        ({"default": OTHER, "events": MEMORY}, ["events"]),
        ({"default": OTHER}, []),
        ({"default": "nonsense"}, []),
        ({}, []),
        ("nonsense", []),
        (None, []),
    ],
)
def test_layers_in_memory_are_found(settings: Any, layers: Any, aliases: list[str]):
    settings.CHANNEL_LAYERS = layers

    assert in_memory_aliases() == aliases


@pytest.mark.parametrize(("workers", "count"), [("2", 1), ("1", 0), ("0", 0), ("", 0), ("a few", 0), ("-3", 0)])
def test_start_is_warned_of_when_processes_would_not_share_a_layer(
    settings: Any, monkeypatch: pytest.MonkeyPatch, workers: str, count: int
):
    settings.CHANNEL_LAYERS = {"default": OTHER, "events": MEMORY}
    monkeypatch.setenv("WEB_CONCURRENCY", workers)

    warnings = start_warnings()

    assert len(warnings) == count
    assert all("CHANNEL_LAYERS['events']" in text and text.endswith(DIVIDED_HINT) for text in warnings)


def test_without_a_django_project_nothing_is_warned_of(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("django.conf.settings", LazySettings())
    monkeypatch.setenv("WEB_CONCURRENCY", "4")

    assert start_warnings() == []
