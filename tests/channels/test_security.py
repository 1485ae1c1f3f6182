"""`channels.security.websocket`: which pages may open a WebSocket, or ask an HTTP consumer."""

from __future__ import annotations

import logging

import pytest

from channels.generic.http import AsyncHttpConsumer
from channels.security.websocket import AllowedHostsOriginValidator, OriginValidator, WebsocketDenier
from channels.testing import HttpCommunicator, WebsocketCommunicator
from tests.channels.applications import Recorder, Sent


async def accepting(scope, receive, send):
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept"})
    assert (await receive())["type"] == "websocket.disconnect"


async def may_connect(validator, *origins):
    headers = [(b"origin", origin.encode("latin1")) for origin in origins]
    communicator = WebsocketCommunicator(validator, "/chat/", headers=headers)
    connected, code = await communicator.connect()
    assert code == (None if connected else 1000)
    await communicator.disconnect()
    return connected


def allows(patterns, origin):
    return may_connect(OriginValidator(accepting, patterns), origin)


@pytest.mark.parametrize(
    ("pattern", "origin"),
    [
        ("example.com", "http://example.com"),
        ("example.com", "https://example.com:8443"),
        ("example.com", "ws://EXAMPLE.com"),
        ("EXAMPLE.com", "http://example.com"),
        (".example.com", "http://example.com"),
        (".example.com", "http://a.b.example.com"),
        ("127.0.0.1:80", "http://127.0.0.1:9000"),
        ("[::1]", "http://[::1]:8000"),
        ("http://example.com", "http://example.com"),
        ("http://example.com", "http://example.com:80"),
        ("https://example.com:443", "https://example.com"),
        ("wss://example.com", "wss://example.com:443"),
        ("http://.example.com:81", "http://a.example.com:81"),
        ("app://example.com", "app://example.com"),
        ("example.com", "http://example.com."),
        (".example.com", "http://a.example.com.:8000"),
        ("https://example.com", "https://example.com."),
        ("*", "http://anything.example"),
        ("*", "null"),
        ("*", ""),
        ("*", "http://[broken"),
    ],
)
async def test_origin_is_allowed(pattern, origin):
    assert await allows([pattern], origin)


@pytest.mark.parametrize(
    ("pattern", "origin"),
    [
        ("example.com", "http://other.com"),
        ("example.com", "http://other.com."),
        ("example.com", "http://example.com.."),
        ("example.com", "http://."),
        ("example.com", "http://sub.example.com"),
        ("example.com", "http://notexample.com"),
        (".example.com", "http://notexample.com"),
        ("*.example.com", "http://example.com"),
        ("example.com:8000", "http://example.com:8000"),
        ("http://example.com", "https://example.com"),
        ("http://example.com", "http://example.com:81"),
        ("http://example.com:80", "http://example.com:99999"),
        ("http://example.com:no", "http://example.com"),
        ("http://", "http://example.com"),
        ("example.com", ""),
        ("example.com", "garbage"),
        ("example.com", "null"),
        ("example.com", "file://"),
        ("example.com", "http://[broken"),
        ("example.com", "http://\xe9xample.com"),
    ],
)
async def test_origin_is_denied(pattern, origin):
    assert not await allows([pattern], origin)


async def test_one_fitting_pattern_is_enough():
    assert await allows(["a.example", "b.example"], "http://b.example")


@pytest.mark.parametrize(
    "origins",
    [
        ("http://bad.example", "http://good.example"),
        ("http://good.example", "http://bad.example"),
        ("http://good.example", "http://good.example"),
        ("", "http://good.example"),
    ],
)
async def test_6454_7_3_more_than_one_origin_is_none(origins):
    assert not await may_connect(OriginValidator(accepting, ["good.example"]), *origins)
    assert await may_connect(OriginValidator(accepting, ["*"]), *origins)


async def test_connection_without_an_origin_needs_a_star():
    assert not await may_connect(OriginValidator(accepting, ["example.com"]))
    assert await may_connect(OriginValidator(accepting, ["*"]))


class Answering(AsyncHttpConsumer):
    async def handle(self, body):
        await self.send_response(200, body)


async def status_of(method, *origins):
    headers = [(b"origin", origin.encode("latin1")) for origin in origins]
    application = OriginValidator(Answering.as_asgi(), ["good.example"])
    response = await HttpCommunicator(application, method, "/", b"hi", headers).get_response()
    assert response["body"] == (b"hi" if response["status"] == 200 else b"The origin of this request is not allowed.")
    return response["status"]


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "X-OTHER"])
async def test_requests_of_other_origins_are_403(method, log):
    assert await status_of(method, "https://good.example") == 200
    assert log.messages == []
    assert await status_of(method, "https://bad.example") == 403
    assert log.messages == ["HTTP request rejected: origin 'https://bad.example' is not allowed [path '/']"]
    assert await status_of(method, "https://good.example", "https://bad.example") == 403


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE"])
async def test_9110_9_2_1_requests_of_safe_methods_need_no_origin(method):
    assert await status_of(method) == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "X-OTHER"])
async def test_requests_of_other_methods_need_an_origin(method):
    assert await status_of(method) == 403


@pytest.mark.parametrize("scope_type", ["channel", "lifespan"])
async def test_other_connections_are_an_error(scope_type):
    with pytest.raises(ValueError, match=f"^You cannot use OriginValidator on a {scope_type} connection: it is for "):
        await OriginValidator(accepting, ["*"])({"type": scope_type, "headers": []}, None, None)


async def test_allowed_connection_is_handed_on_as_it_is():
    application, send = Recorder("answer"), Sent()
    scope = {"type": "websocket", "headers": [(b"origin", b"http://example.com")]}

    assert await OriginValidator(application, ["example.com"])(scope, None, send) == "answer"
    assert application.scope is scope
    assert application.sends[0] is send


def test_validator_shows_what_it_wraps():
    validator = OriginValidator(accepting, ["example.com"])
    assert validator.application is accepting
    assert validator.allowed_origins == ["example.com"]


async def test_subclass_may_decide_by_itself():
    class Anyone(OriginValidator):
        def valid_origin(self, parsed_origin):
            return parsed_origin is None

    assert await may_connect(Anyone(accepting, []))
    assert not await may_connect(Anyone(accepting, []), "http://example.com")


# the log


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.INFO, logger="django.channels.security")
    return caplog


async def test_denial_is_logged_once_with_the_origin(log):
    await may_connect(OriginValidator(accepting, ["example.com"]), "http://evil.example")
    assert [(record.name, record.levelname, record.getMessage()) for record in log.records] == [
        (
            "django.channels.security",
            "WARNING",
            "WebSocket rejected: origin 'http://evil.example' is not allowed [path '/chat/']",
        )
    ]


async def test_missing_origin_is_logged(log):
    await may_connect(OriginValidator(accepting, ["example.com"]))
    assert "origin (none) is not allowed" in log.text


async def test_logged_origin_stays_on_its_line_and_within_bounds(log):
    await may_connect(OriginValidator(accepting, ["example.com"]), "http://a\r\nfake: line\x1b[0m\x85" + "x" * 5000)
    (record,) = log.records

    assert r"'http://a\r\nfake: line\x1b[0m\x85xxx" in record.getMessage()
    assert len(record.getMessage()) < 320


async def test_allowed_connections_are_not_logged(log):
    await may_connect(OriginValidator(accepting, ["*"]), "http://example.com")
    assert log.records == []


# AllowedHostsOriginValidator


async def test_allowed_hosts_are_allowed(settings):
    settings.ALLOWED_HOSTS = ["example.com"]
    validator = AllowedHostsOriginValidator(accepting)

    assert validator.allowed_origins == ["example.com"]
    assert await may_connect(validator, "https://example.com")
    assert not await may_connect(validator, "https://other.com")


async def test_allowed_hosts_may_change_after_the_application_was_made(settings):
    settings.ALLOWED_HOSTS, settings.DEBUG = [], True
    validator = AllowedHostsOriginValidator(accepting)
    settings.ALLOWED_HOSTS, settings.DEBUG = ["example.com"], False

    assert await may_connect(validator, "https://example.com")
    assert not await may_connect(validator, "http://localhost")


@pytest.mark.parametrize(
    "origin",
    [
        "http://localhost:8000",
        "http://app.localhost:3000",
        "http://a.b.localhost.",
        "http://127.0.0.1:8000",
        "http://[::1]:8000",
    ],
)
async def test_local_hosts_are_allowed_in_debug_mode(settings, origin):
    settings.ALLOWED_HOSTS, settings.DEBUG = [], True
    assert await may_connect(AllowedHostsOriginValidator(accepting), origin)


async def test_nothing_is_allowed_without_hosts(settings):
    settings.ALLOWED_HOSTS, settings.DEBUG = [], False
    assert not await may_connect(AllowedHostsOriginValidator(accepting), "http://localhost")


# WebsocketDenier


async def test_denier_closes_and_waits_for_the_disconnect():
    communicator = WebsocketCommunicator(WebsocketDenier.as_asgi(), "/")
    assert await communicator.connect() == (False, 1000)
    assert not communicator.future.done()
    await communicator.disconnect()
