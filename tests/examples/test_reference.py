"""The examples of the reference: its own tests, and its routes."""

from __future__ import annotations

import importlib
import unittest
from typing import Any

import pytest

from channels.testing import HttpCommunicator, WebsocketCommunicator

routing: Any = importlib.import_module("examples.reference.routing")


@pytest.mark.django_db(transaction=True)
def test_the_tests_of_the_example_pass() -> None:
    tests = unittest.defaultTestLoader.loadTestsFromName("examples.reference.tests")
    assert tests.countTestCases() == 4
    result = unittest.TestResult()
    tests.run(result)
    assert [text for _, text in result.errors + result.failures] == []


async def test_the_routes_lead_to_the_consumers() -> None:
    echo = WebsocketCommunicator(routing.websocket_application, "/ws/echo/")
    assert (await echo.connect())[0]
    await echo.send_json_to([1, 2])
    assert await echo.receive_json_from() == [1, 2]
    await echo.disconnect()
    assert not (await WebsocketCommunicator(routing.websocket_application, "/ws/rooms/tea/").connect())[0]
    answer = await HttpCommunicator(routing.http_application, "GET", "/hello/").get_response()
    assert answer["body"] == b"hello"


async def test_the_middleware_puts_the_language_into_the_scope() -> None:
    seen: dict[str, Any] = {}

    async def application(scope: Any, receive: Any, send: Any) -> None:
        seen.update(scope)
        await send({"type": "websocket.close"})

    client = WebsocketCommunicator(routing.Language(application), "/", headers=[(b"accept-language", b"zh-CN,zh")])
    await client.connect()
    assert seen["language"] == "zh"
