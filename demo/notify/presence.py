"""Who is on the site, however their page is connected; everybody is told when somebody comes or goes."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from channels.layers import get_channel_layer

from notify.sending import EVERYONE
from people.models import Person
from people.roster import Roster

SITE = "site"

roster = Roster()
_departing: set[asyncio.Task[None]] = set()


async def arrive(person: Person) -> None:
    if roster.join(SITE, person.pk, person.name):
        await _tell(person, True)


async def depart(person: Person) -> None:
    if roster.leave(SITE, person.pk):
        await _tell(person, False)


def depart_later(person: Person, seconds: float) -> None:
    """For pages that come back again and again: one that is back by then has not been away."""
    asyncio.get_running_loop().call_later(seconds, partial(_depart_now, person))


def _depart_now(person: Person) -> None:
    task = asyncio.get_running_loop().create_task(depart(person))
    _departing.add(task)
    task.add_done_callback(_departing.discard)


async def _tell(person: Person, online: bool) -> None:
    about = {"id": person.pk, "name": person.name, "account": person.user_id is not None}
    content: dict[str, Any] = {"type": "online", "online": online, **about}
    await get_channel_layer().group_send(EVERYONE, {"type": "notify.event", "content": content})
