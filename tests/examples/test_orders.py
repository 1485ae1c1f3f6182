"""The shop of docs/howto/send-from-anywhere.md: every kind of synchronous code in it reaches a page's real socket."""

from __future__ import annotations

import importlib
import json
import unittest
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from celery.contrib.testing.worker import start_worker
from celery.signals import setup_logging
from django.conf import settings
from django.core.management import call_command
from django.db import connection, transaction
from django.test import Client, override_settings
from tests.services.site import served
from websockets.sync.client import ClientConnection, connect

from channels.layers import InMemoryChannelLayer, channel_layers
from channels.routing import URLRouter
from fairway.layers import sync

DEADLINE = 30.0


class Page:
    """A browser's page of an order, as far as its socket goes."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket

    def say(self, content: Any) -> None:
        self._socket.send(json.dumps(content))

    def told(self) -> Any:
        return json.loads(self._socket.recv(timeout=DEADLINE))


def shop_module(name: str) -> Any:
    """A module of the application, which cannot be imported before it is installed."""
    return importlib.import_module(f"examples.orders.{name}")


@pytest.fixture
def order(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An order, in the database of the installed application."""
    monkeypatch.setitem(channel_layers.backends, "default", InMemoryChannelLayer())
    installed = [*settings.INSTALLED_APPS, "examples.orders"]
    with override_settings(INSTALLED_APPS=installed, ROOT_URLCONF="examples.orders.urls"):
        model = shop_module("models").Order
        with connection.schema_editor() as editor:
            editor.create_model(model)
        yield model.objects.create(number="A1")
        with connection.schema_editor() as editor:
            editor.delete_model(model)
    sync._background.stop()


@pytest.fixture
def page(order: Any) -> Iterator[Page]:
    application = URLRouter(shop_module("urls").websocket_urlpatterns)
    with served(application) as address, connect(f"ws://{address}/ws/orders/A1/", proxy=None) as socket:
        yield Page(socket)


def test_a_view(order, page):
    assert Client().post("/orders/A1/pay/").status_code == 204
    assert page.told() == {"state": "paid"}
    order.refresh_from_db()
    assert order.state == "paid"


def test_a_signal(order, page):
    with transaction.atomic():
        order.delete()
    assert page.told() == {"state": "deleted"}


def test_a_command(order, page):
    call_command("announce", "We close at six.")
    assert page.told() == {"announcement": "We close at six."}


def test_a_function_that_an_asynchronous_consumer_calls(order, page):
    page.say("cancel")
    assert page.told() == {"state": "cancelled"}


@pytest.fixture
def logging_as_it_is() -> Iterator[None]:
    """Celery sets up logging for the whole process, unless somebody else says that he does."""

    def leave(**kwargs: Any) -> None:
        """Nothing is to be done."""

    setup_logging.connect(leave)
    yield
    setup_logging.disconnect(leave)


@pytest.mark.slow
def test_a_task_in_a_celery_worker(order, page, logging_as_it_is):
    app = Celery("shop", broker="memory://", set_as_current=False)
    app.conf.broker_transport_options = {"polling_interval": 0.01}
    app.set_default()
    ship = shop_module("tasks").ship
    with start_worker(app, pool="solo", perform_ping_check=False):
        ship.delay("A1")
        assert [page.told() for _ in range(3)] == [{"state": "picked"}, {"state": "packed"}, {"state": "shipped"}]
    order.refresh_from_db()
    assert order.state == "shipped"


def test_the_shops_own_tests(order):
    order.delete()
    suite = unittest.defaultTestLoader.loadTestsFromTestCase(shop_module("tests").PayTests)
    outcome = unittest.TestResult()
    suite.run(outcome)
    assert outcome.testsRun == 1
    assert outcome.errors == outcome.failures == []
