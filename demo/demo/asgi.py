"""The ASGI application: consumers over WebSocket and over HTTP, and everything else for Django.

Serve it from the folder that holds ``manage.py``: ``fairway demo.asgi:application``.
"""

from __future__ import annotations

import os

from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "demo.settings")

# Sets Django up, so it comes before everything that imports models.
django_application = get_asgi_application()

from channels.auth import AuthMiddlewareStack  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from channels.security.websocket import AllowedHostsOriginValidator  # noqa: E402
from channels.sessions import SessionMiddlewareStack  # noqa: E402
from django.urls import path, re_path  # noqa: E402

from chat.consumers import ChatConsumer  # noqa: E402
from game.consumers import GameConsumer, SpectatorConsumer  # noqa: E402
from notify.consumers import NotifyConsumer, NotifyEvents, NotifyPoll  # noqa: E402
from speed.consumers import SpeedConsumer, VisitorConsumer  # noqa: E402

websocket_urlpatterns = [
    path("ws/chat/<int:room_id>/", ChatConsumer.as_asgi()),
    path("ws/notifications/", NotifyConsumer.as_asgi()),
    path("ws/speed/", SpeedConsumer.as_asgi()),
    path("ws/speed/visitor/", VisitorConsumer.as_asgi()),
    path("ws/game/<slug:room>/", GameConsumer.as_asgi()),
    path("ws/game/<slug:room>/watch/", SpectatorConsumer.as_asgi()),
]

# The last route is for everything else: pages, static files, and what is not found.
http_urlpatterns = [
    path("notifications/events/", SessionMiddlewareStack(NotifyEvents.as_asgi())),
    path("notifications/poll/", SessionMiddlewareStack(NotifyPoll.as_asgi())),
    re_path(r"", ASGIStaticFilesHandler(django_application)),
]

application = ProtocolTypeRouter(
    {
        "http": URLRouter(http_urlpatterns),
        "websocket": AllowedHostsOriginValidator(AuthMiddlewareStack(URLRouter(websocket_urlpatterns))),
    }
)
