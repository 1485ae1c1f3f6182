"""Three ways by which the same messages reach a page. The page chooses; every page of the demo holds one connection.

To the browser: ``state`` (everything, on connecting), ``notification``, ``read`` (ids, and how many are left),
``everybody`` and ``online`` (who is on the site), ``renamed``, and, in answer to what it did, ``sent`` and ``notice``.
What a page can do is in ``notify.actions``: over a WebSocket it says so there, beside the other two by a POST request
to ``notify.views.act``.
"""

from __future__ import annotations

import asyncio
import json
import random
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qs

from asgiref.sync import async_to_sync
from channels.db import database_sync_to_async
from channels.generic.http import AsyncHttpConsumer
from channels.generic.websocket import JsonWebsocketConsumer
from fairway import AsyncGroupsMixin, GroupsMixin
from fairway.generic.sse import ServerSentEventsConsumer

from notify.actions import perform, send_limit
from notify.presence import SITE, about, changes, everybody
from notify.sending import EVERYONE, group_of
from notify.state import news_for, position_of, since, version_of
from people.identity import person_of_scope
from people.models import Person


class NotifyConsumer(GroupsMixin, JsonWebsocketConsumer):
    """WebSocket, both ways. Synchronous, so it uses the ORM and every other part of Django directly."""

    groups = [EVERYONE]
    person: Person | None = None

    def connect(self) -> None:
        person = person_of_scope(self.scope)
        if person is None:
            self.close()
            return
        self.person = person
        self.sends = send_limit()
        async_to_sync(self.channel_layer.group_add)(group_of(person), self.channel_name)
        self.track(SITE, about(person), key=str(person.pk))
        self.accept()
        news = news_for(person, position_of(query_of(self.scope, "after")))
        self.position = news[-1]["newest"]
        for content in news:
            self.send_json(content)

    def disconnect(self, code: int) -> None:
        if self.person is not None:
            async_to_sync(self.channel_layer.group_discard)(group_of(self.person), self.channel_name)

    def presence_state(self, event: dict[str, Any]) -> None:
        self.send_json(everybody(event))

    def presence_diff(self, event: dict[str, Any]) -> None:
        for content in changes(event):
            self.send_json(content)

    def receive_json(self, content: Any, **kwargs: Any) -> None:
        answer = perform(self.person, content, self.sends)
        if answer is not None:
            self.send_json(answer)

    def notify_event(self, event: dict[str, Any]) -> None:
        content = event["content"]
        if content["type"] == "renamed":
            self.person.name = content["name"]
            self.track(SITE, about(self.person), key=str(self.person.pk))
        # One that was sent between joining the group and reading the state is in the state.
        if content["type"] != "notification" or content["notification"]["id"] > self.position:
            self.send_json(content)


class NotifyEvents(AsyncGroupsMixin, ServerSentEventsConsumer):
    """Server-Sent Events. A page that comes back gets first what it has missed, each notification once."""

    groups = [EVERYONE]
    person: Person | None = None

    async def connect(self) -> None:
        person = await database_sync_to_async(person_of_scope)(self.scope)
        if person is None:
            await self.reject(403)
            return
        self.person = person
        # Pages that lost one server do not come back in the same instant.
        self.retry = random.randint(1000, 3000)
        # In this order: what is sent from now on waits in the inbox while the past is read.
        await self.channel_layer.group_add(group_of(person), self.channel_name)
        await self.track(SITE, about(person), key=str(person.pk))
        for content in await database_sync_to_async(news_for)(person, position_of(self.last_event_id)):
            await self.pass_on(content)

    async def disconnect(self) -> None:
        if self.person is not None:
            await self.channel_layer.group_discard(group_of(self.person), self.channel_name)

    async def presence_state(self, event: dict[str, Any]) -> None:
        await self.send_event_json(everybody(event))

    async def presence_diff(self, event: dict[str, Any]) -> None:
        for content in changes(event):
            await self.send_event_json(content)

    async def notify_event(self, event: dict[str, Any]) -> None:
        content = event["content"]
        if content["type"] == "renamed":
            self.person.name = content["name"]
            await self.track(SITE, about(self.person), key=str(self.person.pk))
        if content["type"] != "notification":
            await self.send_event_json(content)
        elif content["notification"]["id"] > self.position:
            # Two may be told in another order than they were stored in: the database knows the right one.
            for notification in await database_sync_to_async(since)(self.person, self.position):
                await self.pass_on(notification)

    async def pass_on(self, content: dict[str, Any]) -> None:
        self.position = content["newest"] if content["type"] == "state" else content["notification"]["id"]
        await self.send_event_json(content, id=self.position)


class NotifyPoll(AsyncGroupsMixin, AsyncHttpConsumer):
    """Long-polling: the answer waits until there is something to say, or is empty after a while.

    The page says how far it is: ``after``, the last notification it knows, and ``version``, that of the state it shows.
    So nothing is missed between two requests. With ``wait=0`` the answer comes at once. Whoever is between two requests
    is still present: presence lingers.
    """

    longest = 25.0  # seconds; shorter than proxies wait for an answer
    person: Person | None = None

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.stirred = asyncio.Event()
        self.has_left = False

    async def handle(self, body: bytes) -> None:
        person = await database_sync_to_async(person_of_scope)(self.scope)
        if person is None:
            await self.send_response(403, b"")
            return
        self.person = person
        groups = (EVERYONE, group_of(person))
        await self.track(SITE, about(person), key=str(person.pk))
        try:
            for group in groups:
                await self.channel_layer.group_add(group, self.channel_name)
            answer = json.dumps(await self.answer()).encode()
            headers = {b"content-type": b"application/json", b"cache-control": b"no-store"}
            await self.send_response(200, answer, headers=headers)
        finally:
            for group in groups:
                await self.channel_layer.group_discard(group, self.channel_name)

    async def disconnect(self) -> None:
        # Runs beside `handle` when the page has gone, which then has nothing more to wait for.
        self.has_left = True
        self.stirred.set()

    async def presence_diff(self, event: dict[str, Any]) -> None:
        self.stirred.set()

    async def notify_event(self, event: dict[str, Any]) -> None:
        self.stirred.set()

    async def answer(self) -> dict[str, Any]:
        after, version, wait = (query_of(self.scope, name) for name in ("after", "version", "wait"))
        loop = asyncio.get_running_loop()
        end = loop.time() + (0 if wait == "0" else self.longest)
        while True:
            self.stirred.clear()
            answer = await database_sync_to_async(self.look)(position_of(after), version)
            if answer["messages"] or self.has_left or loop.time() >= end:
                return answer
            with suppress(TimeoutError):
                await asyncio.wait_for(self.stirred.wait(), end - loop.time())

    def look(self, position: int | None, version: str) -> dict[str, Any]:
        """What is new since then; in a thread, where the ORM may be used."""
        *missed, state = news_for(self.person, position)
        current = version_of(state)
        return {
            "after": state["newest"],
            "version": current,
            "messages": missed if current == version else [*missed, state],
        }


def query_of(scope: dict[str, Any], name: str) -> str:
    """A parameter of the query; empty without it."""
    return parse_qs(scope["query_string"].decode("latin-1")).get(name, [""])[-1]
