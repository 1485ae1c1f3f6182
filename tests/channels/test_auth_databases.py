"""Signed-in handshakes that come together, on SQLite and a real PostgreSQL: each is told what Django tells it alone."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import django.contrib.auth
import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
from django.core.management import call_command
from django.core.signing import dumps
from django.db import OperationalError, connections, transaction
from django.test import override_settings
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from channels.auth import AuthMiddlewareStack, get_user
from tests.channels.applications import Recorder, Sent, receive_nothing
from tests.services.postgres import database_alias

MODEL_BACKEND = "django.contrib.auth.backends.ModelBackend"
LENIENT_BACKEND = "django.contrib.auth.backends.AllowAllUsersModelBackend"
OWN_BACKEND = "tests.channels.backends.OwnBackend"
ABSENT_BACKEND = "tests.channels.backends.OtherBackend"
OLD_SECRET = "the key before this one"

# Where sessions and users are, for the code of this context.
database: ContextVar[str] = ContextVar("database", default="default")


class ByContext:
    """A database router as a site with several databases has it."""

    def db_for_read(self, model: Any, **hints: Any) -> str:
        return database.get()

    db_for_write = db_for_read


@contextlib.contextmanager
def inside(alias: str) -> Iterator[None]:
    token = database.set(alias)
    try:
        yield
    finally:
        database.reset(token)


# The cookies of many browsers ---------------------------------------------------------------------------------------


class Site:
    """The users and sessions of one database. `keys` are the values of cookies, by what is special about each."""

    def __init__(self, alias: str) -> None:
        self.alias = alias
        self.keys: dict[str, str] = {
            "of no session": "0" * 32,
            "short": "abc",
            "long": "long" * 500,
            "no key of Django's": "Session-Of-Nobody",
            "with a NUL": "session\0with a NUL",
        }
        # Other databases of the test have the same keys, and other users at the same places.
        users = User.objects.using(alias)
        self.ann, self.bob, self.eve = (
            users.create(username=f"{name} of {alias}", password=f"!{secrets.token_hex(8)}", is_active=name != "eve")
            for name in ("ann", "bob", "eve")
        )
        self.sessions = list(self._sessions())
        self.restore()
        with inside(alias):
            self.expected = {kind: by_django(alias, key) for kind, key in self.keys.items()}

    def _sessions(self) -> Iterator[Session]:
        signed = self._signed_in
        yield self._session("ann's", signed(self.ann))
        yield self._session("ann's second", signed(self.ann, colour="red"))
        yield self._session("bob's", signed(self.bob))
        yield self._session("expired", signed(self.bob), days=-1)
        yield self._session("anonymous", {"colour": "green"})
        yield self._session("without a backend", {SESSION_KEY: str(self.ann.pk)})
        yield self._session("of a backend that is not configured", signed(self.ann, backend=ABSENT_BACKEND))
        yield self._session("of a project's own backend", signed(self.bob, backend=OWN_BACKEND))
        yield self._session("inactive", signed(self.eve))
        yield self._session("inactive, but let in", signed(self.eve, backend=LENIENT_BACKEND))
        yield self._session("of a deleted user", signed(self.ann) | {SESSION_KEY: "1000000"})
        yield self._session("of a number too large", signed(self.ann) | {SESSION_KEY: str(10**30)})
        yield self._session("of no number", signed(self.ann) | {SESSION_KEY: "ann"})
        yield self._session("with another hash", signed(self.ann) | {HASH_SESSION_KEY: "0" * 64})
        yield self._session("with the hash of another", signed(self.ann) | {HASH_SESSION_KEY: self.bob_hash()})
        yield self._session("without a hash", {SESSION_KEY: str(self.ann.pk), BACKEND_SESSION_KEY: MODEL_BACKEND})
        yield self._session("of an old secret", signed(self.bob) | {HASH_SESSION_KEY: self.bob_hash(OLD_SECRET)})
        tampered = self._session("tampered with", signed(self.ann))
        tampered.session_data = tampered.session_data[:-1] + "."
        foreign = self._session("signed by another site", {})
        foreign.session_data = dumps(signed(self.ann), key="another site's", salt=SessionStore().key_salt)
        corrupt = self._session("corrupt", {})
        corrupt.session_data = "\N{SNOWMAN}:::"
        yield from (tampered, foreign, corrupt)

    def bob_hash(self, secret: str | None = None) -> str:
        return self.bob._get_session_auth_hash(secret=secret)

    def _signed_in(self, user: User, backend: str = MODEL_BACKEND, **more: str) -> dict[str, str]:
        own = {SESSION_KEY: str(user.pk), BACKEND_SESSION_KEY: backend, HASH_SESSION_KEY: user.get_session_auth_hash()}
        return own | more

    def _session(self, kind: str, content: dict[str, str], days: int = 1) -> Session:
        key = self.keys[kind] = f"{len(self.keys):032}"
        moment = timezone.now() + timedelta(days=days)
        return Session(session_key=key, session_data=SessionStore().encode(content), expire_date=moment)

    def restore(self) -> None:
        """Have all sessions as they were."""
        rows = Session.objects.using(self.alias)
        rows.all().delete()
        rows.bulk_create(self.sessions)

    def stored(self) -> set[str]:
        return set(Session.objects.using(self.alias).values_list("session_key", flat=True))

    async def handshakes(self, kinds: Sequence[str]) -> tuple[list[SessionStore], list[Any]]:
        """The sessions of browsers that come together, and who `get_user` says they are, or its error."""
        sessions = [SessionStore(self.keys[kind]) for kind in kinds]

        async def come(session: SessionStore) -> Any:
            database.set(self.alias)
            return await get_user({"session": session})

        return sessions, await asyncio.gather(*map(come, sessions), return_exceptions=True)


def seen(user: Any, session: SessionStore) -> Any:
    """What a handshake has come to, to be compared."""
    if isinstance(user, Exception):
        return type(user)
    return user.pk, user.get_username(), session.session_key, dict(session.items()), session.modified


def by_django(alias: str, key: str) -> tuple[Any, bool]:
    """What Django's own `get_user` makes of a cookie, and whether the session is stored afterwards. Changes nothing."""
    session = SessionStore(key)
    with transaction.atomic(using=alias):
        try:
            outcome: Any = seen(django.contrib.auth.get_user(SimpleNamespace(session=session)), session)
        except Exception as error:
            outcome = type(error)
        stored = set(Session.objects.values_list("session_key", flat=True))
        transaction.set_rollback(True, using=alias)
    return outcome, key in stored


@contextlib.contextmanager
def sqlite_alias(path: Any, alias: str) -> Iterator[None]:
    entries = connections.configure_settings(
        {"default": {}, alias: {"ENGINE": "django.db.backends.sqlite3", "NAME": path}}
    )
    connections.settings[alias] = entries[alias]
    try:
        yield
    finally:
        connections[alias].close()
        del connections[alias], connections.settings[alias]


@pytest.fixture(scope="module")
def sites(postgres, tmp_path_factory, django_db_blocker):
    """A site in each kind of database, with the same cookies."""
    path = tmp_path_factory.mktemp("auth") / "db.sqlite3"
    with database_alias(postgres, "auth-postgres"), sqlite_alias(path, "auth-sqlite"):
        aliases = {"sqlite": "auth-sqlite", "postgres": "auth-postgres"}
        with django_db_blocker.unblock():
            for alias in aliases.values():
                call_command("migrate", database=alias, verbosity=0)
            with override_settings(
                AUTHENTICATION_BACKENDS=[MODEL_BACKEND, LENIENT_BACKEND, OWN_BACKEND],
                DATABASE_ROUTERS=[ByContext()],
                SECRET_KEY_FALLBACKS=[OLD_SECRET],
            ):
                found = {kind: Site(alias) for kind, alias in aliases.items()}
                for alias in aliases.values():
                    connections[alias].close()
                yield found


@pytest.fixture(params=["sqlite", "postgres"], scope="module")
def site(request, sites):
    return sites[request.param]


@pytest.fixture(autouse=True)
async def as_before(sites):
    """The database thread outlives tests, so each leaves no open connection in it, and all sessions as they were."""

    def tidy() -> None:
        for one in sites.values():
            one.restore()
            connections[one.alias].force_debug_cursor = False
            connections[one.alias].close()

    yield
    await sync_to_async(tidy)()


class Queries:
    """The queries that the database thread makes; `taken` returns those since it was called last."""

    def __init__(self, alias: str) -> None:
        self.alias = alias

    async def taken(self) -> list[str]:
        def take() -> list[str]:
            connection = connections[self.alias]
            connection.force_debug_cursor = True
            found = [entry["sql"] for entry in connection.queries_log if entry["sql"].startswith("SELECT")]
            connection.queries_log.clear()
            return found

        return await sync_to_async(take)()


# One by one and together --------------------------------------------------------------------------------------------

KINDS = [
    "ann's",
    "ann's second",
    "bob's",
    "expired",
    "anonymous",
    "without a backend",
    "of a backend that is not configured",
    "of a project's own backend",
    "inactive",
    "inactive, but let in",
    "of a deleted user",
    "of a number too large",
    "of no number",
    "with another hash",
    "with the hash of another",
    "without a hash",
    "tampered with",
    "signed by another site",
    "corrupt",
    "of no session",
    "short",
    "long",
    "no key of Django's",
    "with a NUL",
]
# Django would give this session a new key, of which a WebSocket could not tell the client.
OLD_SECRETS = ["of an old secret"]


@pytest.mark.slow
def test_every_cookie_is_under_test(site):
    assert set(KINDS + OLD_SECRETS) == set(site.keys)
    signed_in = {kind for kind, (outcome, _) in site.expected.items() if isinstance(outcome, tuple) and outcome[0]}
    assert signed_in == {
        "ann's",
        "ann's second",
        "bob's",
        "of a project's own backend",
        "inactive, but let in",
        "of an old secret",
    }


@given(kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=12))
def test_each_of_many_is_told_what_django_tells_it_alone(site, kinds):
    async def come() -> Any:
        await sync_to_async(site.restore)()
        return *await site.handshakes(kinds), await sync_to_async(site.stored)()

    sessions, users, stored = asyncio.run(come())

    assert list(map(seen, users, sessions)) == [site.expected[kind][0] for kind in kinds]
    gone = {site.keys[kind] for kind in kinds if not site.expected[kind][1]}
    assert stored == {session.session_key for session in site.sessions} - gone
    # What one consumer does to its user or session shows in no other's.
    known = [index for index, user in enumerate(users) if not isinstance(user, Exception)]
    assert len({id(users[index]) for index in known}) == len(known)
    assert len({id(sessions[index]._session) for index in known}) == len(known)


async def test_sessions_of_an_old_secret_are_valid_and_left_as_they_are(site):
    (session, *_), users = await site.handshakes(["of an old secret", "bob's", "of an old secret", "corrupt"])

    assert [user.pk for user in users] == [site.bob.pk] * 3 + [None]
    assert session.session_key == site.keys["of an old secret"]
    assert session[HASH_SESSION_KEY] == site.bob_hash(OLD_SECRET)
    assert not session.modified


async def test_a_cookie_reaches_its_user_through_the_whole_stack(site):
    recorder = Recorder()
    stack = AuthMiddlewareStack(recorder)
    kinds = ["ann's", "expired", "bob's", "tampered with", "inactive", "ann's"]

    async def come(kind: str) -> None:
        database.set(site.alias)
        headers = [(b"cookie", b"sessionid=" + site.keys[kind].encode())]
        await stack({"type": "websocket", "path": kind, "headers": headers}, receive_nothing, Sent())

    await asyncio.gather(*map(come, kinds))
    found = {scope["path"]: scope["user"].pk for scope in recorder.scopes}
    assert found == dict.fromkeys(kinds) | {"ann's": site.ann.pk, "bob's": site.bob.pk}
    one, other = (scope["user"] for scope in recorder.scopes if scope["path"] == "ann's")
    assert one._wrapped is not other._wrapped


async def test_corrupt_sessions_are_logged_as_django_does(site, caplog):
    with caplog.at_level(logging.WARNING, "django.security.SuspiciousSession"):
        await site.handshakes(["tampered with", "ann's", "signed by another site", "bob's"])
    assert [record.getMessage() for record in caplog.records] == ["Session data corrupted"] * 2


# What it costs ------------------------------------------------------------------------------------------------------


async def test_those_that_come_together_make_two_queries(site):
    queries = Queries(site.alias)
    await queries.taken()
    _, users = await site.handshakes(["ann's", "bob's", "expired", "of no session", "anonymous", "ann's second"] * 5)
    assert sum(user.is_authenticated for user in users) == 15
    sessions, users = await queries.taken()
    assert '"django_session"' in sessions
    assert '"auth_user"' in users


async def test_one_that_comes_alone_makes_two_queries_as_well(site):
    queries = Queries(site.alias)
    await queries.taken()
    await site.handshakes(["ann's"])
    assert len(await queries.taken()) == 2


async def test_many_make_two_queries_for_each_visit_to_the_thread(site):
    queries = Queries(site.alias)
    await queries.taken()
    most = get_user.max_calls_per_visit
    _, users = await site.handshakes(["ann's"] * (3 * most))
    assert [user.pk for user in users] == [site.ann.pk] * (3 * most)
    assert len(await queries.taken()) == 6


async def test_what_is_not_djangos_own_is_asked_one_by_one(site):
    queries = Queries(site.alias)
    await queries.taken()
    _, users = await site.handshakes(["of a project's own backend"] * 3)
    assert [user.pk for user in users] == [site.bob.pk] * 3
    assert len(await queries.taken()) == 1 + 3

    class Store(SessionStore):
        key_salt = SessionStore().key_salt

    async def come() -> Any:
        database.set(site.alias)
        return await get_user({"session": Store(site.keys["ann's"])})

    assert [user.pk for user in await asyncio.gather(come(), come(), come())] == [site.ann.pk] * 3
    assert len(await queries.taken()) == 3 + 1


# Databases apart ----------------------------------------------------------------------------------------------------


async def test_each_is_looked_for_in_the_database_that_its_router_names(sites):
    queries = [Queries(one.alias) for one in sites.values()]
    for one in queries:
        await one.taken()
    kinds = ["ann's", "bob's", "expired", "corrupt", "ann's second"]
    (_, one), (_, other) = await asyncio.gather(*(site.handshakes(kinds) for site in sites.values()))

    names = [[user.get_username() for user in users] for users in (one, other)]
    assert names == [
        [f"{name} of {site.alias}" if name else "" for name in ("ann", "bob", "", "", "ann")] for site in sites.values()
    ]
    assert [user._state.db for user in one if user.pk] == ["auth-sqlite"] * 3
    assert [user._state.db for user in other if user.pk] == ["auth-postgres"] * 3
    assert [len(await one.taken()) for one in queries] == [2, 2]


async def test_a_router_without_an_answer_fails_for_its_caller_only(site):
    async def lost() -> Any:
        database.set("nowhere")
        return await get_user({"session": SessionStore(site.keys["ann's"])})

    (_, users), error = await asyncio.gather(site.handshakes(["ann's", "bob's"]), lost(), return_exceptions=True)
    assert [user.pk for user in users] == [site.ann.pk, site.bob.pk]
    assert str(error) == "The connection 'nowhere' doesn't exist."


# Faults -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("broken", ["channels.sessions._fetch_sessions", "channels.auth._fetch_users"])
async def test_when_the_shared_query_fails_each_asks_for_itself(site, monkeypatch, broken):
    def fail(alias: str, keys: Sequence[Any]) -> Any:
        with connections[alias].cursor() as cursor:
            cursor.execute("SELECT nothing FROM nowhere")

    monkeypatch.setattr(broken, fail)
    kinds = ["ann's", "bob's", "expired", "with another hash"]
    sessions, users = await site.handshakes(kinds)
    assert list(map(seen, users, sessions)) == [site.expected[kind][0] for kind in kinds]


async def test_a_user_that_cannot_be_made_fails_alone(site, monkeypatch):
    from_db = User.from_db.__func__

    def fail(model: Any, alias: str, names: Any, values: Any) -> Any:
        if site.bob.username in values:
            raise LookupError("on purpose")
        return from_db(model, alias, names, values)

    monkeypatch.setattr(User, "from_db", classmethod(fail))
    _, (ann, bob, again) = await site.handshakes(["ann's", "bob's", "ann's second"])
    assert ann.pk == again.pk == site.ann.pk
    assert isinstance(bob, LookupError)


@pytest.fixture
def persistent(sites, monkeypatch) -> Callable[..., None]:
    def configure(**more: Any) -> None:
        for key, value in {"CONN_MAX_AGE": None, **more}.items():
            monkeypatch.setitem(connections.settings["auth-postgres"], key, value)

    return configure


async def test_a_dropped_connection_fails_those_of_one_visit_and_no_later_ones(sites, postgres, persistent):
    persistent()
    site = sites["postgres"]
    await site.handshakes(["ann's", "bob's"])
    await asyncio.to_thread(postgres.kill_backends, connections.settings[site.alias]["NAME"])

    _, failed = await site.handshakes(["ann's", "bob's"])
    _, users = await site.handshakes(["ann's", "bob's"])

    assert list(map(type, failed)) == [OperationalError] * 2
    assert failed[0] is not failed[1]
    assert [user.pk for user in users] == [site.ann.pk, site.bob.pk]


async def test_health_checks_hide_a_dropped_connection(sites, postgres, persistent):
    persistent(CONN_HEALTH_CHECKS=True)
    site = sites["postgres"]
    await site.handshakes(["ann's", "bob's"])
    await asyncio.to_thread(postgres.kill_backends, connections.settings[site.alias]["NAME"])

    _, users = await site.handshakes(["ann's", "bob's"])
    assert [user.pk for user in users] == [site.ann.pk, site.bob.pk]
