"""`channels.auth`: the user of a connection, logging in and out."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth import (
    BACKEND_SESSION_KEY,
    HASH_SESSION_KEY,
    SESSION_KEY,
    get_user_model,
    user_logged_in,
    user_logged_out,
)
from django.contrib.auth.models import AnonymousUser
from django.contrib.sessions.backends.db import SessionStore

import channels.auth
from channels.auth import AuthMiddleware, AuthMiddlewareStack, UserLazyObject, get_user, login, logout
from channels.db import DatabaseSyncToAsync, database_sync_to_async
from tests.channels.applications import Recorder, Sent, receive_nothing

pytestmark = pytest.mark.django_db(transaction=True)

BACKEND = "django.contrib.auth.backends.ModelBackend"
OTHER_BACKEND = "tests.channels.backends.OtherBackend"


@pytest.fixture
async def ann():
    return await get_user_model().objects.acreate_user("ann", password="secret")


@pytest.fixture
async def bob():
    return await get_user_model().objects.acreate_user("bob", password="secret")


@pytest.fixture
def session():
    return SessionStore()


@pytest.fixture
def signals():
    """The users of the login and logout signals sent during the test."""
    seen = []

    def logged_in(sender, request, user, **kwargs):
        assert (sender, request) == (type(user), None)
        seen.append(("in", user))

    def logged_out(sender, request, user, **kwargs):
        assert request is None
        seen.append(("out", user))

    user_logged_in.connect(logged_in)
    user_logged_out.connect(logged_out)
    yield seen
    user_logged_in.disconnect(logged_in)
    user_logged_out.disconnect(logged_out)


async def logged_in_session(user):
    """Return the key of a stored session, as a browser's cookie carries it."""
    scope = {"session": SessionStore()}
    await login(scope, user, backend=BACKEND)
    await scope["session"].asave()
    return scope["session"].session_key


# get_user


@pytest.mark.parametrize("function", [get_user, login, logout])
def test_functions_are_coroutine_callables(function):
    assert isinstance(function, DatabaseSyncToAsync)
    assert asyncio.iscoroutinefunction(function)


async def test_get_user_needs_a_session():
    with pytest.raises(ValueError, match="Cannot find session in scope"):
        await get_user({})


@pytest.mark.parametrize("empty", [SessionStore(), {}])
async def test_get_user_of_an_empty_session_is_anonymous_without_a_hop(empty, hops):
    assert await get_user({"session": empty}) == AnonymousUser()
    assert hops.count == 0


async def test_get_user_finds_who_logged_in(session, ann):
    scope = {"session": session}
    await login(scope, ann)
    assert await get_user(scope) == ann


async def test_get_user_takes_a_session_that_was_never_saved(session, ann):
    scope = {"session": session}
    await login(scope, ann)
    session._session_key = None
    assert await get_user(scope) == ann


async def test_get_user_of_a_stranger_session_is_anonymous(session):
    session["greeting"] = "hello"
    assert await get_user({"session": session}) == AnonymousUser()


async def test_get_user_ignores_a_backend_that_is_not_configured(session, ann):
    scope = {"session": session}
    await login(scope, ann, backend=OTHER_BACKEND)
    assert await get_user(scope) == AnonymousUser()


async def test_get_user_of_a_deleted_user_is_anonymous(session, ann):
    scope = {"session": session}
    await login(scope, ann)
    await ann.adelete()
    assert await get_user(scope) == AnonymousUser()


@pytest.mark.parametrize("spoil", [lambda s: s.pop(HASH_SESSION_KEY), lambda s: s.update({HASH_SESSION_KEY: "wrong"})])
async def test_get_user_flushes_a_session_with_a_wrong_hash(session, ann, spoil):
    scope = {"session": session}
    await login(scope, ann)
    spoil(session)

    assert await get_user(scope) == AnonymousUser()
    assert session.is_empty()


async def test_get_user_flushes_the_session_after_a_change_of_password(session, ann):
    scope = {"session": session}
    await login(scope, ann)
    await sync_to_async(ann.set_password)("other")
    await ann.asave()

    assert await get_user(scope) == AnonymousUser()
    assert session.is_empty()


async def test_get_user_honours_fallback_keys_and_leaves_the_session_as_it_is(session, ann, settings):
    scope = {"session": session}
    await login(scope, ann)
    before = (session.session_key, dict(session.items()))
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "a new key"

    assert await get_user(scope) == ann
    assert (session.session_key, dict(session.items())) == before


class Passwordless:
    """What a backend of a project's own may return: a user without a password, or an older kind of user."""

    is_authenticated = True


@pytest.mark.parametrize(("kind", "found"), [({}, True), ({"get_session_auth_hash": lambda self: "hash"}, False)])
async def test_get_user_asks_only_for_hashes_that_the_user_has(session, ann, monkeypatch, kind, found):
    user = type("User", (Passwordless,), kind)()
    await login({"session": session}, ann)
    monkeypatch.setattr("django.contrib.auth.backends.ModelBackend.get_user", lambda self, user_id: user)

    assert await get_user({"session": session}) == (user if found else AnonymousUser())


# login


async def test_login_needs_a_session(ann):
    with pytest.raises(
        ValueError, match=r"Cannot find session in scope\. You should wrap your consumer in SessionMiddleware\."
    ):
        await login({}, ann)


async def test_login_needs_a_user(session):
    with pytest.raises(ValueError, match=r"User must be passed as an argument or must be present in the scope\."):
        await login({"session": session}, None)


async def test_login_writes_what_django_reads(session, ann, signals):
    scope = {"session": session}
    await login(scope, ann)

    assert dict(session.items()) == {
        SESSION_KEY: str(ann.pk),
        BACKEND_SESSION_KEY: BACKEND,
        HASH_SESSION_KEY: ann.get_session_auth_hash(),
    }
    assert scope["user"] is ann
    assert signals == [("in", ann)]


async def test_login_takes_the_user_of_the_scope(session, ann):
    scope = {"session": session, "user": ann}
    await login(scope, None)
    assert await get_user(scope) == ann


async def test_login_does_not_save_the_session(session, ann):
    await login({"session": session}, ann)

    assert SESSION_KEY not in await SessionStore(session.session_key).akeys()


async def test_login_keeps_the_data_of_an_anonymous_session_under_a_new_key(ann):
    session = SessionStore()
    session["greeting"] = "hello"
    await session.asave()
    old_key = session.session_key
    await login({"session": session}, ann)

    assert session["greeting"] == "hello"
    assert session.session_key != old_key


async def test_login_again_keeps_the_session(session, ann):
    scope = {"session": session}
    await login(scope, ann)
    session["greeting"] = "hello"
    key = session.session_key
    await login(scope, ann)

    assert (session.session_key, session["greeting"]) == (key, "hello")


async def test_login_of_another_user_flushes(session, ann, bob):
    scope = {"session": session}
    await login(scope, ann)
    session["greeting"] = "hello ann"
    await login(scope, bob)

    assert "greeting" not in session
    assert await get_user(scope) == bob


async def test_login_after_a_change_of_password_flushes(session, ann):
    scope = {"session": session}
    await login(scope, ann)
    session["greeting"] = "hello"
    await sync_to_async(ann.set_password)("other")
    await login(scope, ann)
    assert "greeting" not in session


async def test_login_prefers_the_backend_it_is_given(session, ann):
    ann.backend = "not.this"
    await login({"session": session}, ann, backend=OTHER_BACKEND)
    assert session[BACKEND_SESSION_KEY] == OTHER_BACKEND


async def test_login_takes_the_backend_of_the_user(session, ann):
    ann.backend = OTHER_BACKEND
    await login({"session": session}, ann)
    assert session[BACKEND_SESSION_KEY] == OTHER_BACKEND


async def test_login_cannot_choose_between_backends(session, ann, settings, signals):
    settings.AUTHENTICATION_BACKENDS = [BACKEND, OTHER_BACKEND]
    with pytest.raises(ValueError, match="multiple authentication backends configured"):
        await login({"session": session}, ann)
    assert session.is_empty()
    assert signals == []


# logout


async def test_logout_needs_a_session():
    with pytest.raises(ValueError, match="Cannot find session in scope"):
        await logout({})


async def test_logout_flushes_and_makes_anonymous(session, ann, signals):
    scope = {"session": session}
    await login(scope, ann)
    await logout(scope)

    assert session.is_empty()
    assert scope["user"] == AnonymousUser()
    assert await get_user(scope) == AnonymousUser()
    assert signals == [("in", ann), ("out", ann)]


async def test_logout_of_nobody_sends_no_signal_and_adds_no_user(session, signals):
    scope = {"session": session}
    await logout(scope)
    assert signals == []
    assert "user" not in scope


async def test_logout_of_an_anonymous_user_sends_no_signal(session, signals):
    scope = {"session": session, "user": AnonymousUser()}
    await logout(scope)
    assert signals == []
    assert scope["user"] == AnonymousUser()


# AuthMiddleware


def websocket_scope(session_key=None, **keys):
    headers = [(b"cookie", b"sessionid=" + session_key.encode())] if session_key else []
    return {"type": "websocket", "path": "/", "headers": headers, **keys}


async def scope_inside(scope, stack=AuthMiddlewareStack):
    application = Recorder()
    await stack(application)(scope, receive_nothing, Sent())
    return application.scope


async def test_client_without_cookie_is_anonymous_without_a_hop(hops):
    scope = await scope_inside(websocket_scope())
    assert scope["user"] == AnonymousUser()
    assert not scope["user"].is_authenticated
    assert hops.count == 0


async def test_client_with_a_cookie_costs_one_hop_for_session_and_user(ann, hops):
    key = await logged_in_session(ann)
    hops.count = 0
    scope = await scope_inside(websocket_scope(key))

    assert scope["user"] == ann
    assert scope["user"].is_authenticated
    assert scope["session"][SESSION_KEY] == str(ann.pk)
    assert hops.count == 1


async def test_cookie_of_no_session_is_anonymous():
    scope = await scope_inside(websocket_scope("nosuchsessionnosuchsession"))
    assert scope["user"] == AnonymousUser()


async def test_user_is_there_before_the_application_starts(ann):
    seen = []

    async def application(scope, receive, send):
        seen.append(scope["user"].username)

    await AuthMiddlewareStack(application)(websocket_scope(await logged_in_session(ann)), None, Sent())
    assert seen == ["ann"]


async def test_connections_through_one_stack_are_kept_apart(ann, bob):
    recorder = Recorder()
    stack = AuthMiddlewareStack(recorder)
    keys = [await logged_in_session(ann), await logged_in_session(bob)]
    await asyncio.gather(*(stack(websocket_scope(key), None, Sent()) for key in [*keys, None]))

    assert [scope["user"] for scope in recorder.scopes if scope["session"].session_key] == [ann, bob]


async def test_user_that_is_in_the_scope_stays(ann, bob, hops):
    key = await logged_in_session(bob)
    hops.count = 0
    scope = await scope_inside(websocket_scope(key, user=ann))

    assert scope["user"] is ann
    assert hops.count == 0


async def test_user_of_an_outer_middleware_is_not_loaded_again(ann, hops):
    key = await logged_in_session(ann)
    hops.count = 0
    scope = await scope_inside(
        websocket_scope(key), lambda application: AuthMiddlewareStack(AuthMiddleware(application))
    )
    assert scope["user"] == ann
    assert hops.count == 1


async def test_auth_middleware_needs_a_session():
    with pytest.raises(ValueError, match="AuthMiddleware cannot find session in scope"):
        await AuthMiddleware(Recorder())(websocket_scope(), None, None)


async def test_scope_outside_of_the_stack_is_not_changed():
    scope = websocket_scope()
    await scope_inside(scope)
    assert scope == websocket_scope()


async def test_send_is_handed_on_untouched():
    application, send = Recorder(), Sent()
    await AuthMiddlewareStack(application)(websocket_scope(), receive_nothing, send)
    assert application.sends == [send]
    assert application.sends[0] is send


async def test_get_user_is_looked_up_when_it_is_called(monkeypatch, ann):
    """Tests of applications replace it."""

    async def replacement(scope):
        return ann

    monkeypatch.setattr(channels.auth, "get_user", replacement)
    assert (await scope_inside(websocket_scope()))["user"] == ann


async def test_subclass_may_find_the_user_itself(ann):
    class TokenMiddleware(AuthMiddleware):
        async def resolve_scope(self, scope):
            assert isinstance(scope["user"], UserLazyObject)
            scope["user"]._wrapped = await get_user_model().objects.aget(username=scope["token"])

    scope = await scope_inside(websocket_scope(token="ann", session={}), TokenMiddleware)
    assert scope["user"] == ann


def test_user_cannot_be_used_before_it_is_known():
    user = UserLazyObject()
    with pytest.raises(ValueError, match=r"Accessing scope user before it is ready\."):
        _ = user.username


async def test_login_inside_a_consumer_shows_in_its_scope(ann):
    async def application(scope, receive, send):
        await login(scope, ann)
        assert scope["user"] == ann
        await database_sync_to_async(scope["session"].save)()
        await logout(scope)
        assert scope["user"] == AnonymousUser()

    await AuthMiddlewareStack(application)(websocket_scope(), receive_nothing, Sent())


def test_stack_is_a_coroutine_callable_that_can_be_walked():
    application = Recorder()
    stack = AuthMiddlewareStack(application)

    assert inspect.iscoroutinefunction(stack.__call__)
    assert isinstance(stack.inner.inner, AuthMiddleware)
    assert stack.inner.inner.inner is application


@pytest.mark.slow
def test_module_can_be_imported_before_django_is_set_up():
    """As the `asgi.py` of tutorials does it, in a process of its own."""
    code = "import channels.auth, channels.routing, channels.sessions, channels.db, channels.middleware"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env={})
    assert (result.returncode, result.stderr) == (0, "")
