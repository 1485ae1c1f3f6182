"""Microseconds from a connection's scope to the application that serves it, by the number of routes.

Run ``python bench/micro/routing.py``. The route that fits is the last of its list, the worst case; the application at
the end does nothing. Django's patterns are asked one after the other, so the cost grows with the list: an `include()`
for each part of a site keeps it short.
"""

from __future__ import annotations

import contextlib

from django.urls import include, path, re_path
from measuring import microseconds, report

from channels.routing import NoRouteError, ProtocolTypeRouter, Route, URLRouter

COUNTS = (1, 10, 100)
HEADERS = [(b"host", b"example.org"), (b"origin", b"http://example.org")]


class Nothing:
    """Stands in for a consumer's application, whose making is no part of routing."""

    consumer_class = object

    def __call__(self, scope: object, receive: object, send: object) -> None:
        self.scope = scope


NOTHING = Nothing()


def scope(where: str) -> dict[str, object]:
    return {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "1.1",
        "scheme": "ws",
        "path": where,
        "raw_path": where.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": HEADERS,
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8000),
        "subprotocols": [],
        "extensions": {},
        "state": {},
    }


def measure(name: str, routes: list[Route], where: str) -> None:
    router = ProtocolTypeRouter({"websocket": URLRouter(routes)})
    incoming = scope(where)
    report(name, microseconds(lambda: router.enter(incoming, None, None)))
    assert NOTHING.scope["url_route"]["kwargs"] == {"room": "lobby"}


def last_of(count: int) -> None:
    print(f"{count} routes" if count > 1 else "1 route")
    last = f"/ws/part{count - 1}/lobby/"
    measure("path(), a <str:room>", [path(f"ws/part{n}/<str:room>/", NOTHING) for n in range(count)], last)
    measure("re_path(), a group", [re_path(rf"^ws/part{n}/(?P<room>\w+)/$", NOTHING) for n in range(count)], last)


def nested() -> None:
    print("100 routes in 10 include()s of 10")
    parts = [path(f"ws{part}/", include([path(f"{n}/<str:room>/", NOTHING) for n in range(10)])) for part in range(10)]
    measure("path(), a <str:room>", parts, "/ws9/9/lobby/")


def nowhere() -> None:
    print("a path without a route")
    for count in COUNTS:
        router = URLRouter([path(f"ws/part{n}/<str:room>/", NOTHING) for n in range(count)])
        incoming = scope("/admin.php")

        def refuse(router: URLRouter = router, incoming: dict[str, object] = incoming) -> None:
            with contextlib.suppress(NoRouteError):
                router.enter(incoming, None, None)

        report(f"refused after {count}", microseconds(refuse))


def main() -> None:
    for count in COUNTS:
        last_of(count)
    nested()
    nowhere()


if __name__ == "__main__":
    main()
