"""What is done with a loaded application before it is forked."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from django.test import override_settings

from channels.layers import BaseChannelLayer, channel_layers
from fairway.before_fork import prepare


@pytest.fixture(autouse=True)
def databases(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Says whether connections were closed, and leaves those of the tests open."""
    closed: list[str] = []
    monkeypatch.setattr("django.db.connections.close_all", lambda: closed.append("all"))
    return closed


def test_the_modules_of_layers_are_loaded_so_that_workers_share_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, databases: list[str]
) -> None:
    source = "from channels.layers import BaseChannelLayer\nclass Layer(BaseChannelLayer):\n    pass\n"
    (tmp_path / "layer_of_a_project.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    layers = {"missing": {"BACKEND": "no.such.Layer"}, "default": {"BACKEND": "layer_of_a_project.Layer"}}
    with override_settings(CHANNEL_LAYERS=layers):
        assert prepare() == ""
        assert "layer_of_a_project" in sys.modules
        assert not channel_layers.backends, "a layer was made"
    assert databases == ["all"]


def test_a_layer_of_others_that_was_made_already_must_not_be_forked() -> None:
    with override_settings(CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}):
        channel_layers.set("default", BaseChannelLayer())
        assert prepare() == "the channel layer 'default' was made at the import of the application"


def test_a_layer_of_ours_may_be_forked() -> None:
    with override_settings(CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}):
        assert channel_layers["default"] is not None
        assert prepare() == ""
