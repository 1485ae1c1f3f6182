"""URLs under ``/notifications/``; those of its consumers are in ``demo.asgi``."""

from __future__ import annotations

from django.urls import path

from notify import views

app_name = "notify"
urlpatterns = [
    path("", views.inbox, name="inbox"),
    path("ring/", views.ring, name="ring"),
    path("act/", views.act, name="act"),
]
