"""Django's users for any kind of connection: who is connected, log in, log out.

`scope["user"]` is looked up once, when the connection opens, and is not kept up to date: a logout or
an expiry elsewhere is not noticed. `get_user`, `login` and `logout` are awaited. This module can be
imported before Django is set up, as projects' `asgi.py` files do.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.conf import settings
from django.contrib.auth import (
    BACKEND_SESSION_KEY,
    HASH_SESSION_KEY,
    SESSION_KEY,
    get_user_model,
    load_backend,
    user_logged_in,
    user_logged_out,
)
from django.utils.crypto import constant_time_compare
from django.utils.functional import empty

from channels.db import database_sync_to_async
from channels.middleware import (
    Application,
    BaseMiddleware,
    Receive,
    Scope,
    Send,
    TailCall,
    copy_of,
    enter_application,
)
from channels.sessions import CookieMiddleware, SessionMiddleware, SmallLazyObject, load_session, shared
from channels.sharing import Row, SharedQueries, shared_database

if TYPE_CHECKING:
    from django.contrib.auth.base_user import AbstractBaseUser
    from django.contrib.auth.models import AnonymousUser


class _GetUser(SharedQueries[Scope, Any]):
    """Loads session and user in one visit to the database thread, or in none without a session to load."""

    async def __call__(self, scope: Scope) -> Any:
        if not _has_content(_session(scope)):
            return _anonymous()
        return await super().__call__(scope)


@_GetUser
def get_user(scope: Scope) -> Generator[Row, Any, AbstractBaseUser | AnonymousUser]:
    """Return the user that the session in `scope` is logged in as, or an `AnonymousUser`.

    A session whose user has changed the password since is flushed. One that was signed with a key in
    `SECRET_KEY_FALLBACKS` is valid, and left as it is: a WebSocket could not tell the client a new key.
    """
    session = _session(scope)
    yield from load_session(session)
    try:
        user_id = _get_user_session_key(session)
        backend_path = session[BACKEND_SESSION_KEY]
    except KeyError:
        return _anonymous()
    _share_names(session)
    if backend_path not in settings.AUTHENTICATION_BACKENDS:
        return _anonymous()
    user = yield from _load_user(load_backend(backend_path), user_id)
    if user is not None and not _session_is_of(session, user):
        session.flush()
        user = None
    return user or _anonymous()


def _load_user(backend: Any, user_id: Any) -> Generator[Row, Any, Any]:
    """Return what `backend.get_user` returns; if that is Django's own, load the user together with those of others."""
    if type(user_id) in (int, str, UUID) and _looks_up_as_django(backend):
        database = shared_database(get_user_model()._default_manager)
        make = None if database is None else (yield Row(_fetch_users, database, user_id))
        if make is not None:
            user = make()
            return user if backend.user_can_authenticate(user) else None
    return backend.get_user(user_id)


def _looks_up_as_django(backend: Any) -> bool:
    # It imports the user model, which cannot be imported before the apps are loaded.
    from django.contrib.auth import backends

    function = getattr(backend.get_user, "__func__", None)
    # A replacement of the method in Django's class, as tests make them, is that of another module.
    return function is backends.ModelBackend.get_user and function.__globals__ is vars(backends)


def _fetch_users(database: str, keys: Sequence[Any]) -> Mapping[Any, Callable[[], Any]]:
    """A function for each key that makes the user. Each call gets a user object of its own, even for a key that others
    have, too.
    """
    model = get_user_model()
    names = [field.attname for field in model._meta.concrete_fields]
    key = names.index(model._meta.pk.attname)
    rows = model._default_manager.using(database).filter(pk__in=keys).order_by().values_list(*names)
    return {row[key]: partial(model.from_db, database, names, row) for row in rows}


# Tests replace the global `get_user`; the replacement must then be called.
_own_get_user = get_user


@database_sync_to_async
def login(scope: Scope, user: Any, backend: str | None = None) -> None:
    """Log `user`, or if that is `None` the user in `scope`, in to the session in `scope`.

    An anonymous session keeps its data under a new key; one of another user is flushed. Does not save the
    session: without a response to come, as on a WebSocket, `scope["session"].save()` is up to the caller.
    """
    session = _session(scope)
    if user is None:
        user = scope.get("user")
    if user is None:
        raise ValueError("User must be passed as an argument or must be present in the scope.")
    backend = backend or _backend_of(user)
    if SESSION_KEY not in session:
        session.cycle_key()
    elif _get_user_session_key(session) != user.pk or not _session_is_of(session, user):
        session.flush()
    session[SESSION_KEY] = user._meta.pk.value_to_string(user)
    session[BACKEND_SESSION_KEY] = backend
    session[HASH_SESSION_KEY] = user.get_session_auth_hash() if hasattr(user, "get_session_auth_hash") else ""
    scope["user"] = user
    user_logged_in.send(sender=user.__class__, request=None, user=user)


@database_sync_to_async
def logout(scope: Scope) -> None:
    """Flush the session in `scope`, and make the user in `scope`, if there is one, anonymous."""
    session = _session(scope)
    user = scope.get("user")
    if user is not None and getattr(user, "is_authenticated", True):
        user_logged_out.send(sender=user.__class__, request=None, user=user)
    session.flush()
    if "user" in scope:
        scope["user"] = _anonymous()


class UserLazyObject(SmallLazyObject):
    """Stands in the scope until the user is known."""

    def _setup(self) -> None:
        raise ValueError("Accessing scope user before it is ready.")


class AuthMiddleware(TailCall, BaseMiddleware):
    """Adds `user` to a copy of the scope, before the application starts.

    Belongs inside `SessionMiddleware`. A user that is in the scope already stays, without a query.
    """

    def enter(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[Any]:
        scope = copy_of(scope)
        self.populate_scope(scope)
        if type(self).resolve_scope is AuthMiddleware.resolve_scope and not _needs_query(scope):
            return enter_application(self.inner, scope, receive, send)
        return self._resolve_first(scope, receive, send)

    async def _resolve_first(self, scope: Scope, receive: Receive, send: Send) -> Any:
        await self.resolve_scope(scope)
        entered = enter_application(self.inner, scope, receive, send)
        # The connection spends its life in the next line. What it does not need there must not live as long.
        del scope, receive, send
        return await entered

    def populate_scope(self, scope: Scope) -> None:
        """Put a placeholder into `scope`, unless a user is there."""
        if "session" not in scope:
            raise ValueError("AuthMiddleware cannot find session in scope. SessionMiddleware must be above it.")
        if "user" not in scope:
            scope["user"] = UserLazyObject()

    async def resolve_scope(self, scope: Scope) -> None:
        """Resolve the placeholder."""
        user = scope["user"]
        # The type is asked, because `isinstance` reads `__class__`, which would evaluate another lazy user in the
        # scope.
        if issubclass(type(user), UserLazyObject) and user._wrapped is empty:
            user._wrapped = await get_user(scope)


def _needs_query(scope: Scope) -> bool:
    """Whether the database has to say who the user is; if not, the placeholder is filled here."""
    user = scope["user"]
    if not issubclass(type(user), UserLazyObject) or user._wrapped is not empty:
        return False
    if get_user is not _own_get_user or _has_content(_session(scope)):
        return True
    user._wrapped = _anonymous()
    return False


def AuthMiddlewareStack(inner: Application) -> CookieMiddleware:
    """Wrap `inner` in `CookieMiddleware`, `SessionMiddleware` and `AuthMiddleware`."""
    return CookieMiddleware(SessionMiddleware(AuthMiddleware(inner)))


def _session(scope: Scope) -> Any:
    if "session" not in scope:
        raise ValueError("Cannot find session in scope. You should wrap your consumer in SessionMiddleware.")
    return scope["session"]


def _has_content(session: Any) -> bool:
    """Whether `session` has a key to load by, or data of its own; reads no store."""
    if type(session) is SmallLazyObject and (store := session._wrapped) is not empty:
        session = store  # whose attributes take a tenth of the time that they take through it
    is_empty = getattr(session, "is_empty", None)
    return bool(session) if is_empty is None else not is_empty()


def _share_names(session: Any) -> None:
    """All sessions use the same names, and the decoder's copies of them would live as long as the connection."""
    data = getattr(session, "_session_cache", None)
    if type(data) is dict:
        session._session_cache = {
            shared(name) if type(name) is str else name: shared(value) if name == BACKEND_SESSION_KEY else value
            for name, value in data.items()
        }


def _get_user_session_key(session: Any) -> Any:
    # The session stores the primary key in its serialised form. The name is Channels': middlewares that look for users
    # in another place, such as a tenant's schema, import it.
    return get_user_model()._meta.pk.to_python(session[SESSION_KEY])


def _session_is_of(session: Any, user: Any) -> bool:
    """Whether the session was begun with the user's present password and a key that still counts."""
    if not hasattr(user, "get_session_auth_hash"):
        return True
    session_hash = session.get(HASH_SESSION_KEY)
    if not session_hash:
        return False
    if constant_time_compare(session_hash, user.get_session_auth_hash()):
        return True
    if not hasattr(user, "get_session_auth_fallback_hash"):
        return False
    return any(constant_time_compare(session_hash, old) for old in user.get_session_auth_fallback_hash())


def _backend_of(user: Any) -> str:
    if hasattr(user, "backend"):
        return str(user.backend)
    if len(settings.AUTHENTICATION_BACKENDS) == 1:
        return str(settings.AUTHENTICATION_BACKENDS[0])
    raise ValueError(
        "You have multiple authentication backends configured and therefore must provide the `backend` "
        "argument or set the `backend` attribute on the user."
    )


def _anonymous() -> AnonymousUser:
    # The models of contrib.auth cannot be imported before the apps are loaded, which this module may be.
    from django.contrib.auth.models import AnonymousUser

    return AnonymousUser()
