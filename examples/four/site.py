"""A whole site in one file: `fairway --workers 2 examples.four.site:application`, in the clone.

Then http://127.0.0.1:8000/garden/ is a game, and so is every other name.
"""

import secrets
from pathlib import Path

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.urls import path
from django.views.static import serve

HERE = Path(__file__).parent

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1", "localhost"],
    BASE_DIR=HERE,
    CHANNEL_LAYERS={
        "default": {
            "BACKEND": "fairway.layers.local.LocalChannelLayer",
            "CONFIG": {"history": {"four.*.clock": {"size": 1, "seconds": 60}}},
        }
    },
    INSTALLED_APPS=["channels"],
    MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="an example has no secrets",
    SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
)
django_application = get_asgi_application()

from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from channels.sessions import SessionMiddlewareStack

from .routing import websocket_urlpatterns


def game(request, name):
    request.session.setdefault("who", secrets.token_urlsafe(9))
    return serve(request, "page.html", document_root=HERE)


urlpatterns = [
    path("<slug:name>/", game),
    path("<slug:name>/live.js", lambda request, name: serve(request, "live.js", document_root=HERE.parent / "browser")),
]
application = ProtocolTypeRouter(
    {
        "http": django_application,
        "websocket": AllowedHostsOriginValidator(SessionMiddlewareStack(URLRouter(websocket_urlpatterns))),
    }
)
