"""Gives each process of a test run its own names at the service that its channel layers use.

A layer that talks to a service takes a `prefix`, which separates the sites that share the service. This module gives
each process of a test run a prefix that nobody else has. So parallel tests do not receive each other's messages, nor
those of a site that uses the same service. The setting itself is changed, so that a server that a test starts has the
same prefix.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from typing import Any

from django.conf import settings
from django.core.signals import setting_changed
from django.test import override_settings
from django.utils.module_loading import import_string

WORKER_VARIABLE = "PYTEST_XDIST_WORKER"

_SETTING = "CHANNEL_LAYERS"

_OWN = re.compile(r".*-test-[A-Za-z0-9]+-[0-9a-f]{8}")


def is_own_prefix(prefix: object) -> bool:
    """Whether a prefix was made by `own_prefixes`."""
    return isinstance(prefix, str) and _OWN.fullmatch(prefix) is not None


@contextlib.contextmanager
def own_prefixes(worker: str = "") -> Iterator[str]:
    """Inside the block, give every configured layer that takes a prefix a unique one.

    The new prefix is the configured prefix followed by a unique name, which the context manager returns. It is also
    added when a test overrides `CHANNEL_LAYERS` inside the block. `worker`: letters and digits that tell people which
    process it is.
    """
    name = f"test-{worker or os.environ.get(WORKER_VARIABLE, 'main')}-{secrets.token_hex(4)}"

    def adapt(setting: str, **kwargs: Any) -> None:
        if setting == _SETTING and hasattr(settings, _SETTING):
            given = getattr(settings, _SETTING)
            own = with_own_prefix(given, name)
            if own != given:
                setattr(settings, _SETTING, own)

    with override_settings(**{_SETTING: with_own_prefix(getattr(settings, _SETTING, {}), name)}):
        setting_changed.connect(adapt)
        try:
            yield name
        finally:
            setting_changed.disconnect(adapt)


def with_own_prefix(layers: Any, name: str) -> Any:
    """Return `CHANNEL_LAYERS` with the name at the end of every prefix.

    Malformed entries are returned unchanged: the system checks report them.
    """
    if not isinstance(layers, Mapping):
        return layers
    return {alias: _layer_with_own_prefix(entry, name) for alias, entry in layers.items()}


def _layer_with_own_prefix(entry: Any, name: str) -> Any:
    if not isinstance(entry, Mapping) or "BACKEND" not in entry:
        return entry
    default = _default_prefix(entry["BACKEND"])
    changed = {
        key: _options_with_own_prefix(entry[key], default, name)
        for key in ("CONFIG", "TEST_CONFIG")
        if isinstance(entry.get(key), Mapping)
    }
    if default is not None and "CONFIG" not in entry:
        changed["CONFIG"] = {"prefix": f"{default}-{name}"}
    return {**entry, **changed}


def _options_with_own_prefix(options: Mapping[str, Any], default: str | None, name: str) -> dict[str, Any]:
    own = {key: _layer_with_own_prefix(value, name) for key, value in options.items()}  # a layer over other layers
    if default is not None:
        prefix = options.get("prefix", default)
        own["prefix"] = prefix if is_own_prefix(prefix) else f"{prefix}-{name}"
    return own


def _default_prefix(backend: Any) -> str | None:
    """The default of a layer class's parameter `prefix`. None if it has no such parameter."""
    try:
        layer_class: Any = import_string(backend) if isinstance(backend, str) else backend
    except ImportError:
        return None
    for base in getattr(layer_class, "__mro__", ()):
        parameter = inspect.signature(base.__init__).parameters.get("prefix") if "__init__" in base.__dict__ else None
        if parameter is not None:
            return parameter.default if isinstance(parameter.default, str) else None
    return None
