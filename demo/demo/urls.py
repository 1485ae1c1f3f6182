"""URLs of the demo; those of the WebSockets are in ``demo.asgi``."""

from __future__ import annotations

from django.urls import include, path
from django.views.generic import TemplateView

urlpatterns = [
    path("", TemplateView.as_view(template_name="home.html"), name="home"),
    path("chat/", include("chat.urls")),
    path("notifications/", include("notify.urls")),
    path("game/", include("game.urls")),
    path("you/", include("people.urls")),
    path("speed/", include("speed.urls")),
    path("source/", include("source.urls")),
    path("i18n/", include("django.conf.urls.i18n")),
]
