"""`channels.sessions`: cookies, and sessions that are saved when the response starts."""

from __future__ import annotations

import datetime
import re

import pytest
from asgiref.sync import SyncToAsync, sync_to_async
from django.contrib.sessions.backends.db import SessionStore
from django.core.exceptions import SuspiciousOperation
from django.db import connection
from django.utils.functional import LazyObject

from channels.sessions import (
    CookieMiddleware,
    InstanceSessionWrapper,
    SessionMiddleware,
    SessionMiddlewareStack,
)
from channels.testing import HttpCommunicator
from tests.channels.applications import Recorder, Sent, receive_nothing


@pytest.fixture(scope="module", autouse=True)
def no_connection_left():
    """The thread that queries run in outlives these tests: its connection must not, those after them may have none."""
    yield
    SyncToAsync.single_thread_executor.submit(lambda: connection.close()).result()  # not the main thread's


def cookie_of(*args, **kwargs) -> bytes:
    message = {}
    CookieMiddleware.set_cookie(message, *args, **kwargs)
    ((name, value),) = message["headers"]
    assert name == b"Set-Cookie"
    return value


# CookieMiddleware: reading


async def cookies_from(headers):
    application = Recorder()
    await CookieMiddleware(application)({"type": "websocket", "headers": headers}, None, None)
    return application.scope["cookies"]


async def test_cookies_are_read():
    assert await cookies_from([(b"cookie", b"a=1; b=two")]) == {"a": "1", "b": "two"}


async def test_without_a_cookie_header_there_are_no_cookies():
    assert await cookies_from([(b"host", b"example.com")]) == {}


async def test_cookies_split_over_headers_are_joined():
    """HTTP/2 clients split them (RFC 9113, 8.2.3)."""
    assert await cookies_from([(b"cookie", b"a=1"), (b"x", b"y"), (b"cookie", b"b=2; c=3")]) == {
        "a": "1",
        "b": "2",
        "c": "3",
    }


async def test_cookies_are_latin_1():
    assert await cookies_from([(b"cookie", b"name=J\xfcrg")]) == {"name": "Jürg"}


async def test_long_names_of_cookies_are_not_kept_for_others():
    name = "n" * 60_000

    first, second = [next(iter(await cookies_from([(b"cookie", name.encode() + b"=1")]))) for _ in range(2)]

    assert first == second == name
    assert first is not second


async def test_usual_names_of_cookies_are_one_object():
    first, second = [next(iter(await cookies_from([(b"cookie", b"some-session-id=1")]))) for _ in range(2)]

    assert first is second


async def test_cookies_need_headers():
    with pytest.raises(ValueError, match="scope that did not have a headers key"):
        await CookieMiddleware(Recorder())({"type": "channel"}, None, None)


async def test_scope_outside_of_the_middleware_is_not_changed():
    scope = {"type": "websocket", "headers": []}
    await CookieMiddleware(Recorder())(scope, None, None)
    assert scope == {"type": "websocket", "headers": []}


# CookieMiddleware: writing


def test_cookie_in_its_shortest_form():
    assert cookie_of("Testing-Key", "testing-value") == b"Testing-Key=testing-value; Path=/; SameSite=lax"


@pytest.mark.parametrize(
    ("options", "value"),
    [
        ({"path": "/chat/"}, b"k=v; Path=/chat/; SameSite=lax"),
        ({"path": None}, b"k=v; SameSite=lax"),
        ({"domain": "example.com"}, b"k=v; Domain=example.com; Path=/; SameSite=lax"),
        ({"secure": True, "httponly": True}, b"k=v; HttpOnly; Path=/; SameSite=lax; Secure"),
        ({"samesite": "Strict"}, b"k=v; Path=/; SameSite=Strict"),
        ({"samesite": None}, b"k=v; Path=/"),
        (
            {"expires": "Wed, 21 Oct 2015 07:28:00 GMT"},
            b"k=v; expires=Wed, 21 Oct 2015 07:28:00 GMT; Path=/; SameSite=lax",
        ),
    ],
)
def test_cookie_attributes(options, value):
    assert cookie_of("k", "v", **options) == value


def test_cookie_value_is_quoted():
    assert cookie_of("k", "a;b\r\nc") == rb'k="a\073b\015\012c"; Path=/; SameSite=lax'


@pytest.mark.parametrize("samesite", ["Unknown", "anything"])
def test_samesite_is_checked(samesite):
    with pytest.raises(AssertionError, match="samesite must be 'strict', 'lax' or 'none'"):
        cookie_of("k", "v", samesite=samesite)


@pytest.mark.parametrize("max_age", [60, 60.9, datetime.timedelta(minutes=1)])
def test_max_age_comes_with_expires(max_age):
    assert re.fullmatch(
        rb"k=v; expires=\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT; Max-Age=60; Path=/; SameSite=lax",
        cookie_of("k", "v", max_age=max_age),
    )


@pytest.mark.parametrize("timezone", [None, datetime.UTC, datetime.timezone(datetime.timedelta(hours=8))])
def test_datetimes_become_seconds(timezone):
    moment = datetime.datetime.now(tz=datetime.UTC) + datetime.timedelta(minutes=5)
    moment = moment.replace(tzinfo=None) if timezone is None else moment.astimezone(timezone)

    assert b"; Max-Age=300;" in cookie_of("k", "v", expires=moment)


def test_datetime_in_the_past_expires_at_once():
    assert b"; Max-Age=0;" in cookie_of("k", "v", expires=datetime.datetime(2015, 10, 21, tzinfo=datetime.UTC))


def test_cookie_does_not_leak_into_a_shared_list_of_headers():
    shared = [(b"Content-Type", b"text/plain")]
    message = {"headers": shared}
    CookieMiddleware.set_cookie(message, "k", "v")
    CookieMiddleware.set_cookie(message, "l", "w")

    assert shared == [(b"Content-Type", b"text/plain")]
    assert [name for name, _ in message["headers"]] == [b"Content-Type", b"Set-Cookie", b"Set-Cookie"]


def test_deleted_cookie_has_expired():
    message = {}
    CookieMiddleware.delete_cookie(message, "k", path="/chat/", domain="example.com")
    assert message["headers"] == [
        (
            b"Set-Cookie",
            b'k=""; Domain=example.com; expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0; Path=/chat/; SameSite=lax',
        )
    ]


@pytest.mark.parametrize(("key", "samesite"), [("__Host-k", "lax"), ("__Secure-k", "lax"), ("k", "None")])
def test_cookie_that_had_to_be_secure_is_deleted_as_one(key, samesite):
    message = {}
    CookieMiddleware.delete_cookie(message, key, samesite=samesite)
    assert message["headers"][0][1].endswith(b"; Secure")


# SessionMiddleware: the scope


def websocket_scope(session_key=None, **keys):
    headers = [(b"cookie", b"sessionid=" + session_key.encode())] if session_key else []
    return {"type": "websocket", "path": "/", "headers": headers, **keys}


async def scope_inside(scope, stack=SessionMiddlewareStack):
    application = Recorder()
    await stack(application)(scope, receive_nothing, Sent())
    return application.scope


async def test_session_is_lazy_and_goes_by_the_cookie(hops):
    scope = await scope_inside(websocket_scope("abcdefgh"))

    assert isinstance(scope["session"], SessionStore)
    assert issubclass(type(scope["session"]), LazyObject)
    assert scope["session"].session_key == "abcdefgh"
    assert hops.count == 0


async def test_session_needs_cookies():
    with pytest.raises(ValueError, match="No cookies in scope - SessionMiddleware needs to run inside of Cookie"):
        await SessionMiddleware(Recorder())({"type": "websocket"}, None, None)


async def test_stack_keeps_connections_apart():
    recorder = Recorder()
    stack = SessionMiddlewareStack(recorder)
    for key in ("first-key", "second-key"):
        await stack(websocket_scope(key), None, Sent())

    first, second = (scope["session"] for scope in recorder.scopes)
    assert (first.session_key, second.session_key) == ("first-key", "second-key")
    assert recorder.scopes[0] is not recorder.scopes[1]


async def test_session_of_an_outer_middleware_is_kept():
    session = SessionStore()
    session["unsaved"] = "data"
    scope = await scope_inside(websocket_scope("abcdefgh", session=session), SessionMiddleware)
    assert scope["session"] is session


async def test_inner_session_middleware_keeps_unsaved_data_of_the_outer_one():
    class Writing:
        def __init__(self, inner):
            self.inner = inner

        async def __call__(self, scope, receive, send):
            scope["session"]["unsaved"] = "data"
            return await self.inner(scope, receive, send)

    scope = await scope_inside(
        websocket_scope(), lambda application: SessionMiddlewareStack(Writing(SessionMiddlewareStack(application)))
    )
    assert dict(scope["session"].items()) == {"unsaved": "data"}


# SessionMiddleware: who sees WebSocket messages


class Watching(InstanceSessionWrapper):
    async def send(self, message):
        message["seen"] = True
        await super().send(message)


class SavingOnAccept(InstanceSessionWrapper):
    save_message_types = [*InstanceSessionWrapper.save_message_types, "websocket.accept"]
    cookie_response_message_types = [*InstanceSessionWrapper.cookie_response_message_types, "websocket.accept"]


class SavingAMessage(InstanceSessionWrapper):
    save_message_types = ["websocket.send"]


async def send_inside(scope, wrapper_class=InstanceSessionWrapper):
    class Middleware(SessionMiddleware):
        pass

    Middleware.wrapper_class = wrapper_class
    application, send = Recorder(), Sent()
    await CookieMiddleware(Middleware(application))(scope, receive_nothing, send)
    return application.sends[0], send


async def test_send_of_a_websocket_is_handed_on_untouched():
    inside, outside = await send_inside(websocket_scope())
    assert inside is outside


async def test_send_under_an_outer_session_is_handed_on_untouched():
    inside, outside = await send_inside({"type": "http", "headers": [], "session": SessionStore()})
    assert inside is outside


@pytest.mark.parametrize("wrapper_class", [Watching, SavingOnAccept, SavingAMessage])
async def test_wrapper_that_asks_for_websocket_messages_gets_them(wrapper_class):
    inside, outside = await send_inside(websocket_scope(), wrapper_class)

    assert inside is not outside
    assert isinstance(inside.__self__, wrapper_class)


async def test_wrapper_may_replace_what_is_sent():
    inside, outside = await send_inside(websocket_scope(), Watching)
    await inside({"type": "websocket.accept"})
    assert outside == [{"type": "websocket.accept", "seen": True}]


async def test_wrapper_may_resolve_the_session_itself():
    class ByQuery(InstanceSessionWrapper):
        async def resolve_session(self):
            self.scope["session"]._wrapped = self.session_store(self.scope["query_string"].decode())

    class Middleware(SessionMiddleware):
        wrapper_class = ByQuery

    scope = await scope_inside(
        websocket_scope(query_string=b"token-key"), lambda application: CookieMiddleware(Middleware(application))
    )
    assert scope["session"].session_key == "token-key"


async def test_subclass_may_build_the_wrapper_itself():
    """As applications do that were written before `wrapper_class`."""

    class Middleware(SessionMiddleware):
        async def __call__(self, scope, receive, send):
            wrapper = Watching(scope, send)
            await wrapper.resolve_session()
            return await self.inner(wrapper.scope, receive, wrapper.send)

    async def application(scope, receive, send):
        assert scope["session"].session_key is None
        await send({"type": "websocket.accept"})

    send = Sent()
    await CookieMiddleware(Middleware(application))(websocket_scope(), receive_nothing, send)
    assert send == [{"type": "websocket.accept", "seen": True}]


# SessionMiddleware: saving

saving = pytest.mark.django_db(transaction=True)


class Site:
    """An HTTP application that changes its session, then answers."""

    def __init__(self, change, status=200):
        self.change = change
        self.status = status

    async def __call__(self, scope, receive, send):
        await sync_to_async(self.change)(scope["session"])
        await send({"type": "http.response.start", "status": self.status})
        await send({"type": "http.response.body", "body": b""})


async def visit(change, status=200, session_key=None):
    """Return the Set-Cookie headers of the response, decoded."""
    headers = [(b"cookie", b"sessionid=" + session_key.encode())] if session_key else None
    site = SessionMiddlewareStack(Site(change, status))
    response = await HttpCommunicator(site, "GET", "/", headers=headers).get_response()
    assert response["status"] == status
    return [value.decode() for name, value in response["headers"] if name == b"Set-Cookie"]


def put(session):
    session["greeting"] = "hello"


def look(session):
    session.get("greeting")


def leave(session):
    pass


async def stored(session_key):
    return dict(await SessionStore(session_key).aitems())


async def new_session(**data):
    session = SessionStore()
    await session.aupdate(data)
    await session.asave()
    return session.session_key


def key_in(cookie):
    return re.match(r"sessionid=(\w{32});", cookie)[1]


@saving
async def test_changed_session_is_saved_and_its_cookie_set():
    (cookie,) = await visit(put)

    assert re.fullmatch(r"sessionid=\w{32}; expires=[^;]+ GMT; HttpOnly; Max-Age=1209600; Path=/; SameSite=Lax", cookie)
    assert await stored(key_in(cookie)) == {"greeting": "hello"}


@saving
@pytest.mark.parametrize("change", [look, leave])
async def test_unchanged_session_is_neither_saved_nor_announced(change):
    assert await visit(change) == []
    assert await visit(change, session_key=await new_session(greeting="hello")) == []


@saving
async def test_error_500_saves_nothing():
    key = await new_session(greeting="old")
    assert await visit(put, status=500, session_key=key) == []
    assert await stored(key) == {"greeting": "old"}


@saving
@pytest.mark.parametrize("status", [404, 503])
async def test_other_errors_save(status):
    (cookie,) = await visit(put, status=status)
    assert await stored(key_in(cookie)) == {"greeting": "hello"}


@saving
async def test_flushed_session_deletes_the_cookie_the_client_had():
    key = await new_session(greeting="hello")
    (cookie,) = await visit(lambda session: session.flush(), session_key=key)

    assert cookie == 'sessionid=""; expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0; Path=/; SameSite=Lax'
    assert not await SessionStore().aexists(key)


@saving
async def test_flushed_session_of_a_client_without_cookie_leaves_no_trace():
    assert await visit(lambda session: session.flush()) == []
    assert await SessionStore.get_model_class().objects.acount() == 0


@saving
async def test_wrapper_may_save_with_a_message_that_cannot_carry_the_cookie():
    inside, outside = await send_inside(websocket_scope(), SavingAMessage)
    session = inside.__self__.scope["session"]
    await session.aset("greeting", "hello")
    await inside({"type": "websocket.send", "text": "x"})

    assert outside == [{"type": "websocket.send", "text": "x"}]
    assert await stored(session.session_key) == {"greeting": "hello"}


@saving
async def test_every_response_saves_where_that_is_set(settings):
    settings.SESSION_SAVE_EVERY_REQUEST = True
    key = await new_session(greeting="hello")

    (cookie,) = await visit(leave, session_key=key)
    assert key_in(cookie) == key
    assert await visit(leave) == []


@saving
async def test_cookie_of_a_session_that_is_gone_is_deleted_where_every_response_saves(settings):
    settings.SESSION_SAVE_EVERY_REQUEST = True
    (cookie,) = await visit(leave, session_key="nosuchsessionnosuchsession")
    assert "Max-Age=0" in cookie


@saving
async def test_cookie_follows_the_settings(settings):
    settings.SESSION_COOKIE_DOMAIN = "example.com"
    settings.SESSION_COOKIE_PATH = "/app/"
    settings.SESSION_COOKIE_SECURE = True
    settings.SESSION_COOKIE_HTTPONLY = False
    settings.SESSION_COOKIE_SAMESITE = False
    settings.SESSION_EXPIRE_AT_BROWSER_CLOSE = True
    (cookie,) = await visit(put)
    assert re.fullmatch(r"sessionid=\w{32}; Domain=example\.com; Path=/app/; Secure", cookie)


@saving
async def test_cookie_name_follows_the_settings(settings):
    settings.SESSION_COOKIE_NAME = "visit"
    (cookie,) = await visit(put)
    assert cookie.startswith("visit=")


@saving
async def test_session_deleted_meanwhile_is_suspicious():
    key = await new_session(greeting="hello")

    def lose(session):
        put(session)
        SessionStore(key).delete()

    communicator = HttpCommunicator(
        SessionMiddlewareStack(Site(lose)), "GET", "/", headers=[(b"cookie", b"sessionid=" + key.encode())]
    )
    with pytest.raises(SuspiciousOperation, match="session was deleted before the request completed"):
        await communicator.get_response()


@saving
async def test_websocket_messages_save_nothing():
    async def application(scope, receive, send):
        await scope["session"].aset("greeting", "hello")
        await send({"type": "websocket.accept"})

    send = Sent()
    await SessionMiddlewareStack(application)(websocket_scope(), receive_nothing, send)
    assert send == [{"type": "websocket.accept"}]
    assert await SessionStore.get_model_class().objects.acount() == 0


@saving
async def test_wrapper_may_set_the_cookie_with_the_acceptance():
    inside, outside = await send_inside(websocket_scope(), SavingOnAccept)
    await inside.__self__.scope["session"].aset("greeting", "hello")
    await inside({"type": "websocket.accept"})
    await inside({"type": "websocket.send", "text": "x"})

    ((_, cookie),) = outside[0]["headers"]
    assert await stored(key_in(cookie.decode())) == {"greeting": "hello"}
    assert outside[1] == {"type": "websocket.send", "text": "x"}


@saving
async def test_only_the_outer_of_two_middlewares_saves():
    response = await HttpCommunicator(
        SessionMiddlewareStack(SessionMiddlewareStack(Site(put))), "GET", "/"
    ).get_response()
    assert [name for name, _ in response["headers"]] == [b"Set-Cookie"]
