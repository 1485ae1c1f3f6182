"""`channels.routing`: by protocol, by path, by channel; nesting and `include()`."""

from __future__ import annotations

import inspect
import sys
import types
from typing import Any
from unittest.mock import AsyncMock, MagicMock, Mock

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.urls import include, path, re_path, register_converter
from django.urls.exceptions import NoReverseMatch, Resolver404
from django.urls.resolvers import RoutePattern
from django.views import View

from channels.consumer import AsyncConsumer
from channels.middleware import BaseMiddleware
from channels.routing import (
    ChannelNameRouter,
    NoRouteError,
    ProtocolTypeRouter,
    URLRouter,
    get_default_application,
    reverse,
)
from channels.sessions import CookieMiddleware
from tests.channels.applications import Recorder, Sent, receive_nothing


async def route(router: Any, path: str, **scope: Any) -> Any:
    return await router({"type": "websocket", "path": path, **scope}, receive_nothing, Sent())


def consumer_like(answer: Any) -> Any:
    """An application marked as `as_asgi()` marks one."""

    async def application(scope: Any, receive: Any, send: Any) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    application.consumer_class = object  # type: ignore[attr-defined]
    return application


# ProtocolTypeRouter


async def test_protocol_router_returns_what_the_application_for_the_type_returns():
    router = ProtocolTypeRouter({"websocket": Recorder("ws"), "http": Recorder("http")})

    assert await router({"type": "websocket"}, None, None) == "ws"
    assert await router({"type": "http"}, None, None) == "http"


@pytest.mark.parametrize("scope_type", ["telepathy", "lifespan"])
async def test_protocol_router_names_a_type_it_has_no_application_for(scope_type):
    router = ProtocolTypeRouter({"websocket": Recorder()})

    with pytest.raises(ValueError, match=f"No application configured for scope type '{scope_type}'") as raised:
        await router({"type": scope_type}, None, None)
    assert raised.value.asgi_status == 404


async def test_protocol_router_needs_a_type():
    with pytest.raises(KeyError):
        await ProtocolTypeRouter({})({}, None, None)


def test_protocol_router_shows_its_mapping():
    mapping = {"websocket": Recorder()}
    assert ProtocolTypeRouter(mapping).application_mapping is mapping


@pytest.mark.parametrize(
    "router", [ProtocolTypeRouter({}), URLRouter([]), ChannelNameRouter({}), CookieMiddleware(None)]
)
def test_every_router_and_middleware_passes_for_an_asgi_3_application(router):
    assert inspect.iscoroutinefunction(router.__call__)


# ChannelNameRouter


async def test_channel_router_goes_by_the_channel():
    router = ChannelNameRouter({"thumbnails": Recorder(1), "mails": Recorder(2)})

    assert await router({"type": "channel", "channel": "thumbnails"}, None, None) == 1
    assert await router({"type": "channel", "channel": "mails"}, None, None) == 2


async def test_channel_router_refuses_unknown_and_missing_channels():
    router = ChannelNameRouter({"thumbnails": Recorder()})

    with pytest.raises(ValueError, match="No application configured for channel name 'other'"):
        await router({"type": "channel", "channel": "other"}, None, None)
    with pytest.raises(ValueError, match="scope without a 'channel' key"):
        await router({"type": "http"}, None, None)


# URLRouter: paths


@pytest.mark.parametrize("pattern", [path("chat/", Recorder(1)), re_path(r"^chat/$", Recorder(1))])
async def test_path_leads_to_its_application(pattern):
    assert await route(URLRouter([pattern]), "/chat/") == 1


async def test_first_fitting_route_wins():
    router = URLRouter([path("a/", Recorder(1)), re_path("a", Recorder(2)), path("b/", Recorder(3))])

    assert await route(router, "/a/") == 1
    assert await route(router, "/ab/") == 2
    assert await route(router, "/b/") == 3


async def test_unanchored_regular_expressions_match_anywhere():
    router = URLRouter([re_path(r"bar", Recorder(1))])

    assert await route(router, "/bar/baz/") == 1
    assert await route(router, "/zzbarzz") == 1


async def test_all_leading_slashes_are_ignored():
    assert await route(URLRouter([path("chat/", Recorder(1))]), "///chat/") == 1


async def test_no_route_is_a_value_error_that_tells_a_server_what_to_answer():
    with pytest.raises(ValueError, match=r"^No route found for path 'nowhere/'\.$") as raised:
        await route(URLRouter([path("chat/", Recorder())]), "/nowhere/")

    assert isinstance(raised.value, NoRouteError)
    assert (raised.value.asgi_status, raised.value.path) == (404, "nowhere/")


async def test_no_route_error_escapes_control_characters():
    with pytest.raises(NoRouteError) as raised:
        await route(URLRouter([]), "/a\n[ERROR] b\x1b[0m")
    assert str(raised.value) == r"No route found for path 'a\n[ERROR] b\x1b[0m'."


async def test_scope_without_a_path_is_a_value_error():
    with pytest.raises(ValueError, match="No 'path' key in connection scope"):
        await URLRouter([])({"type": "websocket"}, None, None)


async def test_application_gets_a_copy_of_the_scope():
    application = Recorder()
    scope = {"type": "websocket", "path": "/chat/7/"}
    await URLRouter([path("chat/<int:room>/", application)])(scope, None, None)

    assert scope == {"type": "websocket", "path": "/chat/7/"}
    assert application.scope == {
        **scope,
        "path_remaining": "",
        "url_route": {"args": (), "kwargs": {"room": 7}},
    }


async def test_consumer_gets_the_same_scope_as_any_application():
    scopes = []

    async def application(scope, receive, send):
        scopes.append(scope)

    application.consumer_class = object
    await route(URLRouter([path("<slug:room>/", application, {"kind": "chat"})]), "/lobby/")

    assert scopes[0]["url_route"] == {"args": (), "kwargs": {"room": "lobby", "kind": "chat"}}


async def test_positional_captures_count_unless_one_is_named():
    unnamed, named = Recorder(), Recorder()
    router = URLRouter([re_path(r"^u/(\d+)/(\w+)$", unnamed), re_path(r"^n/(\d+)/(?P<word>\w+)$", named)])
    await route(router, "/u/1/two")
    await route(router, "/n/1/two")

    assert unnamed.scope["url_route"] == {"args": ("1", "two"), "kwargs": {}}
    assert named.scope["url_route"] == {"args": (), "kwargs": {"word": "two"}}


async def test_default_arguments_override_captured_ones():
    application = Recorder()
    await route(URLRouter([re_path(r"^(?P<a>\d)/$", application, {"a": "default"})]), "/1/")
    assert application.scope["url_route"]["kwargs"] == {"a": "default"}


async def test_converter_may_refuse_a_value():
    class Even:
        regex = r"\d+"

        def to_python(self, value: str) -> int:
            if int(value) % 2:
                raise ValueError
            return int(value)

        def to_url(self, value: int) -> str:
            return str(value)

    register_converter(Even, "even")
    router = URLRouter([path("<even:n>/", Recorder("even")), path("<int:n>/", Recorder("odd"))])

    assert await route(router, "/2/") == "even"
    assert await route(router, "/3/") == "odd"


async def test_pattern_may_refuse_a_path_by_resolver404():
    class Closed(RoutePattern):
        def match(self, path: str) -> Any:
            raise Resolver404(path)

    closed = path("a/", Recorder("closed"))
    closed.pattern = Closed("a/")
    assert await route(URLRouter([closed, path("a/", Recorder("open"))]), "/a/") == "open"


def test_application_without_a_signature_is_taken():
    """Some compiled callables have none; this built-in stands for them."""
    with pytest.raises(ValueError, match="no signature found"):
        inspect.signature(max)
    URLRouter([path("a/", max)])


# URLRouter: root_path


async def test_root_path_is_stripped_once():
    application = Recorder(1)
    router = URLRouter([path("root/", URLRouter([path("chat/", application)])), path("chat/", Recorder(2))])

    assert await route(router, "/root/chat/", root_path="/root") == 2
    assert await route(router, "/root/root/chat/", root_path="/root") == 1
    assert application.scope["root_path"] == "/root"


@pytest.mark.parametrize("root_path", ["/root", "/root/"])
async def test_root_path_may_end_with_a_slash(root_path):
    assert await route(URLRouter([path("chat/", Recorder(1))]), "/root/chat/", root_path=root_path) == 1


@pytest.mark.parametrize("outside", ["/chat/", "/roots/chat/", "/rootchat/"])
async def test_path_outside_of_root_path_has_no_route(outside):
    with pytest.raises(NoRouteError, match=f"No route found for path '{outside}'"):
        await route(URLRouter([re_path("", Recorder())]), outside, root_path="/root")


async def test_root_path_itself_is_the_empty_path():
    assert await route(URLRouter([path("", Recorder(1))]), "/root", root_path="/root") == 1


# URLRouter: nesting


class Passing(BaseMiddleware):
    pass


class PassingByAttribute:
    """A middleware in the manner of `OriginValidator`, which calls what it wraps `application`."""

    def __init__(self, application: Any) -> None:
        self.application = application

    async def __call__(self, scope: Any, receive: Any, send: Any) -> Any:
        return await self.application(scope, receive, send)


@pytest.mark.parametrize("wrap", [lambda app: app, Passing, PassingByAttribute, lambda app: Passing(Passing(app))])
@pytest.mark.parametrize("make", [path, re_path])
async def test_routers_nest_directly_and_behind_middlewares(wrap, make):
    inner = URLRouter([path("a/", Recorder("a")), path("", Recorder("root"))])
    router = URLRouter([make("x/", wrap(inner))])

    assert await route(router, "/x/a/") == "a"
    assert await route(router, "/x/") == "root"


async def test_nested_router_behind_cookies_and_sessions():
    router = URLRouter([path("x/", CookieMiddleware(URLRouter([path("a/", Recorder("a"))])))])
    assert await route(router, "/x/a/", headers=[]) == "a"


async def test_middleware_takes_part_in_nesting_by_a_flag():
    class Opaque:
        _path_routing = True

        def __init__(self, hidden: Any) -> None:
            self.hidden = hidden

        async def __call__(self, scope: Any, receive: Any, send: Any) -> Any:
            return await self.hidden(scope, receive, send)

    router = URLRouter([path("x/", Opaque(URLRouter([path("a/", Recorder("a"))])))])
    assert await route(router, "/x/a/") == "a"


async def test_arguments_of_outer_and_inner_routes_are_joined():
    application = Recorder()
    inner = URLRouter([re_path(r"(\w+)/$", application, {"c": 3})])
    router = URLRouter([re_path(r"^(\d)/", URLRouter([path("<int:b>/", inner, {"d": 4})]))])
    await route(router, "/1/2/three/")

    assert application.scope["url_route"] == {"args": ("1", "three"), "kwargs": {"b": 2, "c": 3, "d": 4}}
    assert application.scope["path_remaining"] == ""


@pytest.mark.parametrize("hide", [False, True])
async def test_outer_router_goes_on_when_an_inner_one_finds_nothing(hide):
    nested = URLRouter([path("a/", Recorder("a"))])

    async def hidden(scope, receive, send):
        return await nested(scope, receive, send)

    first = re_path(r"^x/", hidden if hide else nested)
    router = URLRouter([first, path("x/", URLRouter([path("b/", Recorder("b"))])), path("x/c/", Recorder("c"))])

    assert await route(router, "/x/a/") == "a"
    assert await route(router, "/x/b/") == "b"
    assert await route(router, "/x/c/") == "c"
    with pytest.raises(NoRouteError, match="'x/d/'"):
        await route(router, "/x/d/")


async def test_nested_router_alone_raises_resolver404():
    with pytest.raises(Resolver404):
        await URLRouter([])({"type": "websocket", "path": "/x/a/", "path_remaining": "a/"}, None, None)


async def test_error_of_a_consumer_is_not_taken_for_a_missing_route():
    router = URLRouter([path("x/", consumer_like(Resolver404("its own"))), re_path("x", Recorder())])
    with pytest.raises(Resolver404, match="its own"):
        await route(router, "/x/")


def test_nesting_needs_a_pattern_that_can_be_left_open():
    class Odd:
        name = None
        converters: dict[str, Any] = {}

    pattern = path("x/", URLRouter([]))
    pattern.pattern = Odd()
    with pytest.raises(ValueError, match="Unsupported pattern type for a nested URLRouter: Odd"):
        URLRouter([pattern])


def test_middlewares_that_wrap_each_other_in_a_circle_are_no_router():
    first, second = Passing(None), Passing(None)
    first.inner, second.inner = second, first
    router = URLRouter([path("x/", first)])
    assert router.routes[0].pattern.regex.pattern.endswith(r"\Z")


# URLRouter: include()


async def test_include_joins_paths_and_arguments():
    application = Recorder()
    included = [path("room/<slug:name>/", application, {"kind": "chat"})]
    await route(URLRouter([path("site/<int:site>/", include(included), {"theme": "dark"})]), "/site/3/room/red/")

    assert application.scope["url_route"] == {
        "args": (),
        "kwargs": {"site": 3, "theme": "dark", "name": "red", "kind": "chat"},
    }


async def test_include_of_includes_and_of_routers():
    nested = URLRouter([path("c/", Recorder("c"))])
    inner = [path("b/", Recorder("b")), path("n/", Passing(nested))]
    router = URLRouter([path("x/", include([path("a/", include(inner))])), path("x/a/z/", Recorder("z"))])

    assert await route(router, "/x/a/b/") == "b"
    assert await route(router, "/x/a/n/c/") == "c"
    assert await route(router, "/x/a/z/") == "z"
    with pytest.raises(NoRouteError, match="'x/a/n/q/'"):
        await route(router, "/x/a/n/q/")


async def test_include_of_a_module(monkeypatch):
    module = types.ModuleType("chat_routing_for_test")
    module.urlpatterns = [path("room/", Recorder("room"))]
    monkeypatch.setitem(sys.modules, module.__name__, module)

    assert await route(URLRouter([path("ws/", include(module.__name__))]), "/ws/room/") == "room"


async def test_include_keeps_positional_arguments_only_without_named_ones():
    first, second = Recorder(), Recorder()
    router = URLRouter(
        [
            re_path(r"^p/(\d)/", include([re_path(r"^(\d)/$", first)])),
            re_path(r"^q/(\d)/", include([re_path(r"^(?P<n>\d)/$", second)])),
        ]
    )
    await route(router, "/p/1/2/")
    await route(router, "/q/1/2/")

    assert first.scope["url_route"] == {"args": ("1", "2"), "kwargs": {}}
    assert second.scope["url_route"] == {"args": (), "kwargs": {"n": "2"}}


class Takes(AsyncConsumer):
    def __init__(self, colour: str) -> None:
        self.colour = colour


@pytest.mark.parametrize("application", [AsyncConsumer.as_asgi(), Takes.as_asgi(colour="red")])
def test_consumer_is_routed_whatever_its_constructor_takes(application):
    assert URLRouter([path("ws/", application)]).routes[0].callback is application


class Page(View):
    pass


def page(request: Any) -> None:
    pass


class Chat:
    @classmethod
    def as_asgi(cls) -> None: ...


@pytest.mark.parametrize(
    ("callback", "mistake"),
    [
        (Page.as_view(), "is not an ASGI application: URLRouter cannot route to Django views"),
        (page, "is not an ASGI application: URLRouter cannot route to Django views"),
        (lambda: None, "is not an ASGI application: URLRouter cannot route to Django views"),
        (Chat, r"Chat is a consumer class: route Chat\.as_asgi\(\) instead"),
    ],
)
async def test_a_route_to_what_is_no_application_is_refused_when_it_is_taken(callback, mistake):
    router = URLRouter([path("", include([path("x/", callback), path("y/", consumer_like(1))]))])
    await route(router, "/y/")
    with pytest.raises(ImproperlyConfigured, match=mistake):
        await route(router, "/x/")


@pytest.mark.slow
@pytest.mark.parametrize("fake", [Mock(), MagicMock(), AsyncMock()])
def test_a_mock_may_stand_in_a_route(fake):
    router = URLRouter([path("x/", fake)])
    assert router.routes[0].callback is fake
    assert router.reverse is not None


def test_routes_stay_djangos_own():
    application = consumer_like(1)
    router = URLRouter([path("chat/", application, name="chat")])

    (pattern,) = router.routes
    assert pattern.callback is application
    assert pattern.pattern.name == "chat"
    assert pattern.resolve("chat/").func is application


# get_default_application


def test_default_application_is_imported(settings):
    settings.ASGI_APPLICATION = "tests.channels.applications.receive_nothing"
    assert get_default_application() is receive_nothing


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "You have not set ASGI_APPLICATION"),
        ("application", "You have not set ASGI_APPLICATION"),
        ("no_such_module.application", "Cannot import ASGI_APPLICATION module 'no_such_module': No module named"),
        ("tests.channels.applications.nothing", "Cannot find 'nothing' in ASGI_APPLICATION module 'tests.channels"),
    ],
)
def test_default_application_says_what_is_wrong(settings, value, message):
    settings.ASGI_APPLICATION = value
    with pytest.raises(ImproperlyConfigured, match=message):
        get_default_application()


# reverse --------------------------------------------------------------------------------------------------------------


async def named(scope: Any, receive: Any, send: Any) -> None:
    """An application to route to."""


def site() -> ProtocolTypeRouter:
    rooms = URLRouter(
        [path("<slug:room>/", named, name="room"), re_path(r"^archive/(?P<year>\d{4})/$", named, name="year")]
    )
    shared = include(([path("board/<int:number>/", named, name="board")], "shared"), namespace="team")
    routes = [
        path("lobby/", named, name="lobby"),
        path("rooms/<str:city>/", BaseMiddleware(rooms)),
        path("shared/", shared),
    ]
    return ProtocolTypeRouter({"websocket": CookieMiddleware(URLRouter(routes)), "http": named})


@pytest.mark.parametrize(
    ("name", "kwargs", "expected"),
    [
        ("lobby", {}, "/lobby/"),
        ("room", {"city": "kyoto", "room": "tea-house"}, "/rooms/kyoto/tea-house/"),
        ("year", {"city": "kyoto", "year": "2026"}, "/rooms/kyoto/archive/2026/"),
        ("team:board", {"number": 7}, "/shared/board/7/"),
    ],
)
async def test_a_named_route_has_a_path_and_the_path_leads_to_it(
    settings: Any, monkeypatch: pytest.MonkeyPatch, name: str, kwargs: dict[str, Any], expected: str
):
    module = types.ModuleType("reversed_site")
    module.application = site()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "reversed_site", module)
    settings.ASGI_APPLICATION = "reversed_site.application"

    assert reverse(name, kwargs=kwargs) == expected
    assert await route(module.application, expected, headers=[]) is None


def test_positional_arguments_are_reversed_too():
    assert URLRouter([re_path(r"^a/(\d+)/$", named, name="a")]).reverse("a", args=[5]) == "/a/5/"


def test_a_route_that_is_not_there_has_no_path():
    router = URLRouter([path("a/<int:number>/", named, name="a")])
    for name, kwargs in (("b", {}), ("a", {"number": "x"}), ("a", {})):
        with pytest.raises(NoReverseMatch, match=f"^Reverse for '{name}'"):
            router.reverse(name, kwargs=kwargs)


def test_reverse_needs_a_router(settings: Any, monkeypatch: pytest.MonkeyPatch):
    module = types.ModuleType("routerless_site")
    module.application = ProtocolTypeRouter({"websocket": named})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "routerless_site", module)
    settings.ASGI_APPLICATION = "routerless_site.application"

    with pytest.raises(ImproperlyConfigured, match=r"^ASGI_APPLICATION has no URLRouter for 'websocket'"):
        reverse("a")
    with pytest.raises(ImproperlyConfigured, match=r"^ASGI_APPLICATION has no URLRouter for 'http'"):
        reverse("a", protocol="http")


@pytest.mark.parametrize(
    ("route", "asked", "hint"),
    [
        ("ws/chat/", "/ws/chat", " There is one for 'ws/chat/': mind the slash."),
        ("ws/chat", "/ws/chat/", " There is one for 'ws/chat': mind the slash."),
        ("/ws/chat/", "/ws/chat/", " There is one for '/ws/chat/': mind the slash."),
        ("ws/chat/", "/ws/chats", ""),
    ],
)
async def test_a_route_that_differs_by_a_slash_is_named(route: str, asked: str, hint: str):
    router = URLRouter([path(route, Recorder())])
    with pytest.raises(NoRouteError) as raised:
        await router({"type": "websocket", "path": asked}, None, None)

    assert str(raised.value) == f"No route found for path {asked.lstrip('/')!r}.{hint}"
