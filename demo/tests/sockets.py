"""A visitor with a browser's cookies, and WebSocket connections and requests under them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from channels.testing import HttpCommunicator, WebsocketCommunicator
from django.conf import settings
from django.test import Client

from demo.asgi import application
from people.models import Person


class Visitor:
    """Opens the start page once, as a browser would, and has a name and a session from then on."""

    def __init__(self, name: str, client: Client | None = None) -> None:
        self.client = client or Client()
        self.client.post("/you/", {"name": name})
        self.person = Person.objects.get(name=name)

    def socket(self, path: str, origin: str = "http://localhost") -> WebsocketCommunicator:
        return bare_socket(path, origin, [self.cookies()])

    def request(self, path: str, headers: Iterable[tuple[bytes, bytes]] = ()) -> HttpCommunicator:
        return HttpCommunicator(application, "GET", path, headers=[self.cookies(), *headers])

    def cookies(self) -> tuple[bytes, bytes]:
        cookies = "; ".join(f"{name}={morsel.value}" for name, morsel in self.client.cookies.items())
        return b"cookie", cookies.encode()


def bare_socket(
    path: str, origin: str = "http://localhost", headers: list[tuple[bytes, bytes]] | None = None
) -> WebsocketCommunicator:
    return WebsocketCommunicator(application, path, headers=[(b"origin", origin.encode()), *(headers or [])])


# Whoever leaves is missed at once, and not only after the seconds that a page may take to load again.
AT_ONCE = {
    "default": settings.CHANNEL_LAYERS["default"]
    | {"CONFIG": settings.CHANNEL_LAYERS["default"]["CONFIG"] | {"linger": 0.01}}
}


async def receive_type(socket: WebsocketCommunicator, wanted: str) -> dict[str, Any]:
    """The next message of a type; others before it are passed over."""
    while True:
        content = await socket.receive_json_from()
        if content["type"] == wanted:
            return content
