from django.urls import include, path, re_path

from channels.auth import AuthMiddlewareStack
from channels.middleware import BaseMiddleware
from channels.routing import URLRouter

from .consumers import Echo, Hello, Room


class Language(BaseMiddleware):
    """Puts the client's first language into the scope."""

    async def __call__(self, scope, receive, send):
        header = dict(scope["headers"]).get(b"accept-language", b"en").decode("latin-1")
        return await super().__call__({**scope, "language": header[:2]}, receive, send)


rooms = [path("<slug:name>/", Room.as_asgi(), name="room")]

websocket_application = Language(
    AuthMiddlewareStack(URLRouter([path("ws/rooms/", include(rooms)), path("ws/echo/", Echo.as_asgi())]))
)
http_application = URLRouter([re_path(r"^hello/$", Hello.as_asgi())])
