"""The example on the page about presence does what the page says."""

from __future__ import annotations

import importlib
import json
import sys
import unittest
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from django.test import RequestFactory
from tests.docs.pages import ROOT

from channels.layers import InMemoryChannelLayer, channel_layers
from channels.testing import WebsocketCommunicator
from fairway.layers import audiences, presence


@pytest.fixture(autouse=True)
def example(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for module in (audiences, presence):
        monkeypatch.setattr(module, "GATHER", 0.001)
    monkeypatch.setattr(sys, "path", [str(ROOT / "examples"), *sys.path])
    previous = channel_layers.set("default", InMemoryChannelLayer(linger=0.01))
    yield
    channel_layers.set("default", previous)
    for name in [name for name in sys.modules if name.partition(".")[0] == "presence"]:
        del sys.modules[name]


async def entered(pk: int, name: str) -> WebsocketCommunicator:
    from presence.consumers import Lobby

    async def with_user(scope: Any, receive: Any, send: Any) -> None:
        await Lobby.as_asgi()({**scope, "user": SimpleNamespace(pk=pk, username=name)}, receive, send)

    page = WebsocketCommunicator(with_user, "/")
    await page.connect()
    return page


async def test_a_page_is_told_who_is_there_and_who_comes_and_goes() -> None:
    mira = await entered(1, "mira")
    state = await mira.receive_json_from()
    assert state["members"] == {state["me"]: [{"name": "mira"}]}
    tom = await entered(2, "tom")
    joined = (await mira.receive_json_from())["joined"]
    assert list(joined.values()) == [[{"name": "tom"}]]
    await tom.send_json_to({"away": True})
    changed = (await mira.receive_json_from())["changed"]
    assert changed == {key: [{"name": "tom", "away": True}] for key in joined}
    await tom.disconnect()
    assert (await mira.receive_json_from())["left"] == changed
    await mira.disconnect()


async def test_a_view_knows_it_too() -> None:
    from asgiref.sync import sync_to_async
    from presence.views import lobby

    pages = [await entered(1, "mira"), await entered(1, "mira"), await entered(2, "tom")]
    response = await sync_to_async(lobby)(RequestFactory().get("/"))
    assert json.loads(response.content) == {"names": ["mira", "tom"], "connections": 3}
    for page in pages:
        await page.disconnect()


def test_the_test_on_the_page_about_tests_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (audiences, presence):
        monkeypatch.setattr(module, "GATHER", 0.1)
    channel_layers.set("default", InMemoryChannelLayer())
    tests = importlib.import_module("presence.tests")
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromModule(tests).run(result)
    assert (result.testsRun, result.errors, result.failures) == (1, [], [])
