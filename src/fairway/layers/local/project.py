"""Which project this is: what tells its broker from those of other projects."""

from __future__ import annotations

import os
import sys

from django.conf import settings

from fairway.layers.local.place import Misplaced, Place, default_place, given_place


def place_of(prefix: str, socket: str | None = None, group: str | int | None = None) -> Place:
    """Where the broker is, by the settings of a layer, or by the project and the prefix."""
    if socket is not None:
        return given_place(os.fspath(socket), group)
    if group is not None:
        raise Misplaced("group lets other users in, who look elsewhere: give a path in socket, too")
    return default_place(project_folder(), prefix)


def project_folder() -> str:
    """The setting `BASE_DIR`, or else the folder of the settings module."""
    if settings.configured or os.environ.get("DJANGO_SETTINGS_MODULE"):
        folder = getattr(settings, "BASE_DIR", None)
        if folder is not None:
            return os.path.realpath(str(folder))
        module = sys.modules.get(getattr(settings, "SETTINGS_MODULE", ""))
        if module is not None and module.__file__ is not None:
            return os.path.dirname(os.path.realpath(module.__file__))
    raise Misplaced("which project this is cannot be told without BASE_DIR in its settings: set it, or give socket")
