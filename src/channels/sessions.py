"""Cookies and Django's sessions for any kind of connection.

`CookieMiddleware` adds the client's cookies to the scope. `SessionMiddleware` adds a session, which reads its store
when it is first used. When an HTTP response starts, a changed session is saved, and its cookie is set. WebSocket
messages never save a session: a consumer must call `scope["session"].save()` or `asave()`.
"""

from __future__ import annotations

import datetime
import functools
import re
import time
from collections.abc import Awaitable, Generator, Iterable, Mapping, Sequence
from http.cookies import SimpleCookie
from importlib import import_module
from typing import Any

from django.conf import settings
from django.contrib.sessions.backends.base import UpdateError
from django.contrib.sessions.backends.db import SessionStore
from django.core.exceptions import SuspiciousOperation
from django.http.cookie import parse_cookie
from django.utils import timezone
from django.utils.functional import LazyObject
from django.utils.http import http_date

from channels.middleware import Application, Receive, Scope, Send, TailCall, copy_of, enter_application
from channels.sharing import Row, shared_database
from fairway.delivery import Message

_EPOCH = "Thu, 01 Jan 1970 00:00:00 GMT"


class CookieMiddleware(TailCall):
    """Adds `cookies`, a dict of the cookies the client sent, to a copy of the scope."""

    def __init__(self, inner: Application) -> None:
        self.inner = inner

    def enter(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[Any]:
        if "headers" not in scope:
            raise ValueError(
                "CookieMiddleware was passed a scope that did not have a headers key "
                "(make sure it is only passed HTTP or WebSocket connections)"
            )
        cookies = _cookies(scope["headers"])
        scope = copy_of(scope)
        scope["cookies"] = cookies
        return enter_application(self.inner, scope, receive, send)

    @classmethod
    def set_cookie(
        cls,
        message: Message,
        key: str,
        value: str = "",
        max_age: float | datetime.timedelta | None = None,
        expires: datetime.datetime | str | None = None,
        path: str | None = "/",
        domain: str | None = None,
        secure: bool = False,
        httponly: bool = False,
        samesite: str | None = "lax",
    ) -> None:
        """Add a Set-Cookie header to `message`, the start of a response or the acceptance of a WebSocket.

        A datetime in `expires` is converted to the seconds of `max_age`. A naive one is taken as UTC. The list of
        headers is replaced, not changed, because applications may share it between responses.
        """
        if samesite and samesite.lower() not in ("strict", "lax", "none"):
            raise AssertionError("samesite must be 'strict', 'lax' or 'none'")
        if isinstance(expires, datetime.datetime):
            max_age, expires = _seconds_until(expires), None
        if isinstance(max_age, datetime.timedelta):
            max_age = max_age.total_seconds()
        cookie: SimpleCookie = SimpleCookie({key: value})
        morsel = cookie[key]
        if max_age is not None:
            morsel["max-age"] = int(max_age)
            expires = expires or http_date(time.time() + max_age)
        # Empty attributes are not written.
        morsel["expires"] = expires or ""
        morsel["path"] = path or ""
        morsel["domain"] = domain or ""
        morsel["secure"] = secure
        morsel["httponly"] = httponly
        morsel["samesite"] = samesite or ""
        header = (b"Set-Cookie", morsel.OutputString().encode("utf-8"))
        message["headers"] = [*message.get("headers", ()), header]

    @classmethod
    def delete_cookie(
        cls,
        message: Message,
        key: str,
        path: str | None = "/",
        domain: str | None = None,
        *,
        samesite: str | None = "lax",
    ) -> None:
        """Make the client forget a cookie that was set with the same path and domain."""
        # Cookies of these kinds need the Secure attribute, and browsers ignore a deletion without it.
        secure = key.startswith(("__Secure-", "__Host-")) or (samesite or "").lower() == "none"
        cls.set_cookie(
            message, key, max_age=0, path=path, domain=domain, expires=_EPOCH, secure=secure, samesite=samesite
        )


def _cookies(headers: Iterable[Sequence[bytes]]) -> dict[str, str]:
    # HTTP/2 clients may split their cookies over several headers (RFC 9113, 8.2.3).
    values = [value.decode("latin1") for name, value in headers if name == b"cookie"]
    if not values:
        return {}
    return {shared(name): value for name, value in parse_cookie("; ".join(values)).items()}


def _seconds_until(moment: datetime.datetime) -> int:
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    left = moment - datetime.datetime.now(tz=datetime.UTC)
    # Round up, so that the cookie does not expire before the requested time.
    return max(0, left.days * 86_400 + left.seconds + 1)


class SmallLazyObject(LazyObject):  # type: ignore[type-arg]  # generic in the stubs only
    """A lazy object without a `__dict__`, which would double its size."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "_wrapped":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)


_MAX_SHARED_LENGTH = 128


def shared(text: str) -> str:
    """Return the same object for equal texts, unless they are long, because many connections have the same texts.

    `sys.intern` must not be used here: clients choose the names of cookies, and some versions of Python never free
    interned strings.
    """
    return _shared(text) if len(text) <= _MAX_SHARED_LENGTH else text


@functools.lru_cache(maxsize=256)
def _shared(text: str) -> str:
    return text


# The keys that Django makes. A key with other characters is looked up alone: a database may refuse it, or find it equal
# to the key of another session.
_KEY = re.compile("[a-z0-9]{8,40}")


def load_session(session: Any) -> Generator[Row, Any, None]:
    """Load a session of `django.contrib.sessions.backends.db` in one query with those of other calls.

    This is a step of a `SharedQueries` function. Sessions of other kinds, and sessions that are loaded, are not
    changed: they load themselves.
    """
    store = session._wrapped if type(session) is SmallLazyObject else session
    if type(store) is not SessionStore or _is_loaded(store) or not _KEY.fullmatch(store.session_key or ""):
        return
    database = shared_database(store.get_model_class().objects)
    found = None if database is None else (yield Row(_fetch_sessions, database, store.session_key))
    # Another call may have loaded the same session meanwhile.
    if found is not None and not _is_loaded(store):
        _fill(store, *found)


def _is_loaded(store: Any) -> bool:
    return hasattr(store, "_session_cache")


def _fill(store: Any, data: str | None = None) -> None:
    """Do what `SessionStore.load` does with the data that it finds."""
    if data is None:
        store._session_key = None
    store._session_cache = {} if data is None else store.decode(data)


def _fetch_sessions(database: str, keys: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
    """Return for each key a tuple with the session's data. It is empty if there is no session or it has expired."""
    sessions = SessionStore.get_model_class().objects.using(database)
    current = sessions.filter(session_key__in=keys, expire_date__gt=timezone.now())
    found: dict[str, tuple[str, ...]] = dict.fromkeys(keys, ())
    found.update((key, (data,)) for key, data in current.values_list("session_key", "session_data"))
    return found


# `import_module` takes 4 µs, even if the module is imported already.
_session_engine = functools.cache(import_module)


class InstanceSessionWrapper:
    """The session of one connection, and the `send` that saves it.

    `scope` is the copy that the wrapped application gets. If an outer middleware has already put a session into the
    scope, this wrapper does nothing: `activated` is false, and the outer middleware saves the session.
    """

    # The types of outgoing messages that save a changed session, and the types that can carry its cookie.
    save_message_types: Sequence[str] = ["http.response.start"]
    cookie_response_message_types: Sequence[str] = ["http.response.start"]

    def __init__(self, scope: Scope, send: Send) -> None:
        self.cookie_name = settings.SESSION_COOKIE_NAME
        self.session_store = _session_engine(settings.SESSION_ENGINE).SessionStore
        self.scope = copy_of(scope)
        self.activated = "session" not in self.scope
        if self.activated:
            if "cookies" not in self.scope:
                raise ValueError("No cookies in scope - SessionMiddleware needs to run inside of CookieMiddleware.")
            self.scope["session"] = SmallLazyObject()
        self.real_send = send

    async def resolve_session(self) -> None:
        """Give the session in the scope its store. The store is not read here, but on first use."""
        self._resolve()

    def _resolve(self) -> None:
        if self.activated:
            session_key = self.scope["cookies"].get(self.cookie_name)
            self.scope["session"]._wrapped = self.session_store(session_key)

    async def send(self, message: Message) -> None:
        """Send `message`. If its type allows it, first save a changed session, and set its cookie.

        Responses with status 500 do not save the session. Raises `SuspiciousOperation`, and does not send the message,
        if the session was deleted while the request was served.
        """
        carries_cookie = message["type"] in self.cookie_response_message_types
        saves = carries_cookie or message["type"] in self.save_message_types
        if self.activated and saves and message.get("status") != 500:
            await self._settle(message, carries_cookie)
        await self.real_send(message)

    async def save_session(self) -> None:
        """Save the session now."""
        try:
            await self.scope["session"].asave()
        except UpdateError as error:
            raise SuspiciousOperation(
                "The request's session was deleted before the request completed. "
                "The user may have logged out in a concurrent request, for example."
            ) from error

    async def _settle(self, message: Message, carries_cookie: bool) -> None:
        session = self.scope["session"]
        if settings.SESSION_SAVE_EVERY_REQUEST:
            # Load the session to find out whether it still exists. If it does not, it must not be created again.
            await session.akeys()
        elif not session.modified:
            return
        if not session.is_empty():
            await self.save_session()
            if carries_cookie:
                await self._set_session_cookie(message)
        elif carries_cookie and self.cookie_name in self.scope["cookies"]:
            CookieMiddleware.delete_cookie(
                message,
                self.cookie_name,
                path=settings.SESSION_COOKIE_PATH,
                domain=settings.SESSION_COOKIE_DOMAIN,
                samesite=settings.SESSION_COOKIE_SAMESITE or None,
            )

    async def _set_session_cookie(self, message: Message) -> None:
        session = self.scope["session"]
        at_browser_close = await session.aget_expire_at_browser_close()
        CookieMiddleware.set_cookie(
            message,
            self.cookie_name,
            session.session_key,
            max_age=None if at_browser_close else await session.aget_expiry_age(),
            domain=settings.SESSION_COOKIE_DOMAIN,
            path=settings.SESSION_COOKIE_PATH,
            secure=bool(settings.SESSION_COOKIE_SECURE),
            httponly=bool(settings.SESSION_COOKIE_HTTPONLY),
            samesite=settings.SESSION_COOKIE_SAMESITE or None,
        )


class SessionMiddleware(TailCall):
    """Adds `session`, Django's session object for the client's cookie, to a copy of the scope.

    It must be inside `CookieMiddleware`. For a WebSocket, the application gets the original `send`, because the server
    can only write to its socket directly if nothing wraps its `send`. It gets the wrapper's `send` if the wrapper class
    overrides it, or lists a WebSocket message among the types that save the session or carry the cookie.
    """

    wrapper_class: type[InstanceSessionWrapper] = InstanceSessionWrapper

    def __init__(self, inner: Application) -> None:
        self.inner = inner

    def enter(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[Any]:
        wrapper = self.wrapper_class(scope, send)
        if type(wrapper).resolve_session is not InstanceSessionWrapper.resolve_session:
            return self._resolve_first(wrapper, receive)
        wrapper._resolve()
        return enter_application(self.inner, wrapper.scope, receive, _send_of(wrapper))

    async def _resolve_first(self, wrapper: InstanceSessionWrapper, receive: Receive) -> Any:
        await wrapper.resolve_session()
        return await enter_application(self.inner, wrapper.scope, receive, _send_of(wrapper))


def _send_of(wrapper: InstanceSessionWrapper) -> Send:
    """Return the wrapper's `send` if it may have to act on a message of this connection, otherwise the original."""
    if type(wrapper).send is not InstanceSessionWrapper.send:
        return wrapper.send
    watched = (*wrapper.save_message_types, *wrapper.cookie_response_message_types)
    if wrapper.activated and _concern(wrapper.scope.get("type"), watched):
        return wrapper.send
    return wrapper.real_send


@functools.lru_cache(maxsize=64)
def _concern(scope_type: Any, message_types: Sequence[str]) -> bool:
    """Whether one of these messages is sent in such a scope."""
    return any(message_type.startswith(f"{scope_type}.") for message_type in message_types)


def SessionMiddlewareStack(inner: Application) -> CookieMiddleware:
    """Wrap `inner` in `CookieMiddleware` and `SessionMiddleware`."""
    return CookieMiddleware(SessionMiddleware(inner))
