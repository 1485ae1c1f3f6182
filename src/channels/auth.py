"""Django's users for all types of connections: finds the user, and logs users in and out.

`scope["user"]` is looked up once, when the connection opens, and is not updated: a later logout, or the end of the
session, is not noticed. `get_user`, `login` and `logout` must be awaited. This module can be imported before Django is
set up, because the `asgi.py` of a project may do so.
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
    """Loads the session and the user in one visit to the database thread. Without a session, no visit is needed."""

    async def __call__(self, scope: Scope) -> Any:
        if not _has_content(_session(scope)):
            return _anonymous()
        return await super().__call__(scope)


@_GetUser
def get_user(scope: Scope) -> Generator[Row, Any, AbstractBaseUser | AnonymousUser]:
    """Return the user of the session in `scope`, or an `AnonymousUser`.

    If the user's password has changed since the login, the session is flushed. A session that was signed with a key in
    `SECRET_KEY_FALLBACKS` is valid. Its key is not renewed, because a WebSocket cannot send a new cookie.
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
    """Return what `backend.get_user` returns. If it is Django's own, load the users of several calls in one query."""
    if type(user_id) in (int, str, UUID) and _looks_up_as_django(backend):
        database = shared_database(get_user_model()._default_manager)
        make = None if database is None else (yield Row(_fetch_users, database, user_id))
        if make is not None:
            user = make()
            return user if backend.user_can_authenticate(user) else None
    return backend.get_user(user_id)


def _looks_up_as_django(backend: Any) -> bool:
    # This imports the user model, which is not possible before the apps are loaded.
    from django.contrib.auth import backends

    function = getattr(backend.get_user, "__func__", None)
    # If a test has replaced the method in Django's class, the function is of another module.
    return function is backends.ModelBackend.get_user and function.__globals__ is vars(backends)


def _fetch_users(database: str, keys: Sequence[Any]) -> Mapping[Any, Callable[[], Any]]:
    """Return for each key a function that makes the user, so that calls with the same key get different objects."""
    model = get_user_model()
    names = [field.attname for field in model._meta.concrete_fields]
    key = names.index(model._meta.pk.attname)
    rows = model._default_manager.using(database).filter(pk__in=keys).order_by().values_list(*names)
    return {row[key]: partial(model.from_db, database, names, row) for row in rows}


# Tests may replace the global `get_user`. Then the replacement must be called.
_own_get_user = get_user


@database_sync_to_async
def login(scope: Scope, user: Any, backend: str | None = None) -> None:
    """Log in `user` to the session in `scope`. Without `user`, log in the user in `scope`.

    An anonymous session keeps its data and gets a new key. A session of another user is flushed. The session is not
    saved: if no response follows, as on a WebSocket, the caller must call `scope["session"].save()`.
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
    """Flush the session in `scope`, and replace the user in `scope`, if there is one, by an anonymous user."""
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
        # The connection stays in the next line until it ends, so this frame must not keep what is not needed there.
        del scope, receive, send
        return await entered

    def populate_scope(self, scope: Scope) -> None:
        """Put a placeholder for the user into `scope`, unless it has a user."""
        if "session" not in scope:
            raise ValueError("AuthMiddleware cannot find session in scope. SessionMiddleware must be above it.")
        if "user" not in scope:
            scope["user"] = UserLazyObject()

    async def resolve_scope(self, scope: Scope) -> None:
        """Load the user for the placeholder."""
        user = scope["user"]
        # Use `type`, because `isinstance` reads `__class__`, which would evaluate any other lazy user in the scope.
        if issubclass(type(user), UserLazyObject) and user._wrapped is empty:
            user._wrapped = await get_user(scope)


def _needs_query(scope: Scope) -> bool:
    """Whether the user must be loaded from the database. If not, fill the placeholder with an anonymous user."""
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
    """Whether `session` has a key to load it with, or data. Does not read the store."""
    if type(session) is SmallLazyObject and (store := session._wrapped) is not empty:
        session = store  # direct access takes a tenth of the time
    is_empty = getattr(session, "is_empty", None)
    return bool(session) if is_empty is None else not is_empty()


def _share_names(session: Any) -> None:
    """Share the names in the session's data, which all sessions have in common, to save memory for each connection."""
    data = getattr(session, "_session_cache", None)
    if type(data) is dict:
        session._session_cache = {
            shared(name) if type(name) is str else name: shared(value) if name == BACKEND_SESSION_KEY else value
            for name, value in data.items()
        }


def _get_user_session_key(session: Any) -> Any:
    # The session stores the primary key in its serialised form. Channels has the same name: middlewares that find
    # users elsewhere, such as in a tenant's schema, import it.
    return get_user_model()._meta.pk.to_python(session[SESSION_KEY])


def _session_is_of(session: Any, user: Any) -> bool:
    """Whether the session was begun with the user's current password and a secret key that is still accepted."""
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
    # The models of contrib.auth cannot be imported before the apps are loaded, but this module can.
    from django.contrib.auth.models import AnonymousUser

    return AnonymousUser()
