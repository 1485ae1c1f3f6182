"""Routers, which choose the application that serves a connection.

`ProtocolTypeRouter` chooses by the type of connection, `URLRouter` by the path, with Django's URL patterns, and
`ChannelNameRouter` by the name of a worker's channel. URL routers can be nested: directly, inside middlewares, and with
`include()`. An outer router passes on the rest of the path. If the inner router finds no route, the outer router tries
its own next route.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from functools import cached_property
from importlib import import_module
from typing import Any, NamedTuple, TypeAlias, cast

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.urls import URLPattern, URLResolver
from django.urls import reverse as django_reverse
from django.urls.exceptions import Resolver404
from django.urls.resolvers import RegexPattern, RoutePattern

from channels.middleware import Application, Receive, Scope, Send, TailCall, copy_of, enter_application
from fairway.asgi.calling import template

Route: TypeAlias = URLPattern | URLResolver


class NoRouteError(ValueError):
    """No route of the outermost router matches `path`. A server answers with `asgi_status`."""

    asgi_status = 404

    def __init__(self, path: str, neighbour: str | None = None) -> None:
        """`neighbour` is a path that has a route and differs only by a slash."""
        super().__init__(path)
        self.path = path
        self.neighbour = neighbour

    def __str__(self) -> str:
        hint = f" There is one for {self.neighbour!r}: mind the slash." if self.neighbour else ""
        return f"No route found for path {self.path!r}.{hint}"


class NoApplicationError(ValueError):
    """No application serves this type of connection. A server answers with `asgi_status`."""

    asgi_status = 404

    def __init__(self, scope_type: str) -> None:
        super().__init__(scope_type)
        self.scope_type = scope_type

    def __str__(self) -> str:
        return f"No application configured for scope type {self.scope_type!r}"


def get_default_application() -> Application:
    """Import the application that the setting `ASGI_APPLICATION` names.

    Raises `ImproperlyConfigured` if the setting is missing, is not a dotted path, or cannot be imported.
    """
    dotted_path = getattr(settings, "ASGI_APPLICATION", None)
    if not isinstance(dotted_path, str) or "." not in dotted_path:
        raise ImproperlyConfigured("You have not set ASGI_APPLICATION to the dotted path of an application")
    module_name, _, attribute = dotted_path.rpartition(".")
    try:
        module = import_module(module_name)
    except ImportError as error:
        raise ImproperlyConfigured(f"Cannot import ASGI_APPLICATION module {module_name!r}: {error}") from error
    try:
        return cast(Application, getattr(module, attribute))
    except AttributeError as error:
        raise ImproperlyConfigured(f"Cannot find {attribute!r} in ASGI_APPLICATION module {module_name!r}") from error


class ProtocolTypeRouter(TailCall):
    """Routes by `scope["type"]`: `{"http": application, "websocket": application, ...}`.

    A type that is not listed raises a `ValueError`. For `lifespan`, a server takes this as "not supported".
    """

    def __init__(self, application_mapping: Mapping[str, Application]) -> None:
        self.application_mapping = application_mapping

    def enter(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[Any]:
        scope_type = scope["type"]
        if scope_type not in self.application_mapping:
            raise NoApplicationError(scope_type)
        return enter_application(self.application_mapping[scope_type], scope, receive, send)


class ChannelNameRouter(TailCall):
    """Routes a worker's messages by the name of their channel, `scope["channel"]`."""

    def __init__(self, application_mapping: Mapping[str, Application]) -> None:
        self.application_mapping = application_mapping

    def enter(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[Any]:
        if "channel" not in scope:
            raise ValueError(
                "ChannelNameRouter got a scope without a 'channel' key. "
                "Did you make sure it is only being used for 'channel' type messages?"
            )
        if scope["channel"] not in self.application_mapping:
            raise ValueError(f"No application configured for channel name {scope['channel']!r}")
        return enter_application(self.application_mapping[scope["channel"]], scope, receive, send)


class _Match(NamedTuple):
    """A route that matches the path: its application, the rest of the path, and the captured arguments."""

    application: Application
    rest: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class URLRouter(TailCall):
    """Routes by path, with a list of Django's `path()`, `re_path()` and `include()` routes.

    The application gets a copy of the scope with `path_remaining` and `url_route`. The latter has `args` and `kwargs`,
    which include those of outer routers. Note that `re_path()` searches: without `^`, it matches anywhere in the path.

    For a path without a route, the outermost router raises `NoRouteError`, a `ValueError`, and a nested router raises
    `Resolver404`. A route to something that is not an application, such as a consumer class without `as_asgi()`, raises
    `ImproperlyConfigured` when it is used.
    """

    # Marks an application that routes further by `path_remaining`. Other applications may set it, too.
    _path_routing = True

    def __init__(self, routes: Sequence[Route]) -> None:
        self.routes = routes
        # Only a connection that uses such a route is refused. Tests use fake applications that are never called.
        self._mistakes = {id(pattern.callback): text for pattern in leaves(routes) if (text := mistake_in(pattern))}
        for pattern in leaves(routes):
            if _routes_further(pattern.callback):
                pattern.pattern = _open_ended(pattern.pattern)

    def reverse(self, viewname: Any, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None) -> str:
        """Return the path of a named route, like `django.urls.reverse`. The route may be in a nested router.

        Raises `NoReverseMatch`. Call this on the outermost router, because nested routers do not know the beginning of
        the path.
        """
        return django_reverse(viewname, urlconf=self._named_routes, args=args, kwargs=kwargs)  # type: ignore[arg-type]

    @cached_property
    def _named_routes(self) -> _NamedRoutes:
        return _NamedRoutes(self.routes)

    def enter(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[Any]:
        matches = _matching(self.routes, _path_to_route(scope), (), {})
        match = next(matches, None)
        if match is None:
            raise self._no_route(scope)
        # A consumer does not route further. Any other application may be a nested router, or contain one.
        if hasattr(match.application, "consumer_class"):
            return enter_application(match.application, _routed_scope(scope, match), receive, send)
        if self._mistakes and id(match.application) in self._mistakes:
            raise ImproperlyConfigured(self._mistakes[id(match.application)])
        return self._try(match, matches, scope, receive, send)

    async def _try(
        self, match: _Match | None, others: Iterator[_Match], scope: Scope, receive: Receive, send: Send
    ) -> Any:
        """Await the first matching application that has a route for the rest of the path."""
        while match is not None:
            try:
                return await enter_application(match.application, _routed_scope(scope, match), receive, send)
            except Resolver404:
                match = next(others, None)
        raise self._no_route(scope)

    def _no_route(self, scope: Scope) -> Exception:
        path = _path_to_route(scope)
        if "path_remaining" in scope:
            return Resolver404({"path": path})
        others = (path.removesuffix("/") if path.endswith("/") else f"{path}/", f"/{path}")
        return NoRouteError(path, next(filter(self._leads_somewhere, others), None))

    def _leads_somewhere(self, path: str) -> bool:
        # A nested router matches only the beginning of the path, so it may have no route for the rest.
        return any(not _routes_further(match.application) for match in _matching(self.routes, path, (), {}))


def _path_to_route(scope: Scope) -> str:
    """Return the part of the path that is not matched yet, without leading slashes, as Django's patterns expect it."""
    path: str | None = scope["path_remaining"] if "path_remaining" in scope else scope.get("path")
    if path is None:
        raise ValueError("No 'path' key in connection scope, cannot route URLs")
    root_path = scope.get("root_path", "")
    if root_path and "path_remaining" not in scope:
        rest = path.removeprefix(root_path)
        # "/app" is the root of "/app" and "/app/x", not of "/apple".
        if not path.startswith(root_path) or (rest and not rest.startswith("/") and root_path[-1] != "/"):
            raise NoRouteError(path)
        path = rest
    return path.lstrip("/")


def _routed_scope(scope: Scope, match: _Match) -> Scope:
    outer = scope.get("url_route", {"args": (), "kwargs": {}})
    scope = copy_of(scope)
    scope["path_remaining"] = match.rest
    scope["url_route"] = route = _URL_ROUTE.copy()
    route["args"] = (*outer["args"], *match.args)
    route["kwargs"] = {**outer["kwargs"], **match.kwargs}
    return scope


_URL_ROUTE = template({"args": (), "kwargs": {}}, room=2)


def _matching(routes: Sequence[Route], path: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[_Match]:
    """Yield the routes that match `path`, in order. Included routes come in the place of their `include()`.

    As in Django, positional arguments of an `include()` count only if no argument was captured by name.
    """
    for route in routes:
        try:
            found = route.pattern.match(path)
        except Resolver404:
            # A project's own converter or pattern may raise this.
            continue
        if found is None:
            continue
        rest, own_args, own_kwargs = found
        if isinstance(route, URLResolver):
            together = {**kwargs, **own_kwargs, **route.default_kwargs}
            yield from _matching(route.url_patterns, rest, () if together else (*args, *own_args), together)
            continue
        together = {**kwargs, **own_kwargs, **(route.default_args or {})}
        yield _Match(
            cast(Application, route.callback),
            rest,
            tuple(own_args) if kwargs or own_kwargs else (*args, *own_args),
            together,
        )


def reverse(
    viewname: Any,
    args: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    protocol: str = "websocket",
) -> str:
    """Return the path of a named route of `ASGI_APPLICATION` for this type of connection.

    Raises `NoReverseMatch` if there is no such route, `ImproperlyConfigured` if there is no `URLRouter`.
    """
    router = _router_in(get_default_application(), protocol)
    if router is None:
        raise ImproperlyConfigured(f"ASGI_APPLICATION has no URLRouter for {protocol!r}: there is nothing to reverse")
    return router.reverse(viewname, args, kwargs)


def _router_in(application: Any, protocol: str) -> URLRouter | None:
    """The outermost `URLRouter` of an application, inside middlewares and a `ProtocolTypeRouter`."""
    return next((one for one in _inwards(application, protocol) if isinstance(one, URLRouter)), None)


_DEEPEST = 100
"""How deep the search for inner applications goes. A mock has every attribute, so the search would not end."""


def _inwards(application: Any, protocol: str = "") -> Iterator[Any]:
    """Yield an application, then the application that it passes connections of this type to, and so on."""
    seen: set[int] = set()
    while application is not None and id(application) not in seen and len(seen) < _DEEPEST:
        yield application
        seen.add(id(application))
        mapping = getattr(application, "application_mapping", None)
        if isinstance(mapping, Mapping):
            application = mapping.get(protocol)
        else:
            application = getattr(application, "inner", None) or getattr(application, "application", None)


class _NamedRoutes:
    """The routes as a URLconf that Django can reverse. A nested router becomes an `include()`."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self.urlpatterns = [_reversible(route) for route in routes]


def _reversible(route: Route) -> Route:
    if isinstance(route, URLResolver):
        inner = [_reversible(one) for one in route.url_patterns]
        return URLResolver(route.pattern, inner, route.default_kwargs, route.app_name, route.namespace)
    nested = _router_in(route.callback, "")
    if nested is None:
        return route
    return URLResolver(route.pattern, [_reversible(one) for one in nested.routes], dict(route.default_args or {}))


def leaves(routes: Sequence[Route]) -> Iterator[URLPattern]:
    """Yield the routes that lead to an application. The routes of an `include()` come in its place."""
    for route in routes:
        if isinstance(route, URLResolver):
            yield from leaves(route.url_patterns)
        else:
            yield route


def mistake_in(route: URLPattern) -> str | None:
    """Return a sentence if the application of a route is a consumer class or a Django view, otherwise None."""
    callback: Any = route.callback
    name = getattr(callback, "__qualname__", type(callback).__qualname__)
    if isinstance(callback, type) and hasattr(callback, "as_asgi"):
        return f"{name} is a consumer class: route {name}.as_asgi() instead"
    # A consumer's application has the signature of its class's constructor.
    is_consumer = hasattr(callback, "consumer_class")
    if hasattr(callback, "view_class") or not (is_consumer or _takes_a_connection(callback)):
        return f"{name} is not an ASGI application: URLRouter cannot route to Django views"
    return None


def _takes_a_connection(callback: Any) -> bool:
    try:
        inspect.signature(callback).bind(None, None, None)
    except TypeError:
        return False
    except ValueError:
        # Some compiled callables have no signature. Assume that they are applications.
        return True
    return True


def _routes_further(application: Any) -> bool:
    """Whether `application` is a router, or a middleware with a router inside."""
    return any(getattr(one, "_path_routing", False) is True for one in _inwards(application))


def _open_ended(pattern: Any) -> RoutePattern | RegexPattern:
    """Return a copy of `pattern` that also matches the beginning of a longer path."""
    if isinstance(pattern, RegexPattern):
        return RegexPattern(pattern._regex, pattern.name, is_endpoint=False)  # type: ignore[attr-defined]  # not in the stubs
    if isinstance(pattern, RoutePattern):
        return RoutePattern(pattern._route, pattern.name, is_endpoint=False)  # type: ignore[attr-defined]  # not in the stubs
    raise ValueError(f"Unsupported pattern type for a nested URLRouter: {type(pattern).__name__}")
