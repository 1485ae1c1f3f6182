"""`channels.apps`: the Django application."""

from __future__ import annotations

from django.apps import apps


def test_application_is_installed_under_its_names():
    config = apps.get_app_config("channels")

    assert (config.name, config.verbose_name) == ("channels", "Channels")
    assert list(config.get_models()) == []
