"""A whole site in one file, for the page with live.js: `fairway examples.browser.site:application`, in the clone."""

from pathlib import Path

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.urls import path, re_path
from django.views.static import serve

HERE = Path(__file__).parent

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1", "localhost"],
    CHANNEL_LAYERS={
        "default": {
            "BACKEND": "channels.layers.InMemoryChannelLayer",
            "CONFIG": {"history": {"notes": {"size": 100, "seconds": 3600}}},
        }
    },
    INSTALLED_APPS=["channels"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="an example has no secrets",
)
django_application = get_asgi_application()

from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator

from .consumers import Notes

urlpatterns = [
    path("", serve, {"document_root": HERE, "path": "page.html"}),
    re_path(r"^(?P<path>live\.js)$", serve, {"document_root": HERE}),
]
application = ProtocolTypeRouter(
    {
        "http": django_application,
        "websocket": AllowedHostsOriginValidator(URLRouter([path("ws/notes/", Notes.as_asgi())])),
    }
)
