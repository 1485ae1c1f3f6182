"""Which project this is, and so which broker is its own."""

from __future__ import annotations

import os
import sys

from django.conf import settings

from fairway.layers.local.place import Misplaced, Place, default_place, given_place

DEFAULT_PREFIX = "fairway"


def place_of(prefix: str, socket: str | None = None, group: str | int | None = None) -> Place:
    """The broker's place, from the settings of a layer, or else from the project and the prefix."""
    if socket is not None:
        return given_place(os.fspath(socket), group)
    if group is not None:
        raise Misplaced("group lets other users in, who look elsewhere: give a path in socket, too")
    return default_place(project_folder(), prefix)


def project_folder() -> str:
    """The setting `BASE_DIR`, or else the folder of the settings module."""
    if _has_settings():
        folder = getattr(settings, "BASE_DIR", None)
        if folder is not None:
            return os.path.realpath(str(folder))
        module = sys.modules.get(getattr(settings, "SETTINGS_MODULE", ""))
        if module is not None and module.__file__ is not None:
            return os.path.dirname(os.path.realpath(module.__file__))
    raise Misplaced("which project this is cannot be told without BASE_DIR in its settings: set it, or give socket")


def place_of_layer(alias: str) -> Place:
    """The place of the broker for a layer in `CHANNEL_LAYERS`."""
    layers = getattr(settings, "CHANNEL_LAYERS", {}) if _has_settings() else {}
    if alias not in layers:
        raise Misplaced(
            f"there is no channel layer {alias!r} in CHANNEL_LAYERS: set DJANGO_SETTINGS_MODULE, give --layer, "
            "or say where by --socket"
        )
    config = layers[alias].get("CONFIG", {})
    return place_of(config.get("prefix", DEFAULT_PREFIX), config.get("socket"), config.get("group"))


def _has_settings() -> bool:
    return settings.configured or bool(os.environ.get("DJANGO_SETTINGS_MODULE"))
