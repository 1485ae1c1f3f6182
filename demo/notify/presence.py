"""Who is on the site, however their page is connected, and in whichever process."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fairway.layers.sync import presence

from people.models import Person

SITE = "notify.site"
"""The group in which everybody is present who has a page open."""


def about(person: Person) -> dict[str, Any]:
    """What others are told about somebody."""
    return {"id": person.pk, "name": person.name, "account": person.user_id is not None}


def people_online() -> list[dict[str, Any]]:
    """Everybody on the site. For synchronous code."""
    return [{"id": data[-1]["id"], "name": data[-1]["name"]} for data in presence(SITE).values()]


def everybody(event: dict[str, Any]) -> dict[str, Any]:
    """What a page is told when its presence begins (``presence.state``): the changes that it hears of begin here."""
    return {"type": "everybody", "people": [data[-1] for data in event.get("members", {}).values()]}


def changes(event: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What pages are told when people come and go (``presence.diff``)."""
    for online, lists in ((True, ("joined", "changed")), (False, ("left",))):
        for name in lists:
            for data in event.get(name, {}).values():
                yield {"type": "online", "online": online, **data[-1]}
