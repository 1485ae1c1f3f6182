"""The routes of docs/howto/secure-a-server.md for apps and for pages: who gets in by what, and who is put out."""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractBaseUser
from django.test import Client, override_settings

from channels.testing import WebsocketCommunicator

middleware: Any = importlib.import_module("examples.tokens.middleware")
routing: Any = importlib.import_module("examples.tokens.routing")

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def site() -> Iterator[None]:
    layers = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
    with override_settings(ALLOWED_HOSTS=["example.com"], CHANNEL_LAYERS=layers):
        yield


@pytest.fixture
def mira() -> AbstractBaseUser:
    return get_user_model().objects.create_user("mira")


def client(path: str, **headers: str) -> WebsocketCommunicator:
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    return WebsocketCommunicator(routing.websocket_application, path, headers=pairs)


def cookie(user: AbstractBaseUser) -> str:
    browser = Client()
    browser.force_login(user)
    return f"sessionid={browser.cookies['sessionid'].value}"


async def is_let_in(who: WebsocketCommunicator) -> bool:
    connected, _ = await who.connect()
    if connected:
        assert await who.receive_json_from() == {"hello": "mira"}
        await who.disconnect()
    return connected


async def test_an_app_gets_in_by_its_token(mira: AbstractBaseUser) -> None:
    assert await is_let_in(client("/app/account/", authorization=f"Bearer {middleware.token_for(mira)}"))


async def test_a_wrong_token_an_old_one_and_cookies_do_not_open_the_path_of_apps(
    mira: AbstractBaseUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = middleware.token_for(mira)
    assert not await is_let_in(client("/app/account/", authorization=f"Bearer {token[:-1]}"))
    assert not await is_let_in(client("/app/account/", cookie=await sync_to_async(cookie)(mira)))
    later = time.time() + 31 * 24 * 3600
    monkeypatch.setattr("django.core.signing.time.time", lambda: later)
    assert not await is_let_in(client("/app/account/", authorization=f"Bearer {token}"))


async def test_the_token_of_somebody_who_may_no_longer_log_in_is_worth_nothing(mira: Any) -> None:
    mira.is_active = False
    await mira.asave()
    assert not await is_let_in(client("/app/account/", authorization=f"Bearer {middleware.token_for(mira)}"))


async def test_a_page_gets_in_by_its_cookie_and_a_foreign_page_does_not(mira: AbstractBaseUser) -> None:
    session = await sync_to_async(cookie)(mira)
    assert await is_let_in(client("/ws/account/", cookie=session, origin="https://example.com"))
    assert not await is_let_in(client("/ws/account/", cookie=session, origin="https://evil.example"))
    assert not await is_let_in(client("/ws/account/", cookie=session))


async def test_who_logs_out_is_put_out_everywhere(mira: AbstractBaseUser) -> None:
    app = client("/app/account/", authorization=f"Bearer {middleware.token_for(mira)}")
    await app.connect()
    await app.receive_json_from()

    browser = Client()
    await sync_to_async(browser.force_login)(mira)
    await sync_to_async(browser.logout)()

    assert await app.receive_output() == {"type": "websocket.close", "code": 4001}
