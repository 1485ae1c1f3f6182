"""`channels.apps`: the Django application."""

from __future__ import annotations

from django.apps import apps
from django.core.checks import registry


def test_application_is_installed_under_its_names():
    config = apps.get_app_config("channels")

    assert (config.name, config.verbose_name) == ("channels", "Channels")
    assert list(config.get_models()) == []


def test_checks_are_registered():
    assert {check.__name__ for check in registry.registry.registered_checks if "channels" in check.tags} == {
        "check_asgi_application",
        "check_channel_layers",
        "check_django_version",
        "check_installation",
        "check_limits",
        "check_routes",
        "check_settings_of_daphne",
        "check_workers",
    }
    assert "check_deployed_layers" in {check.__name__ for check in registry.registry.deployment_checks}
