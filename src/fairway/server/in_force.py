"""`fairway config`: which limits are in force, and where each comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from fairway.server.limits import SETTING, Limits, flag_name, variable_name

_DEFAULTS = Limits()


def table(limits: Limits, given: Mapping[str, Any], environment: Mapping[str, str]) -> str:
    """One line for each limit: the key of the setting, its value, and the source of the value.

    `given` has the flags of the command line, by the name of the limit. `limits` includes flags and environment.
    """
    rows = [
        (one.name.upper(), _text(getattr(limits, one.name)), _source(one.name, limits, given, environment))
        for one in fields(limits)
    ]
    names, values = (max(len(row[column]) for row in rows) for column in (0, 1))
    return "\n".join(f"{name:<{names}}  {value:<{values}}  {source}".rstrip() for name, value, source in rows)


def _source(name: str, limits: Limits, given: Mapping[str, Any], environment: Mapping[str, str]) -> str:
    if name in given:
        return flag_name(name)
    if variable_name(name) in environment:
        return f"${variable_name(name)}"
    return "default" if getattr(limits, name) == getattr(_DEFAULTS, name) else f"{SETTING}[{name.upper()!r}]"


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value) or "-"
