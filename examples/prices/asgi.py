import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "your_project_name.settings")

# Sets Django up, so it comes before everything that may import a model.
django_application = get_asgi_application()

from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from django.urls import path, re_path

from your_app.prices import NextPrice, Prices
from your_app.routing import websocket_urlpatterns

# The last route takes everything else: Django's views.
http_urlpatterns = [
    path("prices/", Prices.as_asgi()),
    path("prices/next/", NextPrice.as_asgi()),
    re_path(r"", django_application),
]

application = ProtocolTypeRouter(
    {
        "http": URLRouter(http_urlpatterns),
        "websocket": AuthMiddlewareStack(URLRouter(websocket_urlpatterns)),
    }
)
